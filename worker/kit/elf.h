/* ELF files of targets: hostile bytes. Read with pread and bounds, never mapped (truncation would be a SIGBUS).
 * 64-bit little-endian ELF only; others are -ENOEXEC. Layout: the System V gABI, <elf.h>. */
#ifndef KIT_ELF_H
#define KIT_ELF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	ELF_MAX_SEGMENTS = 256,       /* program headers looked at */
	ELF_MAX_SECTIONS = 4096,      /* section headers looked at */
	ELF_MAX_INFLATED = 256 << 20, /* bytes that one compressed section may expand to */
	ELF_BUILD_ID_MAX = 32,        /* bytes; SHA-1 is 20, Go and MD5 differ */
};

/* Where bytes come from: a lent fd, or memory (the vDSO, .gnu_debugdata, a fuzzer). Owned by whoever made it. */
struct elf_source {
	int fd;              /* -1: memory */
	const uint8_t *data; /* when fd is -1 */
	uint64_t size;       /* bytes */
};

struct elf_segment {
	uint32_t type, flags;
	uint64_t offset, vaddr, filesz, memsz;
};

struct elf_section {
	char name[32]; /* cut when longer */
	uint32_t type, link, info;
	uint64_t flags, addr, offset, size, entsize;
};

struct elf {
	struct elf_source source;
	uint16_t type, machine;
	uint64_t entry;
	uint32_t nsegments, nsections;
	struct elf_segment *segments; /* owned */
	struct elf_section *sections; /* owned */
	uint8_t build_id[ELF_BUILD_ID_MAX];
	uint8_t build_id_len; /* 0: none */
	bool is_go;           /* has .gopclntab, .go.buildinfo or a Go build id */
};

/* Fills *ret. -ENOEXEC: not an ELF file that we read; -EINVAL: malformed; -EIO: short read; -ENOMEM. */
int elf_open(struct elf *ret, struct elf_source source);
void elf_close(struct elf *elf); /* frees tables; the source is the caller's */

/* Exactly n bytes at a file offset, or -EIO. */
int elf_read(const struct elf *elf, void *buf, size_t n, uint64_t offset);

/* First section of that name with bytes in the file (not NOBITS), or NULL. */
const struct elf_section *elf_section(const struct elf *elf, const char *name);

/* A section's content, inflated when SHF_COMPRESSED (or ".zdebug" style is not supported). *ret_data is malloc'd.
 * -E2BIG over `limit` bytes. */
int elf_section_data(
	const struct elf *elf, const struct elf_section *section, size_t limit, uint8_t **ret_data, size_t *ret_size);

/* File offset -> virtual address by the PT_LOAD that covers it; -ENOENT when none does. */
int elf_vaddr_of_offset(const struct elf *elf, uint64_t offset, uint64_t *ret_vaddr);
/* Virtual address -> file offset. */
int elf_offset_of_vaddr(const struct elf *elf, uint64_t vaddr, uint64_t *ret_offset);

#endif
