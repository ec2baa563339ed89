/* Kernel symbols from a lent fd of /proc/kallsyms (opened by the opener with CAP_SYSLOG), kept compactly: text symbols only. */
#ifndef KIT_KALLSYMS_H
#define KIT_KALLSYMS_H

#include <stddef.h>
#include <stdint.h>

struct kallsyms;

/* -EPERM: all addresses read as 0 (kptr_restrict); -ENODATA: no text symbol; -ENOMEM.
 * Names are raw bytes: those of BPF programs are chosen by whoever loads them. At most a million are kept. The fd stays the caller's. */
int kallsyms_load(struct kallsyms **ret, int fd);
void kallsyms_free(struct kallsyms *k);
/* The symbol that covers the address, into `out` as "name" or "name [module]"; returns the length written,
 * 0 when unknown: below the first symbol, or more than 1 MiB past the nearest. */
size_t kallsyms_find(const struct kallsyms *k, uint64_t address, char *out, size_t size);
size_t kallsyms_memory(const struct kallsyms *k); /* bytes */

#endif
