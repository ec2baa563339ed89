/* What a lane's worker asks the supervisor to have opened, and gives back. Requests wait in a queue so that neither the
 * rate limits of OPEN and RELEASE nor the opener is ever overrun; each is answered exactly once. One thread. */
#ifndef KIT_LEASES_H
#define KIT_LEASES_H

#include "kit/kit.h"
#include "proto/lease.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	LEASES_MAX_OPEN = 32,     /* requests under way */
	LEASES_MAX_QUEUED = 8192, /* more are answered with EBUSY at once */
};

struct lease_answer {
	int error;           /* errno; 0: fd is there */
	int fd;              /* the receiver owns it */
	uint64_t lease;      /* to be released after the fd was closed */
	uint64_t start_time; /* of the target, clock ticks since boot */
};

typedef void lease_handler(void *object, enum lease_kind kind, const struct lease_answer *answer);

struct lease_request {
	enum lease_kind kind;
	uint32_t pid;
	uint64_t start_time; /* 0: not known yet */
	uint64_t value[2];
	const void *bytes; /* copied; at most 32 */
	size_t n;
	lease_handler *handler;
	void *object;
};

void leases_init(struct kit *kit);
void leases_ask(const struct lease_request *request);
void leases_opened(const struct frame *opened); /* an OPENED frame came */
void leases_forget(const void *object);         /* its answers are to be closed and given back */
void leases_release(uint64_t lease);            /* the fd was closed */
void leases_flush(void);                        /* sends what waits; call once a turn of the loop */
size_t leases_waiting(void);                    /* requests without an answer */
bool leases_unsent(void);                       /* leases were given back that the supervisor was not told of yet */

#endif
