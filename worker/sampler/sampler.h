/* The sampler: drains the kernel's rings, one pinned thread a CPU, and copies each sample and process event into the
 * lane of the worker that understands the process. It reads only what the kernel wrote. It never blocks on a lane.
 *
 *   main.c    the channel: leases, marks
 *   cpu.c     the thread of one CPU
 *   record.c  the kernel's records, checked and rewritten as lane records
 *   follow.c  which processes were asked for */
#ifndef SAMPLER_SAMPLER_H
#define SAMPLER_SAMPLER_H

#include "kit/kit.h"
#include "proto/lane.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* follow.c: a bit for each pid, in the lane's kept memory, set and read by all threads without a lock. */
void follow_init(const struct lane *lane);
void follow_only(void); /* from now on only followed processes count */
void follow_add(uint32_t pid);
bool follow_has(uint32_t pid);
void follow_fork(uint32_t parent, uint32_t child);

/* record.c: one kernel record (linux/perf_event.h, perf_event_open(2)) as lane records. */
struct record_sink {
	const struct lane *lane;
	uint32_t cpu;
	struct lane_state *state;
};
/* False: the lane was full and a process event (not a sample: those are counted) could not be written. */
bool record_handle(const struct record_sink *sink, const uint8_t *record, size_t size);

/* cpu.c */
struct appeared {
	size_t n, next;
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
	const struct lane *lane;
	uint32_t id;
	struct event samples;
	struct event wake; /* to be woken by; what it says, the ring of the other says too */
	int done;          /* eventfd of the main thread: a mark was written, or the CPU is gone */
	uint8_t *scratch;  /* a record that wraps */
	pthread_t thread;
	_Atomic uint64_t mark;               /* write this snapshot's mark; 0: none */
	_Atomic(struct appeared *) appeared; /* owned; to be said in the lane */
	_Atomic bool gone;                   /* the CPU went offline: the thread has ended */
};

/* Maps the events' rings and starts the thread. `snapshot`: the last one that was marked. 0, or -errno, after which the process is to end. */
int cpu_start(struct cpu *cpu, uint64_t snapshot);
void cpu_mark(struct cpu *cpu, uint64_t snapshot);         /* asynchronously; cpu->mark is 0 again when it is written */
void cpu_appeared(struct cpu *cpu, struct appeared *list); /* takes the list; only while cpu->appeared is NULL */
void cpu_end(struct cpu *cpu);                             /* after `gone` */

/* Writes a mark into a ring that no thread owns, or from its thread. False: the ring is full. */
bool cpu_put_mark(const struct lane *lane, uint32_t cpu, uint64_t snapshot);

#endif
