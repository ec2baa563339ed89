#include "kit/leases.h"

#include "common/bucket.h"
#include "common/clock.h"
#include "common/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BYTES_MAX = 32, RELEASE_BATCH = 128 };
/* Of what messages.def allows a second. The rest is for frames that were sent in time and are read late, all at once: requests
 * under way, and what a supervisor that stood still for a moment finds in the channel. */
enum { PACE_PERCENT = 75 };

struct request {
	struct request *next;
	uint64_t id;
	struct lease_request what;
	uint8_t bytes[BYTES_MAX];
};

static struct kit *kit;
static struct request *queue, **queue_end = &queue, *open_requests;
static size_t queued, under_way;
static uint64_t last_id;
static uint64_t released[RELEASE_BATCH];
static size_t nreleased;
static struct bucket asking, releasing;

/* Going over a limit costs a worker its life, and how often it is asked for files is up to the targets. */
static bool may_send(struct bucket *b, enum message number)
{
	return bucket_take(b, message_row(number)->max_per_s * PACE_PERCENT / 100, monotonic_ns());
}

void leases_init(struct kit *k)
{
	kit = k;
}

static void refuse(const struct lease_request *what, int error)
{
	struct lease_answer answer = { .error = error, .fd = -1 };
	what->handler(what->object, what->kind, &answer);
}

void leases_ask(const struct lease_request *what)
{
	struct request *r = queued < LEASES_MAX_QUEUED && what->n <= BYTES_MAX ? calloc(1, sizeof *r) : NULL;
	if (!r) {
		refuse(what, EBUSY);
		return;
	}
	r->id = ++last_id;
	r->what = *what;
	if (what->n)
		memcpy(r->bytes, what->bytes, what->n);
	r->what.bytes = r->bytes;
	*queue_end = r;
	queue_end = &r->next;
	queued++;
}

static void send_released(void)
{
	if (!nreleased || !may_send(&releasing, MSG_RELEASE))
		return;
	if (channel_send(&kit->channel, MSG_RELEASE, -1, (const uint64_t *)released, nreleased) == 0)
		nreleased = 0;
}

void leases_release(uint64_t lease)
{
	if (nreleased == RELEASE_BATCH)
		send_released();
	if (nreleased < RELEASE_BATCH)
		released[nreleased++] = lease;
	else
		log_warn("the supervisor does not take releases; lease %llu stays on its books",
			(unsigned long long)lease);
}

void leases_flush(void)
{
	send_released();
	while (queue && under_way < LEASES_MAX_OPEN && may_send(&asking, MSG_OPEN)) {
		struct request *r = queue;
		const struct lease_request *w = &r->what;
		if (channel_send(&kit->channel, MSG_OPEN, -1, r->id, (uint64_t)w->kind, (uint64_t)w->pid, w->start_time,
			    w->value[0], w->value[1], (const void *)r->bytes, w->n) < 0)
			return; /* the channel is full: next turn */
		queue = r->next;
		if (!queue)
			queue_end = &queue;
		queued--;
		r->next = open_requests;
		open_requests = r;
		under_way++;
	}
}

void leases_opened(const struct frame *f)
{
	struct lease_answer answer = {
		.error = (int)f->field[2].u,
		.fd = f->fd,
		.lease = f->field[1].u,
		.start_time = f->field[4].u,
	};
	struct request **at = &open_requests;
	while (*at && (*at)->id != f->field[0].u)
		at = &(*at)->next;
	struct request *r = *at;
	if (!answer.error && answer.fd < 0)
		answer.error = EPROTO;
	if (r) {
		*at = r->next;
		under_way--;
	}
	if (r && r->what.handler) {
		r->what.handler(r->what.object, r->what.kind, &answer);
	} else if (answer.fd >= 0) {
		close(answer.fd);
		leases_release(answer.lease);
	}
	free(r);
}

void leases_forget(const void *object)
{
	for (struct request *r = open_requests; r; r = r->next)
		if (r->what.object == object)
			r->what.handler = NULL;
	for (struct request **at = &queue; *at;) {
		struct request *r = *at;
		if (r->what.object == object) {
			*at = r->next;
			queued--;
			free(r);
		} else {
			at = &r->next;
		}
	}
	queue_end = &queue;
	while (*queue_end)
		queue_end = &(*queue_end)->next;
}

bool leases_unsent(void)
{
	return nreleased;
}

size_t leases_waiting(void)
{
	return queued + under_way;
}
