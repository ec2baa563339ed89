/* Procedure linkage tables: which function does a stub jump to? The stub says at which address its target is stored,
 * and the dynamic relocation of that address names the function. Layouts of GNU ld, gold, lld and mold differ in order
 * and headers; the jump is the same in all. x86-64 psABI, section 5.2. */
#include "common/cleanup.h"
#include "kit/symbols_parts.h"

#include <elf.h>
#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

enum {
	STUB_MAX = 16,        /* bytes of a stub */
	PLT_SECTIONS_MAX = 8, /* .plt, .plt.sec, .plt.got, .iplt; more is hostile */
};

static bool is_plt(const struct elf_section *section)
{
	return section->type == SHT_PROGBITS &&
	       (strcmp(section->name, ".plt") == 0 || strncmp(section->name, ".plt.", 5) == 0 ||
		       strcmp(section->name, ".iplt") == 0);
}

static uint32_t le32(const uint8_t *p)
{
	uint32_t v;
	memcpy(&v, p, sizeof(v));
	return le32toh(v);
}

enum target { TARGET_NONE, TARGET_SLOT, TARGET_INDEX };

/* *ret: the address of the slot that the stub jumps through, or the index of its relocation. */
static enum target decode(const uint8_t stub[STUB_MAX], uint64_t address, uint64_t *ret)
{
	static const uint8_t endbr64[] = { 0xf3, 0x0f, 0x1e, 0xfa };
	size_t i = 0;
	if (memcmp(stub, endbr64, sizeof(endbr64)) == 0)
		i += sizeof(endbr64);
	if (stub[i] == 0x41 && stub[i + 1] == 0xbb) /* mov $index, %r11d (mold) */
		i += 6;
	if (stub[i] == 0xf2) /* bnd */
		i++;
	if (i + 6 <= STUB_MAX && stub[i] == 0xff && stub[i + 1] == 0x25) { /* jmp *slot(%rip) */
		int32_t displacement = (int32_t)le32(stub + i + 2);
		*ret = address + i + 6 + (uint64_t)(int64_t)displacement;
		return TARGET_SLOT;
	}
	if (i + 5 <= STUB_MAX && stub[i] == 0x68) { /* push $index, where .plt.sec has the jump */
		*ret = le32(stub + i + 1);
		return TARGET_INDEX;
	}
	return TARGET_NONE;
}

static int by_address(const void *a, const void *b)
{
	uint64_t x = ((const struct slot *)a)->address, y = ((const struct slot *)b)->address;
	return x < y ? -1 : x > y;
}

static void set_index(const struct elf *elf, struct slot *slot, uint64_t index)
{
	const struct elf_section *relocations = elf_section(elf, ".rela.plt");
	Elf64_Rela rela;
	if (!relocations || table_entry(elf, relocations, index, &rela))
		return;
	slot->symbol = ELF64_R_SYM(rela.r_info);
	slot->symbols = symbols_section_at(elf, relocations->link);
}

static int answer(const struct elf *elf, const struct slot *slot, struct symbol_query *query)
{
	if (!slot->symbol || !slot->symbols)
		return 0;
	const struct elf_section *strings = symbols_section_at(elf, slot->symbols->link);
	Elf64_Sym symbol;
	char name[SYMBOL_NAME_MAX + 1], whole[SYMBOL_NAME_MAX + 1];
	if (!strings || table_entry(elf, slot->symbols, slot->symbol, &symbol) ||
		!symbols_name(elf, strings, symbol.st_name, name))
		return 0;
	snprintf(whole, sizeof(whole), "%.*s@plt", SYMBOL_NAME_MAX - 4, name);
	query->name = strdup(whole);
	return query->name ? 0 : -ENOMEM;
}

/* Reads the stub of each query in one section. Slots that stubs jump through are gathered for one pass over
 * relocations. */
static int read_stubs(const struct elf *elf, const struct elf_section *plt, struct symbol_query *queries, size_t n,
	bool *done, struct slot *slots, size_t *nslots)
{
	/* 8 or 16 bytes; some linkers leave the size out. */
	uint64_t size = plt->entsize == 8 ? 8 : STUB_MAX;
	for (size_t i = symbol_query_at(queries, n, plt->addr); i < n && queries[i].vaddr - plt->addr < plt->size;
		i++) {
		if (done[i] || queries[i].name)
			continue;
		done[i] = true;
		uint64_t offset = (queries[i].vaddr - plt->addr) / size * size;
		if (plt->size - offset < size)
			continue;
		uint8_t stub[STUB_MAX] = { 0 };
		uint64_t target;
		if (elf_read(elf, stub, (size_t)size, plt->offset + offset))
			continue;
		struct slot slot = { .query = i };
		switch (decode(stub, plt->addr + offset, &target)) {
		case TARGET_NONE:
			continue;
		case TARGET_SLOT:
			slot.address = target;
			slots[(*nslots)++] = slot;
			break;
		case TARGET_INDEX:
			set_index(elf, &slot, target);
			if (answer(elf, &slot, &queries[i]))
				return -ENOMEM;
			break;
		}
		queries[i].start = plt->addr + offset;
	}
	return 0;
}

int symbols_plt(const struct elf *elf, struct symbol_query *queries, size_t n, bool *done)
{
	cleanup_free struct slot *slots = NULL;
	size_t nslots = 0, nplt = 0;
	for (uint32_t i = 0; i < elf->nsections && nplt < PLT_SECTIONS_MAX; i++) {
		const struct elf_section *plt = &elf->sections[i];
		if (!is_plt(plt) || !symbols_section_in_file(elf, plt) || plt->addr > UINT64_MAX - plt->size)
			continue;
		nplt++;
		size_t first = symbol_query_at(queries, n, plt->addr);
		if (first == n || queries[first].vaddr - plt->addr >= plt->size)
			continue;
		if (!slots && !(slots = calloc(n, sizeof(*slots))))
			return -ENOMEM;
		int r = read_stubs(elf, plt, queries, n, done, slots, &nslots);
		if (r)
			return r;
	}
	if (!nslots)
		return 0;
	qsort(slots, nslots, sizeof(*slots), by_address);
	int r = symbols_find_slots(elf, slots, nslots);
	for (size_t i = 0; i < nslots && !r; i++)
		r = answer(elf, &slots[i], &queries[slots[i].query]);
	return r;
}
