/* The supervisor's one thread: libevent underneath, every callback timed. A watch or timer is embedded in what it
 * serves and must not move while it is on. */
#ifndef SUPERVISOR_LOOP_H
#define SUPERVISOR_LOOP_H

#include <event2/event.h>
#include <event2/event_struct.h>
#include <stdbool.h>
#include <stdint.h>

struct watch {
	struct event event, again;                /* again: until the kernel takes it */
	void (*ready)(void *context, short what); /* what: EV_READ and EV_WRITE */
	void *context;
	bool on;
};

struct timer {
	struct event event;
	void (*due)(void *context);
	void *context;
	bool assigned;
};

int loop_init(void);
void loop_free(void);
int loop_run(void); /* until loop_stop; 0 or -errno */
void loop_stop(void);
/* Microseconds that turns of the loop spent in callbacks: half of them and 99 % stayed below (to a quarter of a power of two); the longest.
 * By the clock it is what others had to wait, on a busy machine for others' turns; by our own CPU time it is what we did. */
struct loop_turn_us {
	uint64_t p50, p99, max;
};
struct loop_turn_us loop_stall(void);
struct loop_turn_us loop_work(void);
uint64_t loop_turns(void);

/* Level-triggered, until watch_clear. Replaces what the watch did before. One that the kernel has no memory for is tried
 * again until it has: nobody who waits for it can do better, and an end that is not seen would be a worker for ever. */
void watch_set(struct watch *w, int fd, short what, void (*ready)(void *, short), void *context);
void watch_clear(struct watch *w);

/* These signals (numbers, 0 after the last) are blocked from here on, for good, and told to `came` in a turn of the loop.
 * No handler is ever installed, so none can run in a child that still has our memory, and nobody needs to change the mask
 * around a clone, where a mask that does not come back would leave us deaf. 0 or -errno; once. */
int loop_signals(const int *numbers, void (*came)(void *context, int number), void *context);

/* Once, after delay_ns (0: in the next turn). */
void timer_set(struct timer *t, int64_t delay_ns, void (*due)(void *), void *context);
void timer_clear(struct timer *t);

#endif
