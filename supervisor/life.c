#include "life.h"

#include "common/clock.h"

#include <string.h>

static const struct {
	const char *name, *words;
	uint32_t backoff_ms;
} causes[CAUSE_MAX] = {
#define CAUSE(name, backoff_ms, words) { #name, words, backoff_ms },
#include "causes.def"
#undef CAUSE
};

const char *cause_name(enum cause cause)
{
	return causes[cause].name;
}

const char *cause_words(enum cause cause)
{
	return causes[cause].words;
}

const char *life_state_name(enum life_state state)
{
	static const char *const names[LIFE_STATE_MAX] = {
		"empty",
		"starting",
		"verifying",
		"standby",
		"running",
		"draining",
		"dead",
		"backoff",
		"quarantined",
		"disabled",
	};
	return names[state];
}

int64_t life_backoff_ms(const struct life_limits *limits, enum cause cause, unsigned n, bool worked)
{
	int64_t wait = causes[cause].backoff_ms, most = limits->backoff_max_ms;
	if (!wait && n > 1) {
		wait = BACKOFF_LEAST_MS;
		n--;
	}
	if (!worked)
		wait = (wait ? wait : BACKOFF_LEAST_MS) * BACKOFF_IDLE_FACTOR;
	for (unsigned i = 1; i < n && wait < most; i++)
		wait *= 2;
	return wait < most ? wait : most;
}

bool life_has_process(const struct life *life)
{
	return (life->state >= LIFE_STARTING && life->state <= LIFE_DEAD) || life->state == LIFE_QUARANTINED;
}

static void enter(struct life *life, enum life_state state, int64_t due_ms)
{
	life->state = state;
	life->due_ns = due_ms < 0 ? 0 : life->ops->now() + due_ms * NS_PER_MS;
}

/* Waits, and how long: by cause, longer each time, with up to a quarter of jitter so that workers that fell together do
 * not rise together. */
static void back_off(struct life *life, enum cause cause)
{
	int64_t lived_ms = (life->ops->now() - life->born_ns) / NS_PER_MS;
	if (life->worked && lived_ms >= life->limits->backoff_forget_ms)
		memset(life->failures, 0, sizeof life->failures);
	if (life->failures[cause] < UINT8_MAX)
		life->failures[cause]++;
	int64_t wait = life_backoff_ms(life->limits, cause, life->failures[cause], life->worked);
	wait += wait / 4 * (life->ops->random() % 256) / 256;
	life->cause = cause;
	enter(life, LIFE_BACKOFF, wait);
}

/* After its process: again, or not. An heir's predecessor still runs, so nothing is lost without it. */
static void next(struct life *life, enum cause cause)
{
	if (life->wanted && !life->heir) {
		back_off(life, cause);
		return;
	}
	life->cause = cause;
	enter(life, LIFE_EMPTY, -1);
}

static void nothing(struct life *life, enum cause cause)
{
	(void)life;
	(void)cause;
}

static void start(struct life *life, enum cause cause)
{
	(void)cause;
	life->wanted = true;
	int64_t wait = life->heir ? 0 : life->ops->spawn_wait(life);
	if (wait > 0) { /* too many processes were started of late: its turn comes */
		life->state = LIFE_BACKOFF;
		life->due_ns = life->ops->now() + wait;
		return;
	}
	life->worked = life->asked = false;
	life->sentence = CAUSE_none;
	life->born_ns = life->ops->now();
	if (life->incarnation++)
		life->restarts++;
	enter(life, LIFE_STARTING, LIFE_START_MS);
	if (life->ops->spawn(life) < 0)
		next(life, CAUSE_start);
}

static void want(struct life *life, enum cause cause)
{
	(void)cause;
	life->wanted = true;
}

static void condemn(struct life *life, enum cause cause)
{
	life->sentence = cause;
	enter(life, LIFE_DEAD, LIFE_KILL_MS);
	life->ops->kill(life);
}

static void condemn_late(struct life *life, enum cause cause)
{
	(void)cause;
	condemn(life, CAUSE_deadline);
}

static void abandon(struct life *life, enum cause cause)
{
	(void)cause;
	life->wanted = false;
	condemn(life, CAUSE_operator);
}

static void prove(struct life *life, enum cause cause)
{
	(void)cause;
	enter(life, LIFE_VERIFYING, -1);
	if (!life->ops->verify(life)) {
		condemn(life, CAUSE_sandbox);
		return;
	}
	life->worked = !life->heir;
	enter(life, life->heir ? LIFE_STANDBY : LIFE_RUNNING, -1);
	life->ops->begin(life);
}

/* Asked to end for a reason: that is the cause, and not the exit that follows. */
static void drain(struct life *life, enum cause cause)
{
	life->wanted = false;
	life->asked = false;
	life->sentence = cause;
	enter(life, LIFE_DRAINING, LIFE_DRAIN_MS);
	life->ops->finish(life);
}

static void insist(struct life *life, enum cause cause)
{
	(void)cause;
	if (life->asked) {
		condemn(life, life->sentence);
		return;
	}
	life->asked = true;
	enter(life, LIFE_DRAINING, LIFE_TERM_MS);
	life->ops->terminate(life);
}

static void unwant(struct life *life, enum cause cause)
{
	(void)cause;
	life->wanted = false;
}

static void disable(struct life *life, enum cause cause)
{
	(void)cause;
	life->wanted = false;
	enter(life, LIFE_DISABLED, -1);
}

static void mourn(struct life *life, enum cause cause)
{
	if (life->sentence != CAUSE_none)
		cause = life->sentence;
	life->ops->settle(life);
	next(life, cause);
}

static void give_up(struct life *life, enum cause cause)
{
	(void)cause;
	if (!life->ops->quarantine(life)) {
		life->cause = life->sentence;
		enter(life, LIFE_QUARANTINED, -1);
		return;
	}
	next(life, life->sentence);
}

typedef void cell(struct life *life, enum cause cause);

/* A second READY is refused before it gets here (messages.def: ONCE). */
static cell *const cells[LIFE_STATE_MAX][LIFE_HAPPENING_MAX] = {
	/*                    START    READY    STOP     FAIL     GONE     TIME */
	[LIFE_EMPTY] = { start, nothing, nothing, nothing, nothing, nothing },
	[LIFE_STARTING] = { nothing, prove, abandon, condemn, mourn, condemn_late },
	[LIFE_VERIFYING] = { nothing, nothing, abandon, condemn, mourn, nothing },
	[LIFE_STANDBY] = { nothing, nothing, abandon, condemn, mourn, nothing },
	[LIFE_RUNNING] = { nothing, nothing, drain, condemn, mourn, nothing },
	[LIFE_DRAINING] = { want, nothing, nothing, condemn, mourn, insist },
	[LIFE_DEAD] = { want, nothing, unwant, nothing, mourn, give_up },
	[LIFE_BACKOFF] = { start, nothing, disable, nothing, nothing, start },
	[LIFE_QUARANTINED] = { want, nothing, unwant, nothing, mourn, give_up },
	[LIFE_DISABLED] = { start, nothing, nothing, nothing, nothing, nothing },
};

void life_init(struct life *life, const struct life_ops *ops, const struct life_limits *limits)
{
	*life = (struct life) { .ops = ops, .limits = limits };
}

void life_wait(struct life *life, int64_t wait_ns)
{
	life->wanted = true;
	life->state = LIFE_BACKOFF;
	life->due_ns = life->ops->now() + wait_ns;
}

void life_inherit(struct life *post, struct life *heir)
{
	post->wanted = post->worked = true;
	post->asked = false;
	post->sentence = CAUSE_none;
	post->born_ns = heir->born_ns;
	post->incarnation++;
	post->restarts++;
	post->recycles++;
	enter(post, LIFE_RUNNING, -1);
	enter(heir, LIFE_EMPTY, -1);
	heir->wanted = false;
	post->ops->begin(post);
}

void life_event(struct life *life, enum life_happening happening, enum cause cause)
{
	cells[life->state][happening](life, cause);
}
