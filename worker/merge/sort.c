#include "merge/sort.h"

#include <string.h>

static void merge_halves(uint32_t *ids, uint32_t *scratch, size_t from, size_t middle, size_t to, sort_before *before,
	const void *context)
{
	size_t a = from, b = middle;
	for (size_t i = from; i < to; i++) {
		bool take_b = a == middle || (b < to && before(context, ids[b], ids[a]));
		scratch[i] = take_b ? ids[b++] : ids[a++];
	}
	memcpy(ids + from, scratch + from, (to - from) * sizeof *ids);
}

void sort_ids(uint32_t *ids, uint32_t *scratch, size_t n, sort_before *before, const void *context)
{
	for (size_t width = 1; width < n; width *= 2) {
		for (size_t from = 0; from + width < n; from += 2 * width) {
			size_t to = from + 2 * width < n ? from + 2 * width : n;
			merge_halves(ids, scratch, from, from + width, to, before, context);
		}
	}
}
