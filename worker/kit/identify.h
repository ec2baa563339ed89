/* Which runtime an ELF file carries: by a symbol or a section of proto/runtimes.def, never by its name. */
#ifndef KIT_IDENTIFY_H
#define KIT_IDENTIFY_H

#include "kit/elf.h"
#include "proto/runtimes.h"

/* RUNTIME_NONE: none. *ret_vaddr: where the symbol, or the section, is, in the file's numbering. */
enum runtime_id identify(const struct elf *elf, uint64_t *ret_vaddr);

/* The value of a defined dynamic symbol, by .gnu.hash. 0 or -ENOENT. */
int identify_symbol(const struct elf *elf, const char *name, uint64_t *ret_vaddr);
/* The same, with its size. */
int identify_function(const struct elf *elf, const char *name, uint64_t *ret_vaddr, uint64_t *ret_size);

#endif
