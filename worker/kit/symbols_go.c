/* Go's own function table, .gopclntab, which `go build -ldflags=-s` keeps: the runtime needs it for its stack traces.
 * Go 1.18 and later (two magics). Format: pcHeader, functab and _func in Go's src/runtime/symtab.go and runtime2.go. */
#include "common/cleanup.h"
#include "kit/symbols_parts.h"

#include <elf.h>
#include <endian.h>
#include <errno.h>
#include <string.h>

enum {
	MAGIC_1_18 = 0xfffffff0,
	MAGIC_1_20 = 0xfffffff1,
	HEADER_SIZE = 72,       /* bytes: 8, then 8 words */
	HEADER_TEXT_START = 24, /* where textStart stands in it; zero from Go 1.26 on, or before relocation */
	MODULE_TEXT = 176,      /* where .text stands in moduledata, which is all of .go.module (Go 1.26) */
	FUNCTAB_ENTRY = 8,      /* bytes: entry offset, offset of _func */
};

struct go {
	const struct elf *elf;
	const struct elf_section *section;
	uint64_t nfunc;
	uint64_t text;           /* virtual address that entry offsets count from */
	uint64_t names, functab; /* offsets in the section */
};

static uint32_t le32(const void *p)
{
	uint32_t v;
	memcpy(&v, p, sizeof(v));
	return le32toh(v);
}

static uint64_t le64(const void *p)
{
	uint64_t v;
	memcpy(&v, p, sizeof(v));
	return le64toh(v);
}

static int read_at(const struct elf *elf, const struct elf_section *section, uint64_t offset, void *buf, size_t n)
{
	if (!symbols_section_in_file(elf, section) || offset > section->size || section->size - offset < n)
		return -EINVAL;
	return elf_read(elf, buf, n, section->offset + offset);
}

/* The function that covers an address: its entry, and where its _func stands. */
static int lookup(const struct go *go, uint64_t vaddr, uint64_t *ret_start, uint64_t *ret_func)
{
	if (vaddr < go->text || vaddr - go->text > UINT32_MAX)
		return -ENOENT;
	uint32_t offset = (uint32_t)(vaddr - go->text);
	uint8_t row[FUNCTAB_ENTRY + 4]; /* with the entry offset of the next row, where this function ends */
	uint64_t low = 0, high = go->nfunc;
	while (low < high) {
		uint64_t middle = low + (high - low) / 2;
		if (read_at(go->elf, go->section, go->functab + middle * FUNCTAB_ENTRY, row, sizeof(row)))
			return -ENOENT;
		if (offset < le32(row)) {
			high = middle;
		} else if (offset >= le32(row + FUNCTAB_ENTRY)) {
			low = middle + 1;
		} else {
			*ret_start = go->text + le32(row);
			*ret_func = go->functab + le32(row + 4);
			return 0;
		}
	}
	return -ENOENT;
}

static size_t name_of(const struct go *go, uint64_t func, char out[SYMBOL_NAME_MAX + 1])
{
	uint8_t head[8]; /* of _func: entryOff, nameOff */
	if (read_at(go->elf, go->section, func, head, sizeof(head)))
		return 0;
	struct elf_section strings = *go->section;
	if (strings.size < go->names)
		return 0;
	strings.offset += go->names;
	strings.size -= go->names;
	return symbols_name(go->elf, &strings, le32(head + 4), out);
}

/* A word of the image: where a relocation stores it, its addend, since linkers may leave the place itself zero. */
static int image_word(const struct elf *elf, const struct elf_section *section, uint64_t offset, uint64_t *ret)
{
	uint8_t word[8];
	if (read_at(elf, section, offset, word, sizeof(word)))
		return 0;
	*ret = le64(word);
	if (*ret)
		return 0;
	struct slot slot = { .address = section->addr + offset };
	int r = symbols_find_slots(elf, &slot, 1);
	if (!r && slot.found && !slot.symbol)
		*ret = slot.addend;
	return r;
}

/* Without a textStart, .text is a guess: it holds when Go's own linker made the file, which then starts in a Go
 * function. */
static bool guess_text(struct go *go)
{
	const struct elf_section *text = elf_section(go->elf, ".text");
	uint64_t start, func;
	char name[SYMBOL_NAME_MAX + 1];
	if (!text)
		return false;
	go->text = text->addr;
	return lookup(go, go->elf->entry, &start, &func) == 0 && start == go->elf->entry && name_of(go, func, name) &&
	       strncmp(name, "_rt0_", 5) == 0;
}

static int find_text(struct go *go)
{
	int r = image_word(go->elf, go->section, HEADER_TEXT_START, &go->text);
	const struct elf_section *module = elf_section(go->elf, ".go.module");
	if (!r && !go->text && module)
		r = image_word(go->elf, module, MODULE_TEXT, &go->text);
	if (r)
		return r;
	return go->text || guess_text(go) ? 0 : -ENOENT;
}

static int open_table(struct go *ret, const struct elf *elf)
{
	struct go go = { .elf = elf, .section = elf_section(elf, ".gopclntab") };
	if (!go.section)
		go.section = elf_section(elf, ".data.rel.ro.gopclntab");
	uint8_t header[HEADER_SIZE];
	if (!go.section || read_at(elf, go.section, 0, header, sizeof(header)))
		return -ENOENT;
	uint32_t magic = le32(header);
	if ((magic != MAGIC_1_18 && magic != MAGIC_1_20) || header[7] != sizeof(uint64_t))
		return -ENOENT;
	go.nfunc = le64(header + 8);
	go.names = le64(header + 32);
	go.functab = le64(header + 64);
	if (go.functab > go.section->size || go.nfunc > (go.section->size - go.functab) / FUNCTAB_ENTRY)
		return -ENOENT;
	int r = find_text(&go);
	if (r)
		return r;
	*ret = go;
	return 0;
}

int symbols_go(const struct elf *elf, struct symbol_query *queries, size_t n, bool *done)
{
	struct go go;
	int r = open_table(&go, elf);
	if (r)
		return r == -ENOMEM ? r : 0;
	for (size_t i = 0; i < n; i++) {
		uint64_t start, func;
		char name[SYMBOL_NAME_MAX + 1];
		if (done[i] || queries[i].name || lookup(&go, queries[i].vaddr, &start, &func) ||
			!name_of(&go, func, name))
			continue;
		queries[i].name = strdup(name);
		if (!queries[i].name)
			return -ENOMEM;
		queries[i].start = start;
		done[i] = true;
	}
	return 0;
}
