/* Any bytes as a JIT's perf map. */
#include "kit/perfmap.h"

#include "kit/symbols.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { QUERIES = 32 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static int fd = -1;
	if (fd < 0)
		fd = memfd_create("perfmap", MFD_CLOEXEC);
	if (ftruncate(fd, 0) || pwrite(fd, data, size, 0) != (ssize_t)size)
		abort();
	struct symbol_query queries[QUERIES] = { { 0 } };
	for (size_t i = 0; i < QUERIES; i++)
		queries[i].vaddr = i < QUERIES / 2 ? i * 0x80 : UINT64_MAX - (QUERIES - 1 - i) * 0x1000;
	if (perfmap_resolve(fd, queries, QUERIES))
		abort();
	for (size_t i = 0; i < QUERIES; i++) {
		if (queries[i].name &&
			(queries[i].start > queries[i].vaddr || strlen(queries[i].name) > SYMBOL_NAME_MAX))
			abort();
		free(queries[i].name);
	}
	return 0;
}
