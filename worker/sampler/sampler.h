/* The sampler: drains the kernel's rings, one pinned thread a CPU, and copies each sample and process event into the
 * lane of the worker that understands the process. It reads only what the kernel wrote. It never blocks on a lane.
 *
 *   main.c     the channel: leases, marks, routes
 *   cpu.c      the thread of one CPU
 *   record.c   the kernel's records, checked and rewritten as lane records
 *   outlet.c   the ends of the lanes: what is put into them, and how it becomes visible
 *   route.c    which processes were asked for, and whose lane each process's samples go into */
#ifndef SAMPLER_SAMPLER_H
#define SAMPLER_SAMPLER_H

#include "kit/kit.h"
#include "proto/lane.h"
#include "proto/routes.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* route.c: read and set by all threads without a lock. */
bool route_init(int fd);      /* the memory that the supervisor lent */
void route_follow_only(void); /* from now on only followed processes count */
void route_follow(uint32_t pid);
bool route_follows(uint32_t pid);
enum runtime_id route_of(uint32_t pid);
void route_set(uint32_t pid, enum runtime_id runtime); /* RUNTIME_NONE: native's */
/* Times are the events': those of one process may come through two CPUs' rings, in any order. */
void route_fork(uint32_t parent, uint32_t child, uint64_t time);
void route_exec(uint32_t pid, uint64_t time); /* a new image is native's until somebody takes it */
/* The next pids of a runtime from *from on (0 first): how many, at most max; 0: no more. */
size_t route_list(enum runtime_id runtime, uint32_t *from, uint32_t *pids, size_t max);

/* outlet.c: the lanes, by runtime. native's is always there once it was lent. */
struct outlet {
	struct lane lane;     /* map NULL: no such lane */
	int doorbell;         /* -1 */
	_Atomic uint8_t away; /* enum lane_away: its worker is, and its samples go to native */
};

extern struct outlet outlets[RUNTIME_MAX];

/* One CPU's ends of all lanes. Records are put, then all become visible at once, with the position in the kernel's ring. */
struct taps {
	uint32_t cpu;
	uint64_t marked; /* the last mark that this CPU's thread has written */
	struct lane_state states[RUNTIME_MAX];
	uint32_t touched; /* bit: something was put since taps_publish */
	uint32_t woken;   /* bit: something was published since taps_wake */
};

void taps_open(struct taps *taps, uint32_t cpu, uint64_t marked);
/* Which lane takes what concerns a process now. */
enum runtime_id taps_lane(uint32_t pid);
/* False: the lane is full, nothing was put. */
bool taps_put(struct taps *taps, enum runtime_id lane, const struct lane_piece *pieces, size_t n);
uint64_t *taps_counters(struct taps *taps, enum runtime_id lane); /* to add to: they are published, too */
void taps_publish(struct taps *taps, uint64_t position);
void taps_wake(struct taps *taps);
/* Where the dead sampler before us had come to in the kernel's ring, whose head and tail are given. */
uint64_t taps_position(const struct taps *taps, uint64_t head, uint64_t tail);
/* The mark of a snapshot in all rings of this CPU that are in use. False: one is too full; again later. */
bool taps_mark(struct taps *taps, uint64_t snapshot);
/* Rings of this CPU come into use: of native always; of others the first of all, so that somebody is told of marks. */
void taps_use(struct taps *taps);
bool taps_used(uint32_t cpu); /* any ring of it */

/* record.c: one kernel record (linux/perf_event.h, perf_event_open(2)) as lane records. A process event that finds its lane full is lost:
 * the next sample makes it good. */
void record_handle(struct taps *taps, const uint8_t *record, size_t size);

/* cpu.c */
/* What is to be said of processes in a lane: LANE_APPEARED or LANE_LEFT. */
struct notice {
	struct notice *next;
	enum runtime_id lane;
	enum lane_record_type type;
	size_t n, said;
	uint32_t pids[];
};

struct event {
	uint64_t lease;
	int fd;
	uint32_t pages; /* of data in the kernel's ring */
	uint8_t *ring;  /* control page and data */
};

struct cpu {
	const struct kit *kit;
	uint32_t id;
	struct event samples;
	struct event wake; /* to be woken by; what it says, the ring of the other says too */
	int done;          /* eventfd of the main thread: a mark was written, a notice was said, or the CPU is gone */
	uint8_t *scratch;  /* a record that wraps */
	pthread_t thread;
	int64_t rested_ns;               /* the thread's: kit_breathe */
	struct taps taps;                /* the thread's */
	_Atomic uint64_t mark;           /* write this snapshot's mark; 0: none */
	_Atomic(struct notice *) notice; /* owned; NULL: said */
	_Atomic bool gone;               /* the CPU went offline: the thread has ended */
};

/* Maps the events' rings and starts the thread. `snapshot`: the last one that was marked. 0, or -errno, after which the process is to end. */
int cpu_start(struct cpu *cpu, uint64_t snapshot);
void cpu_mark(struct cpu *cpu, uint64_t snapshot);    /* asynchronously; cpu->mark is 0 again when it is written */
void cpu_say(struct cpu *cpu, struct notice *notice); /* takes it; only while cpu->notice is NULL */
void cpu_end(struct cpu *cpu);                        /* after `gone` */

#endif
