/* The reader of threads and frames, in a process whose whole memory is the fuzzer's: first the window's part, then the main thread's with
 * native frames that the fuzzer makes up too. Versions up to 3.12 by their tables, later ones by what the memory says of itself. */
#include "kit/regs.h"
#include "proto/stream.h"
#include "python/python.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { BASE = 0x10000, MOST = 64 << 10, NATIVE = 6, PID = 1234 };

static struct target target = { .pid = PID, .mem = -1, .maps_fd = -1, .perf_map = -1 };

static bool choose_layout(struct python_process *p, unsigned minor, const uint8_t *data, size_t size)
{
	static uint8_t head[PYTHON_OFFSETS_BYTES];
	const char *why;
	if (python_layout_of(minor)) {
		p->layout = *python_layout_of(minor);
		return true;
	}
	memset(head, 0, sizeof head);
	memcpy(head, data, size < sizeof head ? size : sizeof head);
	return !python_layout_read(&p->layout, head, sizeof head, &why);
}

static void look(const uint8_t *data, size_t size)
{
	static uint8_t captured[WINDOW_CAPTURE_MAX], stack[4096];
	static uint32_t frames[STREAM_MAX_FRAMES];
	struct lane_sample sample = { .head = { .pid = PID, .tid = PID } };
	struct unwind_frame native[NATIVE];
	memcpy(sample.regs, data, size < sizeof sample.regs ? size : sizeof sample.regs);
	sample.regs[REG_SP] = BASE;
	memcpy(stack, data, size < sizeof stack ? size : sizeof stack);
	struct window_read read = { .target = &target,
		.view = atomic_load(&target.view),
		.sample = &sample,
		.stack = stack,
		.stack_bytes = sizeof stack };
	size_t n = python_capture(&read, captured, sizeof captured);
	if (n > sizeof captured)
		abort();
	for (size_t i = 0; i < NATIVE; i++)
		native[i] = (struct unwind_frame) {
			.pc = BASE + (data[i % size] & 0x1fU), .sp = BASE + i * 512, .exact = !i
		};
	struct native_stack whole = { &target, native, NATIVE, size & 1, size & 1 ? NULL : "[ending]" };
	struct mixed out = { .frames = frames, .max = STREAM_MAX_FRAMES };
	const char *words = NULL;
	if (n && python_mix(&whole, captured, n, &out, &words) == COUNTER_complete && (!out.n || words))
		abort();
	/* and what a window never writes */
	size_t part = size < sizeof captured ? size : sizeof captured;
	memcpy(captured, data, part);
	out.n = 0;
	(void)python_mix(&whole, captured, part, &out, &words);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static int fd = -1;
	static struct view *view;
	if (fd < 0)
		fd = memfd_create("memory", MFD_CLOEXEC);
	if (size < 16 || size > MOST || ftruncate(fd, 0) || ftruncate(fd, BASE + MOST) ||
		pwrite(fd, data + 1, size - 1, BASE) != (ssize_t)size - 1)
		return 0;
	view = view ? view : calloc(1, sizeof *view + sizeof *view->range);
	if (!view)
		abort();
	view->mem = fd;
	view->maps = -1;
	view->n = 1;
	view->range[0] = (struct view_range) { BASE, BASE + MOST };
	atomic_store(&view->gone, false);
	atomic_store(&target.view, view);
	struct python_process p = {
		.runtime = BASE, .loop_begin = BASE, .loop_end = BASE + 16, .tid = PID, .ntid = PID
	};
	if (!choose_layout(&p, 8 + data[0] % 7U, data + 1, size - 1))
		return 0;
	atomic_init(&p.threads, python_threads_new(PYTHON_THREAD_SLOTS));
	p.codes = python_codes_new();
	atomic_init(&p.many, data[0] & 64);
	atomic_init(&p.ready, true);
	atomic_store(&target.runtime, &p);
	look(data + 1, size - 1);
	look(data + 1, size - 1); /* with what it has learned */
	atomic_store(&target.runtime, NULL);
	python_codes_free(p.codes);
	free(atomic_load(&p.threads));
	window_reclaim();
	window_reclaim();
	return 0;
}
