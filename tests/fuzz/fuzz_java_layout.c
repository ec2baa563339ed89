/* The tables by which a virtual machine says where its structures are, in a memory made of the fuzzer's bytes: the variables first. */
#include "../unit/java_image.h"
#include "java/code.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { BASE = 0x1000, VARIABLES = 16 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct java_tables tables;
	struct java_layout l;
	struct java_heaps heaps;
	const char *why = "";
	_Static_assert(sizeof tables == VARIABLES * sizeof(uint64_t), "addresses only");
	uint8_t *bytes = malloc(size ? size : 1);
	if (!bytes)
		abort();
	memcpy(bytes, data, size);
	struct java_image image = { BASE, bytes, size };
	struct java_memory memory = java_image_memory(&image);
	for (size_t i = 0; i < VARIABLES; i++) {
		uint64_t at = BASE + i * sizeof at;
		memcpy((uint8_t *)&tables + i * sizeof at, &at, sizeof at);
	}
	int r = java_layout_read(&l, &memory, &tables, &why);
	if (!r && ((l.major < JAVA_MAJOR_MIN && l.major != JAVA_8) || l.nmethod_bytes > JAVA_STRUCTURE_MAX))
		abort();
	if (!r && !java_heaps_read(&heaps, &l, &memory) && heaps.n > JAVA_HEAPS_MAX)
		abort();
	free(bytes);
	return 0;
}
