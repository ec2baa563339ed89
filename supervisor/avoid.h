/* Targets that hung someone: an opener with an open, a worker with a read. They are not opened again for a while, by
 * nobody: a file system that did not answer once will not answer the successor either. A process is meant by its pid
 * and its start time, so that whoever gets the pid next pays for nothing. Nothing here makes a system call. */
#ifndef SUPERVISOR_AVOID_H
#define SUPERVISOR_AVOID_H

#include <stdbool.h>
#include <stdint.h>

enum {
	AVOIDED_MAX = 64, /* the one that would end first makes room */
	AVOIDED_MS =
		10 * 60 * 1000, /* after an open that hung; after the end of the last process that hung in its memory */
	AVOID_MEMORY = 0,       /* a kind beside enum lease_kind: its memory, and all that takes the lock on that */
};

struct avoided {
	int64_t until_ns;    /* CLOCK_MONOTONIC; INT64_MAX: while someone hangs in it; 0: the row is free */
	uint64_t start_time; /* clock ticks since boot; 0: not known, so any process of this pid */
	int32_t pid;
	uint8_t kind;
	uint8_t holders; /* quarantined processes that hang in it */
};

struct avoid_table {
	struct avoided rows[AVOIDED_MAX];
};

/* An open of this kind hung; with AVOID_MEMORY, a read of its memory, which ended with SIGKILL. */
void avoid_add(struct avoid_table *table, int32_t pid, uint64_t start_time, uint8_t kind, int64_t now_ns);
/* A process hangs in its memory, and ... has ended at last. Each of the first has one of the second. */
void avoid_hold(struct avoid_table *table, int32_t pid, uint64_t start_time, int64_t now_ns);
void avoid_let_go(struct avoid_table *table, int32_t pid, uint64_t start_time, int64_t now_ns);
/* Whether such a lease is not to be had. start_time 0 (not known yet) is nobody whose start time is on the list: ask
 * again when it is known. */
bool avoid_is_listed(const struct avoid_table *table, int32_t pid, uint64_t start_time, uint8_t kind, int64_t now_ns);
/* The first row in force from *at on, which is moved behind it; NULL: no more. */
const struct avoided *avoid_next(const struct avoid_table *table, unsigned *at, int64_t now_ns);

#endif
