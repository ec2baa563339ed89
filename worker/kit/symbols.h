/* Names for addresses of one ELF file, in batches: one pass over each symbol table answers all open questions of a
 * snapshot, so memory is bounded by what is asked, not by the size of the file. Input is hostile.
 * Sources, best first: .symtab, then .gnu_debugdata (MiniDebugInfo: an xz-compressed ELF with a .symtab), then .dynsym;
 * a separate debug file is just another elf passed to the same call. For Go without .symtab: .gopclntab (1.18+). */
#ifndef KIT_SYMBOLS_H
#define KIT_SYMBOLS_H

#include "kit/elf.h"

#include <stddef.h>
#include <stdint.h>

struct symbol_query {
	uint64_t vaddr; /* in; queries must be sorted by it */
	uint64_t start; /* out: the symbol's own address; valid when name is set */
	char *name; /* out: malloc'd, raw (mangled) name as in the file, cut at SYMBOL_NAME_MAX; NULL: no symbol covers it */
};

enum { SYMBOL_NAME_MAX = 1000 };

/* Fills the queries that have no name yet. Functions only (STT_FUNC, STT_GNU_IFUNC, and STT_NOTYPE in executable sections).
 * A symbol covers [value, value+size), and the innermost wins; one of size 0 covers up to the next symbol or the section's
 * end (of .dynsym 4 KiB at most: it leaves out local functions), where no sized one does. Of the names of one function the
 * exported one with the fewest underscores is given. Versions ("@GLIBC_2.2.5") are dropped. Addresses in a .plt section
 * become "NAME@plt" where the relocations tell (.rela.plt), else no name. 0 or -ENOMEM; a malformed table answers nothing. */
int symbols_resolve(const struct elf *elf, struct symbol_query *queries, size_t n);

/* The build-id debug link's path below a debug root: ".build-id/xx/yyyy.debug". Returns bytes written, 0 when no id. */
size_t symbols_debug_path(const struct elf *elf, char *out, size_t size);

/* C++ (Itanium), Rust (legacy and v0): readable form, malloc'd; NULL when the name is not mangled or too complex.
 * Rust's trailing hash is dropped. C++ parameters are kept out: "ns::klass::method", templates kept. A longer result than
 * 512 bytes is cut and ends in "...". "@plt" stays. Bounded in time and memory; needs 256 KiB of stack. */
char *symbols_demangle(const char *name);

#endif
