#include "kit/lane_worker.h"

#include "common/clock.h"
#include "common/log.h"
#include "kit/collect.h"
#include "kit/describe.h"
#include "kit/leases.h"
#include "kit/names.h"
#include "kit/retry.h"
#include "proto/lease.h"

#include <malloc.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum {
	TURN_MS = 200,           /* samples are worked off this often; what we learn from, at once (window.c) */
	DOZE_MS = 1000,          /* where none came in a whole turn: the next one wakes us... */
	SLEEP_MS = 10000,        /* ...and where no process is known either */
	START_TURN_MS = 20,      /* while a process is to be looked at again, which may just be starting */
	BUSY_TURN_MS = 2,        /* while answers are awaited */
	ORDER_NS = 1000 * 1000,  /* how long an entry rests, so that older ones of other CPUs are seen before it */
	STATS_MS = 2000,         /* to the supervisor, which is woken by it */
	CLOSE_WAIT_MS = 500,     /* for names, at the end of a snapshot */
	STOP_WAIT_MS = 300,      /* for what was read already, before it ends */
	CFI_BYTES_MAX = 6 << 20, /* unwind tables of all files together */
	CFI_BYTES_SHED = 1 << 20,
	BATCH_MAX = 4096, /* entries worked off before the next look at the channel */
};

static const struct runtime *runtime;
static struct kit kit;
static struct lane lane;
static int doorbell = -1, bell = -1;

static uint64_t snapshot;            /* the one whose stream is written */
static uint64_t marks[COUNTER_MAX];  /* what its marks counted */
static int64_t closing_since;        /* 0: not all rings have come to the mark */
static uint32_t used[LANE_MAX_CPUS]; /* CPUs whose rings are in use */
static uint32_t nused;
static int64_t
	stop_by; /* it is to end when all that was read is committed, at this time at the latest; 0: it goes on */
static bool describing;
static bool anything, settled_told; /* a process was heard of; the first of them are all lent */

struct lent_stream {
	int fd;
	uint64_t lease, snapshot, bytes;
};

static struct lent_stream next_stream = { .fd = -1 };

static void begin_stream(const struct lent_stream *stream)
{
	uint64_t held, committed = lane_recover(&lane, &held), id = stream->snapshot;
	if (held == id)
		lane_counters(&lane, marks); /* marks that a predecessor read, and did not live to tell of */
	/* The predecessor wrote on up to what it had committed; the supervisor says the same of a stream it knows. */
	if (held != id || !stream->bytes) {
		committed = 0;
		lane_commit_stream(&lane, id, 0);
	}
	snapshot = id;
	collect_stream(stream->fd, stream->lease, committed);
}

static void look_for_rings(void)
{
	int r = lane.map ? windows_start(&kit, &lane, bell, runtime->capture, sample_stack_max(runtime)) : 0;
	if (r < 0)
		log_error("no thread for a CPU: %s", strerror(-r));
	nused = 0;
	for (uint32_t cpu = 0; cpu < lane.cpus; cpu++)
		if (window_active(cpu))
			used[nused++] = cpu;
}

static void lend(const struct frame *f)
{
	switch (f->field[1].u) {
	case LEASE_LANE:
		if (lane_open(&lane, f->fd, (uint32_t)f->field[2].u, (uint32_t)f->field[3].u) < 0) {
			log_error("the lane does not open");
			_exit(KIT_EXIT_PROTOCOL);
		}
		close(f->fd);
		leases_release(f->field[0].u);
		look_for_rings();
		break;
	case LEASE_DOORBELL:
		doorbell = f->fd;
		break;
	case LEASE_STREAM: {
		struct lent_stream stream = { f->fd, f->field[0].u, f->field[2].u, f->field[3].u };
		if (!collect_ready() && lane.map) {
			begin_stream(&stream);
			break;
		}
		if (next_stream.fd >= 0) {
			close(next_stream.fd);
			leases_release(next_stream.lease);
		}
		next_stream = stream;
		break;
	}
	default:
		close(f->fd);
		leases_release(f->field[0].u);
	}
}

static void handle(const struct frame *f)
{
	switch (f->row->number) {
	case MSG_START:
		break;
	case MSG_LEND:
		lend(f);
		break;
	case MSG_OPENED:
		leases_opened(f);
		break;
	case MSG_DESCRIBE:
		describe_begin(f->field[0].u);
		break;
	case MSG_TELL:
		targets_tell_soon();
		break;
	case MSG_SHED:
		cfi_shed(CFI_BYTES_SHED);
		targets_shed();
		modules_sweep();
		if (runtime->shed)
			runtime->shed();
		malloc_trim(0);
		break;
	case MSG_STOP:
		stop_by = monotonic_ns() + STOP_WAIT_MS * NS_PER_MS;
		break;
	}
}

/* It comes back, or, to a runtime's worker, is introduced as another program, whose exec only native was told of. */
static bool begins_anew(const struct target *t, uint32_t type)
{
	if (type == LANE_APPEARED && runtime->id != RUNTIME_NONE)
		return !t->asked || t->refused || target_image_is_gone(t);
	return t->ended_ns && (type == LANE_APPEARED || type == LANE_EXEC);
}

/* Each CPU's ring is in order; between rings, an event may be seen late. What it says of an image that has been replaced since is
 * passed over. */
static void process_event(const struct lane_event *e)
{
	struct target *t = target_find(e->head.pid);
	int64_t time = (int64_t)e->head.time;
	bool stale = t && t->image_ns > time;
	anything = true;
	if (stale)
		return;
	if (e->head.type == LANE_COMM) {
		if (t)
			target_set_thread_name(t, e->head.tid, e->comm);
		return;
	}
	if (e->head.type == LANE_LEFT) {
		target_left(e->head.pid, time);
		return;
	}
	if (e->head.type == LANE_EXIT) {
		if (t)
			target_ended(t, monotonic_ns());
		return;
	}
	if (e->head.type == LANE_FORK || (t && begins_anew(t, e->head.type)))
		target_gone(e->head.pid); /* its number may have been another's before */
	t = target_get(e->head.pid);
	if (!t)
		return;
	if (e->head.type == LANE_FORK)
		target_fork(target_find((uint32_t)e->value), t);
	else if (e->head.type == LANE_EXEC)
		target_exec(t, e->comm);
	else if (e->head.type == LANE_APPEARED)
		target_appeared(t, time);
	if (e->head.type != LANE_APPEARED)
		t->image_ns = time;
}

static void process_map(const struct lane_map *map, uint32_t bytes)
{
	struct target *t = target_find(map->head.pid);
	char path[LANE_PATH_MAX + 1];
	if (!t || map->path_bytes > LANE_PATH_MAX || map->path_bytes > bytes - sizeof *map ||
		t->image_ns > (int64_t)map->head.time)
		return;
	memcpy(path, map + 1, map->path_bytes);
	path[map->path_bytes] = 0;
	struct map_entry entry = { .start = map->start,
		.end = map->end,
		.offset = map->offset,
		.device = map->device,
		.inode = map->inode,
		.flags = MAP_IS_EXEC | (map->inode ? MAP_IS_FILE : 0) };
	target_map(t, &entry, path, (int64_t)map->head.time);
}

static void take_mark(const struct lane_mark *mark)
{
	for (enum counter c = 0; c < COUNTER_MAX; c++)
		marks[c] += mark->counters[c];
}

enum verdict { DONE, WAIT, MARK };

static enum verdict take_entry(const struct window_entry *entry)
{
	const struct lane_record *head = (const void *)(entry + 1);
	if (head->type == LANE_SAMPLE && entry->record_bytes >= sizeof(struct lane_sample)) {
		const struct lane_sample *s = (const void *)head;
		if (s->nkernel > LANE_MAX_KERNEL ||
			entry->record_bytes < sizeof *s + s->nkernel * sizeof(uint64_t) + s->stack_bytes) {
			marks[COUNTER_malformed]++;
			return DONE;
		}
		return sample_take(runtime, entry) ? DONE : WAIT;
	}
	if (head->type == LANE_MARK && entry->record_bytes >= sizeof(struct lane_mark)) {
		const struct lane_mark *mark = (const void *)head;
		if (mark->snapshot >= snapshot)
			return MARK;
		take_mark(mark);
	} else if (head->type == LANE_MAP && entry->record_bytes >= sizeof(struct lane_map)) {
		process_map((const void *)head, entry->record_bytes);
	} else if (head->type != LANE_SAMPLE && entry->record_bytes >= sizeof(struct lane_event)) {
		process_event((const void *)head);
	}
	return DONE;
}

static struct lane_tail tails[LANE_COMMIT_MAX];
static uint32_t ntails;

static void note_tail(uint32_t cpu, uint64_t end)
{
	for (uint32_t i = 0; i < ntails; i++)
		if (tails[i].cpu == cpu) {
			tails[i].tail = end;
			return;
		}
	tails[ntails++] = (struct lane_tail) { .tail = end, .cpu = cpu };
}

static void commit(void)
{
	if (!ntails)
		return;
	lane_commit(&lane, tails, ntails, collect_flush(), marks);
	ntails = 0;
}

/* The ring whose oldest entry is the oldest of all that may be taken. */
static int oldest_ring(const bool *blocked, int64_t until)
{
	int best = -1;
	uint64_t best_time = UINT64_MAX;
	for (uint32_t i = 0; i < nused; i++) {
		const struct window_entry *entry = blocked[i] ? NULL : window_peek(used[i]);
		if (!entry)
			continue;
		const struct lane_record *head = (const void *)(entry + 1);
		if (head->time < best_time && (int64_t)head->time <= until) {
			best_time = head->time;
			best = (int)i;
		}
	}
	return best;
}

/* Works off what the windows passed on, in order of time. True: some of it waits for answers. */
static bool work_off(void)
{
	static bool blocked[LANE_MAX_CPUS];
	bool waits = false;
	uint32_t at_mark = 0;
	memset(blocked, 0, nused * sizeof *blocked);
	if (!collect_ready())
		return false;
	int64_t now = monotonic_ns();
	for (int i = 0, ring; i < BATCH_MAX && (ring = oldest_ring(blocked, now - ORDER_NS)) >= 0; i++) {
		uint32_t cpu = used[ring];
		const struct window_entry *entry = window_peek(cpu);
		uint64_t end = entry->lane_end;
		enum verdict verdict = DONE;
		if (lane_begin(&lane, cpu, end)) {
			verdict = take_entry(entry);
			lane_end(&lane);
		} else {
			log_error("CPU %u: a record that two workers died of is passed over", cpu);
			marks[COUNTER_malformed] += ((const struct lane_record *)(entry + 1))->type == LANE_SAMPLE;
		}
		if (verdict != DONE) {
			blocked[ring] = true;
			at_mark += verdict == MARK;
			waits |= verdict == WAIT;
			continue;
		}
		window_drop(cpu);
		note_tail(cpu, end);
		if (ntails == LANE_COMMIT_MAX)
			commit();
	}
	if (nused && at_mark == nused && !closing_since)
		closing_since = now;
	else if (at_mark < nused)
		closing_since = 0;
	return waits;
}

/* All rings stand at the mark: names, a last commit, the answer, the next stream. */
static void close_snapshot(void)
{
	bool patient = monotonic_ns() - closing_since < CLOSE_WAIT_MS * NS_PER_MS;
	if ((!collect_names(true) && patient) || next_stream.fd < 0)
		return;
	for (uint32_t i = 0; i < nused; i++) {
		const struct window_entry *entry = window_peek(used[i]);
		const struct lane_mark *mark = (const void *)(entry + 1);
		take_mark(mark);
		note_tail(used[i], entry->lane_end);
		window_drop(used[i]);
		if (ntails == LANE_COMMIT_MAX)
			commit();
	}
	uint64_t bytes = collect_flush();
	lane_commit(&lane, tails, ntails, bytes, marks);
	ntails = 0;
	(void)channel_send(&kit.channel, MSG_CLOSED, -1, snapshot, bytes, (const uint64_t *)marks, (size_t)COUNTER_MAX);
	memset(marks, 0, sizeof marks);
	closing_since = 0;
	begin_stream(&next_stream);
	next_stream.fd = -1;
	modules_sweep();
	malloc_trim(0);
}

static void tell_stats(void)
{
	static int64_t next;
	static struct window_times times;
	static uint64_t told[7];
	int64_t now = monotonic_ns();
	if (now < next || !lane.map) /* a successor that stands by has nothing to tell, and may not */
		return;
	targets_sweep(now);
	(void)window_times(&times); /* none: those of before are the last known */
	next = now + STATS_MS * NS_PER_MS;
	const uint64_t stats[] = { times.latency_p50_us, times.latency_p99_us, leases_waiting(), targets_count(),
		times.still_p50_us, times.still_p99_us, times.reads_per_thousand };
	if (!memcmp(told, stats, sizeof stats))
		return; /* a message wakes two processes */
	if (!channel_send(
		    &kit.channel, MSG_STATS, -1, stats[0], stats[1], stats[2], stats[3], stats[4], stats[5], stats[6]))
		memcpy(told, stats, sizeof stats);
}

/* What was read while its thread stood still can be read by nobody else: it is worked off, named and committed. The rest waits in
 * the lane for a successor. */
static void stop_when_done(bool waits)
{
	if (monotonic_ns() < stop_by && (waits || window_backlog() || !collect_names(true)))
		return;
	commit();
	lane_commit(&lane, tails, 0, collect_flush(), marks);
	_exit(KIT_EXIT_OK);
}

static int turn_ms(bool waits, bool quiet)
{
	if (stop_by || describing)
		return BUSY_TURN_MS;
	if (waits || closing_since || leases_waiting() || targets_next_due() != INT64_MAX)
		return BUSY_TURN_MS;
	static int64_t busy_ns; /* when it last was */
	int64_t now = monotonic_ns(), due = (retry_next_ns() - now) / NS_PER_MS;
	if (!quiet)
		busy_ns = now;
	if (due < TURN_MS)
		return due > START_TURN_MS ? (int)due : START_TURN_MS;
	if (!quiet || window_retiring() || leases_unsent() || !windows_doze(true))
		return TURN_MS;
	/* What there is to tell of its last process was told by then. */
	int doze = !targets_count() && now - busy_ns > 2 * STATS_MS * NS_PER_MS ? SLEEP_MS : DOZE_MS;
	return due < doze ? (int)due : doze;
}

/* True: an entry of a window is not to wait for the next turn. */
static bool sleep_until_turn(int ms, bool *ret_message, bool *ret_rings)
{
	enum { CHANNEL, BELL, DOORBELL };
	struct pollfd fds[] = { { kit.channel.fd, POLLIN, 0 }, { bell, POLLIN, 0 }, { doorbell, POLLIN, 0 } };
	uint64_t rung = 0, times;
	poll(fds, 3, ms);
	(void)windows_doze(false);
	if (fds[BELL].revents & POLLIN && read(bell, &rung, sizeof rung) < 0)
		rung = 0;
	*ret_rings = fds[DOORBELL].revents & POLLIN && read(doorbell, &times, sizeof times) > 0;
	*ret_message = fds[CHANNEL].revents;
	return window_bell_urgent(rung);
}

int lane_worker(const struct runtime *what, int argc, char **argv)
{
	runtime = what;
	kit_start(&kit, runtime->name, PARTY_LANE, KIT_REALTIME | KIT_WRITES, argc, argv);
	leases_init(&kit);
	targets_init(&kit, runtime);
	describe_init(&kit, runtime);
	bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	bool waits = false, quiet = false;
	for (;;) {
		bool message, rings, rang = sleep_until_turn(turn_ms(waits, quiet), &message, &rings);
		if (rings)
			look_for_rings();
		struct frame f;
		while (message && kit_receive(&kit, &f))
			handle(&f);
		quiet = !message && !window_backlog();
		targets_due(monotonic_ns());
		if (runtime->turn)
			runtime->turn();
		waits = work_off() || rang; /* what rang may still rest */
		(void)(collect_ready() && collect_names(false));
		commit();
		if (closing_since)
			close_snapshot();
		if (stop_by)
			stop_when_done(waits);
		targets_tell();
		describing = describe_turn();
		window_reclaim();
		leases_flush(); /* what was just given back, too */
		if (cfi_memory() > CFI_BYTES_MAX)
			cfi_shed(CFI_BYTES_MAX * 3 / 4);
		if (anything && !settled_told && !waits && !leases_waiting()) {
			settled_told = true;
			(void)channel_send(&kit.channel, MSG_SETTLED, -1, (uint64_t)targets_count());
		}
		tell_stats();
	}
}
