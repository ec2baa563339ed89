/* START and LEND: how a worker gets what it works with. */
#include "supervisor.h"

#include "common/cleanup.h"
#include "common/clock.h"
#include "proto/routes.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* Before the worker can have been told of it, nothing of the lease is known outside: an error leaves no trace. */
uint64_t lend(struct worker *w, unsigned kind, int fd, uint64_t a, uint64_t b)
{
	struct ledger *ledger = &w->supervisor->ledger;
	uint64_t id = ledger_add(ledger, w->owner, w->life.incarnation, kind, 0, monotonic_ns());
	if (!id) {
		worker_fail(w, CAUSE_fds, "the ledger is full");
		return 0;
	}
	int r = channel_send(&w->channel, MSG_LEND, fd, id, (uint64_t)kind, a, b);
	if (!r)
		return id;
	ledger_release(ledger, w->owner, id);
	if (r != -EPIPE) /* it is ending: that is told elsewhere */
		worker_fail(w, CAUSE_deadline, "it does not drain its channel: %s", strerror(-r));
	return 0;
}

int lend_make_lanes(struct supervisor *s)
{
	s->routes_fd = routes_create();
	if (s->routes_fd < 0)
		return s->routes_fd;
	for (unsigned i = 0; i < s->workers_count; i++) {
		struct lane_post *lane = &s->lanes[i];
		if (s->workers[i].row->party != PARTY_LANE)
			continue;
		lane->memfd = lane_create(s->lane_cpus, s->lane_ring);
		if (lane->memfd < 0)
			return lane->memfd;
		lane->doorbell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (lane->doorbell < 0)
			return -errno;
	}
	return 0;
}

static bool lend_lane(struct worker *w, unsigned index)
{
	const struct lane_post *lane = &w->supervisor->lanes[index];
	uint64_t runtime = worker_runtime(&w->supervisor->workers[index]);
	return lend(w, LEASE_LANE, lane->memfd, runtime << 32 | w->supervisor->lane_cpus, w->supervisor->lane_ring) &&
	       lend(w, LEASE_DOORBELL, lane->doorbell, runtime, 0);
}

/* What the worker before it had committed to this stream; the lane says so (law 6). */
static uint64_t committed(const struct supervisor *s, unsigned index, const struct snapshot *snapshot)
{
	uint64_t id = 0, bytes = 0;
	if (lane_peek_commit(s->lanes[index].memfd, &id, &bytes) < 0 || id != snapshot->id || bytes > STREAM_MAX_BYTES)
		return 0;
	return bytes;
}

static bool lend_streams(struct worker *w)
{
	struct snapshots *all = &w->supervisor->snapshots;
	struct snapshot *both[] = { &all->closing, &all->current };
	for (int i = 0; i < 2; i++) {
		struct part *part = &both[i]->parts[w->index];
		if (!both[i]->id || part->stream < 0 || part->closed)
			continue;
		uint64_t bytes = committed(w->supervisor, w->index, both[i]);
		if (!lend(w, LEASE_STREAM, part->stream, both[i]->id, bytes))
			return false;
	}
	return true;
}

/* The snapshot that a new worker begins with: the closing one when its part of that is still owed. */
static uint64_t first_snapshot(const struct worker *w)
{
	const struct snapshots *all = &w->supervisor->snapshots;
	bool owes = w->row->party == PARTY_LANE ? all->closing.id && !all->closing.parts[w->index].closed
						: all->closing_stage == CLOSING_MARKING;
	return owes ? all->closing.id : all->current.id;
}

void lend_begin(struct worker *w)
{
	struct supervisor *s = w->supervisor;
	int r = channel_send(&w->channel, MSG_START, -1, first_snapshot(w), (uint64_t)s->perf.frequency,
		(uint64_t)s->perf.stack_bytes, (uint64_t)s->start_flags);
	if (r < 0) {
		if (r != -EPIPE) /* it is ending: how is told elsewhere */
			worker_fail(w, CAUSE_deadline, "it does not drain its channel: %s", strerror(-r));
		return;
	}
	w->begun = true;
	if (w->row->party == PARTY_LANE) {
		snapshot_settle_lane(w);
		if (lend_lane(w, w->index) && lend_streams(w))
			route_begin(w);
		return;
	}
	if (w->row->party != PARTY_SAMPLER)
		return;
	if (!lend(w, LEASE_ROUTES, s->routes_fd, 0, 0))
		return;
	for (unsigned i = 0; i < s->workers_count; i++)
		if (s->lanes[i].memfd >= 0 && !lend_lane(w, i))
			return;
	priv_perf_lend(w);
	lend_processes(s);
	route_begin(w);
}

static bool send_pids(struct worker *sampler, bool only, const uint64_t *pids, size_t n)
{
	int r = channel_send(&sampler->channel, MSG_PROCESSES, -1, (uint64_t)only, pids, n);
	if (r < 0 && r != -EPIPE)
		worker_fail(sampler, CAUSE_deadline, "it does not drain its channel: %s", strerror(-r));
	return !r;
}

/* Names in /proc only: nothing in there of what runs. */
static void send_all_pids(struct worker *sampler)
{
	uint64_t pids[FOLLOW_MAX];
	size_t n = 0;
	DIR *dir = opendir("/proc");
	if (!dir) {
		log_warn("processes that run already are not known before they do something: /proc: %s",
			strerror(errno));
		return;
	}
	for (struct dirent *e; (e = readdir(dir));) {
		uint64_t pid = 0;
		const char *p = e->d_name;
		for (; *p >= '0' && *p <= '9'; p++)
			pid = pid * 10 + (uint64_t)(*p - '0');
		if (*p || !pid)
			continue;
		pids[n++] = pid;
		if (n < FOLLOW_MAX)
			continue;
		if (!send_pids(sampler, false, pids, n))
			break;
		n = 0;
	}
	closedir(dir);
	if (n)
		send_pids(sampler, false, pids, n);
}

void lend_processes(struct supervisor *s)
{
	struct worker *sampler = worker_of_party(s, PARTY_SAMPLER);
	uint64_t pids[FOLLOW_MAX];
	if (!sampler || !worker_running(sampler))
		return;
	if (!s->record.follow_count) {
		send_all_pids(sampler);
		return;
	}
	for (unsigned i = 0; i < s->record.follow_count; i++)
		pids[i] = (uint64_t)s->record.follow[i];
	send_pids(sampler, true, pids, s->record.follow_count);
}
