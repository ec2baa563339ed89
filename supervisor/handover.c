/* A planned recycle. The successor is started, locked down and proven while its predecessor works on; then the predecessor is asked to
 * commit what it has and to end, and the successor takes its post within a turn of the loop. What came in between waits in the lane
 * (law 6), so no sample is lost. A successor that fails costs nothing: the predecessor has not been touched. */
#include "supervisor.h"

#include "common/clock.h"

enum { RETRY_MS = 10 * 1000 /* after a successor that failed */ };

/* Merge must not be taken off the files that it is writing. */
static bool is_at_work(const struct worker *w)
{
	return w->row->party == PARTY_MERGE && w->supervisor->snapshots.closing_stage == CLOSING_MERGING;
}

void handover_begin(struct worker *w, enum cause cause, const char *why)
{
	struct worker *heir = heir_of(w);
	int64_t now = monotonic_ns();
	if (!worker_running(w) || w->supervisor->stopping || life_has_process(&heir->life) || now < heir->heir_wait_ns)
		return;
	log_info("%s: a successor takes over, cause %s: %s", w->row->name, cause_name(cause), why);
	heir->heir_wait_ns = now + RETRY_MS * NS_PER_MS;
	heir->life.sentence = CAUSE_none;
	w->heir_cause = cause;
	if (cause == CAUSE_lifetime && w->plain && !w->measured.retried) { /* the machine may be faster by now */
		w->measured.retried = true;
		w->leashed = LEASHED_MAX - 1;
		w->leashed_ns = now;
	}
	worker_event(heir, LIFE_START, cause);
}

/* In a turn of its own: a post is never changed under the feet of what is being done for it. */
static void on_takeover(void *context)
{
	struct worker *heir = context, *post = post_of(heir);
	if (heir->life.state != LIFE_STANDBY)
		return;
	if (post->disabled || heir->supervisor->stopping) {
		worker_event(heir, LIFE_STOP, CAUSE_operator);
		return;
	}
	if (life_has_process(&post->life)) {
		if (is_at_work(post))
			timer_set(&heir->takeover, 50 * NS_PER_MS, on_takeover, heir);
		else if (post->life.state == LIFE_RUNNING)
			worker_event(post, LIFE_STOP, post->heir_cause);
		else if (post->life.state == LIFE_STARTING) /* it had ended meanwhile, and was started anew */
			timer_set(&heir->takeover, 50 * NS_PER_MS, on_takeover, heir);
		return; /* its end calls again */
	}
	worker_succeed(post, heir);
}

void handover_standby(struct worker *heir)
{
	timer_set(&heir->takeover, 0, on_takeover, heir);
}

void handover_gone(struct worker *w)
{
	struct worker *heir = is_heir(w) ? w : heir_of(w), *post = post_of(heir);
	if (is_heir(w) && post->plain && post->measured.retried)
		post->leashed = LEASHED_MAX; /* however its one successor in real time has ended */
	if (!is_heir(w) && heir->life.state == LIFE_STANDBY)
		timer_set(&heir->takeover, 0, on_takeover, heir);
	else if (!is_heir(w) && life_has_process(&heir->life))
		worker_event(heir, LIFE_STOP, CAUSE_operator); /* the post does not wait for it */
	/* Asked to make room for a successor that is not there any more */
	if (!life_has_process(&post->life) && !life_has_process(&heir->life) && post->life.state == LIFE_EMPTY &&
		!post->disabled && !post->supervisor->stopping)
		worker_event(post, LIFE_START, CAUSE_none);
}
