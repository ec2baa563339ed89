/* The frozen window: for each CPU a thread, pinned and at real-time priority, that follows the sampler on the same CPU.
 * While it runs, the sampled thread does not (architecture, section 3): its stack is read now and compared with what
 * the sample carries. All else is left to the main thread: the record and the stack go into a ring in this process, and
 * what main has not committed yet stays in the lane for a successor.
 *
 * What the threads look at (targets, views) is freed only when no thread can still see it: window_retire. */
#ifndef KIT_WINDOW_H
#define KIT_WINDOW_H

#include "kit/kit.h"
#include "proto/lane.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How the reading of a sample's stack went. */
enum window_status {
	WINDOW_NONE,  /* nothing to read: an event, a kernel thread */
	WINDOW_STILL, /* read, and the same before and after as in the sample */
	WINDOW_WRITTEN, /* sampled inside the kernel, which has written into the stack since (a system call's result): whoever walks
			    * it compares the words that it uses with the sample's */
	WINDOW_EARLY,      /* nothing lent yet */
	WINDOW_LATE,       /* the sample is too old to be read */
	WINDOW_MOVED,      /* the thread had run on */
	WINDOW_UNREADABLE, /* the stack pointer is outside readable memory, or the read failed */
	WINDOW_STATUS_MAX,
};

/* Followed by the lane record (record_bytes), then, each at a multiple of 16, the stack (stack_bytes) from the stack
 * pointer upwards and the other stack that it goes on in (other_bytes), from other_at upwards. */
struct window_entry {
	uint32_t size;     /* of the whole entry; a multiple of 16 */
	uint32_t status;   /* enum window_status */
	uint64_t lane_end; /* the lane may be committed up to here once this entry is done with */
	uint32_t record_bytes, stack_bytes, other_bytes, pad;
	uint64_t other_at;
	uint64_t start, end; /* the memory range that the stack is in */
};

enum {
	WINDOW_LATE_NS = 20 * 1000 *
			 1000, /* a sample older than this is not read: the thread cannot be expected to stand still */
	WINDOW_PROCMAP_QUERY = (int)0xc0686611U, /* _IOWR('f', 17, struct procmap_query) */
	WINDOW_PROOF = 256, /* bytes read again after the stack, to see that it still stood still */
};

/* The parts behind an entry. */
const uint8_t *window_stack(const struct window_entry *entry);
const uint8_t *window_other(const struct window_entry *entry);

/* Starts a thread for each ring of the lane that is in use and has none. `bell`: an eventfd of the main thread. */
int windows_start(const struct kit *kit, const struct lane *lane, int bell);
/* What a window does by itself, the main thread does around a read of a target's memory: it leaves word whose. pid 0: done. */
void window_main_reads(uint32_t pid, uint64_t start_time);
/* The oldest entry of a CPU that main has not dropped, or NULL. */
const struct window_entry *window_peek(uint32_t cpu);
void window_drop(uint32_t cpu);
bool window_active(uint32_t cpu); /* has a thread */
bool window_backlog(void);        /* an entry waits on some CPU */

/* Frees `p` with `release` when no thread can see it any more. Main thread. */
void window_retire(void *p, void (*release)(void *p));
void window_reclaim(void); /* once a turn of the loop */

/* Latencies from sample to reader since the last call, in microseconds. */
void window_latency(uint64_t *ret_p50, uint64_t *ret_p99);

#endif
