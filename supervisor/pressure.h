/* How short the machine is of memory and CPU (PSI, /proc/pressure, Linux 4.20), and what follows: memory budgets are halved per
 * level, and a lane that lags gets fewer samples instead of losing them. Both come back slowly. The decisions make no system call. */
#ifndef SUPERVISOR_PRESSURE_H
#define SUPERVISOR_PRESSURE_H

#include <stdbool.h>
#include <stdint.h>

/* Percent of the last ten seconds in which some, or all, had to wait. */
struct pressure_reading {
	double memory_some, memory_full, cpu_some;
};

/* 0, or -errno: the kernel does not tell. */
int pressure_read(struct pressure_reading *ret);
/* avg10 of the line that begins with `kind` ("some" or "full"); -1: no such line. */
double pressure_parse(const char *text, const char *kind);

enum {
	PRESSURE_SOME = 10,       /* percent, some: level 1 */
	PRESSURE_FULL = 10,       /* percent, full: level 2 */
	PRESSURE_CRITICAL = 40,   /* percent, full: level 3, and workers are sacrificed */
	PRESSURE_CALM_MS = 30000, /* below half of all that for so long: one level back */
	RATE_CPU_SOME = 20,       /* percent: a lane that lags now does so for want of CPU */
	RATE_CALM_SNAPSHOTS = 3,  /* without lag: twice the rate again */
	RATE_PARTS_MAX = 8,       /* the rate is never lowered below this part of what was asked for */
};

struct pressure {
	bool known; /* the kernel tells */
	struct pressure_reading reading;
	unsigned level; /* 0 to 3 */
	int64_t calm_since_ns;
	int64_t sacrificed_ns; /* when the last worker was */
};
/* True: the level changed. */
bool pressure_note(struct pressure *p, const struct pressure_reading *reading, int64_t now_ns);

struct rate {
	uint32_t parts; /* the rate asked for is divided by this; 0 is 1 */
	unsigned calm;  /* snapshots in a row without lag */
	bool lagged;    /* in the present snapshot, and the CPUs were short */
};
/* At the end of a snapshot: the frequency of the next one. */
uint32_t rate_next(struct rate *r, uint32_t asked_hz);

#endif
