#include "python/code.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	OB_TYPE = 8,      /* of PyObject */
	OB_SIZE = 16,     /* of PyVarObject */
	UNIT = 2,         /* bytes of an instruction, or of one word of its cache */
	LASTI_FIRST = -1, /* f_lasti before the first instruction */
};

static int get(const struct python_memory *memory, uint64_t address, void *buf, size_t n)
{
	return memory->read(memory->context, address, buf, n);
}

uint64_t python_code_print(const struct python_layout *layout, const uint8_t *bytes)
{
	uint32_t first_line;
	memcpy(&first_line, bytes + layout->code_first_line, sizeof first_line);
	const uint64_t words[] = { python_word(bytes, layout->code_file), python_word(bytes, layout->code_name),
		python_word(bytes, layout->code_lines),
		python_word(bytes, layout->minor >= 11 ? OB_SIZE : layout->code), first_line };
	uint64_t print = 0;
	for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
		print = (print ^ words[i]) * 0x9fb21c651e98df25ULL;
		print ^= print >> 32;
	}
	return print ? print : 1;
}

/* ob_refcnt (object.h): 64 bits, of which no honest count needs more than 32; in 3.14 32 bits, 16 that say more of a count that is full, and 16
 * flags. What malloc and pymalloc write over the beginning of what is freed is an address, or nothing where the last reference has left 0. */
static bool is_live(const uint8_t *bytes)
{
	uint64_t count = python_word(bytes, 0);
	return (uint32_t)count && !(count >> 32 & 0xffff);
}

int python_code_head(const struct python_layout *layout, const struct python_memory *memory, uint64_t address,
	struct python_code_head *ret)
{
	uint8_t bytes[PYTHON_CODE_MAX];
	struct python_code_head head = { 0 };
	int32_t first_line;
	int r = get(memory, address, bytes, layout->code_bytes);
	if (r < 0)
		return r;
	memcpy(&first_line, bytes + layout->code_first_line, sizeof first_line);
	head.live = is_live(bytes);
	head.type = python_word(bytes, OB_TYPE);
	head.file = python_word(bytes, layout->code_file);
	head.name =
		python_word(bytes, layout->code_qualname != PYTHON_NONE ? layout->code_qualname : layout->code_name);
	head.lines = python_word(bytes, layout->code_lines);
	head.first_line = first_line < 0 ? 0 : (uint32_t)first_line;
	uint64_t size;
	if (layout->minor >= 11) {
		uint64_t units = python_word(bytes, OB_SIZE);
		size = units <= PYTHON_CODE_BYTES / UNIT ? units * UNIT : 0;
		head.begin = address + layout->code;
	} else {
		r = get(memory, python_word(bytes, layout->code) + layout->bytes_size, &size, sizeof size);
		if (r < 0)
			return r;
	}
	if (!head.file || !head.name || !head.lines || !size || size > PYTHON_CODE_BYTES || size % UNIT)
		return -EINVAL;
	head.end = head.begin + size;
	*ret = head;
	return 0;
}

/* Writes a character as UTF-8: how many bytes, 0 when they do not fit. */
static size_t put_utf8(char *out, size_t room, uint32_t c)
{
	char bytes[4];
	size_t n = 0;
	if (!c || (c >= 0xd800 && c < 0xe000) || c > 0x10ffff)
		c = 0xfffd;
	if (c < 0x80) {
		bytes[n++] = (char)c;
	} else if (c < 0x800) {
		bytes[n++] = (char)(0xc0 | c >> 6);
		bytes[n++] = (char)(0x80 | (c & 0x3f));
	} else if (c < 0x10000) {
		bytes[n++] = (char)(0xe0 | c >> 12);
		bytes[n++] = (char)(0x80 | (c >> 6 & 0x3f));
		bytes[n++] = (char)(0x80 | (c & 0x3f));
	} else {
		bytes[n++] = (char)(0xf0 | c >> 18);
		bytes[n++] = (char)(0x80 | (c >> 12 & 0x3f));
		bytes[n++] = (char)(0x80 | (c >> 6 & 0x3f));
		bytes[n++] = (char)(0x80 | (c & 0x3f));
	}
	if (n > room)
		return 0;
	memcpy(out, bytes, n);
	return n;
}

/* PyASCIIObject.state (cpython/unicodeobject.h): two bits of interned, three of kind, compact, ascii. */
struct text_state {
	unsigned kind;
	bool compact, ascii;
};

static struct text_state state_of(uint32_t state)
{
	return (struct text_state) { state >> 2 & 7, state >> 5 & 1, state >> 6 & 1 };
}

int python_text(const struct python_layout *layout, const struct python_memory *memory, uint64_t address, char *out,
	size_t size)
{
	uint8_t head[PYTHON_OBJECT_MAX], data[PYTHON_NAME_BYTES * 4];
	uint16_t last = layout->str_length > layout->str_state ? layout->str_length : layout->str_state;
	uint32_t bits;
	int r = get(memory, address, head, last + 8U);
	if (r < 0)
		return r;
	memcpy(&bits, head + layout->str_state, sizeof bits);
	struct text_state state = state_of(bits);
	uint64_t length = python_word(head, layout->str_length);
	if (!state.compact || (state.kind != 1 && state.kind != 2 && state.kind != 4) || length > UINT32_MAX)
		return -EINVAL;
	size_t most = size < PYTHON_NAME_BYTES ? size : PYTHON_NAME_BYTES, n = length < most ? length : most, at = 0;
	if (n && (r = get(memory, address + (state.ascii ? layout->str_ascii_data : layout->str_data), data,
			  n * state.kind)) < 0)
		return r;
	for (size_t i = 0; i < n; i++) {
		uint16_t two;
		uint32_t c = data[i];
		if (state.kind == 2) {
			memcpy(&two, data + i * 2, sizeof two);
			c = two;
		} else if (state.kind == 4) {
			memcpy(&c, data + i * 4, sizeof c);
		}
		size_t wrote = put_utf8(out + at, size - 1 - at, c);
		if (!wrote)
			break;
		at += wrote;
	}
	out[at] = 0;
	return (int)at;
}

int python_bytes(const struct python_layout *layout, const struct python_memory *memory, uint64_t address, size_t limit,
	uint8_t **ret, size_t *ret_n)
{
	uint64_t size;
	int r = get(memory, address + layout->bytes_size, &size, sizeof size);
	if (r < 0)
		return r;
	if (size > limit)
		return -EINVAL;
	uint8_t *bytes = malloc(size ? size : 1);
	if (!bytes)
		return -ENOMEM;
	r = size ? get(memory, address + layout->bytes_data, bytes, size) : 0;
	if (r < 0) {
		free(bytes);
		return r;
	}
	*ret = bytes;
	*ret_n = size;
	return 0;
}

bool python_instruction(const struct python_layout *layout, const struct python_code_head *head, uint64_t instruction,
	int64_t *ret_offset)
{
	int64_t offset = layout->minor >= 11 ? (int64_t)(instruction - head->begin) : (int64_t)instruction;
	if (layout->minor == 10 && offset >= 0 && offset <= INT32_MAX)
		offset *= UNIT;
	if (layout->minor >= 11 && offset == -UNIT)
		offset = LASTI_FIRST;
	if (offset < LASTI_FIRST || offset >= (int64_t)(head->end - head->begin) || (offset >= 0 && offset % UNIT))
		return false;
	*ret_offset = offset;
	return true;
}
