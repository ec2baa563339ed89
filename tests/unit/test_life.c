/* Every cell of the life-cycle table: where it leads and what it asks for. And the waits. */
#include "unit/check.h"

#include "life.h"

#include "common/clock.h"

#include <string.h>

static struct {
	int spawn, verify, begin, finish, terminate, kill, settle, quarantine;
	int64_t spawn_wait;
	int spawn_result;
	bool verify_result, quarantine_result;
	int64_t now_ns;
} fake;

static int spawn(struct life *life)
{
	(void)life;
	fake.spawn++;
	return fake.spawn_result;
}

static bool verify(struct life *life)
{
	assert_int_equal(life->state, LIFE_VERIFYING);
	fake.verify++;
	return fake.verify_result;
}

static void begin(struct life *life)
{
	assert_int_equal(life->state, life->heir ? LIFE_STANDBY : LIFE_RUNNING);
	fake.begin++;
}

static void finish(struct life *life)
{
	(void)life;
	fake.finish++;
}

static void terminate(struct life *life)
{
	(void)life;
	fake.terminate++;
}

static int64_t spawn_wait(struct life *life)
{
	(void)life;
	return fake.spawn_wait;
}

static void kill_it(struct life *life)
{
	(void)life;
	fake.kill++;
}

static void settle(struct life *life)
{
	(void)life;
	fake.settle++;
}

static bool quarantine(struct life *life)
{
	(void)life;
	fake.quarantine++;
	return fake.quarantine_result;
}

static int64_t now(void)
{
	return fake.now_ns;
}

static uint32_t no_jitter(void)
{
	return 0;
}

static const struct life_ops ops = {
	spawn,
	verify,
	begin,
	finish,
	terminate,
	kill_it,
	settle,
	quarantine,
	spawn_wait,
	now,
	no_jitter,
};

static const struct life_limits limits = { .backoff_max_ms = 60 * 1000, .backoff_forget_ms = 60 * 1000 };

static struct life life_in(enum life_state state)
{
	struct life life;
	memset(&fake, 0, sizeof fake);
	fake.verify_result = fake.quarantine_result = true;
	fake.now_ns = NS_PER_S;
	life_init(&life, &ops, &limits);
	life.state = state;
	life.wanted = state != LIFE_EMPTY && state != LIFE_DISABLED && state != LIFE_DRAINING;
	life.heir = state == LIFE_STANDBY;
	life.incarnation = 1;
	life.born_ns = fake.now_ns;
	return life;
}

static const enum life_state after[LIFE_STATE_MAX][LIFE_HAPPENING_MAX] = {
	[LIFE_EMPTY] = { LIFE_STARTING, LIFE_EMPTY, LIFE_EMPTY, LIFE_EMPTY, LIFE_EMPTY, LIFE_EMPTY },
	[LIFE_STARTING] = { LIFE_STARTING, LIFE_RUNNING, LIFE_DEAD, LIFE_DEAD, LIFE_BACKOFF, LIFE_DEAD },
	[LIFE_VERIFYING] = { LIFE_VERIFYING, LIFE_VERIFYING, LIFE_DEAD, LIFE_DEAD, LIFE_BACKOFF, LIFE_VERIFYING },
	[LIFE_STANDBY] = { LIFE_STANDBY, LIFE_STANDBY, LIFE_DEAD, LIFE_DEAD, LIFE_EMPTY, LIFE_STANDBY },
	[LIFE_RUNNING] = { LIFE_RUNNING, LIFE_RUNNING, LIFE_DRAINING, LIFE_DEAD, LIFE_BACKOFF, LIFE_RUNNING },
	[LIFE_DRAINING] = { LIFE_DRAINING, LIFE_DRAINING, LIFE_DRAINING, LIFE_DEAD, LIFE_EMPTY, LIFE_DRAINING },
	[LIFE_DEAD] = { LIFE_DEAD, LIFE_DEAD, LIFE_DEAD, LIFE_DEAD, LIFE_BACKOFF, LIFE_BACKOFF },
	[LIFE_BACKOFF] = { LIFE_STARTING, LIFE_BACKOFF, LIFE_DISABLED, LIFE_BACKOFF, LIFE_BACKOFF, LIFE_STARTING },
	[LIFE_QUARANTINED] = { LIFE_QUARANTINED, LIFE_QUARANTINED, LIFE_QUARANTINED, LIFE_QUARANTINED, LIFE_BACKOFF,
		LIFE_BACKOFF },
	[LIFE_DISABLED] = { LIFE_STARTING, LIFE_DISABLED, LIFE_DISABLED, LIFE_DISABLED, LIFE_DISABLED, LIFE_DISABLED },
};

static void test_every_cell(void **context)
{
	(void)context;
	for (int state = 0; state < LIFE_STATE_MAX; state++) {
		for (int happening = 0; happening < LIFE_HAPPENING_MAX; happening++) {
			struct life life = life_in((enum life_state)state);
			life_event(&life, (enum life_happening)happening, CAUSE_memory);
			if (life.state != after[state][happening])
				fail_msg("%s, happening %d: leads to %s", life_state_name((enum life_state)state),
					happening, life_state_name(life.state));
			/* SIGKILL goes with the step to DEAD, and with no other */
			assert_int_equal(fake.kill, life.state == LIFE_DEAD && state != LIFE_DEAD);
			assert_int_equal(fake.spawn, life.state == LIFE_STARTING && state != LIFE_STARTING);
			/* a process is taken off the books exactly when it is gone */
			bool had = life_has_process(&(struct life) { .state = (enum life_state)state });
			assert_int_equal(fake.settle, happening == LIFE_GONE && had);
		}
	}
}

static void test_the_usual_life(void **context)
{
	(void)context;
	struct life life = life_in(LIFE_EMPTY);
	life.incarnation = 0;
	life_event(&life, LIFE_START, CAUSE_none);
	assert_int_equal(life.due_ns, fake.now_ns + LIFE_START_MS * NS_PER_MS);
	life_event(&life, LIFE_READY, CAUSE_none);
	assert_int_equal(life.state, LIFE_RUNNING);
	assert_int_equal(life.due_ns, 0);
	assert_int_equal(fake.verify, 1);
	assert_int_equal(fake.begin, 1);
	life_event(&life, LIFE_STOP, CAUSE_operator);
	assert_int_equal(fake.finish, 1);
	assert_int_equal(life.due_ns, fake.now_ns + LIFE_DRAIN_MS * NS_PER_MS);
	life_event(&life, LIFE_GONE, CAUSE_exit);
	assert_int_equal(life.state, LIFE_EMPTY);
	assert_int_equal(fake.kill, 0);
	assert_int_equal(life.restarts, 0);
	assert_int_equal(life.incarnation, 1);
}

static void test_asked_then_told_then_killed(void **context)
{
	(void)context;
	struct life life = life_in(LIFE_RUNNING);
	life_event(&life, LIFE_STOP, CAUSE_lifetime);
	assert_int_equal(fake.finish, 1);
	life_event(&life, LIFE_TIME, CAUSE_none);
	assert_int_equal(life.state, LIFE_DRAINING);
	assert_int_equal(fake.terminate, 1);
	assert_int_equal(life.due_ns, fake.now_ns + LIFE_TERM_MS * NS_PER_MS);
	life_event(&life, LIFE_TIME, CAUSE_none);
	assert_int_equal(life.state, LIFE_DEAD);
	assert_int_equal(fake.kill, 1);
	life_event(&life, LIFE_GONE, CAUSE_signal);
	assert_int_equal(life.state, LIFE_EMPTY);
	assert_int_equal(life.cause, CAUSE_lifetime); /* why, not how */
}

static void test_too_many_starts_take_turns(void **context)
{
	(void)context;
	struct life life = life_in(LIFE_EMPTY);
	fake.spawn_wait = 5;
	life_event(&life, LIFE_START, CAUSE_none);
	assert_int_equal(life.state, LIFE_BACKOFF);
	assert_int_equal(life.due_ns, fake.now_ns + 5);
	assert_int_equal(fake.spawn, 0);
	fake.spawn_wait = 0;
	life_event(&life, LIFE_TIME, CAUSE_none);
	assert_int_equal(life.state, LIFE_STARTING);
	assert_int_equal(life.cause, CAUSE_none); /* it has not failed */
}

static void test_an_heir_takes_over(void **context)
{
	(void)context;
	struct life heir = life_in(LIFE_EMPTY), post = life_in(LIFE_RUNNING);
	heir.heir = true;
	fake.spawn_wait = 5; /* it is planned: it does not take a turn from those that failed */
	life_event(&heir, LIFE_START, CAUSE_none);
	life_event(&heir, LIFE_READY, CAUSE_none);
	assert_int_equal(heir.state, LIFE_STANDBY);
	life_event(&post, LIFE_STOP, CAUSE_memory);
	life_event(&post, LIFE_GONE, CAUSE_exit);
	assert_int_equal(post.state, LIFE_EMPTY);
	int begun = fake.begin;
	life_inherit(&post, &heir);
	assert_int_equal(fake.begin, begun + 1);
	assert_int_equal(post.state, LIFE_RUNNING);
	assert_int_equal(post.cause, CAUSE_memory);
	assert_int_equal(post.recycles, 1);
	assert_int_equal(heir.state, LIFE_EMPTY);
	assert_false(life_has_process(&heir));
}

static void test_an_heir_that_fails_is_not_started_again(void **context)
{
	(void)context;
	for (enum life_state state = LIFE_STARTING; state <= LIFE_STANDBY; state++) {
		struct life heir = life_in(state);
		heir.heir = heir.wanted = true;
		life_event(&heir, LIFE_GONE, CAUSE_signal);
		assert_int_equal(heir.state, LIFE_EMPTY);
		assert_int_equal(heir.due_ns, 0);
	}
	struct life heir = life_in(LIFE_EMPTY);
	heir.heir = true;
	fake.spawn_result = -1;
	life_event(&heir, LIFE_START, CAUSE_none);
	assert_int_equal(heir.state, LIFE_EMPTY);
}

#define WORLD_MUST(condition) assert_true(condition)
#include "unit/life_world.h"

static uint64_t walked;

static void walk(unsigned depth)
{
	for (int i = 0; i < 2 * LIFE_HAPPENING_MAX; i++) {
		struct life *life = i < LIFE_HAPPENING_MAX ? &world.post : &world.heir;
		enum life_happening happening = (enum life_happening)(i % LIFE_HAPPENING_MAX);
		struct world before = world;
		if (!world_step(life, happening, CAUSE_memory))
			continue;
		walked++;
		if (depth)
			walk(depth - 1);
		world = before;
	}
}

static void test_no_sequence_of_events_breaks_the_rules(void **context)
{
	(void)context;
	world_begin_anew(&limits);
	walk(6);
	assert_true(walked > 1000000);
}

static void test_no_sandbox_no_work(void **context)
{
	(void)context;
	struct life life = life_in(LIFE_STARTING);
	fake.verify_result = false;
	life_event(&life, LIFE_READY, CAUSE_none);
	assert_int_equal(life.state, LIFE_DEAD);
	assert_int_equal(fake.begin, 0);
	assert_int_equal(fake.kill, 1);
	life_event(&life, LIFE_GONE, CAUSE_signal);
	assert_int_equal(life.cause, CAUSE_sandbox); /* why it was killed, not how it ended */
}

static void test_what_cannot_be_spawned_waits(void **context)
{
	(void)context;
	struct life life = life_in(LIFE_EMPTY);
	fake.spawn_result = -1;
	life_event(&life, LIFE_START, CAUSE_none);
	assert_int_equal(life.state, LIFE_BACKOFF);
	assert_int_equal(life.cause, CAUSE_start);
	assert_int_equal(fake.settle, 0);
	assert_true(life.due_ns > fake.now_ns);
}

static void test_unkillable(void **context)
{
	(void)context;
	struct life life = life_in(LIFE_RUNNING);
	life_event(&life, LIFE_FAIL, CAUSE_deadline);
	assert_int_equal(life.due_ns, fake.now_ns + LIFE_KILL_MS * NS_PER_MS);
	life_event(&life, LIFE_TIME, CAUSE_none);
	assert_int_equal(life.state, LIFE_BACKOFF); /* a replacement follows */
	assert_int_equal(fake.quarantine, 1);
	assert_int_equal(fake.settle, 0);
	assert_int_equal(life.cause, CAUSE_deadline);

	life = life_in(LIFE_RUNNING);
	fake.quarantine_result = false; /* no room for another one */
	life_event(&life, LIFE_FAIL, CAUSE_deadline);
	life_event(&life, LIFE_TIME, CAUSE_none);
	assert_int_equal(life.state, LIFE_QUARANTINED);
	assert_int_equal(life.cause, CAUSE_deadline);
	life_event(&life, LIFE_TIME, CAUSE_none); /* still none */
	assert_int_equal(life.state, LIFE_QUARANTINED);
	fake.quarantine_result = true; /* another one has ended: the post is free for a successor */
	life_event(&life, LIFE_TIME, CAUSE_none);
	assert_int_equal(life.state, LIFE_BACKOFF);
	assert_int_equal(fake.settle, 0);

	life = life_in(LIFE_RUNNING);
	fake.quarantine_result = false;
	life_event(&life, LIFE_FAIL, CAUSE_deadline);
	life_event(&life, LIFE_TIME, CAUSE_none);
	life_event(&life, LIFE_GONE, CAUSE_signal);
	assert_int_equal(life.state, LIFE_BACKOFF);
	assert_int_equal(fake.settle, 1);
}

static void test_stopped_while_it_dies(void **context)
{
	(void)context;
	struct life life = life_in(LIFE_RUNNING);
	life_event(&life, LIFE_FAIL, CAUSE_protocol);
	life_event(&life, LIFE_STOP, CAUSE_operator);
	life_event(&life, LIFE_GONE, CAUSE_signal);
	assert_int_equal(life.state, LIFE_EMPTY); /* not BACKOFF: nobody wants it back */

	life = life_in(LIFE_DRAINING);
	life_event(&life, LIFE_START, CAUSE_none);
	life_event(&life, LIFE_GONE, CAUSE_exit);
	assert_int_equal(life.state, LIFE_BACKOFF);
}

static void test_waits(void **context)
{
	(void)context;
	/* the first death by a signal costs no wait: law 6 */
	assert_int_equal(life_backoff_ms(&limits, CAUSE_signal, 1, true), 0);
	assert_int_equal(life_backoff_ms(&limits, CAUSE_signal, 2, true), BACKOFF_LEAST_MS);
	assert_int_equal(life_backoff_ms(&limits, CAUSE_signal, 3, true), 2 * BACKOFF_LEAST_MS);
	assert_int_equal(life_backoff_ms(&limits, CAUSE_protocol, 1, true), 1000);
	assert_int_equal(life_backoff_ms(&limits, CAUSE_protocol, 3, true), 4000);
	for (int cause = CAUSE_none + 1; cause < CAUSE_MAX; cause++) {
		for (unsigned n = 1; n < 300; n++) {
			int64_t wait = life_backoff_ms(&limits, (enum cause)cause, n, true);
			assert_in_range(wait, 0, limits.backoff_max_ms);
			assert_true(wait <= life_backoff_ms(&limits, (enum cause)cause, n + 1, true));
			assert_true(wait <= life_backoff_ms(&limits, (enum cause)cause, n, false));
		}
		assert_true(life_backoff_ms(&limits, (enum cause)cause, 1, false) > 0);
		assert_int_equal(life_backoff_ms(&limits, (enum cause)cause, 255, true), limits.backoff_max_ms);
	}
}

static void test_a_long_life_is_forgiven(void **context)
{
	(void)context;
	struct life life = life_in(LIFE_RUNNING);
	for (int i = 0; i < 5; i++) {
		life.state = LIFE_RUNNING;
		life.worked = true;
		life_event(&life, LIFE_GONE, CAUSE_exit);
	}
	assert_int_equal(life.failures[CAUSE_exit], 5);
	life.state = LIFE_RUNNING;
	fake.now_ns += limits.backoff_forget_ms * NS_PER_MS;
	life_event(&life, LIFE_GONE, CAUSE_exit);
	assert_int_equal(life.failures[CAUSE_exit], 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_cell),
		cmocka_unit_test(test_the_usual_life),
		cmocka_unit_test(test_asked_then_told_then_killed),
		cmocka_unit_test(test_too_many_starts_take_turns),
		cmocka_unit_test(test_an_heir_takes_over),
		cmocka_unit_test(test_an_heir_that_fails_is_not_started_again),
		cmocka_unit_test(test_no_sequence_of_events_breaks_the_rules),
		cmocka_unit_test(test_no_sandbox_no_work),
		cmocka_unit_test(test_what_cannot_be_spawned_waits),
		cmocka_unit_test(test_unkillable),
		cmocka_unit_test(test_stopped_while_it_dies),
		cmocka_unit_test(test_waits),
		cmocka_unit_test(test_a_long_life_is_forgiven),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
