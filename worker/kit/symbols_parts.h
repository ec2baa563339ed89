/* What the symbols_*.c files share with each other; nobody else includes it.
 * symbols.c: the passes over symbol tables; symbols_names.c: tables and strings; symbols_plt.c: the PLT;
 * symbols_go.c: .gopclntab; symbols_minidebug.c: .gnu_debugdata. */
#ifndef KIT_SYMBOLS_PARTS_H
#define KIT_SYMBOLS_PARTS_H

#include "kit/symbols.h"

#include <stdbool.h>

enum {
	/* Symbols or relocations looked at in one table; Chromium with all its symbols has 2 million. At 24 bytes each
	 * it bounds what one table costs: 192 MiB of reads, less than a second. */
	SYMBOLS_MAX_ENTRIES = 8 << 20,
	SYMBOLS_MINIDEBUG_MAX = 64 << 20,     /* bytes that .gnu_debugdata may expand to; glibc's is 0.3 MiB */
	SYMBOLS_MINIDEBUG_DECODER = 64 << 20, /* bytes of memory for the decoder; xz -9 needs 65 MiB, -6 (usual) 9 */
};

/* Index of the first query at or above an address; n when there is none. */
static inline size_t symbol_query_at(const struct symbol_query *queries, size_t n, uint64_t address)
{
	size_t low = 0;
	while (low < n) {
		size_t middle = low + (n - low) / 2;
		if (queries[middle].vaddr < address)
			low = middle + 1;
		else
			n = middle;
	}
	return low;
}

/* Which of two names of one address people know: below 0 when it is a. Fewer leading underscores, then the shorter. */
int symbol_alias_compare(const char *a, const char *b);

/* A table of 24-byte entries (Elf64_Sym, Elf64_Rela), streamed. */
struct table {
	const struct elf *elf;
	uint64_t offset, left; /* file offset of the next read; entries that it has still to bring */
	uint8_t *buf;          /* owned */
	size_t pos, len;       /* bytes in buf */
	int error;
};

enum { TABLE_ENTRY = 24 };

/* -EINVAL: the section does not lie in the file, or is no such table; -ENOMEM. */
int table_open(struct table *ret, const struct elf *elf, const struct elf_section *section);
void table_close(struct table *table);
/* The next entry, or NULL at the end or after an error. Valid until the next call. */
const void *table_next(struct table *table);
/* One entry; -EINVAL when there is none of that index. */
int table_entry(const struct elf *elf, const struct elf_section *section, uint64_t index, void *entry);

const struct elf_section *symbols_section_at(const struct elf *elf, uint32_t index); /* NULL: none */
bool symbols_section_in_file(const struct elf *elf, const struct elf_section *section);

/* A name out of a string table, without a version ("@GLIBC_2.2.5"); its length, 0 when there is none. */
size_t symbols_name(
	const struct elf *elf, const struct elf_section *strings, uint64_t offset, char out[SYMBOL_NAME_MAX + 1]);

/* The dynamic relocation of an address. */
struct slot {
	uint64_t address; /* in; must be sorted by it */
	size_t query;     /* the asker's */
	bool found;
	uint32_t symbol;                   /* out: index in the table below; 0: none */
	const struct elf_section *symbols; /* out */
	uint64_t addend;                   /* out */
};

int symbols_find_slots(const struct elf *elf, struct slot *slots, size_t n);

/* Each of these answers queries that are not `done`, and marks what nobody should look at any more. 0 or -ENOMEM. */
int symbols_plt(const struct elf *elf, struct symbol_query *queries, size_t n, bool *done);
int symbols_go(const struct elf *elf, struct symbol_query *queries, size_t n, bool *done);

/* The ELF file inside .gnu_debugdata. *ret_data is malloc'd and must outlive *ret. -ENOENT: there is none. */
int symbols_minidebug_open(const struct elf *elf, struct elf *ret, uint8_t **ret_data);

#endif
