/* The snapshot clock: waits for the workers, lets what runs already be leased, switches the events on, and ends a
 * snapshot each interval. What follows an end is closing.c's. */
#include "supervisor.h"

#include "common/clock.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void on_time(void *context);

enum { PIECE_BYTES = 2 << 20 };

/* One piece of the memory of streams that are done with: all of a long one at once takes the loop 8 ms. */
static void on_discard(void *context)
{
	struct discarded *d = context;
	int fd = d->streams[d->count - 1];
	off_t size = lseek(fd, 0, SEEK_END);
	if (size <= PIECE_BYTES || ftruncate(fd, size - PIECE_BYTES)) {
		close(fd);
		d->count--;
	}
	if (d->count)
		timer_set(&d->timer, 0, on_discard, d);
}

static void discard(struct discarded *d, int fd)
{
	if (d->count == WORKERS_MAX) { /* they come faster than they can be got rid of */
		close(fd);
		return;
	}
	d->streams[d->count++] = fd;
	timer_set(&d->timer, 0, on_discard, d);
}

void snapshot_free(struct supervisor *s, struct snapshot *snapshot)
{
	for (unsigned i = 0; i < WORKERS_MAX && snapshot->id; i++)
		if (snapshot->parts[i].stream >= 0)
			discard(&s->snapshots.discarded, snapshot->parts[i].stream);
	*snapshot = (struct snapshot) { 0 };
}

/* A runtime's worker that does not start is no reason to profile nothing: native has its processes. */
static bool can_do_without(const struct worker *w)
{
	return worker_runtime(w) != RUNTIME_NONE && w->life.state == LIFE_BACKOFF;
}

/* An empty stream for every lane. */
int snapshot_streams(struct supervisor *s, struct snapshot *snapshot, uint64_t id)
{
	*snapshot = (struct snapshot) { .id = id };
	for (unsigned i = 0; i < WORKERS_MAX; i++)
		snapshot->parts[i].stream = -1;
	for (unsigned i = 0; i < s->workers_count; i++) {
		if (s->workers[i].row->party != PARTY_LANE)
			continue;
		snapshot->parts[i].stream = memfd_create("bulkhead-stream", MFD_CLOEXEC);
		if (snapshot->parts[i].stream < 0) {
			int error = errno;
			snapshot_free(s, snapshot);
			return -error;
		}
	}
	return 0;
}

static bool all_running(const struct supervisor *s)
{
	for (unsigned i = 0; i < s->workers_count; i++)
		if (s->workers[i].life.state != LIFE_RUNNING && !can_do_without(&s->workers[i]))
			return false;
	return true;
}

/* A lane holds what is sampled while its reader is replaced, on a machine that is busy: seconds, at the rate that was asked for; on one with
 * many CPUs as much of that as memory allows. */
static uint32_t ring_bytes(const struct supervisor *s, uint32_t least)
{
	enum { SECONDS = 2, FIXED_BYTES = 1536 /* of a sample: registers, kernel chain, and its part of the events */ };
	const uint64_t lane_max = 16 << 20;
	uint64_t want = (uint64_t)s->perf.frequency * (s->perf.stack_bytes + FIXED_BYTES) * SECONDS;
	uint32_t bytes = least;
	while (bytes < want && 2ULL * bytes * s->lane_cpus <= lane_max)
		bytes *= 2;
	return bytes;
}

/* Once, when every worker has said what it was granted: it holds for as long as we live, as the rings and lanes do. */
static void choose_samples(struct supervisor *s)
{
	bool realtime = s->config.realtime, pinned = s->config.pin;
	for (unsigned i = 0; i < s->workers_count; i++) {
		const struct worker *w = &s->workers[i];
		if (!(w->row->needs & WORKER_REALTIME))
			continue;
		if (can_do_without(w)) {
			realtime = realtime && !w->leashed;
			continue;
		}
		realtime = realtime && w->realtime;
		pinned = pinned && w->pinned;
	}
	s->start_flags = (realtime && pinned ? 0U : START_CARRY_MORE) | (s->config.pin ? 0U : START_NO_PIN);
	bool more = s->start_flags & START_CARRY_MORE;
	s->perf.frequency = s->config.frequency;
	s->perf.stack_bytes = more ? STACK_BYTES_CARRY_MORE : STACK_BYTES;
	s->perf.pages = more ? PERF_PAGES_CARRY_MORE : PERF_PAGES;
	s->lane_ring = ring_bytes(s, more ? LANE_RING_CARRY_MORE : LANE_RING_DEFAULT);
	if (more)
		log_warn("readers %s%s%s: samples carry %d bytes of stack instead, and some threads run on before they "
			 "are read",
			realtime ? "" : "have no real-time priority", realtime || pinned ? "" : " and ",
			pinned ? "" : "are not pinned", STACK_BYTES_CARRY_MORE);
}

static int prepare(struct supervisor *s)
{
	choose_samples(s);
	int r = priv_perf_open(s);
	if (r < 0)
		return r;
	r = lend_make_lanes(s);
	if (!r)
		r = snapshot_streams(s, &s->snapshots.current, 1);
	if (r < 0)
		log_error("memory for the lanes: %s", strerror(-r));
	return r;
}

static void settle(struct supervisor *s)
{
	int r = prepare(s);
	if (r < 0) {
		supervisor_stop(s, r == -EACCES || r == -EPERM ? EXIT_PERMISSION : EXIT_RUNTIME);
		return;
	}
	s->snapshots.stage = SNAPSHOT_SETTLING;
	timer_set(&s->snapshots.timer, SETTLE_MS * NS_PER_MS, on_time, s);
	for (unsigned i = 0; i < s->workers_count; i++)
		if (s->workers[i].row->party != PARTY_OPENER && s->workers[i].life.state == LIFE_RUNNING)
			lend_begin(&s->workers[i]);
}

static void say_ready(struct supervisor *s)
{
	notify_say("READY=1\nSTATUS=Profiling at %u Hz", s->perf.frequency);
	if (s->record.ready_fd < 0)
		return;
	watch_clear(&s->ready_gone);
	(void)!write(s->record.ready_fd, "ready\n", 6);
	close(s->record.ready_fd);
	s->record.ready_fd = -1;
}

static void arm(struct supervisor *s)
{
	const struct snapshots *all = &s->snapshots;
	int64_t length = s->record.on ? s->record.duration_ns : s->config.interval_ns;
	if (length)
		timer_set(&s->snapshots.timer, all->current.start_ns + length - monotonic_ns(), on_time, s);
}

static void record(struct supervisor *s)
{
	struct snapshots *all = &s->snapshots;
	all->stage = SNAPSHOT_RECORDING;
	all->current.frequency = s->perf.frequency;
	all->current.start_ns = monotonic_ns();
	all->current.start_wall_ns = clock_ns(CLOCK_REALTIME);
	priv_perf_enable(s, true);
	/* Again, for those that began between the first list and the events. */
	lend_processes(s);
	log_info("profiling at %u Hz, event %s", s->perf.frequency, s->perf.event);
	say_ready(s);
	arm(s);
}

static void end_current(struct supervisor *s)
{
	struct snapshots *all = &s->snapshots;
	if (all->closing_stage != CLOSING_NONE) {
		all->due = true; /* two snapshots never overlap: this one grows a little */
		return;
	}
	all->due = false;
	if (s->record.on)
		all->last = true;
	if (all->last) {
		timer_clear(&all->timer);
		priv_perf_enable(s, false);
	}
	closing_begin(s);
	if (!all->last)
		arm(s);
}

static void on_time(void *context)
{
	struct supervisor *s = context;
	if (s->snapshots.stage == SNAPSHOT_SETTLING)
		record(s);
	else if (s->snapshots.stage == SNAPSHOT_RECORDING)
		end_current(s);
}

void snapshot_worker_running(struct worker *w)
{
	struct supervisor *s = w->supervisor;
	if (s->snapshots.stage == SNAPSHOT_WAITING) {
		if (all_running(s))
			settle(s);
		return;
	}
	if (w->row->party == PARTY_OPENER || (w->row->party == PARTY_LANE && closing_holds_lane(w)))
		return; /* the latter begins when the lane is free */
	lend_begin(w);
	closing_worker_running(w);
}

/* What it left half done is done. A tail that makes no sense costs what was in that ring, in whichever snapshot it was. */
void snapshot_settle_lane(struct worker *w)
{
	struct supervisor *s = w->supervisor;
	uint32_t damaged = 0;
	int r = lane_settle(s->lanes[w->index].memfd, s->lane_cpus, s->lane_ring, &damaged);
	if (r < 0)
		log_error("the lane of %s cannot be looked at: %s", w->row->name, strerror(-r));
	if (!damaged)
		return;
	log_error("%s: left %" PRIu32 " rings of its lane with indices that make no sense: what was in them is lost",
		w->row->name, damaged);
	s->snapshots.current.counters[COUNTER_lane_damaged] = 1; /* merge puts the number there */
	if (s->snapshots.closing.id)
		s->snapshots.closing.counters[COUNTER_lane_damaged] = 1;
}

void snapshot_worker_gone(struct worker *w)
{
	w->supervisor->snapshots.settled[w->index] = false;
}

void snapshot_worker_waits(struct worker *w)
{
	struct supervisor *s = w->supervisor;
	if (s->snapshots.stage == SNAPSHOT_WAITING && !s->stopping && can_do_without(w) && all_running(s))
		settle(s);
}

/* A runtime's reader that has not been told of any process has nothing to prepare. */
static bool owes_settled(const struct supervisor *s, unsigned i)
{
	const struct worker *w = &s->workers[i];
	return !s->snapshots.settled[i] && (worker_runtime(w) == RUNTIME_NONE || s->snapshots.introduced[i]);
}

void snapshot_settled(struct worker *w, uint64_t targets)
{
	struct supervisor *s = w->supervisor;
	if (s->snapshots.stage != SNAPSHOT_SETTLING || !targets)
		return; /* none: it has not been told of any process yet */
	s->snapshots.settled[w->index] = true;
	for (unsigned i = 0; i < s->workers_count; i++)
		if (s->workers[i].row->party == PARTY_LANE && owes_settled(s, i))
			return;
	record(s);
}

bool snapshot_now(struct supervisor *s)
{
	const struct snapshots *all = &s->snapshots;
	if (all->stage != SNAPSHOT_RECORDING || all->closing_stage != CLOSING_NONE || all->last)
		return false;
	end_current(s);
	return true;
}

void snapshot_stop(struct supervisor *s)
{
	struct snapshots *all = &s->snapshots;
	if (all->stage != SNAPSHOT_RECORDING) {
		supervisor_stop(s, s->record.on ? EXIT_RUNTIME : EXIT_OK); /* there is nothing to write yet */
		return;
	}
	all->last = true;
	notify_say("STOPPING=1\nSTATUS=Writing the last profile");
	end_current(s);
}

void snapshot_closed(struct supervisor *s)
{
	struct snapshots *all = &s->snapshots;
	if (all->due)
		end_current(s);
	else if (all->last)
		supervisor_stop(s, s->exit_code);
}
