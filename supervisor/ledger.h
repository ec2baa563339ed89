/* The books: one row for every fd lent and for every worker process. Rows are found by id in one step; when a worker
 * ends, all its rows go. Nothing here makes a system call. */
#ifndef SUPERVISOR_LEDGER_H
#define SUPERVISOR_LEDGER_H

#include "proto/lease.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	LEDGER_PROCESS = 255,      /* a kind beside enum lease_kind: the worker's process itself */
	LEDGER_MAX_ROWS = 1 << 16, /* above the sum of the workers' fd limits; 2.5 MiB when full */
	LEDGER_FIRST_ROWS = 256,
	LEDGER_MAX_OWNERS = 48,
};

struct ledger_row {
	uint64_t id; /* serial << 16 | index; 0: free */
	int64_t birth_ns;
	uint32_t incarnation;
	int32_t pid;   /* target, or the process itself; 0: none */
	uint32_t next; /* of the free list */
	uint8_t owner, kind;
};

struct ledger {
	struct ledger_row *rows;   /* owned */
	uint32_t size, free_first; /* free_first: index + 1; 0: none */
	uint64_t serial;
	uint32_t fds[LEDGER_MAX_OWNERS], pids[LEDGER_MAX_OWNERS];
};

void ledger_free(struct ledger *l);
/* The id (never 0), or 0 when the books are full. kind: enum lease_kind or LEDGER_PROCESS. */
uint64_t ledger_add(struct ledger *l, unsigned owner, uint32_t incarnation, unsigned kind, int pid, int64_t now_ns);
/* 0, or -ENOENT: no such row, or it is someone else's. */
int ledger_release(struct ledger *l, unsigned owner, uint64_t id);
/* All rows of an owner, its process included; returns how many. */
uint32_t ledger_drop(struct ledger *l, unsigned owner);
/* All rows of an owner go to another one. */
void ledger_transfer(struct ledger *l, unsigned from, unsigned to);
/* NULL: no such row. */
const struct ledger_row *ledger_find(const struct ledger *l, uint64_t id);
/* The first used row from *at on, which is moved behind it; NULL: no more. */
const struct ledger_row *ledger_next(const struct ledger *l, uint32_t *at);
uint32_t ledger_fds(const struct ledger *l);
uint32_t ledger_pids(const struct ledger *l);

#endif
