#include "kit/identify.h"

#include <elf.h>
#include <errno.h>
#include <string.h>

enum { CHAIN_MAX = 4096 /* symbols with one hash bucket that are looked at */ };

/* The hash of .gnu.hash: Bernstein's, as in the GNU ABI. */
static uint32_t hash_of(const char *name)
{
	uint32_t h = 5381;
	for (const uint8_t *p = (const uint8_t *)name; *p; p++)
		h = h * 33 + *p;
	return h;
}

/* At an index of a section's array; false behind its end. */
static bool element(
	const struct elf *elf, const struct elf_section *s, uint64_t offset, uint64_t index, void *to, size_t n)
{
	uint64_t at = offset + index * n;
	return index < s->size && at + n <= s->size && !elf_read(elf, to, n, s->offset + at);
}

static bool is_named(const struct elf *elf, const struct elf_section *strings, uint32_t at, const char *name)
{
	char text[64];
	size_t n = strlen(name) + 1;
	return n <= sizeof text && at < strings->size && n <= strings->size - at &&
	       !elf_read(elf, text, n, strings->offset + at) && !memcmp(text, name, n);
}

/* Layout of the section: nbuckets, first symbol, words of the filter, its shift; the filter; the buckets; a chain of hashes whose
 * lowest bit says that it ends. */
int identify_function(const struct elf *elf, const char *name, uint64_t *ret_vaddr, uint64_t *ret_size)
{
	const struct elf_section *hash = elf_section(elf, ".gnu.hash"), *symbols = elf_section(elf, ".dynsym"),
				 *strings = elf_section(elf, ".dynstr");
	uint32_t head[4], wanted = hash_of(name), index, link;
	uint64_t word;
	if (!hash || !symbols || !strings || !element(elf, hash, 0, 0, head, sizeof head) || !head[0] || !head[2])
		return -ENOENT;
	uint64_t filter = sizeof head, buckets = filter + head[2] * sizeof word, chain = buckets + head[0] * 4ULL;
	if (!element(elf, hash, filter, wanted / 64 % head[2], &word, sizeof word))
		return -ENOENT;
	uint64_t bits = 1ULL << wanted % 64 | 1ULL << (wanted >> (head[3] & 31)) % 64;
	if ((word & bits) != bits || !element(elf, hash, buckets, wanted % head[0], &index, sizeof index))
		return -ENOENT;
	for (uint32_t i = 0; i < CHAIN_MAX && index >= head[1]; i++, index++) {
		Elf64_Sym symbol;
		if (!element(elf, hash, chain, index - head[1], &link, sizeof link))
			return -ENOENT;
		if ((link | 1) == (wanted | 1) && element(elf, symbols, 0, index, &symbol, sizeof symbol) &&
			symbol.st_shndx != SHN_UNDEF && is_named(elf, strings, symbol.st_name, name)) {
			*ret_vaddr = symbol.st_value;
			*ret_size = symbol.st_size;
			return 0;
		}
		if (link & 1)
			return -ENOENT;
	}
	return -ENOENT;
}

int identify_symbol(const struct elf *elf, const char *name, uint64_t *ret_vaddr)
{
	uint64_t size;
	return identify_function(elf, name, ret_vaddr, &size);
}

enum runtime_id identify(const struct elf *elf, uint64_t *ret_vaddr)
{
	static const struct {
		enum runtime_id id;
		const char *symbol, *section;
	} known[] = {
#define RUNTIME(name, number, symbol, section, file) { RUNTIME_##name, symbol, section },
#include "proto/runtimes.def"
#undef RUNTIME
	};
	for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
		const struct elf_section *s = known[i].section ? elf_section(elf, known[i].section) : NULL;
		if (!identify_symbol(elf, known[i].symbol, ret_vaddr))
			return known[i].id;
		if (s && s->addr) {
			*ret_vaddr = s->addr;
			return known[i].id;
		}
	}
	return RUNTIME_NONE;
}
