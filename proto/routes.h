/* Which processes were asked for, and whose samples go into which runtime's lane: a bit for each pid. The memory is the supervisor's, lent
 * to the sampler and to its successor (law 6), and to nobody else: a lane's reader must not be able to choose what it reads. */
#ifndef PROTO_ROUTES_H
#define PROTO_ROUTES_H

#include "proto/runtimes.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum { ROUTES_PIDS = 4 << 20 /* PID_MAX_LIMIT */ };

struct routes {
	_Atomic uint32_t highest; /* pid that any runtime has had */
	_Atomic uint32_t only;    /* 1: only followed processes count */
	uint64_t pad[511];
	/* [0]: followed; [id]: of that runtime. Pages come into being with use. */
	_Atomic uint64_t bits[RUNTIME_MAX][ROUTES_PIDS / 64];
};

int routes_create(void); /* the memfd, or -errno */
/* NULL: not one of those. Mapped until the process ends. */
struct routes *routes_open(int fd);

static inline bool routes_bit(const struct routes *routes, unsigned row, uint32_t pid)
{
	return pid < ROUTES_PIDS && routes->bits[row][pid / 64] >> pid % 64 & 1;
}

static inline void routes_set(struct routes *routes, unsigned row, uint32_t pid, bool on)
{
	if (pid && pid < ROUTES_PIDS && on)
		atomic_fetch_or(&routes->bits[row][pid / 64], 1ULL << pid % 64);
	else if (pid < ROUTES_PIDS && routes_bit(routes, row, pid))
		atomic_fetch_and(&routes->bits[row][pid / 64], ~(1ULL << pid % 64));
}

#endif
