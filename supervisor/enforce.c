/* Budgets: measured in /proc/WORKER, and acted upon. What the kernel enforces by itself (limits, control groups) only shows up here as
 * an end with a cause. Memory is looked at often, because a leak can be fast; the rest once a second. */
#include "supervisor.h"

#include "usage.h"

#include "common/clock.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum {
	/* A leak is to be ended within 100 ms of its breach, however it came to it. Up to NEAR_BYTES in 100 ms it is near its limit at some
	 * look before the breach, or within 100 ms of it; a faster one meets RLIMIT_DATA on a small machine, and on any uses so much CPU
	 * time that its alarm (a POSIX CPU timer) comes first. Each look costs a wake-up, which is most of what an idle machine pays for
	 * us. */
	FAST_MS = 25,  /* while somebody is near a limit */
	SLOW_MS = 90,  /* while somebody has no alarm */
	REST_MS = 200, /* else */
	NEAR_BYTES = 32 << 20,
	ALARM_NS = 3000000,  /* CPU time of a worker; the kernel sees it at the next tick that meets the worker */
	ALARM_PAUSE_MS = 40, /* after a look, for who is always busy */
	WEIGHT_AGE_MS = 10000,
	SHED_PAUSE_MS = 2000,       /* between two requests to drop caches */
	SACRIFICE_PAUSE_MS = 10000, /* between two workers given up for the machine */
	LIFETIME_JITTER = 8, /* up to this part of a lifetime is taken off, so that fleets do not recycle in step */
	LAG_SHARE = 4,       /* a ring with less room than this part of it is nearly full */
};

static int64_t looked_ns, next_look_ns = INT64_MAX; /* of memory */

/* CPU time so far; what has had none since holds what it held. -1: not known. */
static int64_t ran(const struct worker *w)
{
	struct timespec t;
	if (!w->measured.clock || clock_gettime(w->measured.clock, &t))
		return -1;
	return t.tv_sec * NS_PER_S + t.tv_nsec;
}

/* False: it has none. */
static bool set_alarm(struct worker *w)
{
	struct measured *m = &w->measured;
	if (!m->has_alarm || m->ran_ns < 0)
		return false;
	if (m->ran_ns < m->alarm_ns)
		return true; /* it has not used what it was allowed the last time */
	const struct itimerspec once = { .it_value = { 0, ALARM_NS } };
	if (timer_settime(m->alarm, 0, &once, NULL))
		return false;
	m->alarm_ns = m->ran_ns + ALARM_NS;
	return true;
}

static void on_enforce(void *context);

/* If not before. */
static void look_by(struct supervisor *s, int64_t when_ns)
{
	if (when_ns >= next_look_ns)
		return;
	next_look_ns = when_ns;
	timer_set(&s->enforce, when_ns - monotonic_ns(), on_enforce, s);
}

void enforce_begin(struct worker *w)
{
	int64_t life = w->budget->lifetime_ns, now = monotonic_ns();
	w->measured = (struct measured) { .memory_fd = -1,
		.window_began_ns = now,
		.life_ns = life ? life - life / LIFETIME_JITTER * (w->life.ops->random() % 256) / 256 : 0 };
	if (usage_clock(w->pid, &w->measured.clock) < 0)
		w->measured.clock = 0;
	struct sigevent how = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM };
	w->measured.has_alarm = w->measured.clock && !timer_create(w->measured.clock, &how, &w->measured.alarm);
	w->measured.ran_ns = ran(w);
	if (!set_alarm(w))
		look_by(w->supervisor, now + SLOW_MS * NS_PER_MS);
}

void enforce_end(struct worker *w)
{
	if (w->measured.has_alarm)
		timer_delete(w->measured.alarm);
	w->measured.has_alarm = false;
	if (w->measured.memory_fd >= 0)
		close(w->measured.memory_fd);
	w->measured.memory_fd = -1;
}

static struct memory_limits limits_of(const struct worker *w)
{
	return budget_memory(w->budget, w->supervisor->lane_cpus, w->supervisor->pressure.level);
}

static void ask_to_shed(struct worker *w, int64_t now)
{
	if (!worker_running(w) || now - w->measured.shed_ns < SHED_PAUSE_MS * NS_PER_MS)
		return;
	w->measured.shed_ns = now;
	w->sheds++;
	(void)channel_send(&w->channel, MSG_SHED, -1); /* one that does not drain its channel has other deadlines */
}

/* Merge holds a whole profile while it writes: then only the last step of its ladder counts. */
static bool is_writing(const struct worker *w)
{
	return w->row->party == PARTY_MERGE && w->supervisor->snapshots.closing_stage == CLOSING_MERGING;
}

static bool has_run_since(const struct worker *w, int64_t then_ns)
{
	return w->measured.ran_ns < 0 || w->measured.ran_ns != then_ns;
}

static int measure_memory(struct worker *w)
{
	struct measured *m = &w->measured;
	if (m->memory_fd < 0)
		m->memory_fd = usage_open_memory(w->pid);
	int r = usage_memory(m->memory_fd, &m->memory);
	if (r < 0)
		return r;
	m->ran_memory_ns = m->ran_ns;
	if (m->memory > m->memory_most)
		m->memory_most = m->memory;
	return 0;
}

/* True: it is near a limit. The limits change with the pressure; before it is told so, what it holds is looked at anew, since the kernel
 * may have taken some of it. */
static bool enforce_memory(struct worker *w, int64_t now)
{
	struct memory_limits limits = limits_of(w);
	char why[96];
	bool fine = budget_memory_step(&limits, w->measured.memory) == MEMORY_FINE;
	if ((!fine || has_run_since(w, w->measured.ran_memory_ns)) && measure_memory(w) < 0)
		return true; /* or so it may be */
	enum memory_step step = budget_memory_step(&limits, w->measured.memory);
	if (step != MEMORY_FINE)
		snprintf(why, sizeof why, "%" PRIu64 " KiB of memory", w->measured.memory >> 10);
	switch (step) {
	case MEMORY_KILL:
		worker_fail(w, CAUSE_memory, "%s, its budget is %" PRIu64, why, limits.kill >> 10);
		break;
	case MEMORY_RECYCLE:
		ask_to_shed(w, now);
		if (!is_writing(w))
			handover_begin(w, CAUSE_memory, why);
		break;
	case MEMORY_SHED:
		if (!is_writing(w))
			ask_to_shed(w, now);
		break;
	case MEMORY_FINE:
		return w->measured.memory > limits.shed / 2 || w->measured.memory + NEAR_BYTES > limits.kill;
	}
	return true;
}

static int64_t cpu_allowed(const struct worker *w)
{
	return BUDGET_CPU_WINDOW_NS / 100 * budget_cpu_percent(w->budget, w->supervisor->lane_cpus);
}

/* The kernel's own limit follows what was used, so that a worker that spins is ended even if we do not get to look. */
static void move_cpu_limit(struct worker *w)
{
	int64_t allowed = w->measured.cpu_ns + 2 * cpu_allowed(w);
	struct rlimit limit = { (rlim_t)(allowed / NS_PER_S + 2), (rlim_t)(allowed / NS_PER_S + 4) };
	if (!prlimit(w->pid, RLIMIT_CPU, &limit, NULL))
		w->measured.cpu_limit_ns = (int64_t)limit.rlim_cur * NS_PER_S;
}

bool enforce_cpu_spent(const struct worker *w)
{
	const int64_t tick_ns =
		NS_PER_S; /* the kernel counts ticks for it, which may be less than what this clock says, or more */
	int64_t limit_ns = w->measured.cpu_limit_ns, ran_ns = ran(w);
	return limit_ns && (ran_ns < 0 || ran_ns >= limit_ns - tick_ns);
}

static void enforce_cpu(struct worker *w, int64_t now)
{
	struct measured *m = &w->measured;
	int64_t wall = now - m->window_began_ns, used = m->cpu_ns - m->window_cpu_ns;
	if (used > cpu_allowed(w)) {
		worker_fail(w, CAUSE_cpu, "%lld ms of CPU time in %lld ms, its budget is %lld in ten seconds",
			(long long)(used / NS_PER_MS), (long long)(wall / NS_PER_MS),
			(long long)(cpu_allowed(w) / NS_PER_MS));
		return;
	}
	if (wall < BUDGET_CPU_WINDOW_NS)
		return;
	m->cpu_percent = (uint32_t)(used * 100 / wall);
	m->window_began_ns = now;
	m->window_cpu_ns = m->cpu_ns;
	move_cpu_limit(w);
}

/* A reader that does not keep up: when the CPUs are short the next snapshot gets fewer samples; in the end it is replaced. */
static void enforce_lag(struct worker *w, int64_t now)
{
	struct supervisor *s = w->supervisor;
	struct measured *m = &w->measured;
	uint64_t fullest = 0;
	if (w->row->party != PARTY_LANE || s->lanes[w->index].memfd < 0 || !worker_running(w) ||
		lane_peek_fullest(s->lanes[w->index].memfd, s->lane_cpus, s->lane_ring, &fullest) < 0)
		return;
	if (fullest < s->lane_ring - s->lane_ring / LAG_SHARE) {
		m->lag_since_ns = 0;
		return;
	}
	if (!m->lag_since_ns)
		m->lag_since_ns = now;
	if (s->pressure.reading.cpu_some >= RATE_CPU_SOME)
		s->rate.lagged = true;
	if (w->budget->lag_ns && now - m->lag_since_ns > w->budget->lag_ns)
		worker_fail(w, CAUSE_lag, "its lane has been nearly full for %lld ms",
			(long long)((now - m->lag_since_ns) / NS_PER_MS));
}

static void measure(struct worker *w)
{
	struct measured *m = &w->measured;
	struct usage_times times;
	if (!has_run_since(w, m->ran_second_ns))
		return;
	int fds = usage_fds(w->pid);
	if (usage_times(w->pid, &times) < 0)
		return;
	m->ran_second_ns = m->ran_ns;
	m->threads = times.threads;
	m->cpu_ns = times.cpu_ns;
	if (times.threads > threads_allowed(w))
		worker_fail(w, CAUSE_processes, "%" PRIu32 " threads, its budget is %" PRIu32, times.threads,
			threads_allowed(w));
	if (fds > 0 && (uint32_t)fds > w->budget->fds)
		worker_fail(w, CAUSE_fds, "%d open fds, its budget is %" PRIu32, fds, w->budget->fds);
}

static void enforce_second(struct worker *w, int64_t now)
{
	measure(w);
	enforce_cpu(w, now);
	enforce_lag(w, now);
	if (creep_note(&w->measured.creep, w->budget, w->measured.memory, now)) {
		w->measured.creep = (struct creep) { 0 };
		handover_begin(w, CAUSE_creep, "its memory only grows");
	}
	if (w->measured.life_ns && now - w->life.born_ns > w->measured.life_ns)
		handover_begin(w, CAUSE_lifetime, "its planned life is over");
}

/* The first in the order that the kernel would take, too (workers.def), among those above what they may keep now. */
static void sacrifice(struct supervisor *s, int64_t now)
{
	struct worker *first = NULL;
	if (s->pressure.level < BUDGET_SQUEEZE_MAX || now - s->pressure.sacrificed_ns < SACRIFICE_PAUSE_MS * NS_PER_MS)
		return;
	for (unsigned i = 0; i < s->workers_count; i++) {
		struct worker *w = &s->workers[i];
		if (worker_running(w) && !measure_memory(w) && w->measured.memory > limits_of(w).shed &&
			(!first || w->row->oom_score > first->row->oom_score))
			first = w;
	}
	if (!first)
		return;
	s->pressure.sacrificed_ns = now;
	worker_fail(first, CAUSE_pressure, "the machine is short of memory and it holds %" PRIu64 " KiB",
		first->measured.memory >> 10);
}

static void look_at_pressure(struct supervisor *s, int64_t now)
{
	struct pressure_reading reading;
	if (!s->config.pressure)
		return;
	s->pressure.known = !pressure_read(&reading);
	if (!s->pressure.known)
		return;
	if (pressure_note(&s->pressure, &reading, now)) {
		log_info("memory pressure: level %u of %d: budgets are %s", s->pressure.level, BUDGET_SQUEEZE_MAX,
			s->pressure.level ? "smaller" : "whole again");
		for (unsigned i = 0; i < s->workers_count; i++)
			priv_cgroup_limit_memory(&s->workers[i].leaf, limits_of(&s->workers[i]).kill);
	}
	sacrifice(s, now);
}

static bool can_be_measured(const struct worker *w)
{
	return life_has_process(&w->life) && w->life.state != LIFE_DEAD && w->life.state != LIFE_QUARANTINED;
}

/* One of us a second, whoever was not weighed for longest, and has run since. */
static void weigh_one(struct supervisor *s, int64_t now)
{
	struct weight *next = &s->weight;
	const struct worker *who = NULL; /* ourselves */
	for (unsigned i = 0; i < s->workers_count; i++) {
		struct worker *w = &s->workers[i];
		struct weight *its = &w->measured.weight;
		if (!can_be_measured(w) || its->weighed_ns >= next->weighed_ns || !has_run_since(w, its->ran_ns))
			continue;
		next = its;
		who = w;
	}
	if (next->weighed_ns && now - next->weighed_ns < WEIGHT_AGE_MS * NS_PER_MS)
		return;
	*next = (struct weight) { usage_pss(who ? who->pid : getpid()), now, who ? who->measured.ran_ns : 0 };
}

/* second: at all, else at memory only. */
static void look(struct supervisor *s, bool second)
{
	int64_t now = monotonic_ns();
	if (s->stopping)
		return;
	looked_ns = now;
	if (second) {
		look_at_pressure(s, now);
		weigh_one(s, now);
	}
	bool near = s->pressure.level, all_set = true; /* RLIMIT_DATA does not follow the pressure */
	for (unsigned i = 0; i < 2 * s->workers_count; i++) {
		struct worker *w = i < s->workers_count ? &s->workers[i] : &s->heirs[i - s->workers_count];
		if (!can_be_measured(w))
			continue;
		w->measured.ran_ns = ran(w);
		near |= enforce_memory(w, now);
		if (second && can_be_measured(w))
			enforce_second(w, now);
		all_set &= !can_be_measured(w) || set_alarm(w);
	}
	next_look_ns = INT64_MAX; /* it was this one, or is too soon now */
	look_by(s, now + (near ? FAST_MS : all_set ? REST_MS : SLOW_MS) * NS_PER_MS);
}

static void on_enforce(void *context)
{
	look(context, false);
}

void enforce_alarmed(struct supervisor *s)
{
	look_by(s, looked_ns + ALARM_PAUSE_MS * NS_PER_MS);
}

void enforce_tick(struct supervisor *s)
{
	look(s, true);
}
