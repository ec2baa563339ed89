/* Sets of CPUs as the kernel writes them ("0-3,8,10-11"), from files below /sys/devices/system/cpu. */
#ifndef SUPERVISOR_CPULIST_H
#define SUPERVISOR_CPULIST_H

#include "proto/lane.h"

#include <stdbool.h>
#include <stdint.h>

struct cpu_set_bits {
	uint64_t word[LANE_MAX_CPUS / 64];
};

static inline bool cpu_has(const struct cpu_set_bits *set, uint32_t cpu)
{
	return cpu < LANE_MAX_CPUS && set->word[cpu / 64] >> (cpu % 64) & 1;
}

/* 0, or -EINVAL for anything that is not such a list; CPUs from LANE_MAX_CPUS on are left out. An empty list is an
 * empty set. */
int cpulist_parse(const char *text, struct cpu_set_bits *ret);
/* The same from a file: -errno when it cannot be read. */
int cpulist_read(const char *path, struct cpu_set_bits *ret);
/* Highest CPU of the set + 1; 0: empty. */
uint32_t cpulist_limit(const struct cpu_set_bits *set);

#endif
