/* A post and its heir with processes and leases that are only counted: what they may ever be, whatever happens in whatever order. For the
 * test that walks all sequences and for the fuzzer. The includer defines WORLD_MUST(condition). */
#ifndef UNIT_LIFE_WORLD_H
#define UNIT_LIFE_WORLD_H

#include "life.h"

#include "common/clock.h"

#include <string.h>

static int64_t world_now(void)
{
	return NS_PER_S;
}

static uint32_t world_jitter(void)
{
	return 0;
}

static struct world {
	struct life post, heir;
	bool post_lives, heir_lives; /* a process that was not reaped */
	bool post_leased, heir_leased;
	unsigned quarantined;
} world;

static bool is_post(const struct life *life)
{
	return life == &world.post;
}

static int world_spawn(struct life *life)
{
	bool *lives = is_post(life) ? &world.post_lives : &world.heir_lives;
	WORLD_MUST(!(*lives)); /* never two on one post */
	*lives = true;
	return 0;
}

static bool world_verify(struct life *life)
{
	(void)life;
	return true;
}

static void world_begin(struct life *life)
{
	if (life->state != LIFE_RUNNING)
		return;
	WORLD_MUST(is_post(life)); /* an heir is lent nothing */
	world.post_leased = true;
}

static void world_nothing(struct life *life)
{
	WORLD_MUST(is_post(life) ? world.post_lives : world.heir_lives); /* nobody is signalled who is not there */
}

static void world_settle(struct life *life)
{
	*(is_post(life) ? &world.post_lives : &world.heir_lives) = false;
	*(is_post(life) ? &world.post_leased : &world.heir_leased) = false;
}

static bool world_quarantine(struct life *life)
{
	if (world.quarantined == 1)
		return false;
	world.quarantined++;
	world_settle(life);
	return true;
}

static int64_t world_wait(struct life *life)
{
	(void)life;
	return 0;
}

static const struct life_ops world_ops = { world_spawn, world_verify, world_begin, world_nothing, world_nothing,
	world_nothing, world_settle, world_quarantine, world_wait, world_now, world_jitter };

static bool is_dying(const struct life *life)
{
	return life->state == LIFE_DEAD || life->state == LIFE_QUARANTINED || !life_has_process(life);
}

static void check_world(void)
{
	const struct life *both[] = { &world.post, &world.heir };
	for (int i = 0; i < 2; i++) {
		const struct life *life = both[i];
		WORLD_MUST(life_has_process(life) == (i ? world.heir_lives : world.post_lives));
		/* each end is followed by a decision: a time, or nobody wants it, or it cannot be ended */
		if (life->state == LIFE_DEAD || life->state == LIFE_BACKOFF || life->state == LIFE_STARTING)
			WORLD_MUST(life->due_ns > 0);
		if (life->state == LIFE_EMPTY || life->state == LIFE_DISABLED)
			WORLD_MUST(life->heir || !life->wanted);
	}
	WORLD_MUST(!world.post_leased || world.post_lives); /* no lease outlives its worker */
	/* two of one kind only in a hand-over: the heir has begun nothing, or one of them has been killed */
	if (world.post_lives && world.heir_lives)
		WORLD_MUST(is_dying(&world.heir) || is_dying(&world.post) || world.post.state == LIFE_RUNNING ||
			   world.post.state == LIFE_DRAINING);
}

/* What handover.c adds when a process has ended. */
static void follow_up(bool had)
{
	if (!had || life_has_process(&world.post))
		return;
	if (world.heir.state == LIFE_STANDBY) {
		world.post_lives = true;
		world.heir_lives = false;
		life_inherit(&world.post, &world.heir);
	} else if (life_has_process(&world.heir)) {
		life_event(&world.heir, LIFE_STOP, CAUSE_operator);
	}
}

static void world_begin_anew(const struct life_limits *patience)
{
	memset(&world, 0, sizeof world);
	life_init(&world.post, &world_ops, patience);
	life_init(&world.heir, &world_ops, patience);
	world.heir.heir = true;
}

/* False: this cannot happen now. */
static bool world_step(struct life *life, enum life_happening happening, enum cause cause)
{
	if (happening == LIFE_GONE && !life_has_process(life))
		return false; /* the kernel does not make that up */
	if (life == &world.heir && happening == LIFE_START && world.post.state != LIFE_RUNNING)
		return false; /* nor does handover.c this */
	bool had = life_has_process(&world.post);
	life_event(life, happening, cause);
	follow_up(had);
	check_world();
	return true;
}

#endif
