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
#include <sys/types.h>

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
 * pointer upwards, the other stack that it goes on in (other_bytes), from other_at upwards, and what a runtime's callback
 * copied (captured_bytes). */
struct window_entry {
	uint32_t size;     /* of the whole entry; a multiple of 16 */
	uint32_t status;   /* enum window_status */
	uint64_t lane_end; /* the lane may be committed up to here once this entry is done with */
	uint32_t record_bytes, stack_bytes, other_bytes, captured_bytes;
	uint64_t other_at;
	uint64_t start, end; /* the memory range that the stack is in */
};

enum {
	WINDOW_LATE_NS = 20 * 1000 *
			 1000, /* a sample older than this is not read: the thread cannot be expected to stand still */
	WINDOW_PROCMAP_QUERY = (int)0xc0686611U, /* _IOWR('f', 17, struct procmap_query) */
	WINDOW_PROOF = 256,      /* bytes read again behind all others, to see that the thread still stood still... */
	WINDOW_PROOF_MAX = 4096, /* ...and as many as a runtime may want of them: a page costs what a word costs */
	WINDOW_CAPTURE_MAX = 96 << 10, /* bytes of a runtime's structures in an entry */
};

/* The parts behind an entry. */
const uint8_t *window_stack(const struct window_entry *entry);
const uint8_t *window_other(const struct window_entry *entry);
const uint8_t *window_captured(const struct window_entry *entry);

struct target;
struct view;
struct lane_sample;

/* What a runtime may look at in the window. */
struct window_read {
	const struct kit *kit;
	uint32_t cpu;
	struct target *target;
	struct view *view;
	const struct lane_sample *sample;
	const uint8_t *stack; /* stack_bytes of it, from the stack pointer upwards */
	size_t stack_bytes;
	size_t proof; /* out: bytes from the stack pointer upwards that are to be the same behind the capture, at most WINDOW_PROOF_MAX */
	bool teaches; /* out: the main thread is to look at this entry at once */
};

/* Copies at most `room` bytes of a runtime's structures to `to`; how many. By a frozen thread: no allocation, no lock, few reads. */
typedef size_t window_capture(struct window_read *read, uint8_t *to, size_t room);
struct view_range;
/* The range of readable memory around an address. Any thread. */
bool window_find_range(struct view *view, uint64_t address, struct view_range *ret);
/* Exactly n bytes of the target's memory inside the ranges that may be read, or -errno. */
int window_read(const struct window_read *read, uint64_t address, void *buf, size_t n);
/* As many as there are in the range: how many, or -errno. */
ssize_t window_read_part(const struct window_read *read, uint64_t address, void *buf, size_t n);
/* Where the range around an address ends; 0: it may not be read. */
uint64_t window_range_end(const struct window_read *read, uint64_t address);

/* Starts a thread for each ring of the lane that is in use and has none. `bell`: an eventfd of the main thread. stack_max: bytes of stack
 * that are read at most. */
int windows_start(
	const struct kit *kit, const struct lane *lane, int bell, window_capture *capture, uint32_t stack_max);
/* What a window does by itself, the main thread does around a read of a target's memory: it leaves word whose. pid 0: done. */
void window_main_reads(uint32_t pid, uint64_t start_time);
/* The oldest entry of a CPU that main has not dropped, or NULL. */
const struct window_entry *window_peek(uint32_t cpu);
void window_drop(uint32_t cpu);
bool window_active(uint32_t cpu); /* has a thread */
bool window_backlog(void);        /* an entry waits on some CPU */
/* Whether the next entry is to ring the bell, whatever it is: main sleeps until then. False: there are entries already. */
bool windows_doze(bool doze);
/* What was read from the bell: whether anything is not to wait for main's next turn. */
bool window_bell_urgent(uint64_t rung);

/* Frees `p` with `release` when no thread can see it any more. Main thread. */
void window_retire(void *p, void (*release)(void *p));
void window_reclaim(void);  /* once a turn of the loop */
bool window_retiring(void); /* something is still to be freed */

/* What the windows took since the last call. */
struct window_times {
	uint64_t latency_p50_us, latency_p99_us; /* from sample to reader */
	uint64_t still_p50_us, still_p99_us;     /* how long the reader kept the thread from running on */
	uint64_t reads_per_thousand;             /* reads of a target's memory, in a thousand windows */
};
/* False: there were none. */
bool window_times(struct window_times *ret);

#endif
