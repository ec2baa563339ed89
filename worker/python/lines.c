/* The three formats of line tables. */
#include "python/code.h"

enum { LINE_MAX = INT32_MAX };

static uint32_t line_of(int64_t line)
{
	return line > 0 && line <= LINE_MAX ? (uint32_t)line : 0;
}

/* Up to 3.9, co_lnotab (Objects/lnotab_notes.txt): pairs of how far the next line's code begins, and how much further that line is. */
static uint32_t line_of_lnotab(const uint8_t *table, size_t n, int64_t line, int64_t offset)
{
	int64_t address = 0;
	for (size_t i = 0; i + 1 < n; i += 2) {
		address += table[i];
		if (address > offset)
			break;
		line += (int8_t)table[i + 1];
	}
	return line_of(line);
}

/* 3.10, co_linetable (PEP 626): pairs of how long a range is, and its line; the least number says that it has none. */
static uint32_t line_of_ranges(const uint8_t *table, size_t n, int64_t line, int64_t offset)
{
	enum { NO_LINE = -128 };
	int64_t end = 0;
	for (size_t i = 0; i + 1 < n; i += 2) {
		int8_t delta = (int8_t)table[i + 1];
		end += table[i];
		if (delta != NO_LINE)
			line += delta;
		if (offset < end)
			return delta == NO_LINE ? 0 : line_of(line);
	}
	return 0;
}

struct reader {
	const uint8_t *p, *end;
};

/* Groups of six bits, lowest first; the seventh says that one more comes. */
static uint64_t varint(struct reader *r)
{
	uint64_t value = 0;
	for (unsigned shift = 0; r->p < r->end; shift += 6) {
		uint8_t byte = *r->p++;
		if (shift < 60)
			value |= (uint64_t)(byte & 63) << shift;
		if (!(byte & 64))
			break;
	}
	return value;
}

static int64_t svarint(struct reader *r)
{
	uint64_t value = varint(r);
	return value & 1 ? -(int64_t)(value >> 1) : (int64_t)(value >> 1);
}

/* From 3.11 on (InternalDocs/code_objects.md): entries of 1 bit, 4 bits of code, 3 bits of length in units; what follows, the code says. */
static uint32_t line_of_locations(const uint8_t *table, size_t n, int64_t line, int64_t offset)
{
	enum { SHORT_LAST = 9, ONE_LINE = 10, ONE_LINE_LAST = 12, NO_COLUMNS = 13, LONG = 14, NONE = 15, UNIT = 2 };
	struct reader r = { table, table + n };
	int64_t end = 0;
	while (r.p < r.end) {
		uint8_t head = *r.p++;
		unsigned code = head >> 3 & 15;
		end += ((head & 7) + 1) * UNIT;
		if (code <= SHORT_LAST) {
			r.p += 1;
		} else if (code <= ONE_LINE_LAST) {
			line += code - ONE_LINE;
			r.p += 2;
		} else if (code != NONE) {
			line += svarint(&r);
			for (int i = 0; i < 3 && code == LONG; i++) /* last line, columns */
				(void)varint(&r);
		}
		if (line < -LINE_MAX || line > LINE_MAX)
			return 0;
		if (offset < end)
			return code == NONE ? 0 : line_of(line);
	}
	return 0;
}

uint32_t python_line(unsigned minor, const uint8_t *table, size_t n, uint32_t first_line, int64_t offset)
{
	if (!table)
		return 0;
	if (offset < 0)
		return line_of(first_line);
	if (minor <= 9)
		return line_of_lnotab(table, n, first_line, offset);
	return minor == 10 ? line_of_ranges(table, n, first_line, offset)
			   : line_of_locations(table, n, first_line, offset);
}
