/* /tmp/perf-PID.map of a JIT: lines "START SIZE NAME", hexadecimal, in any order, later lines win. Hostile: the target writes
 * it while we read. The opener has checked the file (regular, owned by the target's user or root, no symlink); size caps here.
 * Format: Linux tools/perf/Documentation/jit-interface.txt. */
#ifndef KIT_PERFMAP_H
#define KIT_PERFMAP_H

#include <stddef.h>
#include <stdint.h>

enum { PERFMAP_MAX_BYTES = 64 << 20 }; /* bytes read, the last of a larger file: JITs append */

struct symbol_query;

/* Answers sorted queries whose vaddr is a run-time address, in one streaming pass. Names are raw bytes, cut at
 * SYMBOL_NAME_MAX. Queries that have a name are left alone. 0 or -errno; -E2BIG: lines that overlap without end. */
int perfmap_resolve(int fd, struct symbol_query *queries, size_t n);

#endif
