/* An ELF file in memory: symbol tables, PLT, .gopclntab and .gnu_debugdata, asked for addresses that the file itself
 * names. */
#include "kit/symbols.h"

#include <stdlib.h>

enum { QUERIES_MAX = 64 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int by_address(const void *a, const void *b)
{
	uint64_t x = ((const struct symbol_query *)a)->vaddr, y = ((const struct symbol_query *)b)->vaddr;
	return x < y ? -1 : x > y;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct elf elf;
	if (elf_open(&elf, (struct elf_source) { .fd = -1, .data = data, .size = size }))
		return 0;
	struct symbol_query queries[QUERIES_MAX] = { { .vaddr = elf.entry }, { .vaddr = elf.entry + 1 },
		{ .vaddr = UINT64_MAX } };
	size_t n = 3;
	for (uint32_t i = 0; i < elf.nsections && n + 3 <= QUERIES_MAX; i++) {
		queries[n++].vaddr = elf.sections[i].addr + 20;
		queries[n++].vaddr = elf.sections[i].addr + elf.sections[i].size / 2;
		queries[n++].vaddr = elf.sections[i].addr + elf.sections[i].size;
	}
	qsort(queries, n, sizeof(*queries), by_address);
	if (symbols_resolve(&elf, queries, n))
		abort();
	for (size_t i = 0; i < n; i++) {
		if (queries[i].name && queries[i].start > queries[i].vaddr)
			abort();
		if (queries[i].name)
			free(symbols_demangle(queries[i].name));
		free(queries[i].name);
	}
	char path[128];
	symbols_debug_path(&elf, path, sizeof(path));
	elf_close(&elf);
	return 0;
}
