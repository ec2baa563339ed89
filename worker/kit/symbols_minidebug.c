/* MiniDebugInfo: .gnu_debugdata holds an xz-compressed ELF file whose .symtab has the functions that .dynsym leaves
 * out. https://sourceware.org/gdb/current/onlinedocs/gdb.html/MiniDebugInfo.html */
#include "common/cleanup.h"
#include "kit/symbols_parts.h"

#include <errno.h>
#include <lzma.h>
#include <string.h>

enum { INPUT = 64 << 10, OUTPUT_FIRST = 256 << 10 }; /* bytes */

struct output {
	uint8_t *data;
	size_t cap;
};

/* Makes room; the real size is known only at the end, and what the file claims is not to be believed. */
static int grow(struct output *out, lzma_stream *stream)
{
	size_t used = out->cap;
	if (used >= SYMBOLS_MINIDEBUG_MAX)
		return -E2BIG;
	size_t cap = used ? used * 2 : OUTPUT_FIRST;
	uint8_t *data = realloc(out->data, cap);
	if (!data)
		return -ENOMEM;
	*out = (struct output) { data, cap };
	stream->next_out = data + used;
	stream->avail_out = cap - used;
	return 0;
}

static int inflate(const struct elf *elf, const struct elf_section *section, lzma_stream *stream, struct output *out)
{
	cleanup_free uint8_t *input = malloc(INPUT);
	if (!input)
		return -ENOMEM;
	uint64_t offset = section->offset, left = section->size;
	for (;;) {
		int r = 0;
		if (!stream->avail_in && left) {
			size_t want = left < INPUT ? (size_t)left : INPUT;
			r = elf_read(elf, input, want, offset);
			stream->next_in = input;
			stream->avail_in = want;
			offset += want;
			left -= want;
		}
		if (!r && !stream->avail_out)
			r = grow(out, stream);
		if (r)
			return r;
		switch (lzma_code(stream, left ? LZMA_RUN : LZMA_FINISH)) {
		case LZMA_OK:
			continue;
		case LZMA_STREAM_END:
			return 0;
		case LZMA_MEM_ERROR:
			return -ENOMEM;
		default:
			return -EINVAL;
		}
	}
}

int symbols_minidebug_open(const struct elf *elf, struct elf *ret, uint8_t **ret_data)
{
	const struct elf_section *section = elf_section(elf, ".gnu_debugdata");
	if (!section || !symbols_section_in_file(elf, section))
		return -ENOENT;
	lzma_stream stream = LZMA_STREAM_INIT;
	if (lzma_stream_decoder(&stream, SYMBOLS_MINIDEBUG_DECODER, 0) != LZMA_OK)
		return -ENOMEM;
	struct output out = { 0 };
	int r = inflate(elf, section, &stream, &out);
	struct elf_source source = { .fd = -1, .data = out.data, .size = stream.total_out };
	lzma_end(&stream);
	if (!r)
		r = elf_open(ret, source);
	if (r) {
		free(out.data);
		return r;
	}
	*ret_data = out.data;
	return 0;
}
