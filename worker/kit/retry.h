/* When a process whose runtime is not ready yet is looked at again: every other millisecond while it may just be starting, then ever more
 * rarely. Main thread. */
#ifndef KIT_RETRY_H
#define KIT_RETRY_H

#include <stdbool.h>
#include <stdint.h>

struct retry {
	int64_t born_ns;  /* CLOCK_MONOTONIC, as all of these: when it was first heard of */
	int64_t again_ns; /* 0: not by itself */
	int64_t pause_ns;
};

void retry_begin(struct retry *r);
void retry_later(struct retry *r);
void retry_never(struct retry *r);
bool retry_is_young(const struct retry *r);
/* Once a turn: whether any is due. If so, each of them is to be asked. */
bool retry_turn(void);
bool retry_is_due(const struct retry *r);
int64_t retry_next_ns(void); /* CLOCK_MONOTONIC: when the next one is due; INT64_MAX: none will be */

#endif
