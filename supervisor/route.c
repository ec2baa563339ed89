/* Whose samples go into which runtime's lane. native says which processes carry a runtime (FOUND); the runtime's worker is told of them
 * through its lane (INTRODUCE), has their memory lent, and takes those that it understands (TAKE): then the sampler is told (ROUTE), who
 * keeps the book. What a worker says here is only a list of numbers; the worst that a lie can do is to send a process's samples to a
 * worker that does not understand it.
 *
 * While a runtime's worker is away for longer than a restart takes, native has its processes (AWAY). */
#include "supervisor.h"

#include "common/clock.h"
#include "proto/runtimes.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

enum {
	PIDS_MAX = 128,       /* in one FOUND or TAKE: what fits into the frame, and a little more */
	SHORT_WAIT_MS = 1000, /* before the next start: samples wait in the lane so long */
};

enum runtime_id worker_runtime(const struct worker *w)
{
	for (unsigned id = RUNTIME_NONE + 1; id < RUNTIME_MAX; id++) {
		const char *name = runtime_name((enum runtime_id)id);
		if (name && !strcmp(name, w->row->name))
			return (enum runtime_id)id;
	}
	return RUNTIME_NONE;
}

/* RUNTIME_NONE: native. NULL: there is none. */
static struct worker *worker_for(struct supervisor *s, uint64_t runtime)
{
	for (unsigned i = 0; i < s->workers_count; i++)
		if (s->workers[i].row->party == PARTY_LANE && worker_runtime(&s->workers[i]) == runtime)
			return &s->workers[i];
	return NULL;
}

static void tell(struct supervisor *s, enum message message, uint64_t runtime, const uint64_t *pids, size_t n)
{
	struct worker *sampler = worker_of_party(s, PARTY_SAMPLER);
	if (!worker_running(sampler))
		return; /* its successor is told again by who cares: samples find their way meanwhile */
	int r = message == MSG_AWAY ? channel_send(&sampler->channel, MSG_AWAY, -1, runtime, pids[0])
				    : channel_send(&sampler->channel, message, -1, runtime, pids, n);
	if (r < 0 && r != -EPIPE)
		worker_fail(sampler, CAUSE_deadline, "it does not drain its channel: %s", strerror(-r));
}

/* Numbers that can be a target's. */
static size_t targets_of(const struct supervisor *s, const struct field *field, uint64_t pids[PIDS_MAX])
{
	size_t n = 0;
	for (size_t i = 0; i < field->n && n < PIDS_MAX; i++)
		if (field->array[i] && field->array[i] <= INT_MAX && !pid_is_ours(s, (int64_t)field->array[i]))
			pids[n++] = field->array[i];
	return n;
}

void route_found(struct worker *w, const struct frame *f)
{
	struct supervisor *s = w->supervisor;
	struct worker *reader = worker_for(s, f->field[0].u);
	uint64_t pids[PIDS_MAX];
	size_t n = targets_of(s, &f->field[1], pids);
	if (f->field[0].u == RUNTIME_NONE || !reader || !n ||
		reader->away) /* nobody empties its lane; native tells again */
		return;
	s->snapshots.introduced[reader->index] = true;
	tell(s, MSG_INTRODUCE, f->field[0].u, pids, n);
}

void route_take(struct worker *w, const struct frame *f)
{
	struct supervisor *s = w->supervisor;
	enum runtime_id runtime = worker_runtime(w);
	uint64_t pids[PIDS_MAX];
	size_t n = targets_of(s, &f->field[1], pids);
	if (runtime == RUNTIME_NONE) {
		worker_fail(w, CAUSE_protocol, "it takes processes, and all are its own that nobody else takes");
		return;
	}
	if (n)
		tell(s, MSG_ROUTE, f->field[0].u ? runtime : RUNTIME_NONE, pids, n);
}

static enum lane_away away_of(const struct worker *w)
{
	const struct life *life = &w->life;
	if (w->disabled) /* already while it ends: what still comes into its lane nobody would read */
		return AWAY_DISABLED;
	bool long_wait = life->state == LIFE_BACKOFF && life->due_ns > monotonic_ns() + SHORT_WAIT_MS * NS_PER_MS;
	if (long_wait || life->state == LIFE_QUARANTINED)
		return AWAY_FAILING;
	/* Between two starts it is as far away as it was. */
	return life->state == LIFE_RUNNING ? AWAY_NO : w->away;
}

/* Of what began while the worker was disabled. A failing one is not to meet at once what it may have died of. */
static void tell_native(struct supervisor *s)
{
	struct worker *native = worker_for(s, RUNTIME_NONE);
	if (native && worker_running(native))
		(void)channel_send(&native->channel, MSG_TELL, -1);
}

void route_worker_changed(struct worker *w)
{
	if (w->row->party != PARTY_LANE || is_heir(w) || worker_runtime(w) == RUNTIME_NONE)
		return;
	uint64_t now = away_of(w);
	if (now == w->away)
		return;
	bool enabled = w->away == AWAY_DISABLED && now == AWAY_NO;
	w->away = (enum lane_away)now;
	tell(w->supervisor, MSG_AWAY, worker_runtime(w), &now, 1);
	if (enabled)
		tell_native(w->supervisor);
}

void route_begin(struct worker *w)
{
	struct supervisor *s = w->supervisor;
	for (unsigned i = 0; i < s->workers_count; i++) {
		struct worker *reader = &s->workers[i];
		enum runtime_id runtime = reader->row->party == PARTY_LANE ? worker_runtime(reader) : RUNTIME_NONE;
		if (runtime == RUNTIME_NONE || (w != reader && w->row->party != PARTY_SAMPLER))
			continue;
		uint64_t away = reader->away;
		if (w->row->party == PARTY_SAMPLER)
			tell(s, MSG_AWAY, runtime, &away, 1);
		else
			tell(s, MSG_INTRODUCE, runtime, NULL, 0);
	}
}
