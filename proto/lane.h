/* A lane: for each CPU one single-producer single-consumer byte ring, all in one sealed memfd that the supervisor
 * makes, keeps and lends to the sampler (producer) and to one unwinding worker (consumer). Memory of a CPU's ring comes
 * into being when it is first written. Neither end trusts the other: indices read from the other end are checked
 * against one's own, and records are copied out of the ring before they are looked at.
 *
 *   page 0                    the consumer's commit page: which stream length and which tails belong together
 *   then for each CPU         a page that only the producer writes, a page that only the consumer writes, the ring
 *
 * A reader sleeps on the producer's `wake` word with a shared futex, so a lane costs two fds (the memfd, and one
 * eventfd "doorbell" that is rung when a CPU's ring comes into use) however many CPUs there are.
 *
 * Nothing is lost and nothing counted twice when either end dies at any instruction:
 * - The producer publishes head, its position in the kernel's ring and its counters in one step: they live in two slots
 * of which one word says the valid one. A successor goes on from there (lane_state).
 * - The consumer commits tail and stream length together: noted first, then done, and redone by a successor
 * (lane_recover). */
#ifndef PROTO_LANE_H
#define PROTO_LANE_H

#include "proto/counters.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	LANE_PAGE = 4096,
	LANE_MAX_CPUS = 4096,
	LANE_RING_MIN = 64 << 10,      /* bytes; rings are powers of two */
	LANE_RING_DEFAULT = 512 << 10, /* two seconds at 99 Hz */
	LANE_RECORD_MAX = 40 << 10,    /* bytes of one record */
	LANE_MAX_KERNEL = 128,         /* kernel frames of one sample: perf_event_max_stack is 127 */
	LANE_MAX_REGS = 40,
	LANE_USER_32 = 1, /* PERF_SAMPLE_REGS_ABI_32, _64 */
	LANE_USER_64 = 2,
	LANE_PATH_MAX = 1024, /* bytes */
};

enum lane_record_type {
	LANE_SAMPLE = 1,
	LANE_APPEARED, /* a process that ran before us, that this worker is to look at, or that is its own again */
	LANE_FORK,     /* a new process: value = parent */
	LANE_EXEC,     /* a new image; comm */
	LANE_COMM,     /* a thread was renamed; comm */
	LANE_MAP,      /* executable memory was mapped: struct lane_map */
	LANE_EXIT,     /* a process (its last thread) ended */
	LANE_LEFT,     /* a process whose samples go into another lane from here on */
	LANE_MARK,     /* a snapshot ends here: value = its id; counters = this CPU's, since its last mark */
};

/* Every record begins so; `size` counts the whole record and is a multiple of 8. */
struct lane_record {
	uint32_t size;
	uint32_t type;
	uint64_t time; /* CLOCK_MONOTONIC, ns */
	uint32_t pid, tid;
};

/* Followed by the path, cut at LANE_PATH_MAX bytes, and padding. */
struct lane_map {
	struct lane_record head;
	uint64_t start, end, offset, device, inode; /* device: major << 32 | minor */
	uint64_t path_bytes;
};

struct lane_event { /* all the others but LANE_SAMPLE and LANE_MARK */
	struct lane_record head;
	uint64_t value;
	char comm[16]; /* raw bytes, not terminated when 16 long */
};

struct lane_mark {
	struct lane_record head;
	uint64_t snapshot;
	uint64_t counters[COUNTER_MAX]; /* SAMPLER rows of this CPU since its last mark */
};

/* Followed by uint64_t kernel[nkernel] (leaf first), then stack_bytes of the stack from the stack pointer upwards. */
struct lane_sample {
	struct lane_record head;
	uint32_t cpu;
	uint16_t nkernel;
	uint16_t has_user;    /* 0: a kernel thread, or no user registers; LANE_USER_32, LANE_USER_64 */
	uint32_t stack_bytes; /* a multiple of 8 */
	uint16_t runtime,
		away; /* whose it is by rights, and why it is not there (enum runtime_id, lane_away); 0: it is right here */
	uint64_t regs[LANE_MAX_REGS]; /* DWARF numbering, see worker/kit/regs.h */
};

/* Shared pages. Sizes are asserted in lane.c. */
struct lane_state {
	uint64_t head;                  /* free-running byte count */
	uint64_t position;              /* where the kernel's ring has been read to */
	uint64_t counters[COUNTER_MAX]; /* SAMPLER rows, counted since this CPU's last mark */
	/* The last mark: whose, where it ends, and its counters. So that a snapshot can be cut there without its reader. */
	uint64_t mark_snapshot, mark_end;
	uint64_t mark_counters[COUNTER_MAX];
};

struct lane_producer_page {
	_Atomic uint32_t generation; /* slot[generation & 1] is valid */
	_Atomic uint32_t wake;       /* futex: changes with each publication that wakes */
	_Atomic uint32_t used;       /* 1 once the ring is in use */
	uint32_t pad;
	struct lane_state slot[2];
};

/* Whose memory a thread of the consumer is reading right now. Should the read never end, this says whom to avoid. */
struct lane_reading {
	_Atomic uint64_t start_time; /* clock ticks since boot; 0: not known */
	_Atomic int64_t since_ns;    /* CLOCK_MONOTONIC */
	_Atomic uint32_t pid;        /* 0: nobody's */
	uint32_t pad;
};

struct lane_consumer_page {
	_Atomic uint64_t tail;
	_Atomic uint32_t asleep; /* 1: the reader wants a futex wake */
	uint32_t pad;
	struct lane_reading reading;
};

struct lane_tail {
	uint64_t tail;
	uint32_t cpu, pad;
};

enum {
	LANE_COMMIT_MAX = 200,            /* rings that one commit can move */
	LANE_MAIN_THREAD = LANE_MAX_CPUS, /* no ring's */
};

struct lane_commit_page {
	_Atomic uint64_t snapshot; /* the stream that stream_bytes is about */
	_Atomic uint64_t stream_bytes;
	_Atomic uint32_t noted; /* so many of the noted values are to be redone */
	uint32_t pad;
	_Atomic uint64_t noted_bytes;
	/* the entry that is being worked on, by its end in the ring; 0: none. Who dies of it twice is not asked a third time. */
	_Atomic uint64_t doing, died_of;
	_Atomic uint32_t doing_cpu, deaths;
	struct lane_tail noted_tail[LANE_COMMIT_MAX];
	struct lane_reading reading; /* the main thread's */
	/* what the marks behind the tails counted, and nobody was told yet: of `snapshot` */
	_Atomic uint64_t counters[COUNTER_MAX], noted_counters[COUNTER_MAX];
};

struct lane_ring {
	struct lane_producer_page *producer;
	struct lane_consumer_page *consumer;
	uint8_t *data;
};

struct lane {
	uint8_t *map; /* owned */
	size_t map_size;
	struct lane_commit_page *commit;
	uint32_t cpus, ring_size;
};

/* Supervisor. */
int lane_create(uint32_t cpus, uint32_t ring_size); /* the memfd, or -errno */
int lane_peek_commit(
	int fd, uint64_t *ret_snapshot, uint64_t *ret_bytes); /* by pread; the values are the worker's word */
int lane_peek_counters(int fd, uint32_t cpus, uint32_t ring_size,
	uint64_t counters[COUNTER_MAX]); /* adds up SAMPLER rows since the last mark */
int lane_peek_committed(
	int fd, uint64_t counters[COUNTER_MAX]); /* adds up what the consumer's committed marks counted */
struct lane_suspect {
	uint64_t start_time;
	int64_t since_ns;
	uint32_t pid, pad;
};
/* Whose memory the consumer's threads have been reading since before a time, each process once: how many, at most
 * `max`, or -errno. By pread; the worker's word. */
int lane_peek_reading(
	int fd, uint32_t cpus, uint32_t ring_size, int64_t before_ns, struct lane_suspect *ret, unsigned max);
int lane_peek_backlog(int fd, uint32_t cpus, uint32_t ring_size, uint64_t *ret_bytes); /* unread bytes in all rings */

/* The fill of the fullest ring, in bytes. */
int lane_peek_fullest(int fd, uint32_t cpus, uint32_t ring_size, uint64_t *ret_bytes);
/* For a reader that is gone for certain: what it had noted is done (see lane_recover), and a tail that makes no sense is put right,
 * which loses what was in that ring: *ret_damaged of them. */
int lane_settle(int fd, uint32_t cpus, uint32_t ring_size, uint32_t *ret_damaged);
/* Adds up the counters of a snapshot's marks: all, or those that the consumer has not read. */
int lane_peek_marks(
	int fd, uint32_t cpus, uint32_t ring_size, uint64_t snapshot, bool unread_only, uint64_t counters[COUNTER_MAX]);
/* Whether the consumer has read a snapshot's mark in each ring that is in use: 1, 0 or -errno. */
int lane_peek_done(int fd, uint32_t cpus, uint32_t ring_size, uint64_t snapshot);
/* Everything up to a snapshot's marks has been dealt with: the next reader goes on behind them. */
int lane_skip(int fd, uint32_t cpus, uint32_t ring_size, uint64_t snapshot);

/* Both ends. 0 or -errno; -EINVAL when the memfd is not of the size or not sealed. */
int lane_open(struct lane *lane, int fd, uint32_t cpus, uint32_t ring_size);
/* The same, to look at only: nothing may be changed through it. */
int lane_open_read_only(struct lane *lane, int fd, uint32_t cpus, uint32_t ring_size);
void lane_close(struct lane *lane);
struct lane_ring lane_ring(const struct lane *lane, uint32_t cpu);

/* Producer, one thread per ring. */
struct lane_piece {
	const void *data;
	size_t n;
};
/* What was last published; the successor of a producer begins with it. */
struct lane_state lane_state(const struct lane *lane, uint32_t cpu);
/* Copies a record given in pieces behind state->head and moves that on. Nobody sees it before lane_publish. False: the
 * ring is full, nothing was done. */
bool lane_put(
	const struct lane *lane, uint32_t cpu, struct lane_state *state, const struct lane_piece *pieces, size_t n);
/* Makes the whole state valid in one step. */
void lane_publish(const struct lane *lane, uint32_t cpu, const struct lane_state *state);
void lane_wake(const struct lane *lane, uint32_t cpu); /* after one or more lane_publish */
void lane_use(const struct lane *lane, uint32_t cpu);  /* before the first; then ring the doorbell */

/* Consumer, one reading thread per ring; positions are free-running byte counts, the reader's own. */
/* The record at `position` into buf (size bytes): its size; 0: none yet; -EBADMSG: the producer broke the ring. */
int lane_get(const struct lane *lane, uint32_t cpu, uint64_t position, void *buf, size_t size);
uint64_t lane_tail(const struct lane *lane, uint32_t cpu);
bool lane_used(const struct lane *lane, uint32_t cpu);
/* Sleeps until something is published behind `position`, or timeout_ms (-1: no limit) is over. */
void lane_wait(const struct lane *lane, uint32_t cpu, uint64_t position, int timeout_ms);
/* In front of each read of a target's memory, by the thread that reads: a ring's, or LANE_MAIN_THREAD. pid 0: done. */
void lane_reading(const struct lane *lane, uint32_t cpu, uint32_t pid, uint64_t start_time, int64_t now_ns);
/* Tails (at most LANE_COMMIT_MAX), stream length and the counters of the marks behind the tails move together, or not
 * at all. One thread for all rings. */
void lane_commit(const struct lane *lane, const struct lane_tail *tails, uint32_t n, uint64_t stream_bytes,
	const uint64_t counters[COUNTER_MAX]);
void lane_counters(const struct lane *lane, uint64_t ret[COUNTER_MAX]); /* as last committed, for a successor */
/* Around the work on an entry. False: two predecessors died of it, it is to be passed over. */
bool lane_begin(const struct lane *lane, uint32_t cpu, uint64_t end);
void lane_end(const struct lane *lane);
void lane_commit_stream(const struct lane *lane, uint64_t snapshot, uint64_t stream_bytes); /* a new stream begins */
/* At start: redoes a commit that was cut off; the stream length that holds. */
uint64_t lane_recover(const struct lane *lane, uint64_t *ret_snapshot);

#endif
