/* The stacks of all threads of a stopped interpreter, by the layouts and decoders of bulkhead-python: python_probe PID _PYRUNTIME MINOR.
 * Prints "thread", then QUALNAME, FILE and LINE of each frame with tabs between, innermost first. */
#include "python/code.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FRAMES_MAX = 1000, THREADS_MAX = 100 };

static int read_mem(void *context, uint64_t address, void *buf, size_t n)
{
	return pread(*(int *)context, buf, n, (off_t)address) == (ssize_t)n ? 0 : -EIO;
}

static uint64_t word_at(const struct python_memory *m, uint64_t address)
{
	uint64_t value;
	if (m->read(m->context, address, &value, sizeof value) < 0) {
		fprintf(stderr, "cannot read %lx\n", address);
		exit(1);
	}
	return value;
}

static void print_frame(
	const struct python_layout *l, const struct python_memory *m, uint64_t code, uint64_t instruction)
{
	struct python_code_head head;
	char name[PYTHON_NAME_BYTES], file[PYTHON_NAME_BYTES];
	uint8_t *lines;
	size_t n;
	int64_t offset;
	if (python_code_head(l, m, code, &head) || python_text(l, m, head.name, name, sizeof name) < 0 ||
		python_text(l, m, head.file, file, sizeof file) < 0 ||
		python_bytes(l, m, head.lines, PYTHON_LINES_BYTES, &lines, &n) ||
		!python_instruction(l, &head, instruction, &offset)) {
		printf("?\t?\t0\n");
		return;
	}
	printf("%s\t%s\t%u\n", name, file, python_line(l->minor, lines, n, head.first_line, offset));
	free(lines);
}

static void print_thread(const struct python_layout *l, const struct python_memory *m, uint64_t thread)
{
	uint64_t frame = word_at(m, thread + l->frame);
	if (l->minor >= 11 && l->cframe_frame != PYTHON_NONE)
		frame = word_at(m, frame + l->cframe_frame);
	printf("thread\n");
	for (int i = 0; frame && i < FRAMES_MAX; i++) {
		uint64_t instruction = word_at(m, frame + l->frame_instruction);
		uint8_t owner = PYTHON_OWNER_THREAD;
		if (l->minor <= 10)
			instruction = (uint64_t)(int64_t)(int32_t)instruction;
		if (l->frame_owner != PYTHON_NONE)
			m->read(m->context, frame + l->frame_owner, &owner, 1);
		if (owner != PYTHON_OWNER_LOOP)
			print_frame(l, m, word_at(m, frame + l->frame_code) & ~l->tag_mask, instruction);
		frame = word_at(m, frame + l->frame_previous);
	}
}

int main(int argc, char **argv)
{
	uint8_t bytes[PYTHON_OFFSETS_BYTES];
	struct python_layout l;
	const char *why = "no table";
	char path[64];
	if (argc != 4)
		return 2;
	snprintf(path, sizeof path, "/proc/%s/mem", argv[1]);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	const struct python_memory m = { &fd, read_mem };
	uint64_t runtime = strtoull(argv[2], NULL, 0);
	const struct python_layout *table = python_layout_of((unsigned)atoi(argv[3]));
	if (table)
		l = *table;
	else if (read_mem(&fd, runtime, bytes, sizeof bytes) || python_layout_read(&l, bytes, sizeof bytes, &why)) {
		fprintf(stderr, "%s\n", why);
		return 1;
	}
	uint64_t interpreter = word_at(&m, runtime + l.interpreters_head),
		 thread = word_at(&m, interpreter + l.threads_head);
	for (int i = 0; thread && i < THREADS_MAX; i++, thread = word_at(&m, thread + l.thread_next))
		print_thread(&l, &m, thread);
	return 0;
}
