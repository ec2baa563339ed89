/* The end of a snapshot: MARK through the sampler into every lane, the streams that the lanes' workers close there,
 *merge, files. Each stage has its deadline; what is not there by then is named as missing, and its worker is killed
 *(law 5).
 *
 *	mark ----- 2/3 of the deadline: parts -----|----- the rest: merge and files -----|
 *
 * The samples of a worker that is late wait in its lane, up to the marks. Once it is dead for certain, merge counts them there by
 * process, under a frame that says why; its successor begins behind the marks. So each is in this snapshot, and in no other.
 *
 * A sampler that is late is the exception: without its mark nothing can be cut without losing samples, so its successor
 *gets the time again, MARK_ROUNDS times. */
#include "supervisor.h"

#include "common/cleanup.h"
#include "common/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	MARK_ROUNDS = 2,
	HURRIES_MAX = 3,
	MERGE_ROUNDS = 2, /* a merge that dies gets a second chance */
	MISSING_MAX_BYTES = 1024,
};

static void on_late(void *context);
static void begin_merge(struct supervisor *s);
static void cut_all(struct supervisor *s);

static int64_t parts_time(const struct supervisor *s)
{
	return s->config.deadline_ns / 3 * 2;
}

static void enter(struct supervisor *s, enum closing_stage stage, int64_t time_ns)
{
	s->snapshots.closing_stage = stage;
	s->snapshots.rounds = 0;
	timer_set(&s->snapshots.closing_timer, time_ns, on_late, s);
}

/* A sampler that waits for its next start gets it now: without its mark all others would miss the deadline, for nothing that they did. An heir of
 * it is about to take over anyway. */
void closing_worker_waits(struct worker *w)
{
	struct snapshots *all = &w->supervisor->snapshots;
	if (w->row->party != PARTY_SAMPLER || all->closing_stage != CLOSING_MARKING || all->hurried >= HURRIES_MAX ||
		all->hurrying || heir_of(w)->life.state == LIFE_STANDBY)
		return;
	all->hurrying = true; /* one that cannot be started waits again, which calls again */
	worker_event(w, LIFE_START, CAUSE_none);
	all->hurrying = false;
	all->hurried += life_has_process(&w->life);
}

static void send_mark(struct supervisor *s)
{
	struct worker *sampler = worker_of_party(s, PARTY_SAMPLER);
	if (sampler->life.state == LIFE_BACKOFF)
		closing_worker_waits(sampler);
	if (!worker_running(sampler))
		return; /* its successor is told */
	int r = channel_send(&sampler->channel, MSG_MARK, -1, s->snapshots.closing.id);
	if (r < 0 && r != -EPIPE)
		worker_fail(sampler, CAUSE_deadline, "it does not drain its channel: %s", strerror(-r));
}

/* The next streams come first: when a worker meets the mark, it already has where to go on. */
static int lend_next(struct supervisor *s, struct snapshot *next)
{
	int r = snapshot_streams(s, next, s->snapshots.current.id + 1);
	if (r < 0)
		return r;
	for (unsigned i = 0; i < s->workers_count; i++) {
		struct worker *w = &s->workers[i];
		if (w->row->party == PARTY_LANE && worker_running(w))
			(void)lend(w, LEASE_STREAM, next->parts[i].stream, next->id, 0);
	}
	return 0;
}

/* The rate changes between two snapshots only, so that in each of them all samples weigh the same. */
static void follow_rate(struct supervisor *s)
{
	uint32_t hz = s->config.pressure ? rate_next(&s->rate, s->config.frequency) : s->config.frequency;
	if (hz != s->perf.frequency && !s->snapshots.last) {
		log_info("sampling at %" PRIu32 " Hz from now on%s", hz,
			hz < s->perf.frequency ? ": the machine has no time for more" : "");
		priv_perf_frequency(s, hz);
	}
	s->snapshots.current.frequency = s->perf.frequency;
}

void closing_begin(struct supervisor *s)
{
	struct snapshots *all = &s->snapshots;
	struct snapshot next;
	int r = lend_next(s, &next);
	if (r < 0) {
		log_error("no memory for the next snapshot: %s", strerror(-r));
		supervisor_stop(s, EXIT_RUNTIME);
		return;
	}
	all->closing = all->current;
	all->current = next;
	all->closing.end_ns = all->current.start_ns = monotonic_ns();
	all->closing.end_wall_ns = all->current.start_wall_ns = clock_ns(CLOCK_REALTIME);
	follow_rate(s);
	all->unmarked = false;
	all->hurried = 0;
	enter(s, CLOSING_MARKING, parts_time(s));
	send_mark(s);
}

static bool is_closing(const struct supervisor *s, uint64_t id)
{
	return s->snapshots.closing_stage != CLOSING_NONE && s->snapshots.closing.id == id;
}

/* An answer about an earlier snapshot came too late for it; one about a later one is made up. */
static void stale(struct worker *w, const char *what, uint64_t id)
{
	if (id >= w->supervisor->snapshots.current.id)
		worker_fail(w, CAUSE_protocol, "%s for snapshot %" PRIu64 ", which has not ended", what, id);
}

static bool owes(const struct part *part)
{
	return part->stream >= 0 && !part->closed;
}

/* Nobody will close what a worker that the operator has switched off owes. */
static bool only_disabled_owe(const struct supervisor *s)
{
	bool any = false;
	for (unsigned i = 0; i < s->workers_count; i++) {
		if (!owes(&s->snapshots.closing.parts[i]))
			continue;
		if (!s->workers[i].disabled || life_has_process(&s->workers[i].life))
			return false;
		any = true;
	}
	return any;
}

void closing_marked(struct worker *w, uint64_t id)
{
	struct supervisor *s = w->supervisor;
	if (!is_closing(s, id)) {
		stale(w, "MARKED", id);
		return;
	}
	if (s->snapshots.closing_stage != CLOSING_MARKING)
		return;
	int64_t left = s->snapshots.closing.end_ns + parts_time(s) - monotonic_ns();
	/* After a late sampler the lanes' workers have not had their time yet. */
	enter(s, CLOSING_PARTS, s->snapshots.rounds || left < 0 ? parts_time(s) : left);
	if (only_disabled_owe(s))
		cut_all(s);
}

static bool all_closed(const struct supervisor *s)
{
	for (unsigned i = 0; i < s->workers_count; i++)
		if (owes(&s->snapshots.closing.parts[i]))
			return false;
	return true;
}

/* How much of a stream can be there at most, whatever its worker says. */
static uint64_t stream_size(const struct part *part)
{
	struct stat st;
	if (fstat(part->stream, &st) || st.st_size < 0)
		return 0;
	return st.st_size < STREAM_MAX_BYTES ? (uint64_t)st.st_size : STREAM_MAX_BYTES;
}

void closing_closed(struct worker *w, const struct frame *f)
{
	struct supervisor *s = w->supervisor;
	struct part *part = &s->snapshots.closing.parts[w->index];
	if (!is_closing(s, f->field[0].u)) {
		stale(w, "CLOSED", f->field[0].u);
		return;
	}
	if (s->snapshots.closing_stage == CLOSING_MERGING || part->closed || part->cut)
		return;
	if (f->field[1].u > stream_size(part)) {
		worker_fail(w, CAUSE_protocol, "it closed a stream behind its end");
		return;
	}
	part->closed = true;
	part->bytes = f->field[1].u;
	for (size_t c = 0; c < f->field[2].n && c < COUNTER_MAX; c++)
		s->snapshots.closing.counters[c] += f->field[2].array[c];
	if (all_closed(s))
		begin_merge(s);
	else if (s->snapshots.closing_stage == CLOSING_PARTS && only_disabled_owe(s))
		cut_all(s);
}

/* The part of a worker that is late is what it had committed, once it can commit no more. */
static void cut(struct worker *w)
{
	struct supervisor *s = w->supervisor;
	struct part *part = &s->snapshots.closing.parts[w->index];
	part->missing = w->disabled                   ? cause_words(CAUSE_operator)
			: !life_has_process(&w->life) ? cause_words(w->life.cause)
			: s->snapshots.unmarked       ? "the sampler did not mark where it ends"
						      : cause_words(CAUSE_deadline);
	part->cut = true;
	worker_fail(w, CAUSE_deadline,
		s->snapshots.unmarked ? "nobody marked where its part of snapshot %" PRIu64 " ends"
				      : "its part of snapshot %" PRIu64 " is late",
		s->snapshots.closing.id);
}

/* Its reader is gone, and the lane is settled: that and the commit say the last word. */
static void take_what_is_there(struct worker *w)
{
	struct supervisor *s = w->supervisor;
	struct snapshot *closing = &s->snapshots.closing;
	struct part *part = &closing->parts[w->index];
	int lane = s->lanes[w->index].memfd;
	uint64_t id = 0, bytes = 0;
	if (lane_peek_commit(lane, &id, &bytes) < 0 || id < closing->id)
		bytes = 0;
	if (id == closing->id)
		(void)lane_peek_committed(lane, closing->counters);
	if (id > closing->id || bytes > stream_size(part))
		bytes = stream_size(part); /* complete, but for word of it */
	part->bytes = bytes;
	part->closed = true;
	/* What it had read of this snapshot's marks it has committed too, unless it was done and is at the next one. */
	uint64_t waits[COUNTER_MAX] = { 0 };
	(void)lane_peek_marks(lane, s->lane_cpus, s->lane_ring, closing->id, id == closing->id, waits);
	for (enum counter c = 0; c < COUNTER_MAX; c++)
		closing->counters[c] += waits[c];
	/* A runtime that is switched off, and whose processes native has. */
	if (w->disabled && !bytes && !waits[COUNTER_taken] && worker_runtime(w) != RUNTIME_NONE)
		part->missing = NULL;
}

/* Of the workers that were cut none can write any more: its process is gone, or will never get back from the kernel. */
static void cut_when_dead(struct supervisor *s)
{
	for (unsigned i = 0; i < s->workers_count; i++)
		if (s->snapshots.closing.parts[i].cut && life_has_process(&s->workers[i].life) &&
			s->workers[i].life.state != LIFE_QUARANTINED)
			return;
	for (unsigned i = 0; i < s->workers_count; i++)
		if (s->snapshots.closing.parts[i].cut) {
			snapshot_settle_lane(&s->workers[i]);
			take_what_is_there(&s->workers[i]);
		}
	begin_merge(s);
}

static void cut_all(struct supervisor *s)
{
	enter(s, CLOSING_CUT, LIFE_KILL_MS * NS_PER_MS + s->config.deadline_ns);
	for (unsigned i = 0; i < s->workers_count; i++)
		if (owes(&s->snapshots.closing.parts[i]))
			cut(&s->workers[i]);
	cut_when_dead(s);
}

bool closing_holds_lane(const struct worker *w)
{
	const struct snapshots *all = &w->supervisor->snapshots;
	return all->closing.id && all->closing.parts[w->index].cut;
}

/* The samples up to the mark are in that snapshot now, counted by merge: the next reader begins behind it. */
static void release_lanes(struct supervisor *s)
{
	for (unsigned i = 0; i < s->workers_count; i++) {
		struct worker *w = &s->workers[i];
		if (!s->snapshots.closing.parts[i].cut)
			continue;
		s->snapshots.closing.parts[i].cut = false;
		(void)lane_skip(s->lanes[i].memfd, s->lane_cpus, s->lane_ring, s->snapshots.closing.id);
		if (w->life.state == LIFE_RUNNING && !w->begun && !s->stopping)
			lend_begin(w);
	}
}

static void forget_outputs(struct supervisor *s)
{
	struct snapshots *all = &s->snapshots;
	if (all->outputs_begun && all->directory)
		output_abandon(all->directory, &all->outputs);
	all->outputs_begun = false;
}

static void finish(struct supervisor *s)
{
	struct snapshots *all = &s->snapshots;
	timer_clear(&all->closing_timer);
	forget_outputs(s);
	release_lanes(s);
	snapshot_free(s, &all->closing);
	all->closing_stage = CLOSING_NONE;
	snapshot_closed(s);
}

static void fail(struct supervisor *s, int error, const char *why)
{
	struct snapshots *all = &s->snapshots;
	log_error("snapshot %" PRIu64 " is lost: %s", all->closing.id, why);
	all->failed++;
	all->last_errno = error;
	if (s->record.on)
		s->exit_code = EXIT_RUNTIME;
	finish(s);
}

static void list_missing(const struct supervisor *s, char *to, size_t size)
{
	size_t at = 0;
	*to = 0;
	for (unsigned i = 0; i < s->workers_count && at < size; i++)
		if (s->snapshots.closing.parts[i].missing)
			at += (size_t)snprintf(to + at, size - at, "%s%s: %s", at ? "\n" : "", s->workers[i].row->name,
				s->snapshots.closing.parts[i].missing);
}

static bool lend_outputs(struct supervisor *s, struct worker *merge)
{
	struct snapshots *all = &s->snapshots;
	if (s->record.on) {
		for (unsigned i = 0; i < s->record.outputs_count; i++) {
			int fd = s->record.outputs[i].fd;
			/* From the beginning, also when a merge before this one died half-way. A pipe refuses, and may.
			 */
			(void)!ftruncate(fd, 0);
			(void)lseek(fd, 0, SEEK_SET);
			if (!lend(merge, LEASE_OUTPUT, fd, s->record.outputs[i].format, 0))
				return false;
		}
		return true;
	}
	for (unsigned format = 0; format < OUTPUT_FORMAT_MAX; format++)
		if (all->outputs.fd[format] >= 0 && !lend(merge, LEASE_OUTPUT, all->outputs.fd[format], format, 1))
			return false;
	return true;
}

/* Opened anew, read-only: merge cannot change what it is given. */
static bool lend_read_only(struct worker *merge, unsigned index, enum lease_kind kind, int ours, uint64_t value)
{
	char path[32];
	snprintf(path, sizeof path, "/proc/self/fd/%d", ours);
	cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		/* Nothing else would end this snapshot before its deadline. */
		worker_fail(merge, CAUSE_fds, "the %s of %s cannot be opened for it: %s",
			kind == LEASE_PART ? "stream" : "lane", merge->supervisor->workers[index].row->name,
			strerror(errno));
		return false;
	}
	return lend(merge, kind, fd, index, value);
}

static bool lend_part(struct worker *merge, unsigned index, const struct part *part)
{
	return lend_read_only(merge, index, LEASE_PART, part->stream, part->bytes);
}

/* What waits in the lane of a worker that was cut. */
static bool lend_missed(struct worker *merge, unsigned index)
{
	const struct supervisor *s = merge->supervisor;
	return lend_read_only(
		merge, index, LEASE_MISSED, s->lanes[index].memfd, (uint64_t)s->lane_cpus << 32 | s->lane_ring);
}

static void order_merge(struct supervisor *s, struct worker *merge)
{
	struct snapshots *all = &s->snapshots;
	struct snapshot *c = &all->closing;
	char host[256] = "", missing[MISSING_MAX_BYTES];
	if (!lend_outputs(s, merge))
		return; /* it is being killed; its successor gets here again */
	for (unsigned i = 0; i < s->workers_count; i++)
		if (c->parts[i].stream >= 0 &&
			(!lend_part(merge, i, &c->parts[i]) ||
				(c->parts[i].cut && c->parts[i].missing && !lend_missed(merge, i))))
			return;
	(void)gethostname(host, sizeof host - 1);
	list_missing(s, missing, sizeof missing);
	int r = channel_send(&merge->channel, MSG_MERGE, -1, c->id, (uint64_t)c->start_wall_ns,
		(uint64_t)(c->end_ns - c->start_ns), (uint64_t)c->frequency, (const void *)s->perf.event,
		strlen(s->perf.event), (const void *)host, strlen(host), (const void *)missing, strlen(missing),
		c->counters, (size_t)COUNTER_MAX);
	if (r < 0 && r != -EPIPE)
		worker_fail(merge, CAUSE_deadline, "it does not drain its channel: %s", strerror(-r));
}

static void begin_merge(struct supervisor *s)
{
	struct snapshots *all = &s->snapshots;
	int64_t left = all->closing.end_ns + s->config.deadline_ns - monotonic_ns();
	int64_t least = s->config.deadline_ns - parts_time(s);
	enter(s, CLOSING_MERGING, left > least ? left : least);
	all->merge_late = false;
	if (all->directory) {
		int r = output_begin(all->directory, &all->outputs);
		if (r < 0) {
			fail(s, -r, strerror(-r));
			return;
		}
		all->outputs_begun = true;
	}
	struct worker *merge = worker_of_party(s, PARTY_MERGE);
	if (worker_running(merge))
		order_merge(s, merge);
}

/* A sampler cannot put its mark into a lane that nobody reads: then it is the reader that is late. */
static bool lane_is_stuck(const struct supervisor *s)
{
	for (unsigned i = 0; i < s->workers_count; i++) {
		uint64_t unread = 0;
		if (s->lanes[i].memfd < 0)
			continue;
		if (!worker_running(&s->workers[i]))
			return true;
		if (!lane_peek_backlog(s->lanes[i].memfd, s->lane_cpus, s->lane_ring, &unread) &&
			unread >= s->lane_ring - LANE_RECORD_MAX)
			return true;
	}
	return false;
}

/* A worker that began while the snapshot was closing has the time that all have, once. Killed at the old deadline, it would
 * be followed by one that begins no earlier, and so on. */
static int64_t newcomers_time(const struct supervisor *s)
{
	const struct snapshot *c = &s->snapshots.closing;
	int64_t until = 0;
	for (unsigned i = 0; i < s->workers_count; i++) {
		const struct worker *w = &s->workers[i];
		bool owes = c->parts[i].stream >= 0 && !c->parts[i].closed;
		if (owes && worker_running(w) && w->life.born_ns > c->end_ns && w->life.born_ns > until)
			until = w->life.born_ns;
	}
	return until ? until + parts_time(s) - monotonic_ns() : 0;
}

static void on_late(void *context)
{
	struct supervisor *s = context;
	struct snapshots *all = &s->snapshots;
	struct worker *sampler = worker_of_party(s, PARTY_SAMPLER), *merge = worker_of_party(s, PARTY_MERGE);
	all->rounds++;
	switch (all->closing_stage) {
	case CLOSING_MARKING:
		if (worker_running(sampler) && lane_is_stuck(s)) {
			cut_all(s);
			return;
		}
		worker_fail(sampler, CAUSE_deadline, "its mark of snapshot %" PRIu64 " is late", all->closing.id);
		if (all->rounds < MARK_ROUNDS) {
			timer_set(&all->closing_timer, parts_time(s), on_late, s);
			send_mark(s);
			return;
		}
		/* No mark will cut the streams, so they are cut here, and their workers begin anew behind the cut. */
		all->unmarked = true;
		cut_all(s);
		return;
	case CLOSING_PARTS:
		if (all->rounds == 1 && newcomers_time(s) > 0) {
			timer_set(&all->closing_timer, newcomers_time(s), on_late, s);
			return;
		}
		cut_all(s);
		return;
	case CLOSING_CUT: /* neither gone nor in quarantine, though SIGKILL is long past */
		fail(s, ETIMEDOUT, "a worker that was late does not end");
		return;
	case CLOSING_MERGING:
		if (!all->merge_late) { /* its successor gets the same time: a snapshot is not lost to one slow moment */
			all->merge_late = true;
			all->rounds = 0;
			timer_set(&all->closing_timer, s->config.deadline_ns - parts_time(s), on_late, s);
			worker_fail(
				merge, CAUSE_deadline, "its files of snapshot %" PRIu64 " are late", all->closing.id);
			return;
		}
		worker_fail(merge, CAUSE_deadline, "its files of snapshot %" PRIu64 " are late", all->closing.id);
		fail(s, ETIMEDOUT, "merging did not end in time");
		return;
	case CLOSING_NONE:
		return;
	}
}

/* Law 7. What a late worker did not deliver is not lost: its successor reads it, in the next snapshot. */
static void balance(struct supervisor *s)
{
	struct snapshots *all = &s->snapshots;
	int64_t left = counters_unaccounted(all->last_counters) + all->carried;
	bool late = false;
	for (unsigned i = 0; i < s->workers_count; i++)
		late = late || all->closing.parts[i].missing;
	all->carried = late ? left : 0;
	all->last_unaccounted = late ? 0 : left;
	if (late && left)
		log_warn("snapshot %" PRIu64 ": %" PRId64 " samples are in the next one: their worker was late",
			all->closing.id, left);
	else if (left)
		log_error("conservation: %" PRId64 " samples of snapshot %" PRIu64 " are not accounted for", left,
			all->closing.id);
}

static void keep_figures(struct supervisor *s, const struct frame *f)
{
	struct snapshots *all = &s->snapshots;
	all->last_id = all->closing.id;
	all->last_processes = f->field[2].u;
	all->last_stacks = f->field[3].u;
	all->last_end_ns = all->closing.end_ns;
	list_missing(s, all->last_missing, sizeof all->last_missing);
	memset(all->last_counters, 0, sizeof all->last_counters);
	for (size_t c = 0; c < f->field[4].n && c < COUNTER_MAX; c++)
		all->last_counters[c] = f->field[4].array[c];
	balance(s);
}

static void conclude(struct supervisor *s, int error)
{
	struct snapshots *all = &s->snapshots;
	if (!error && all->directory) {
		error = -output_commit(all->directory, &all->outputs, all->closing.end_wall_ns);
		all->outputs_begun = false;
	}
	all->last_errno = error;
	if (error) {
		log_error("snapshot %" PRIu64 " is not written: %s", all->closing.id, strerror(error));
		all->failed++;
		if (s->record.on)
			s->exit_code = EXIT_OUTPUT;
	} else {
		log_info("snapshot %" PRIu64 ": %" PRIu64 " samples, %" PRIu64 " processes, %" PRIu64 " stacks",
			all->closing.id, all->last_counters[COUNTER_taken], all->last_processes, all->last_stacks);
		all->merged++;
	}
	finish(s);
}

void closing_merged(struct worker *w, const struct frame *f)
{
	struct supervisor *s = w->supervisor;
	if (!is_closing(s, f->field[0].u) || s->snapshots.closing_stage != CLOSING_MERGING) {
		stale(w, "MERGED", f->field[0].u);
		return;
	}
	keep_figures(s, f);
	conclude(s, f->field[1].u > 4095 ? EIO : (int)f->field[1].u);
}

void closing_worker_running(struct worker *w)
{
	struct supervisor *s = w->supervisor;
	struct snapshots *all = &s->snapshots;
	if (w->row->party == PARTY_SAMPLER && all->closing_stage == CLOSING_MARKING)
		send_mark(s);
	if (w->row->party == PARTY_MERGE && all->closing_stage == CLOSING_MERGING)
		order_merge(s, w);
}

static void on_cut(void *context)
{
	struct supervisor *s = context;
	timer_set(&s->snapshots.closing_timer, LIFE_KILL_MS * NS_PER_MS + s->config.deadline_ns, on_late, s);
	cut_when_dead(s);
}

/* It ended between its last commit and its word of it, and its successor finds nothing to do: its part is whole. */
static bool ended_behind_the_mark(struct worker *w)
{
	const struct supervisor *s = w->supervisor;
	const struct part *part = &s->snapshots.closing.parts[w->index];
	if (s->snapshots.closing_stage != CLOSING_MARKING && s->snapshots.closing_stage != CLOSING_PARTS)
		return false;
	if (w->row->party != PARTY_LANE || !owes(part) || part->cut)
		return false;
	snapshot_settle_lane(w);
	return lane_peek_done(s->lanes[w->index].memfd, s->lane_cpus, s->lane_ring, s->snapshots.closing.id) > 0;
}

void closing_worker_gone(struct worker *w)
{
	struct supervisor *s = w->supervisor;
	struct snapshots *all = &s->snapshots;
	if (ended_behind_the_mark(w)) {
		take_what_is_there(w);
		if (all_closed(s))
			begin_merge(s);
	}
	if (all->closing_stage == CLOSING_CUT && all->closing.parts[w->index].cut)
		timer_set(&all->closing_timer, 0, on_cut, s); /* when the post is empty, too */
	if (w->row->party != PARTY_MERGE || all->closing_stage != CLOSING_MERGING || s->stopping)
		return;
	if (++all->rounds >= MERGE_ROUNDS) {
		fail(s, EIO, "merge died of it twice");
		return;
	}
	forget_outputs(s);
	if (!all->directory)
		return;
	int r = output_begin(all->directory, &all->outputs);
	if (r < 0)
		fail(s, -r, strerror(-r));
	else
		all->outputs_begun = true;
}
