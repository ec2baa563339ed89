#include "common/cleanup.h"
#include "kit/symbols_parts.h"

#include <elf.h>
#include <errno.h>
#include <string.h>

_Static_assert(sizeof(Elf64_Sym) == TABLE_ENTRY && sizeof(Elf64_Rela) == TABLE_ENTRY, "both are streamed alike");

enum { TABLE_READ = (64 << 10) / TABLE_ENTRY * TABLE_ENTRY }; /* bytes of one pread, whole entries */

const struct elf_section *symbols_section_at(const struct elf *elf, uint32_t index)
{
	return index && index < elf->nsections ? &elf->sections[index] : NULL;
}

bool symbols_section_in_file(const struct elf *elf, const struct elf_section *section)
{
	return section->type != SHT_NOBITS && !(section->flags & SHF_COMPRESSED) &&
	       section->offset <= elf->source.size && section->size <= elf->source.size - section->offset;
}

int table_open(struct table *ret, const struct elf *elf, const struct elf_section *section)
{
	if (section->entsize != TABLE_ENTRY || !symbols_section_in_file(elf, section))
		return -EINVAL;
	uint8_t *buf = malloc(TABLE_READ);
	if (!buf)
		return -ENOMEM;
	uint64_t entries = section->size / TABLE_ENTRY;
	*ret = (struct table) {
		.elf = elf,
		.offset = section->offset,
		.left = entries < SYMBOLS_MAX_ENTRIES ? entries : SYMBOLS_MAX_ENTRIES,
		.buf = buf,
	};
	return 0;
}

void table_close(struct table *table)
{
	free(table->buf);
	table->buf = NULL;
}

const void *table_next(struct table *table)
{
	if (table->pos == table->len) {
		uint64_t entries = TABLE_READ / TABLE_ENTRY;
		if (entries > table->left)
			entries = table->left;
		if (!entries || table->error)
			return NULL;
		table->pos = 0;
		table->len = (size_t)entries * TABLE_ENTRY;
		table->error = elf_read(table->elf, table->buf, table->len, table->offset);
		if (table->error) {
			table->len = 0;
			return NULL;
		}
		table->offset += table->len;
		table->left -= entries;
	}
	const void *entry = table->buf + table->pos;
	table->pos += TABLE_ENTRY;
	return entry;
}

int table_entry(const struct elf *elf, const struct elf_section *section, uint64_t index, void *entry)
{
	if (section->entsize != TABLE_ENTRY || !symbols_section_in_file(elf, section) ||
		index >= section->size / TABLE_ENTRY)
		return -EINVAL;
	return elf_read(elf, entry, TABLE_ENTRY, section->offset + index * TABLE_ENTRY);
}

size_t symbols_name(
	const struct elf *elf, const struct elf_section *strings, uint64_t offset, char out[SYMBOL_NAME_MAX + 1])
{
	if (!symbols_section_in_file(elf, strings) || offset >= strings->size)
		return 0;
	size_t want = SYMBOL_NAME_MAX;
	if (want > strings->size - offset)
		want = (size_t)(strings->size - offset);
	if (elf_read(elf, out, want, strings->offset + offset))
		return 0;
	size_t len = strnlen(out, want);
	out[len] = '\0';
	/* Go has no versions, but '@' may be in its names. */
	char *version = len && !elf->is_go ? strchr(out + 1, '@') : NULL;
	if (version) {
		*version = '\0';
		len = (size_t)(version - out);
	}
	return len;
}

int symbol_alias_compare(const char *a, const char *b)
{
	size_t underscores_a = strspn(a, "_"), underscores_b = strspn(b, "_");
	if (underscores_a != underscores_b)
		return underscores_a < underscores_b ? -1 : 1;
	size_t len_a = strlen(a), len_b = strlen(b);
	if (len_a != len_b)
		return len_a < len_b ? -1 : 1;
	return strcmp(a, b);
}

/* Slots of one address lie next to each other. How many were filled by this relocation. */
static size_t fill(struct slot *slots, size_t n, const Elf64_Rela *rela, const struct elf_section *symbols)
{
	size_t low = 0;
	for (size_t high = n; low < high;) {
		size_t middle = low + (high - low) / 2;
		if (slots[middle].address < rela->r_offset)
			low = middle + 1;
		else
			high = middle;
	}
	size_t filled = 0;
	for (; low < n && slots[low].address == rela->r_offset && !slots[low].found; low++, filled++) {
		slots[low].found = true;
		slots[low].symbol = ELF64_R_SYM(rela->r_info);
		slots[low].symbols = symbols;
		slots[low].addend = (uint64_t)rela->r_addend;
	}
	return filled;
}

int symbols_find_slots(const struct elf *elf, struct slot *slots, size_t n)
{
	/* .rela.plt and .rela.dyn, or .rela.iplt; a hostile file has thousands. */
	enum { TABLES_MAX = 4 };
	/* .rela.dyn can be a hundred times as large as .rela.plt, which most often answers all: it comes last. */
	size_t open = n, tables = 0;
	for (int plt = 1; plt >= 0; plt--) {
		for (uint32_t i = 0; i < elf->nsections && open && tables < TABLES_MAX; i++) {
			const struct elf_section *section = &elf->sections[i];
			if (section->type != SHT_RELA || !(section->flags & SHF_ALLOC) ||
				(strcmp(section->name, ".rela.plt") == 0) != plt)
				continue;
			struct table table;
			int r = table_open(&table, elf, section);
			if (r == -ENOMEM)
				return r;
			if (r)
				continue;
			tables++;
			const void *entry;
			while (open && (entry = table_next(&table))) {
				Elf64_Rela rela;
				memcpy(&rela, entry, sizeof(rela));
				open -= fill(slots, n, &rela, symbols_section_at(elf, section->link));
			}
			table_close(&table);
		}
	}
	return 0;
}
