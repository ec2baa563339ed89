/* What the opener keeps, and why. Shared with the check of its sandbox (worker.c).
 * OPENER_CAPABILITIES(CAPABILITY) expands CAPABILITY(name, words) for each. */
#ifndef SUPERVISOR_OPENER_CAPABILITIES_H
#define SUPERVISOR_OPENER_CAPABILITIES_H

#include <linux/capability.h>
#include <stdint.h>

#define OPENER_CAPABILITIES(CAPABILITY)                                                                                \
	CAPABILITY(CAP_SYS_PTRACE, "/proc/PID/mem, maps, exe, root and map_files of other users' processes")           \
	CAPABILITY(CAP_DAC_READ_SEARCH, "directories and files of other users, on the way to an ELF file")             \
	CAPABILITY(CAP_CHECKPOINT_RESTORE, "the links in /proc/PID/map_files")                                         \
	CAPABILITY(CAP_SYSLOG, "addresses in /proc/kallsyms")                                                          \
	CAPABILITY(CAP_SYS_ADMIN, "map_files before Linux 5.9; given up where CAP_CHECKPOINT_RESTORE exists")

static inline uint64_t opener_capabilities(void)
{
#define BIT(name, words) | 1ULL << name
	return 0 OPENER_CAPABILITIES(BIT);
#undef BIT
}

#endif
