/* Frames from workers. Direction, size, signature and fd were checked by the channel; here: phase, once, rate, and then
 * the sense. */
#include "supervisor.h"

#include "common/clock.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

/* What is read now was left behind by a process that has ended: no /proc/WORKER is to be looked at. */
static bool posthumous;

static unsigned phase_of(const struct worker *w)
{
	switch (w->life.state) {
	case LIFE_STARTING:
		return PHASE_S;
	case LIFE_VERIFYING:
	case LIFE_STANDBY:
		return PHASE_V;
	case LIFE_RUNNING:
		return PHASE_R;
	case LIFE_DRAINING:
		return PHASE_D;
	default:
		return 0;
	}
}

static void on_ready(struct worker *w, const struct frame *f)
{
#ifdef BULKHEAD_SANITIZE
	const uint64_t sanitizer = 1;
#else
	const uint64_t sanitizer = 0;
#endif
	if (posthumous)
		return;
	if (f->field[0].u != PROTO_VERSION) {
		worker_fail(w, CAUSE_protocol, "it is of another version: is the installation complete?");
		return;
	}
	if (f->field[4].u != sanitizer) {
		worker_fail(w, CAUSE_sandbox, "it is %sa sanitizer build and the supervisor is %sone",
			sanitizer ? "not " : "", sanitizer ? "" : "not ");
		return;
	}
	w->landlock_abi = (uint32_t)f->field[1].u;
	w->realtime = f->field[2].u == 1;
	w->pinned = f->field[3].u == 1;
	worker_event(w, LIFE_READY, CAUSE_none);
}

static void on_log(struct worker *w, const struct frame *f)
{
	uint64_t level = f->field[0].u;
	if (level >= LOG_LEVEL_MAX)
		level = LOG_LEVEL_ERROR;
	size_t n = f->field[1].n < LOG_LINE_MAX ? f->field[1].n : LOG_LINE_MAX;
	log_at((enum log_level)level, "%s: %.*s", w->row->name, (int)n, (const char *)f->field[1].data);
}

static void on_release(struct worker *w, const struct frame *f)
{
	for (size_t i = 0; i < f->field[0].n; i++) {
		if (!ledger_release(&w->supervisor->ledger, w->owner, f->field[0].array[i]))
			continue;
		worker_fail(w, CAUSE_protocol, "it gave back a lease that it does not have");
		return;
	}
}

static void on_stats(struct worker *w, const struct frame *f)
{
	w->latency_p50_us = f->field[0].u;
	w->latency_p99_us = f->field[1].u;
	w->requests_open = f->field[2].u;
	w->targets = f->field[3].u;
	w->still_p50_us = f->field[4].u;
	w->still_p99_us = f->field[5].u;
	w->reads_per_thousand = f->field[6].u;
}

/* False: refused, and the worker is being killed or the frame dropped. */
static bool permitted(struct worker *w, const struct message_row *row)
{
	uint64_t bit = 1ULL << row->number;
	if (!(row->phases & phase_of(w))) {
		worker_fail(w, CAUSE_protocol, "%s while %s", row->name, life_state_name(w->life.state));
		return false;
	}
	if (row->flags & MESSAGE_ONCE && w->seen & bit) {
		worker_fail(w, CAUSE_protocol, "a second %s", row->name);
		return false;
	}
	w->seen |= bit;
	uint32_t per_s = row->number == MSG_OPEN ? w->budget->requests_per_s : row->max_per_s;
	if (bucket_take(&w->buckets[row->number], per_s, monotonic_ns())) {
		if (row->number == MSG_LOG && w->log_lines_held) {
			log_warn("%s: %llu log lines dropped, more than %u a second", w->row->name,
				(unsigned long long)w->log_lines_held, row->max_per_s);
			w->log_lines_held = 0;
		}
		return true;
	}
	if (row->number == MSG_LOG) { /* a worker must not die of its complaints, nor drown the others' */
		w->log_lines_dropped++;
		w->log_lines_held++;
		return false;
	}
	worker_fail(w, CAUSE_requests, "more than %u %s frames in a second", per_s, row->name);
	return false;
}

static void handle(struct worker *w, struct frame *f)
{
	if (!permitted(w, f->row)) {
		if (f->fd >= 0)
			close(f->fd);
		return;
	}
	switch (f->row->number) {
	case MSG_READY:
		on_ready(w, f);
		break;
	case MSG_LOG:
		on_log(w, f);
		break;
	case MSG_STATS:
		on_stats(w, f);
		break;
	case MSG_RELEASE:
		on_release(w, f);
		break;
	case MSG_OPEN:
		broker_request(w, f);
		break;
	case MSG_FILLED:
		broker_filled(w, f);
		break;
	case MSG_TARGET:
		targets_one(w, f);
		break;
	case MSG_DESCRIBED:
		targets_described(w, f);
		break;
	case MSG_FOUND:
		route_found(w, f);
		break;
	case MSG_TAKE:
		route_take(w, f);
		break;
	case MSG_SETTLED:
		snapshot_settled(w, f->field[0].u);
		break;
	case MSG_MARKED:
		closing_marked(w, f->field[0].u);
		break;
	case MSG_CLOSED:
		closing_closed(w, f);
		break;
	case MSG_MERGED:
		closing_merged(w, f);
		break;
	default:
		worker_fail(w, CAUSE_protocol, "%s is nothing for the supervisor", f->row->name);
	}
}

static void on_eof_time(void *context)
{
	struct worker *w = context;
	worker_fail(w, CAUSE_protocol, "it closed its channel and lives on");
}

/* 0: took one; else what channel_recv said. */
static int take(struct worker *w)
{
	struct frame f = { .fd = -1 };
	const char *why = NULL;
	int r = channel_recv(&w->channel, &f, &why);
	if (!r)
		handle(w, &f);
	else if (r == -EBADMSG)
		worker_fail(w, CAUSE_protocol, "it sent %s", why ? why : "a malformed frame");
	return r;
}

/* Whether more may be taken: a frame may have been its last. */
static bool talks(const struct worker *w)
{
	return w->channel.fd >= 0 && phase_of(w);
}

void dispatch_watch(struct worker *w, bool writable)
{
	watch_set(&w->traffic, w->channel.fd, writable ? EV_READ | EV_WRITE : EV_READ, dispatch_readable, w);
}

void dispatch_readable(void *context, short what)
{
	struct worker *w = context;
	if (what & EV_WRITE)
		broker_writable(w);
	if (!(what & EV_READ))
		return;
	for (int i = 0; i < FRAMES_PER_TURN && talks(w); i++) {
		int r = take(w);
		if (!r)
			continue;
		/* Out of memory is the kernel's state, not the worker's end: the frame is still there. */
		if (r == -EAGAIN || r == -EBADMSG || r == -ENOMEM || r == -ENOBUFS)
			return;
		/* End of file. Its process follows, or is made to. */
		watch_clear(&w->traffic);
		timer_set(&w->eof, EOF_MS * NS_PER_MS, on_eof_time, w);
		return;
	}
	if (!talks(w))
		watch_clear(&w->traffic); /* condemned: nothing that it says counts any more */
}

void dispatch_drain(struct worker *w)
{
	posthumous = true;
	while (talks(w) && !take(w))
		;
	posthumous = false;
}
