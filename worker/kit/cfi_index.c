/* Which functions a table has, and where: from .eh_frame_hdr's search table, or by reading every entry once. */
#include "kit/cfi_parts.h"

#include "common/cleanup.h"

#include <elf.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum {
	HDR_READ = 64 << 10,        /* bytes of the search table read at once while opening */
	HDR_HEAD = 32,              /* bytes: 4 of encodings, two pointers of at most 8 */
	HDR_SMALLEST = 8,           /* bytes: encodings and a 4-byte pointer, no table */
	SCAN_VIEW = 64 << 10,       /* bytes read at once while scanning */
	CIE_VIEW = 512,             /* bytes read at once */
	SCAN_MAX = 64 << 20,        /* bytes of a section scanned */
	SCAN_ENTRIES_MAX = 2 << 20, /* entries looked at; tenths of a second of work */
	SCAN_CIES_MAX = 64 << 10,   /* CIEs read in one scan: one for each compilation unit occurs in .debug_frame */
	FUNCTIONS_MAX = 1 << 20,    /* in a scanned index: 8 MiB */
	INFLATED_MAX = 4 << 20,     /* bytes of a compressed .debug_frame: 80,000 Go functions */
	INFLATED_ALL = 16 << 20,    /* bytes of all of them; beyond it Go still has its frame pointers */
};

static atomic_size_t inflated; /* bytes */

/* .eh_frame_hdr: LSB Core 10.6.2. Tells where .eh_frame is, and nearly always has a table sorted by pc. */
struct hdr {
	uint64_t offset, vaddr, size;
	uint64_t eh_frame; /* vaddr */
	uint64_t count, table;
	uint8_t encoding, width;
};

static int hdr_find(const struct elf *elf, struct hdr *ret)
{
	for (uint32_t i = 0; i < elf->nsegments; i++) {
		const struct elf_segment *s = &elf->segments[i];
		if (s->type != PT_GNU_EH_FRAME || s->filesz < HDR_SMALLEST)
			continue;
		*ret = (struct hdr) { .offset = s->offset, .vaddr = s->vaddr, .size = s->filesz };
		return 0;
	}
	const struct elf_section *section = elf_section(elf, ".eh_frame_hdr");
	if (!section || (section->flags & SHF_COMPRESSED))
		return -ENOENT;
	*ret = (struct hdr) { .offset = section->offset, .vaddr = section->addr, .size = section->size };
	return 0;
}

static uint8_t width_of(uint8_t encoding)
{
	switch (encoding & ENC_FORM) {
	case ENC_UDATA2:
	case ENC_SDATA2:
		return 2;
	case ENC_UDATA4:
	case ENC_SDATA4:
		return 4;
	case ENC_ABSPTR:
	case ENC_UDATA8:
	case ENC_SDATA8:
		return 8;
	default: /* LEB128 cannot be searched */
		return 0;
	}
}

/* -ENOENT: no header. Otherwise eh_frame is set, and count is 0 when there is no table to search. */
static int hdr_read(const struct elf *elf, struct hdr *ret)
{
	struct hdr hdr;
	int r = hdr_find(elf, &hdr);
	if (r < 0)
		return r;
	uint8_t head[HDR_HEAD];
	size_t n = hdr.size < sizeof(head) ? (size_t)hdr.size : sizeof(head);
	r = elf_read(elf, head, n, hdr.offset);
	if (r < 0)
		return r;
	struct cursor c = { .p = head, .end = head + n };
	uint8_t version = cursor_u8(&c), pointer = cursor_u8(&c), count = cursor_u8(&c);
	hdr.encoding = cursor_u8(&c);
	if (version != 1 || pointer == ENC_OMIT || (pointer & ENC_INDIRECT) ||
		cfi_encoded(&c, pointer, hdr.vaddr + (uint64_t)(c.p - head), hdr.vaddr, &hdr.eh_frame) < 0)
		return -ENOENT;
	*ret = hdr;
	if (count == ENC_OMIT || hdr.encoding == ENC_OMIT || ((count | hdr.encoding) & ENC_INDIRECT) ||
		cfi_encoded(&c, count, hdr.vaddr + (uint64_t)(c.p - head), hdr.vaddr, &hdr.count) < 0)
		return 0;
	hdr.table = (uint64_t)(c.p - head);
	hdr.width = width_of(hdr.encoding);
	if (!hdr.width || hdr.count > UINT32_MAX || hdr.count > (hdr.size - hdr.table) / (2U * hdr.width))
		return 0;
	*ret = hdr;
	return 0;
}

/* .eh_frame from the address that the header gives to the end of the segment: works without section headers. */
static int space_from_vaddr(const struct elf *elf, uint64_t vaddr, struct cfi_space *ret)
{
	for (uint32_t i = 0; i < elf->nsegments; i++) {
		const struct elf_segment *s = &elf->segments[i];
		if (s->type != PT_LOAD || vaddr < s->vaddr || vaddr - s->vaddr >= s->filesz)
			continue;
		uint64_t skip = vaddr - s->vaddr, size = s->filesz - skip;
		*ret = (struct cfi_space) {
			.elf = elf,
			.file_offset = s->offset + skip,
			.vaddr = vaddr,
			.size = size < CFI_SPACE_MAX ? size : CFI_SPACE_MAX,
		};
		return 0;
	}
	return -ENOENT;
}

static int space_from_section(const struct elf *elf, const struct elf_section *section, struct cfi_space *ret)
{
	if (section->offset > elf->source.size || section->size > elf->source.size - section->offset ||
		section->size > CFI_SPACE_MAX || (section->flags & SHF_COMPRESSED))
		return -ENOENT;
	*ret = (struct cfi_space) {
		.elf = elf,
		.file_offset = section->offset,
		.vaddr = section->addr,
		.size = section->size,
	};
	return 0;
}

/* The functions are known: room for their chunks. */
static int index_ready(struct cfi_table *t)
{
	uint32_t nslots = (t->nfunctions + CFI_CHUNK_FDES - 1) / CFI_CHUNK_FDES;
	t->chunks = calloc(nslots, sizeof(struct cfi_chunk *));
	if (!t->chunks)
		return -ENOMEM;
	t->nslots = nslots;
	return 0;
}

/* Keeps the first pc of each slot, and reads the table front to back for it. */
static int index_from_hdr(struct cfi_table *t, const struct elf *elf, const struct hdr *hdr)
{
	size_t entry = 2U * hdr->width, slot = entry * CFI_CHUNK_FDES,
	       slots = (hdr->count + CFI_CHUNK_FDES - 1) / CFI_CHUNK_FDES;
	if (!hdr->count)
		return -ENOENT;
	cleanup_free uint8_t *bytes = malloc(HDR_READ);
	t->slots = calloc(slots, sizeof(*t->slots));
	if (!bytes || !t->slots)
		return -ENOMEM;
	uint64_t done = 0, total = hdr->count * entry;
	for (size_t i = 0; i < slots;) {
		size_t n = total - done < HDR_READ ? (size_t)(total - done) : HDR_READ;
		if (elf_read(elf, bytes, n, hdr->offset + hdr->table + done) < 0)
			return -EIO;
		for (size_t at = 0; at < n; at += slot, i++) {
			struct cursor c = { .p = bytes + at, .end = bytes + n };
			uint64_t pc, vaddr = hdr->vaddr + hdr->table + done + at;
			if (cfi_encoded(&c, hdr->encoding, vaddr, hdr->vaddr, &pc) < 0)
				return -EINVAL;
			if (!i)
				t->base = pc;
			if (pc < t->base || pc - t->base >= UINT32_MAX || (i && pc - t->base < t->slots[i - 1]))
				return -EINVAL;
			t->slots[i] = (uint32_t)(pc - t->base);
		}
		done += n;
	}
	t->nfunctions = (uint32_t)hdr->count;
	t->hdr_vaddr = hdr->vaddr;
	t->hdr_offset = hdr->offset;
	t->hdr_table = hdr->table;
	t->hdr_encoding = hdr->encoding;
	t->hdr_width = hdr->width;
	return index_ready(t);
}
_Static_assert(HDR_READ % (CFI_CHUNK_FDES * 16) == 0, "a read ends between two slots");

/* Linkers leave entries of discarded functions behind, at 0 or at -1. */
static bool is_code(const struct elf *elf, uint64_t pc)
{
	for (uint32_t i = 0; i < elf->nsegments; i++) {
		const struct elf_segment *s = &elf->segments[i];
		if (s->type == PT_LOAD && (s->flags & PF_X) && pc >= s->vaddr && pc - s->vaddr < s->memsz)
			return true;
	}
	return false;
}

static uint64_t lowest_code(const struct elf *elf)
{
	uint64_t lowest = UINT64_MAX;
	for (uint32_t i = 0; i < elf->nsegments; i++) {
		const struct elf_segment *s = &elf->segments[i];
		if (s->type == PT_LOAD && (s->flags & PF_X) && s->vaddr < lowest)
			lowest = s->vaddr;
	}
	return lowest;
}

static int by_pc(const void *a, const void *b)
{
	const struct cfi_function *x = a, *y = b;
	return x->pc != y->pc ? (x->pc > y->pc) - (x->pc < y->pc) : (x->fde > y->fde) - (x->fde < y->fde);
}

static int add_function(struct cfi_table *t, size_t *cap, uint64_t pc, uint64_t fde)
{
	pc -= t->base;
	if (pc >= UINT32_MAX)
		return 0;
	if (t->nfunctions == *cap) {
		size_t bigger = *cap ? *cap * 2 : 256;
		struct cfi_function *functions = realloc(t->functions, bigger * sizeof(*functions));
		if (!functions)
			return -ENOMEM;
		t->functions = functions;
		*cap = bigger;
	}
	t->functions[t->nfunctions++] = (struct cfi_function) { .pc = (uint32_t)pc, .fde = (uint32_t)fde };
	return 0;
}

struct scan {
	struct cfi_view entries, cies;
	struct cfi_cie known[CFI_CIES_CACHED];
	size_t ncies;
};

static const struct cfi_cie *scan_cie(struct scan *scan, uint64_t offset)
{
	size_t n = scan->ncies < CFI_CIES_CACHED ? scan->ncies : CFI_CIES_CACHED;
	for (size_t i = 0; i < n; i++)
		if (scan->known[i].offset == offset)
			return &scan->known[i];
	struct cfi_cie cie;
	if (cfi_cie_read(&scan->cies, offset, &cie) < 0)
		cie = (struct cfi_cie) { .offset = offset, .pc_encoding = ENC_OMIT };
	struct cfi_cie *slot = &scan->known[scan->ncies++ % CFI_CIES_CACHED];
	*slot = cie;
	return slot;
}

/* Fills the index from every entry. `bounded`: the space ends with the section, so an end mark is not the end (linkers
 * leave them in the middle). */
static int scan_entries(struct cfi_table *t, struct scan *scan, bool bounded)
{
	const struct cfi_space *space = &t->space;
	struct cfi_entry entry;
	size_t cap = 0, entries = 0;
	for (uint64_t at = 0; at < space->size && at < SCAN_MAX; at = entry.next) {
		if (++entries > SCAN_ENTRIES_MAX || scan->ncies > SCAN_CIES_MAX || t->nfunctions == FUNCTIONS_MAX)
			return 0;
		if (cfi_entry_head(&scan->entries, at, &entry) < 0 || (entry.is_end && !bounded))
			return 0;
		if (entry.is_end || entry.is_cie)
			continue;
		const struct cfi_cie *cie = scan_cie(scan, entry.cie);
		size_t n = entry.next - entry.body < 16 ? (size_t)(entry.next - entry.body) : 16;
		const uint8_t *bytes = cfi_view(&scan->entries, entry.body, n);
		if (!bytes)
			return 0;
		struct cursor c = { .p = bytes, .end = bytes + n };
		uint64_t pc, size;
		if (cie->pc_encoding == ENC_OMIT || cfi_fde_range(cie, &c, space->vaddr + entry.body, &pc, &size) < 0)
			continue;
		if (size && is_code(space->elf, pc) && add_function(t, &cap, pc, at) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int index_from_scan(struct cfi_table *t, bool bounded)
{
	struct scan scan = {
		.entries = { .space = &t->space, .cap = SCAN_VIEW },
		.cies = { .space = &t->space, .cap = CIE_VIEW },
	};
	t->base = lowest_code(t->space.elf);
	int r = scan_entries(t, &scan, bounded);
	cfi_view_free(&scan.entries);
	cfi_view_free(&scan.cies);
	if (r < 0)
		return r;
	if (!t->nfunctions)
		return -ENOENT;
	qsort(t->functions, t->nfunctions, sizeof(*t->functions), by_pc);
	struct cfi_function *exact = realloc(t->functions, t->nfunctions * sizeof(*t->functions));
	if (exact)
		t->functions = exact;
	return index_ready(t);
}

/* A failed attempt leaves nothing behind. */
static int closed(struct cfi_table *t, int r)
{
	if (r < 0)
		cfi_index_close(t);
	return r == -ENOMEM || !r ? r : -ENOENT;
}

int cfi_index_eh_frame(struct cfi_table *t, const struct elf *elf)
{
	struct hdr hdr;
	bool has_hdr = !hdr_read(elf, &hdr) && !space_from_vaddr(elf, hdr.eh_frame, &t->space);
	if (has_hdr && hdr.count) {
		struct cfi_space space = t->space;
		int r = closed(t, index_from_hdr(t, elf, &hdr));
		if (!r || r == -ENOMEM)
			return r;
		t->space = space;
	}
	const struct elf_section *section = elf_section(elf, ".eh_frame");
	if (section && !space_from_section(elf, section, &t->space))
		return closed(t, index_from_scan(t, true));
	return closed(t, has_hdr ? index_from_scan(t, false) : -ENOENT);
}

static int inflate_space(struct cfi_space *space, const struct elf *elf, const struct elf_section *section)
{
	size_t size;
	if (atomic_load(&inflated) > INFLATED_ALL - INFLATED_MAX)
		return -ENOENT;
	*space = (struct cfi_space) { .elf = elf };
	int r = elf_section_data(elf, section, INFLATED_MAX, &space->data, &size);
	if (r < 0)
		return r;
	space->size = size;
	atomic_fetch_add(&inflated, size);
	return 0;
}

int cfi_index_debug_frame(struct cfi_table *t, const struct elf *elf)
{
	const struct elf_section *section = elf_section(elf, ".debug_frame");
	if (!section)
		return -ENOENT;
	int r = section->flags & SHF_COMPRESSED ? inflate_space(&t->space, elf, section)
						: space_from_section(elf, section, &t->space);
	if (r < 0)
		return closed(t, r);
	t->space.vaddr = 0;
	t->space.is_debug = true;
	return closed(t, index_from_scan(t, true));
}

void cfi_index_close(struct cfi_table *t)
{
	if (t->space.data)
		atomic_fetch_sub(&inflated, t->space.size);
	free(t->chunks);
	free(t->slots);
	free(t->functions);
	free(t->space.data);
	*t = (struct cfi_table) { 0 };
}

size_t cfi_index_bytes(const struct cfi_table *t)
{
	size_t bytes = t->nslots * sizeof(*t->chunks);
	bytes += t->slots ? t->nslots * sizeof(*t->slots) : t->nfunctions * sizeof(*t->functions);
	return bytes + (t->space.data ? t->space.size : 0);
}

static uint32_t slot_pc(const struct cfi_table *t, uint32_t slot)
{
	return t->slots ? t->slots[slot] : t->functions[slot * CFI_CHUNK_FDES].pc;
}

int cfi_index_slot(const struct cfi_table *t, uint64_t vaddr, uint32_t *ret_pc, uint32_t *ret_slot)
{
	if (!t->nslots || vaddr < t->base || vaddr - t->base >= UINT32_MAX)
		return -ENOENT;
	uint32_t pc = (uint32_t)(vaddr - t->base), low = 0, high = t->nslots;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		if (slot_pc(t, middle) <= pc)
			low = middle + 1;
		else
			high = middle;
	}
	if (!low)
		return -ENOENT;
	*ret_pc = pc;
	*ret_slot = low - 1;
	return 0;
}

/* The functions of one slot, in order. What the file says now may not be what it said when it was opened. */
size_t cfi_index_functions(const struct cfi_table *t, uint32_t slot, struct cfi_function *out)
{
	uint32_t first = slot * CFI_CHUNK_FDES;
	size_t n = t->nfunctions - first < CFI_CHUNK_FDES ? t->nfunctions - first : CFI_CHUNK_FDES, kept = 0;
	if (!t->slots) {
		memcpy(out, t->functions + first, n * sizeof(*out));
		return n;
	}
	uint8_t bytes[CFI_CHUNK_FDES * 16];
	size_t entry = 2U * t->hdr_width;
	uint64_t at = t->hdr_table + (uint64_t)first * entry;
	if (elf_read(t->space.elf, bytes, n * entry, t->hdr_offset + at) < 0)
		return 0;
	struct cursor c = { .p = bytes, .end = bytes + n * entry };
	for (size_t i = 0; i < n; i++) {
		uint64_t pc, fde, vaddr = t->hdr_vaddr + at + i * entry;
		if (cfi_encoded(&c, t->hdr_encoding, vaddr, t->hdr_vaddr, &pc) < 0 ||
			cfi_encoded(&c, t->hdr_encoding, vaddr + t->hdr_width, t->hdr_vaddr, &fde) < 0)
			break;
		pc -= t->base;
		fde -= t->space.vaddr;
		if (pc >= UINT32_MAX || fde >= t->space.size || (kept && pc <= out[kept - 1].pc))
			continue;
		out[kept++] = (struct cfi_function) { .pc = (uint32_t)pc, .fde = (uint32_t)fde };
	}
	return kept;
}
