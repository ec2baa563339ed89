/* The two answers, as msgpack maps. Built when asked for; nothing of it is kept. */
#include "supervisor.h"

#include "usage.h"

#include "common/clock.h"

#include <errno.h>
#include <inttypes.h>
#include <msgpack.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { PROBLEMS_MAX = 32, PROBLEM_BYTES = 160 };

static void text(msgpack_packer *p, const char *value)
{
	size_t n = strlen(value);
	msgpack_pack_str(p, n);
	msgpack_pack_str_body(p, value, n);
}

static void key_text(msgpack_packer *p, const char *key, const char *value)
{
	text(p, key);
	text(p, value);
}

static void key_u(msgpack_packer *p, const char *key, uint64_t value)
{
	text(p, key);
	msgpack_pack_uint64(p, value);
}

static void key_i(msgpack_packer *p, const char *key, int64_t value)
{
	text(p, key);
	msgpack_pack_int64(p, value);
}

static void key_bool(msgpack_packer *p, const char *key, bool value)
{
	text(p, key);
	value ? msgpack_pack_true(p) : msgpack_pack_false(p);
}

static void key_seconds(msgpack_packer *p, const char *key, int64_t ns)
{
	text(p, key);
	msgpack_pack_double(p, (double)ns / (double)NS_PER_S);
}

static void key_map(msgpack_packer *p, const char *key, size_t n)
{
	text(p, key);
	msgpack_pack_map(p, n);
}

static void put_supervisor(msgpack_packer *p, const struct supervisor *s)
{
	struct usage u;
	usage_read(getpid(), &u);
	const struct loop_turn_us stall = loop_stall(), work = loop_work();
	key_map(p, "supervisor", 11);
	key_u(p, "pid", (uint64_t)getpid());
	key_seconds(p, "uptime_s", monotonic_ns() - s->started_ns);
	key_u(p, "rss_bytes", u.rss_bytes);
	key_u(p, "pss_bytes", s->weight.pss_bytes);
	key_seconds(p, "cpu_s", (int64_t)u.cpu_ns);
	key_u(p, "fds", u.fds);
	key_u(p, "loop_stall_us_max", stall.max);
	key_map(p, "loop_stall_us", 3);
	key_u(p, "p50", stall.p50);
	key_u(p, "p99", stall.p99);
	key_u(p, "turns", loop_turns());
	key_u(p, "loop_cpu_us_max", work.max);
	key_map(p, "loop_cpu_us", 2);
	key_u(p, "p50", work.p50);
	key_u(p, "p99", work.p99);
	key_u(p, "memory_pressure", s->pressure.level);
}

static void put_namespaces(msgpack_packer *p, const char *key, unsigned namespaces)
{
	text(p, key);
	msgpack_pack_array(p, (size_t)__builtin_popcount(namespaces));
	for (int i = 0; i < NAMESPACE_COUNT; i++)
		if (namespaces & 1U << i)
			text(p, namespace_names[i]);
}

static void put_sandbox(msgpack_packer *p, const struct worker *w)
{
	bool privileged = w->row->needs & WORKER_PRIVILEGED;
	key_map(p, "sandbox", 8);
	key_u(p, "caps", w->sandbox.capabilities);
	key_bool(p, "no_new_privs", w->sandbox.no_new_privs);
	key_u(p, "seccomp", w->sandbox.seccomp);
	key_u(p, "uid", w->sandbox.uid);
	put_namespaces(p, "namespaces", w->sandbox.namespaces);
	put_namespaces(p, "refused", privileged ? 0 : NAMESPACE_ALL & ~w->sandbox.namespaces);
	key_u(p, "landlock_abi", w->landlock_abi);
	key_text(p, "root", w->sandbox.root_empty ? "empty" : "host");
}

/* A budget: what was used, what is allowed, and by what means it is enforced. */
static void put_limit(msgpack_packer *p, const char *key, uint64_t used, uint64_t limit, const char *by)
{
	key_map(p, key, 3);
	key_u(p, "used", used);
	key_u(p, "limit", limit);
	key_text(p, "by", by);
}

static void put_budget(msgpack_packer *p, const struct worker *w, const struct usage *u)
{
	const struct budget *b = w->budget;
	const struct measured *m = &w->measured;
	bool has_leaf = w->leaf.fd >= 0;
	unsigned in_leaf = has_leaf ? priv_cgroup_controllers() : 0;
	struct memory_limits memory = budget_memory(b, w->supervisor->lane_cpus, w->supervisor->pressure.level);
	key_map(p, "budget", 14);
	put_limit(p, "memory", m->memory, memory.kill, in_leaf & CGROUP_MEMORY ? "cgroup" : "poll, rlimit");
	put_limit(p, "memory_recycle", m->memory_most, memory.recycle, "poll");
	put_limit(p, "memory_shed", w->sheds, memory.shed, "poll");
	put_limit(p, "cpu_percent", m->cpu_percent, budget_cpu_percent(b, w->supervisor->lane_cpus),
		in_leaf & CGROUP_CPU ? "poll, rlimit, cgroup" : "poll, rlimit");
	put_limit(p, "fds", u->fds, b->fds, "rlimit, poll");
	put_limit(p, "processes", m->threads, threads_allowed(w),
		in_leaf & CGROUP_PIDS ? "cgroup, poll" : "poll, rlimit");
	put_limit(p, "output", 0, b->output, "rlimit");
	put_limit(p, "requests", w->orders, b->requests, "supervisor");
	put_limit(p, "requests_per_s", 0, b->requests_per_s, "supervisor");
	put_limit(p, "lag_ms", m->lag_since_ns ? (uint64_t)((monotonic_ns() - m->lag_since_ns) / NS_PER_MS) : 0,
		(uint64_t)(b->lag_ns / NS_PER_MS), "poll");
	put_limit(p, "order_deadline_ms", 0, (uint64_t)(b->order_deadline_ns / NS_PER_MS), "supervisor");
	put_limit(p, "realtime_leash_ms", 0, w->realtime ? (uint64_t)(b->realtime_leash_ns / NS_PER_MS) : 0, "rlimit");
	put_limit(p, "lifetime_s", (uint64_t)((monotonic_ns() - w->life.born_ns) / NS_PER_S),
		(uint64_t)(m->life_ns / NS_PER_S), "supervisor");
	key_text(p, "kill_by", has_leaf ? "cgroup.kill and pidfd" : "pidfd");
}

static const char *state_of(const struct worker *w)
{
	return w->disabled && !life_has_process(&w->life) ? life_state_name(LIFE_DISABLED)
							  : life_state_name(w->life.state);
}

static void put_worker(msgpack_packer *p, const struct worker *w)
{
	struct usage u = { 0 };
	bool lives = life_has_process(&w->life);
	if (lives)
		usage_read(w->pid, &u);
	msgpack_pack_map(p, 24);
	key_text(p, "name", w->row->name);
	key_u(p, "pid", (uint64_t)w->pid);
	key_text(p, "state", state_of(w));
	key_seconds(p, "uptime_s", lives ? monotonic_ns() - w->life.born_ns : 0);
	key_u(p, "restarts", w->life.restarts);
	key_u(p, "recycles", w->life.recycles);
	key_seconds(p, "backoff_s", w->life.state == LIFE_BACKOFF ? w->life.due_ns - monotonic_ns() : 0);
	key_u(p, "recovery_us", (uint64_t)(w->recovery_ns / NS_PER_US));
	put_budget(p, w, &u);
	key_text(p, "last_cause", cause_name(w->life.cause));
	key_u(p, "rss_bytes", u.rss_bytes);
	key_u(p, "pss_bytes", lives ? w->measured.weight.pss_bytes : 0);
	key_seconds(p, "cpu_s", (int64_t)u.cpu_ns);
	key_u(p, "fds", u.fds);
	key_u(p, "leases", w->supervisor->ledger.fds[w->owner]);
	put_sandbox(p, w);
	key_map(p, "latency_us", 2);
	key_u(p, "p50", w->latency_p50_us);
	key_u(p, "p99", w->latency_p99_us);
	key_map(p, "still_us", 2);
	key_u(p, "p50", w->still_p50_us);
	key_u(p, "p99", w->still_p99_us);
	key_u(p, "reads_per_1000_samples", w->reads_per_thousand);
	key_bool(p, "realtime", w->realtime);
	key_bool(p, "pinned", w->pinned);
	key_u(p, "requests_open", w->requests_open);
	key_u(p, "log_lines_dropped", w->log_lines_dropped);
	key_u(p, "fd_mismatches", w->fd_mismatches);
}

static void put_quarantined(msgpack_packer *p, const struct quarantined *q)
{
	msgpack_pack_map(p, 6);
	key_text(p, "name", q->row->name);
	key_u(p, "pid", (uint64_t)q->pid);
	key_text(p, "state", life_state_name(LIFE_QUARANTINED));
	key_seconds(p, "uptime_s", monotonic_ns() - q->since_ns);
	key_text(p, "last_cause", cause_name(q->cause));
	text(p, "hangs_in"); /* targets, by pid */
	msgpack_pack_array(p, q->blamed_count);
	for (unsigned i = 0; i < q->blamed_count; i++)
		msgpack_pack_uint64(p, q->blamed[i].pid);
}

static unsigned quarantined_now(const struct supervisor *s)
{
	unsigned count = 0;
	for (unsigned i = 0; i < QUARANTINE_MAX; i++)
		count += s->quarantine[i].row != NULL;
	return count;
}

static void put_workers(msgpack_packer *p, const struct supervisor *s)
{
	text(p, "workers");
	msgpack_pack_array(p, s->workers_count + quarantined_now(s));
	for (unsigned i = 0; i < s->workers_count; i++)
		put_worker(p, &s->workers[i]);
	for (unsigned i = 0; i < QUARANTINE_MAX; i++)
		if (s->quarantine[i].row)
			put_quarantined(p, &s->quarantine[i]);
}

static const char *kind_name(unsigned kind);

/* Targets that are not opened for a while, and why not. */
static void put_avoided(msgpack_packer *p, const struct supervisor *s)
{
	int64_t now = monotonic_ns();
	unsigned at = 0;
	size_t n = 0;
	while (avoid_next(&s->avoided, &at, now))
		n++;
	text(p, "avoided");
	msgpack_pack_array(p, n);
	at = 0;
	for (const struct avoided *one; (one = avoid_next(&s->avoided, &at, now));) {
		msgpack_pack_map(p, 5);
		key_i(p, "pid", one->pid);
		key_u(p, "start_time", one->start_time);
		key_text(p, "kind", one->kind == AVOID_MEMORY ? "memory" : kind_name(one->kind));
		key_u(p, "hang_in_it", one->holders);
		key_seconds(p, "for_s", one->holders ? 0 : one->until_ns - now); /* counted from its release */
	}
}

static void put_counters(msgpack_packer *p, const char *key, const uint64_t counters[COUNTER_MAX], bool sampler_only)
{
	size_t n = 0;
	for (enum counter c = 0; c < COUNTER_MAX; c++)
		n += !sampler_only || counter_source(c) == COUNTER_SOURCE_SAMPLER;
	key_map(p, key, n);
	for (enum counter c = 0; c < COUNTER_MAX; c++)
		if (!sampler_only || counter_source(c) == COUNTER_SOURCE_SAMPLER)
			key_u(p, counter_name(c), counters[c]);
}

static void put_so_far(msgpack_packer *p, const struct supervisor *s)
{
	uint64_t counters[COUNTER_MAX] = { 0 };
	for (unsigned i = 0; i < s->workers_count; i++)
		if (s->lanes[i].memfd >= 0)
			(void)lane_peek_counters(s->lanes[i].memfd, s->lane_cpus, s->lane_ring, counters);
	put_counters(p, "so_far", counters, true);
}

static uint64_t backlog(const struct supervisor *s)
{
	uint64_t sum = 0;
	for (unsigned i = 0; i < s->workers_count; i++) {
		uint64_t bytes = 0;
		if (s->lanes[i].memfd >= 0 && !lane_peek_backlog(s->lanes[i].memfd, s->lane_cpus, s->lane_ring, &bytes))
			sum += bytes;
	}
	return sum;
}

static void put_snapshot(msgpack_packer *p, const struct supervisor *s)
{
	const struct snapshots *all = &s->snapshots;
	bool records = all->stage == SNAPSHOT_RECORDING;
	key_map(p, "snapshot", 12);
	key_u(p, "id", all->current.id);
	key_seconds(p, "age_s", records ? monotonic_ns() - all->current.start_ns : 0);
	put_so_far(p, s);
	key_u(p, "lane_bytes", backlog(s));
	put_counters(p, "last", all->last_counters, false);
	key_u(p, "last_id", all->last_id);
	key_seconds(p, "last_age_s", all->last_id ? monotonic_ns() - all->last_end_ns : 0);
	key_u(p, "last_processes", all->last_processes);
	key_u(p, "last_stacks", all->last_stacks);
	key_text(p, "last_missing", all->last_missing);
	key_i(p, "unaccounted", all->last_unaccounted);
	key_u(p, "failed", all->failed);
}

/* What keeps us from being healthy, in words. */
struct problems {
	unsigned count;
	char text[PROBLEMS_MAX][PROBLEM_BYTES];
};

__attribute__((format(printf, 2, 3))) static void problem(struct problems *list, const char *format, ...)
{
	va_list args;
	if (list->count == PROBLEMS_MAX)
		return;
	va_start(args, format);
	vsnprintf(list->text[list->count++], PROBLEM_BYTES, format, args);
	va_end(args);
}

static void find_quarantined(const struct supervisor *s, struct problems *list)
{
	for (unsigned i = 0; i < QUARANTINE_MAX; i++) {
		const struct quarantined *q = &s->quarantine[i];
		char where[32 * BLAMED_MAX] = "";
		size_t at = 0;
		for (unsigned b = 0; q->row && b < q->blamed_count; b++)
			at += (size_t)snprintf(where + at, sizeof where - at, "%s %" PRIu32,
				b ? "," : ", in the memory of", q->blamed[b].pid);
		if (q->row)
			problem(list, "%s: process %d hangs in the kernel%s: quarantined, since it cannot be killed",
				q->row->name, q->pid, where);
	}
}

static void find_problems(const struct supervisor *s, struct problems *list)
{
	const struct snapshots *all = &s->snapshots;
	for (unsigned i = 0; i < s->workers_count; i++) {
		const struct worker *w = &s->workers[i];
		if (w->disabled)
			problem(list, "%s is disabled by the operator", w->row->name);
		else if (w->life.state == LIFE_QUARANTINED)
			problem(list,
				"%s is not running: its process %d cannot be killed, and %d others could not before "
				"it. It is "
				"replaced when one of them ends",
				w->row->name, w->pid, QUARANTINE_MAX);
		else if (w->life.state == LIFE_BACKOFF || w->life.state == LIFE_DISABLED)
			problem(list, "%s is not running: %s", w->row->name, cause_words(w->life.cause));
		else if (w->life.state != LIFE_RUNNING)
			problem(list, "%s is %s", w->row->name, life_state_name(w->life.state));
		if (w->plain && life_has_process(&w->life))
			problem(list,
				"%s has no real-time priority: its leash ended it again and again; raise "
				"realtime_leash "
				"in [worker %s], "
				"or bulkhead restart %s",
				w->row->name, w->row->name, w->row->name);
		if (w->fd_difference > RECONCILE_TOLERANCE)
			problem(list, "%s holds %" PRId64 " fds more than were lent to it", w->row->name,
				w->fd_difference);
	}
	if (s->pressure.level)
		problem(list, "the machine is short of memory (%.0f %% of the time all wait): budgets are smaller",
			s->pressure.reading.memory_full);
	if (s->perf.frequency && s->perf.frequency < s->config.frequency)
		problem(list, "the machine is short of CPU time: %u samples a second instead of %u", s->perf.frequency,
			s->config.frequency);
	if (all->stage == SNAPSHOT_WAITING || all->stage == SNAPSHOT_SETTLING)
		problem(list, "profiling has not begun");
	find_quarantined(s, list);
	if (all->last_errno)
		problem(list, "the last profile was not written: %s", strerror(all->last_errno));
	if (all->last_unaccounted)
		problem(list, "%" PRId64 " samples of snapshot %" PRIu64 " are not accounted for",
			all->last_unaccounted, all->last_id);
	if (all->last_missing[0])
		problem(list, "snapshot %" PRIu64 " lacks a part: %s", all->last_id, all->last_missing);
}

static void put_health(msgpack_packer *p, const struct supervisor *s)
{
	struct problems list;
	list.count = 0;
	find_problems(s, &list);
	key_bool(p, "healthy", !list.count);
	text(p, "problems");
	msgpack_pack_array(p, list.count);
	for (unsigned i = 0; i < list.count; i++)
		text(p, list.text[i]);
}

static uint64_t targets(const struct supervisor *s)
{
	uint64_t sum = 0;
	for (unsigned i = 0; i < s->workers_count; i++)
		if (s->workers[i].row->party == PARTY_LANE)
			sum += s->workers[i].targets;
	return sum;
}

static void put_status(msgpack_packer *p, const struct supervisor *s)
{
	bool more = s->start_flags & START_CARRY_MORE;
	bool realtime = s->config.realtime, pinned = s->config.pin;
	for (unsigned i = 0; i < s->workers_count; i++)
		if (s->workers[i].row->needs & WORKER_REALTIME && worker_running(&s->workers[i])) {
			realtime = realtime && s->workers[i].realtime;
			pinned = pinned && s->workers[i].pinned;
		}
	msgpack_pack_map(p, 15);
	key_text(p, "version", BULKHEAD_VERSION);
	put_health(p, s);
	put_supervisor(p, s);
	put_workers(p, s);
	put_avoided(p, s);
	key_map(p, "ledger", 4);
	key_u(p, "fds", ledger_fds(&s->ledger));
	key_u(p, "pids", ledger_pids(&s->ledger));
	key_u(p, "orders", broker_orders());
	key_u(p, "quarantined_ever", s->quarantined_ever);
	put_snapshot(p, s);
	key_text(p, "event", s->perf.event ? s->perf.event : "");
	key_u(p, "frequency", s->perf.frequency);
	key_bool(p, "realtime", realtime);
	key_bool(p, "pinned", pinned);
	key_u(p, "stack_bytes", s->perf.stack_bytes);
	key_bool(p, "carry_more", more);
	key_u(p, "targets", targets(s));
}

static const char *kind_name(unsigned kind)
{
	static const char *const names[] = {
		[LEASE_MEM] = "mem",
		[LEASE_MAPS] = "maps",
		[LEASE_ABOUT] = "about",
		[LEASE_MAPPED_FILE] = "mapped file",
		[LEASE_DEBUG_FILE] = "debug file",
		[LEASE_PERF_MAP] = "perf map",
		[LEASE_KALLSYMS] = "kallsyms",
		[LEASE_PERF] = "perf event",
		[LEASE_PERF_WAKE] = "perf event to wake",
		[LEASE_LANE] = "lane",
		[LEASE_DOORBELL] = "doorbell",
		[LEASE_STREAM] = "stream",
		[LEASE_PART] = "part",
		[LEASE_MISSED] = "missed lane",
		[LEASE_OUTPUT] = "output",
		[LEASE_ROUTES] = "routes",
		[LEDGER_PROCESS] = "process",
	};
	return kind < sizeof names / sizeof *names && names[kind] ? names[kind] : "?";
}

static const char *owner_name(const struct supervisor *s, unsigned owner)
{
	if (owner < s->workers_count)
		return s->workers[owner].row->name;
	if (owner >= WORKERS_MAX && owner < WORKERS_MAX + QUARANTINE_MAX && s->quarantine[owner - WORKERS_MAX].row)
		return "quarantine";
	if (owner >= WORKERS_MAX + QUARANTINE_MAX && owner - WORKERS_MAX - QUARANTINE_MAX < s->workers_count)
		return "heir";
	return "?";
}

static void put_ledger(msgpack_packer *p, const struct supervisor *s)
{
	const struct ledger *l = &s->ledger;
	int64_t now = monotonic_ns();
	uint32_t at = 0;
	msgpack_pack_map(p, 1);
	text(p, "rows");
	msgpack_pack_array(p, ledger_fds(l) + ledger_pids(l));
	for (const struct ledger_row *row; (row = ledger_next(l, &at));) {
		msgpack_pack_map(p, 6);
		key_u(p, "id", row->id);
		key_text(p, "owner", owner_name(s, row->owner));
		key_u(p, "incarnation", row->incarnation);
		key_text(p, "kind", kind_name(row->kind));
		key_i(p, "pid", row->pid);
		key_seconds(p, "age_s", now - row->birth_ns);
	}
}

static int release(msgpack_sbuffer *buffer, char **ret, size_t *ret_size)
{
	if (!buffer->size)
		return -ENOMEM;
	*ret_size = buffer->size;
	*ret = msgpack_sbuffer_release(buffer);
	return 0;
}

int status_words(bool done, const char *words, char **ret, size_t *ret_size)
{
	msgpack_sbuffer buffer;
	msgpack_packer packer;
	msgpack_sbuffer_init(&buffer);
	msgpack_packer_init(&packer, &buffer, msgpack_sbuffer_write);
	msgpack_pack_map(&packer, 2);
	key_bool(&packer, "done", done);
	key_text(&packer, "words", words);
	return release(&buffer, ret, ret_size);
}

int status_answer(struct supervisor *s, unsigned ask, char **ret, size_t *ret_size)
{
	msgpack_sbuffer buffer;
	msgpack_packer packer;
	msgpack_sbuffer_init(&buffer);
	msgpack_packer_init(&packer, &buffer, msgpack_sbuffer_write);
	if (ask == ASK_LEDGER)
		put_ledger(&packer, s);
	else
		put_status(&packer, s);
	return release(&buffer, ret, ret_size);
}
