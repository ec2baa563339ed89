/* What an interpreter says of its structures, and code objects, strings and line tables in a memory made of the fuzzer's bytes. The first
 * byte chooses the version: a table, or, from 3.13 on, what the bytes themselves say. */
#include "python/code.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { PROBES = 16 };

struct image {
	const uint8_t *bytes;
	size_t n;
};

static int read_image(void *context, uint64_t address, void *buf, size_t n)
{
	const struct image *image = context;
	if (address > image->n || n > image->n - address)
		return -EIO;
	memcpy(buf, image->bytes + address, n);
	return 0;
}

static void text(const struct python_layout *l, const struct python_memory *memory, uint64_t address)
{
	static const size_t sizes[] = { 1, 2, 5, PYTHON_NAME_BYTES };
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		char *out = malloc(sizes[i]);
		int n = python_text(l, memory, address, out, sizes[i]);
		if (n >= 0 && ((size_t)n >= sizes[i] || strlen(out) != (size_t)n))
			abort();
		free(out);
	}
}

static void code(const struct python_layout *l, const struct python_memory *memory, uint64_t address)
{
	struct python_code_head head;
	uint8_t *lines;
	size_t n;
	if (python_code_head(l, memory, address, &head) < 0)
		return;
	if (head.end <= head.begin || head.end - head.begin > PYTHON_CODE_BYTES)
		abort();
	text(l, memory, head.name);
	text(l, memory, head.file);
	if (python_bytes(l, memory, head.lines, PYTHON_LINES_BYTES, &lines, &n) < 0)
		return;
	for (int64_t offset = -4; offset < 64; offset++) {
		int64_t at;
		if (python_instruction(l, &head, head.begin + (uint64_t)offset, &at) &&
			(at < -1 || at >= (int64_t)(head.end - head.begin)))
			abort();
		python_line(l->minor, lines, n, head.first_line, offset);
	}
	free(lines);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct python_layout l;
	const char *why;
	if (!size)
		return 0;
	unsigned minor = PYTHON_MINOR_MIN + data[0] % (PYTHON_MINOR_MAX - PYTHON_MINOR_MIN + 1);
	struct image image = { data + 1, size - 1 };
	const struct python_memory memory = { &image, read_image };
	const struct python_layout *table = python_layout_of(minor);
	if (table)
		l = *table;
	else if (python_layout_read(&l, image.bytes, image.n, &why))
		return 0;
	python_line(minor, image.bytes, image.n, 1, data[0]);
	for (uint64_t i = 0; i < PROBES; i++) {
		code(&l, &memory, i * 64);
		text(&l, &memory, i * 64);
	}
	return 0;
}
