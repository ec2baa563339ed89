/* The supervisor's one thread: libevent underneath, every callback timed. A watch or timer is embedded in what it
 * serves and must not move while it is on. */
#ifndef SUPERVISOR_LOOP_H
#define SUPERVISOR_LOOP_H

#include <event2/event.h>
#include <event2/event_struct.h>
#include <stdbool.h>
#include <stdint.h>

struct watch {
	struct event event;
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
/* Longest time that one turn of the loop spent in callbacks, in microseconds. */
uint64_t loop_stall_us_max(void);
/* The time below which `percent` of all turns stayed, to the next power of two; and their number. */
uint64_t loop_stall_us(unsigned percent);
uint64_t loop_turns(void);

/* Level-triggered, until watch_clear. Replaces what the watch did before. */
void watch_set(struct watch *w, int fd, short what, void (*ready)(void *, short), void *context);
void watch_signal(struct watch *w, int number, void (*ready)(void *, short), void *context);
void watch_clear(struct watch *w);

/* Once, after delay_ns (0: in the next turn). */
void timer_set(struct timer *t, int64_t delay_ns, void (*due)(void *), void *context);
void timer_clear(struct timer *t);

#endif
