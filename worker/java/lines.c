#include "java/code.h"
#include "java/method.h"

enum { ESCAPE = 0xff, LINE_BITS = 3 };

static int32_t signed_of(uint32_t coded)
{
	return (int32_t)(coded >> 1 ^ (0U - (coded & 1)));
}

/* One pair; false: the end. */
static bool next_pair(const uint8_t *table, size_t n, size_t *at, uint8_t excluded, uint32_t *bci, uint32_t *line)
{
	if (*at >= n || !table[*at])
		return false;
	uint8_t byte = table[(*at)++];
	if (byte != ESCAPE) {
		*bci += byte >> LINE_BITS;
		*line += byte & ((1 << LINE_BITS) - 1);
		return true;
	}
	uint32_t bci_difference, line_difference;
	if (!java_unsigned5(table, n, at, excluded, &bci_difference) ||
		!java_unsigned5(table, n, at, excluded, &line_difference))
		return false;
	*bci += (uint32_t)signed_of(bci_difference);
	*line += (uint32_t)signed_of(line_difference);
	return true;
}

uint32_t java_line(const uint8_t *table, size_t n, uint8_t excluded, int32_t bci, uint32_t *ret_lowest)
{
	enum { LINES = 1 << 16 /* a class file has 16 bits for a line */ };
	uint32_t at_bci = 0, line = 0, best_bci = 0, best = 0, lowest = 0;
	for (size_t at = 0; next_pair(table, n, &at, excluded, &at_bci, &line);) {
		if (at_bci >= LINES || line >= LINES)
			break;
		if (!lowest || line < lowest)
			lowest = line;
		if (bci >= 0 && at_bci <= (uint32_t)bci && (!best || at_bci >= best_bci)) {
			best_bci = at_bci;
			best = line;
		}
	}
	*ret_lowest = lowest;
	return best;
}

size_t java_lines_length(const uint8_t *table, size_t n, uint8_t excluded)
{
	size_t at = 0;
	uint32_t bci = 0, line = 0;
	while (next_pair(table, n, &at, excluded, &bci, &line))
		;
	return at < n && !table[at] ? at + 1 : 0;
}
