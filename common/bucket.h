/* A token bucket: the rate limit of one kind of message of one worker or client, and what keeps a worker below it. One second's
 * worth may come in a burst. */
#ifndef COMMON_BUCKET_H
#define COMMON_BUCKET_H

#include <stdbool.h>
#include <stdint.h>

struct bucket {
	int64_t full_ns; /* when it is full again; in the past: full now. All zero is a full bucket. */
};

/* Takes one token of `per_s` a second (0: no limit). False: none left, nothing was taken. */
bool bucket_take(struct bucket *b, uint32_t per_s, int64_t now_ns);

#endif
