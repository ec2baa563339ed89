/* /proc/PID/maps, from a lent fd: target-controlled text (paths), so every line is parsed with bounds and a bad one
 * skipped. Format: proc(5): "start-end perms offset major:minor inode   path". */
#ifndef KIT_MAPS_H
#define KIT_MAPS_H

#include <stddef.h>
#include <stdint.h>

enum map_flag {
	MAP_IS_READ = 1,
	MAP_IS_WRITE = 2,
	MAP_IS_EXEC = 4,
	MAP_IS_SHARED_ = 8,
	MAP_IS_FILE = 16, /* has an inode */
	MAP_IS_VDSO = 32,
	MAP_IS_VSYSCALL = 64,
	MAP_IS_STACK = 128, /* "[stack]": grows downwards */
};

struct map_entry {
	uint64_t start, end, offset;
	uint64_t device, inode; /* device: major << 32 | minor; as printed, which is not always what stat says (btrfs,
				   overlayfs) */
	uint32_t flags;
	uint32_t path; /* offset of the final NUL-terminated path in maps.paths; 0: none */
};

enum {
	MAPS_MAX_ENTRIES = 65536 * 2, /* twice vm.max_map_count's default */
	MAPS_MAX_BYTES = 32 << 20,
};

struct maps {
	struct map_entry *entries; /* owned; in ascending order of start, not overlapping */
	size_t n, cap;
	char *paths; /* owned; paths[0] is 0 */
	size_t paths_len, paths_cap;
};

/* Reads and parses; 0, or -errno; -ESRCH when there is nothing (the image is gone, or a kernel thread). */
int maps_read(struct maps *ret, int fd);
/* For the fuzzer: one text. 0 or -ENOMEM. */
int maps_parse(struct maps *ret, const char *text, size_t n);
void maps_free(struct maps *m);
/* The entry that covers the address, or NULL. */
const struct map_entry *maps_find(const struct maps *m, uint64_t address);

#endif
