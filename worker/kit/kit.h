/* What every worker stands on: start-up, lockdown, logging through the channel. A worker's main is
 *
 *	int main(int argc, char **argv)
 *	{
 *		struct kit kit;
 *		kit_start(&kit, "native", PARTY_LANE, KIT_REALTIME, argc, argv);   fatal on any failure
 *		...its loop over kit.channel...
 *	}
 *
 * Contract with the supervisor (supervisor/priv_spawn.c): fd 3 is the channel, fds 0 to 2 are /dev/null (2 is the supervisor's
 * standard error in sanitizer builds), argv[1] is the uid and gid to become, argv[2] is "realtime" where that is wanted; rlimits,
 * namespaces and the parent-death signal are set. */
#ifndef KIT_KIT_H
#define KIT_KIT_H

#include "proto/channel.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

enum { KIT_CHANNEL_FD = 3 };

enum kit_need {
	KIT_REALTIME = 1, /* threads, scheduling calls, shared futexes */
	KIT_WRITES = 2,   /* pwrite to lent files */
};

struct kit {
	struct channel channel;
	const char *name;
	bool realtime, pinned; /* granted */
	unsigned landlock_abi;
};

/* Locks down (kit/lockdown.c), proves it, sends READY. Exits on failure with KIT_EXIT_SANDBOX: no sandbox, no work. */
void kit_start(struct kit *kit, const char *name, enum party party, unsigned needs, int argc, char **argv);

/* Receives one frame; end of file exits quietly (law 8: if the supervisor dies, everyone exits), a malformed frame
 * exits with KIT_EXIT_PROTOCOL. 1: got one; 0: none now. */
int kit_receive(struct kit *kit, struct frame *ret);

/* A thread at real-time priority 1 (or the best nice value), as far as granted. Such threads are made by one that got the priority
 * before the privileges went, and sleeps; no other way to it is left. 0 or -errno. */
int kit_thread(void *(*run)(void *), void *argument, pthread_t *ret);
/* One CPU for the calling thread, as far as granted, and a name. */
void kit_pin_thread(const struct kit *kit, uint32_t cpu);
/* Between two records: a thread that has run for a millisecond since *rested_ns (monotonic; it just waited) sleeps for a tenth of
 * one. Others get to run while it catches up, and its leash (realtime_leash in supervisor/budgets.def) is only felt by one that is stuck. */
void kit_breathe(int64_t *rested_ns);

enum {
	KIT_EXIT_OK = 0,
	KIT_EXIT_USAGE = 64,
	KIT_EXIT_SANDBOX = 70,
	KIT_EXIT_PROTOCOL = 71,
	KIT_EXIT_MEMORY = 72,
	KIT_EXIT_CPU = 73,    /* SIGXCPU: RLIMIT_RTTIME or RLIMIT_CPU */
	KIT_EXIT_OUTPUT = 74, /* SIGXFSZ: RLIMIT_FSIZE */
};

#endif
