#include "kit/maps.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct maps m;
	if (maps_parse(&m, (const char *)data, size) < 0)
		return 0;
	for (size_t i = 0; i < m.n; i++) {
		if (m.entries[i].start >= m.entries[i].end || (i && m.entries[i].start < m.entries[i - 1].end))
			abort();
		if (maps_find(&m, m.entries[i].start) != &m.entries[i] ||
			maps_find(&m, m.entries[i].end - 1) != &m.entries[i])
			abort();
	}
	maps_free(&m);
	return 0;
}
