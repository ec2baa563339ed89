/* A post and the process that fills it: what life.c asks for, done. */
#include "supervisor.h"

#include "opener_capabilities.h"
#include "priv_spawn.h"

#include "common/clock.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	/* How a worker says why it ended: worker/kit/kit.h, enum KIT_EXIT_* */
	WORKER_EXIT_SANDBOX = 70,
	WORKER_EXIT_PROTOCOL = 71,
	WORKER_EXIT_MEMORY = 72,
	WORKER_EXIT_CPU = 73,
	WORKER_EXIT_OUTPUT = 74,
	HEIR_NUMBERS = 1 << 20,     /* added to an heir's incarnation, so that two leaves never have one name */
	CHANNEL_BUFFER = 208 << 10, /* net.core.wmem_max as the kernel ships it: 500 frames of an fd each */
};

static struct worker *worker_of(struct life *life)
{
	return (struct worker *)((char *)life - offsetof(struct worker, life));
}

/* One end each; ours takes no fds from workers that have none to give (a worker could flood us with them). */
static int make_channel(struct worker *w, int *ret_ours, int *ret_its)
{
	int pair[2], no = 0, size = CHANNEL_BUFFER;
	struct stat st;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair))
		return -errno;
	if (w->row->party != PARTY_OPENER)
		(void)setsockopt(pair[0], SOL_SOCKET, SO_PASSRIGHTS, &no, sizeof no);
	(void)setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
	if (fstat(pair[1], &st)) {
		int error = errno;
		close(pair[0]);
		close(pair[1]);
		return -error;
	}
	w->channel_inode = st.st_ino;
	*ret_ours = pair[0];
	*ret_its = pair[1];
	return 0;
}

/* RLIMIT_NPROC counts the threads of a user, and other supervisors' workers (a recording beside the service), predecessors that
 * are not gone yet and quarantined ones have the same. That a worker does not fork is its filter's business. */
enum { SAME_USER_MAX = 16 };

/* RLIMIT_DATA counts what is mapped, the budget what is in RAM: stacks of threads, the windows' rings, room in the heap. It is there
 * for the leak that is faster than any polling. */
enum { DATA_MORE = 32 << 20, DATA_MORE_PER_CPU = 6 << 20 };

uint32_t threads_allowed(const struct worker *w)
{
	return w->budget->processes + (w->row->needs & WORKER_REALTIME ? w->supervisor->lane_cpus : 0);
}

static bool is_wanted_in_real_time(const struct worker *w)
{
	return w->row->needs & WORKER_REALTIME && w->supervisor->config.realtime;
}

/* On a machine that is very slow an honest worker meets its leash over and over, and one that has lost its way does on any: it reads with
 * a plain priority then, until the operator restarts it or its planned life is over. Where that is so before profiling begins, samples carry
 * more of the stack (choose_samples); later, more of them are `moved`. The count is that of the post, for its heirs too. */
static void note_leash(const struct worker *w)
{
	struct worker *post = post_of(w);
	int64_t now = monotonic_ns();
	if (now - post->leashed_ns >= w->supervisor->config.backoff_forget_ns)
		post->leashed = 0;
	post->leashed_ns = now;
	if (post->leashed == LEASHED_MAX || ++post->leashed < LEASHED_MAX)
		return;
	log_warn("%s: its real-time leash of %lld ms ended it %d times in a row: it runs without that priority from "
		 "now on; raise realtime_leash in [worker %s]",
		w->row->name, (long long)(w->budget->realtime_leash_ns / NS_PER_MS), LEASHED_MAX, w->row->name);
}

static struct spawn plan(const struct worker *w, const char *path, const char *name, int channel)
{
	const struct worker_row *row = w->row;
	const struct budget *b = w->budget;
	uint32_t cpus = w->supervisor->lane_cpus;
	struct spawn what = {
		.path = path,
		.name = name,
		.uid = w->supervisor->config.uid_base + row->uid,
		.channel = channel,
		.namespaces = row->needs & WORKER_PRIVILEGED ? 0 : NAMESPACE_ALL,
		.realtime = is_wanted_in_real_time(w) && !w->plain,
		.leash_ns = b->realtime_leash_ns,
		.nofile = b->fds,
		.threads = (uint64_t)threads_allowed(w) * SAME_USER_MAX,
		.fsize = b->output,
		.address_space = (row->mib + (uint64_t)row->mib_per_cpu * cpus) << 20,
		.data = budget_memory(b, cpus, 0).kill + DATA_MORE +
			(row->needs & WORKER_REALTIME ? (uint64_t)DATA_MORE_PER_CPU * cpus : 0),
		.oom_score = row->oom_score,
		.cgroup = w->leaf.fd,
	};
#ifdef BULKHEAD_SANITIZE
	what.address_space = what.data = 0; /* the sanitizer's shadow is 16 TiB */
#endif
	return what;
}

static void forget_incarnation(struct worker *w)
{
	w->begun = false;
	w->seen = 0;
	memset(w->buckets, 0, sizeof w->buckets);
	w->sandbox = (struct sandbox) { 0 };
	w->realtime = w->pinned = false;
	w->latency_p50_us = w->latency_p99_us = w->still_p50_us = w->still_p99_us = w->reads_per_thousand = 0;
	w->requests_open = w->targets = 0;
	w->fd_difference = 0;
	w->leaf.fd = -1;
}

static void make_leaf(struct worker *w)
{
	uint32_t cpus = w->supervisor->lane_cpus;
	const struct cgroup_limits limits = {
		.memory = budget_memory(w->budget, cpus, w->supervisor->pressure.level).kill,
		.processes = threads_allowed(w),
		.cpu_percent = budget_cpu_percent(w->budget, cpus),
	};
	priv_cgroup_make(w->row->name, w->life.incarnation + (is_heir(w) ? HEIR_NUMBERS : 0), &limits, &w->leaf);
}

static void on_ended(void *context, short what);

static int spawn(struct life *life)
{
	struct worker *w = worker_of(life);
	char path[512], name[32];
	int ours = -1, its = -1;
	struct spawned process;
	snprintf(name, sizeof name, "bulkhead-%s", w->row->name);
	snprintf(path, sizeof path, "%s/%s", w->supervisor->libexec, name);
	forget_incarnation(w);
	int r = make_channel(w, &ours, &its);
	if (r < 0) {
		log_error("%s: cannot be started: %s", w->row->name, strerror(-r));
		return r;
	}
	make_leaf(w);
	w->plain = is_wanted_in_real_time(w) && post_of(w)->leashed == LEASHED_MAX;
	struct spawn order = plan(w, path, name, its);
	r = priv_spawn(&order, &process);
	close(its);
	if (r < 0) {
		close(ours);
		priv_cgroup_remove(&w->leaf);
		log_error("%s: cannot be started: %s", w->row->name, strerror(-r));
		return r;
	}
	w->pid = process.pid;
	w->pidfd = process.pidfd;
	w->namespaces = process.namespaces;
	ledger_add(&w->supervisor->ledger, w->owner, w->life.incarnation, LEDGER_PROCESS, w->pid, monotonic_ns());
	enforce_begin(w);
	watch_set(&w->ended, w->pidfd, EV_READ, on_ended, w);
	r = channel_init(&w->channel, ours, PARTY_SUPERVISOR, w->row->party);
	if (r < 0)
		close(ours); /* its end of file: the worker exits */
	else
		watch_set(&w->traffic, ours, EV_READ, dispatch_readable, w);
	log_debug("%s: started as process %d", w->row->name, w->pid);
	return 0;
}

static bool verify(struct life *life)
{
	struct worker *w = worker_of(life);
	struct sandbox_wanted wanted = {
		.pid = w->pid,
		.pidfd = w->pidfd,
		.uid = w->supervisor->config.uid_base + w->row->uid,
		.namespaces = w->namespaces,
		.network = w->supervisor->network,
		.channel_inode = w->channel_inode,
		.has_root = w->row->needs & WORKER_PRIVILEGED,
	};
	if (w->row->needs & WORKER_PRIVILEGED)
		wanted.capabilities = opener_capabilities();
#ifdef BULKHEAD_SANITIZE
	wanted.sanitizer = true;
#endif
	if (sandbox_verify(&wanted, &w->sandbox))
		return true;
	log_error("%s: its sandbox is not complete, so it gets no work: %s", w->row->name, w->sandbox.missing);
	return false;
}

static void begin(struct life *life)
{
	struct worker *w = worker_of(life);
	log_debug("%s: locked down, verified", w->row->name);
	if (is_heir(w)) {
		handover_standby(w);
		return;
	}
	if (w->row->party == PARTY_OPENER) {
		w->begun = true;
		broker_opener_ready(w->supervisor);
	}
	snapshot_worker_running(w);
	if (w->gone_ns)
		w->recovery_ns = monotonic_ns() - w->gone_ns;
	w->gone_ns = 0;
}

static void finish(struct life *life)
{
	struct worker *w = worker_of(life);
	(void)channel_send(&w->channel, MSG_STOP, -1);
}

static void terminate(struct life *life)
{
	struct worker *w = worker_of(life);
	if (syscall(SYS_pidfd_send_signal, w->pidfd, SIGTERM, NULL, 0) && errno != ESRCH)
		log_error("%s: SIGTERM: %s", w->row->name, strerror(errno));
}

static void kill_process(struct life *life)
{
	struct worker *w = worker_of(life);
	priv_cgroup_kill(&w->leaf);
	if (syscall(SYS_pidfd_send_signal, w->pidfd, SIGKILL, NULL, 0) && errno != ESRCH)
		log_error("%s: SIGKILL: %s", w->row->name, strerror(errno));
	priv_spawn_hasten(w->pid);
	blame_killed(w);
}

/* The post is empty of this process: no watch, no channel. */
static void leave_post(struct worker *w)
{
	watch_clear(&w->ended);
	watch_clear(&w->traffic);
	timer_clear(&w->eof);
	channel_close(&w->channel);
	enforce_end(w);
	w->begun = false;
	if (is_heir(w))
		return; /* nothing was lent to it yet */
	w->gone_ns = monotonic_ns();
	broker_worker_gone(w);
	snapshot_worker_gone(w);
	closing_worker_gone(w);
}

static void settle(struct life *life)
{
	struct worker *w = worker_of(life);
	leave_post(w);
	reap_later(w->pidfd);
	w->pidfd = -1;
	w->pid = 0;
	priv_cgroup_remove(&w->leaf);
	ledger_drop(&w->supervisor->ledger, w->owner);
}

/* A place is free: for the process that an empty post has been waiting with. */
static void fill_place(struct supervisor *s)
{
	for (unsigned i = 0; i < s->workers_count; i++) {
		if (s->workers[i].life.state != LIFE_QUARANTINED)
			continue;
		worker_event(&s->workers[i], LIFE_TIME, CAUSE_none);
		return;
	}
}

static void on_quarantined_ended(void *context, short what)
{
	struct quarantined *q = context;
	siginfo_t end = { 0 };
	(void)what;
	if (waitid(P_PIDFD, (id_t)q->pidfd, &end, WEXITED | WNOHANG | WNOWAIT) || !end.si_pid)
		return;
	log_info("%s: quarantined process %d has ended at last", q->row->name, q->pid);
	watch_clear(&q->ended);
	reap_later(q->pidfd);
	priv_cgroup_remove(&q->leaf);
	ledger_drop(&q->supervisor->ledger, WORKERS_MAX + q->index);
	blame_over(q);
	q->row = NULL;
	fill_place(q->supervisor);
	if (q->supervisor->stopping && workers_ended(q->supervisor))
		loop_stop();
}

static bool quarantine(struct life *life)
{
	struct worker *w = worker_of(life);
	struct supervisor *s = w->supervisor;
	for (unsigned i = 0; i < QUARANTINE_MAX; i++) {
		struct quarantined *q = &s->quarantine[i];
		if (q->row)
			continue;
		log_error("%s: process %d does not end: quarantined, a replacement starts", w->row->name, w->pid);
		leave_post(w);
		q->supervisor = s;
		q->index = i;
		q->row = w->row;
		q->pid = w->pid;
		q->pidfd = w->pidfd;
		q->since_ns = monotonic_ns();
		q->cause = life->sentence;
		watch_set(&q->ended, q->pidfd, EV_READ, on_quarantined_ended, q);
		q->leaf = w->leaf;
		w->leaf.fd = -1;
		blame(q, w);
		ledger_transfer(&s->ledger, w->owner, WORKERS_MAX + i);
		w->pid = 0;
		w->pidfd = -1;
		s->quarantined_ever++;
		return true;
	}
	log_error("%s: process %d does not end, and %d others before it did not: its post stays empty", w->row->name,
		w->pid, QUARANTINE_MAX);
	return false;
}

static uint32_t random_number(void)
{
	uint32_t number = 0;
	(void)!getrandom(&number, sizeof number, GRND_NONBLOCK);
	return number;
}

static int64_t spawn_wait(struct life *life)
{
	struct supervisor *s = worker_of(life)->supervisor;
	if (bucket_take(&s->spawns, s->config.spawn_rate, monotonic_ns()))
		return 0;
	return NS_PER_S / s->config.spawn_rate;
}

static const struct life_ops ops = {
	.spawn = spawn,
	.verify = verify,
	.begin = begin,
	.finish = finish,
	.terminate = terminate,
	.kill = kill_process,
	.settle = settle,
	.quarantine = quarantine,
	.spawn_wait = spawn_wait,
	.now = monotonic_ns,
	.random = random_number,
};

static enum cause cause_of_exit(int code)
{
	switch (code) {
	case WORKER_EXIT_SANDBOX:
		return CAUSE_sandbox;
	case WORKER_EXIT_PROTOCOL:
		return CAUSE_protocol;
	case WORKER_EXIT_MEMORY:
		return CAUSE_memory;
	case WORKER_EXIT_CPU:
		return CAUSE_cpu;
	case WORKER_EXIT_OUTPUT:
		return CAUSE_output;
	default:
		return spawn_step_failed(code) ? CAUSE_start : CAUSE_exit;
	}
}

static enum cause cause_of_signal(const struct worker *w, int number)
{
	if (number == SIGKILL && priv_cgroup_oom(&w->leaf))
		return CAUSE_memory;
	return number == SIGXCPU ? CAUSE_cpu : number == SIGXFSZ ? CAUSE_output : CAUSE_signal;
}

/* The kernel says the same of RLIMIT_CPU and of RLIMIT_RTTIME. */
static enum cause cause_of_end(const struct worker *w, const siginfo_t *end)
{
	enum cause cause =
		end->si_code == CLD_EXITED ? cause_of_exit(end->si_status) : cause_of_signal(w, end->si_status);
	bool leashed = is_wanted_in_real_time(w) && !w->plain;
	return cause == CAUSE_cpu && leashed && !enforce_cpu_spent(w) ? CAUSE_leash : cause;
}

/* A worker that dies for the same cause over and over says so now and then, and how often in between. */
static bool may_say(struct worker *w, enum cause cause)
{
	enum { LINES_A_MINUTE = 6 };
	if (!bucket_take(&w->end_lines[cause], 1, monotonic_ns() / (60 / LINES_A_MINUTE))) {
		w->end_lines_held++;
		return false;
	}
	if (w->end_lines_held)
		log_warn("%s: %llu more of its ends were not told of", w->row->name,
			(unsigned long long)w->end_lines_held);
	w->end_lines_held = 0;
	return true;
}

static void log_end(const struct worker *w, const siginfo_t *end, enum cause cause)
{
	enum log_level level = w->life.wanted && w->life.state != LIFE_DRAINING ? LOG_LEVEL_WARN : LOG_LEVEL_DEBUG;
	const char *step = end->si_code == CLD_EXITED ? spawn_step_failed(end->si_status) : NULL;
	if (w->life.sentence != CAUSE_none)
		level = LOG_LEVEL_DEBUG; /* that it is killed, and why, has been logged */
	if (step)
		log_at(level, "%s: could not be started: %s", w->row->name, step);
	else if (end->si_code == CLD_EXITED)
		log_at(level, "%s: exited with code %d%s%s", w->row->name, end->si_status,
			cause == CAUSE_exit ? "" : ": ", cause == CAUSE_exit ? "" : cause_words(cause));
	else if (end->si_status == SIGSYS)
		log_at(level, "%s: killed by signal %d: it made a system call that its filter forbids", w->row->name,
			end->si_status);
	else
		log_at(level, "%s: killed by signal %d (%s)", w->row->name, end->si_status, strsignal(end->si_status));
}

static void on_ended(void *context, short what)
{
	struct worker *w = context;
	siginfo_t end = { 0 };
	(void)what;
	dispatch_drain(w);
	if (waitid(P_PIDFD, (id_t)w->pidfd, &end, WEXITED | WNOHANG | WNOWAIT) || !end.si_pid)
		return;
	/* What looked like a sandbox with holes in it was a process on its way out: how it ended tells more. Our SIGKILL may
	 * have overtaken its filter's SIGSYS. */
	if (w->life.sentence == CAUSE_sandbox &&
		(end.si_code == CLD_EXITED || end.si_status != SIGKILL || w->sandbox.seccomp == SECCOMP_DEAD))
		w->life.sentence = CAUSE_none;
	enum cause cause = cause_of_end(w, &end);
	if (w->life.sentence != CAUSE_none || may_say(w, cause))
		log_end(w, &end, cause);
	if (w->life.sentence == CAUSE_none && cause == CAUSE_leash)
		note_leash(w);
	worker_event(w, LIFE_GONE, cause);
}

static void on_time(void *context)
{
	struct worker *w = context;
	if (w->life.state == LIFE_STARTING || w->life.state == LIFE_DRAINING)
		log_warn("%s: did not get past \"%s\" in time: killed", w->row->name, life_state_name(w->life.state));
	worker_event(w, LIFE_TIME, CAUSE_none);
}

/* A recording that cannot begin says so, instead of trying for ever as the service does. */
static void check_hopeless(struct worker *w)
{
	struct supervisor *s = w->supervisor;
	if (!s->record.on || s->stopping || s->snapshots.stage > SNAPSHOT_SETTLING || w->life.state != LIFE_BACKOFF ||
		worker_runtime(w) != RUNTIME_NONE || w->life.incarnation < START_FAILURES_MAX + w->leashed)
		return;
	log_error("%s: failed %u times (the last time: %s): giving up", w->row->name, w->life.incarnation,
		cause_words(w->life.cause));
	supervisor_stop(s, EXIT_RUNTIME);
}

static void keep_time(struct worker *w)
{
	if (w->life.due_ns)
		timer_set(&w->timer, w->life.due_ns - monotonic_ns(), on_time, w);
	else
		timer_clear(&w->timer);
}

void worker_event(struct worker *w, enum life_happening happening, enum cause cause)
{
	bool had = life_has_process(&w->life);
	life_event(&w->life, happening, cause);
	keep_time(w);
	if (had && !life_has_process(&w->life)) {
		remember_save(w->supervisor);
		handover_gone(w);
	}
	route_worker_changed(w);
	if (w->life.state == LIFE_BACKOFF)
		snapshot_worker_waits(w);
	if (w->life.state == LIFE_BACKOFF)
		closing_worker_waits(w);
	check_hopeless(w);
	if (w->supervisor->stopping && workers_ended(w->supervisor))
		loop_stop();
}

void worker_fail(struct worker *w, enum cause cause, const char *format, ...)
{
	char text[LOG_LINE_MAX];
	va_list args;
	if (!life_has_process(&w->life) || w->life.state == LIFE_DEAD || w->life.state == LIFE_QUARANTINED)
		return;
	va_start(args, format);
	vsnprintf(text, sizeof text, format, args);
	va_end(args);
	if (may_say(w, cause))
		log_error("%s: killed, cause %s: %s", w->row->name, cause_name(cause), text);
	worker_event(w, LIFE_FAIL, cause);
}

static void init_worker(struct supervisor *s, struct worker *w, const struct worker_row *row, unsigned index)
{
	w->supervisor = s;
	w->row = row;
	w->budget = config_budget(&s->config, row->name);
	w->index = index;
	w->pidfd = w->channel.fd = w->leaf.fd = -1;
	life_init(&w->life, &ops, &s->life_limits);
}

void workers_init(struct supervisor *s)
{
	const struct worker_row *rows = worker_rows(&s->workers_count);
	s->routes_fd = -1;
	s->life_limits =
		(struct life_limits) { s->config.backoff_max_ns / NS_PER_MS, s->config.backoff_forget_ns / NS_PER_MS };
	for (unsigned i = 0; i < s->workers_count; i++) {
		init_worker(s, &s->workers[i], &rows[i], i);
		init_worker(s, &s->heirs[i], &rows[i], i);
		s->workers[i].owner = i;
		s->heirs[i].owner = WORKERS_MAX + QUARANTINE_MAX + i;
		s->heirs[i].life.heir = true;
		s->lanes[i].memfd = s->lanes[i].doorbell = -1;
	}
}

bool is_heir(const struct worker *w)
{
	return w->life.heir;
}

struct worker *post_of(const struct worker *w)
{
	return &w->supervisor->workers[w->index];
}

struct worker *heir_of(struct worker *post)
{
	return &post->supervisor->heirs[post->index];
}

/* Everything of an incarnation moves; watches and timers cannot, they are set anew. */
void worker_succeed(struct worker *post, struct worker *heir)
{
	struct supervisor *s = post->supervisor;
	watch_clear(&heir->ended);
	watch_clear(&heir->traffic);
	timer_clear(&heir->eof);
	timer_clear(&heir->timer);
	forget_incarnation(post);
	post->pid = heir->pid;
	post->pidfd = heir->pidfd;
	post->channel = heir->channel;
	post->seen = heir->seen;
	post->channel_inode = heir->channel_inode;
	post->namespaces = heir->namespaces;
	post->sandbox = heir->sandbox;
	post->landlock_abi = heir->landlock_abi;
	post->realtime = heir->realtime;
	post->pinned = heir->pinned;
	post->plain = heir->plain;
	post->measured = heir->measured;
	heir->measured.memory_fd = -1;
	heir->measured.has_alarm = false;
	post->leaf = heir->leaf;
	heir->pid = 0;
	heir->pidfd = heir->channel.fd = heir->leaf.fd = -1;
	heir->channel = (struct channel) { .fd = -1 };
	ledger_transfer(&s->ledger, heir->owner, post->owner);
	watch_set(&post->ended, post->pidfd, EV_READ, on_ended, post);
	dispatch_watch(post, false);
	life_inherit(&post->life, &heir->life);
	keep_time(post);
}

void workers_start(struct supervisor *s)
{
	for (unsigned i = 0; i < s->workers_count; i++) {
		if (s->workers[i].life.state == LIFE_EMPTY)
			worker_event(&s->workers[i], LIFE_START, CAUSE_none);
		else /* remember.c has it wait */
			keep_time(&s->workers[i]);
	}
}

bool worker_running(const struct worker *w)
{
	return w->life.state == LIFE_RUNNING && w->begun;
}

struct worker *worker_of_party(struct supervisor *s, uint8_t party)
{
	for (unsigned i = 0; i < s->workers_count; i++)
		if (s->workers[i].row->party == party)
			return &s->workers[i];
	return NULL;
}

bool workers_ended(const struct supervisor *s)
{
	for (unsigned i = 0; i < s->workers_count; i++)
		if (life_has_process(&s->workers[i].life) || life_has_process(&s->heirs[i].life))
			return false;
	return true; /* what is quarantined cannot be waited for */
}

bool pid_is_ours(const struct supervisor *s, int64_t pid)
{
	if (pid == getpid() || (s->record.on && pid == s->record.owner))
		return true;
	for (unsigned i = 0; i < s->workers_count; i++)
		if (s->workers[i].pid == pid || s->heirs[i].pid == pid)
			return true;
	for (unsigned i = 0; i < QUARANTINE_MAX; i++)
		if (s->quarantine[i].row && s->quarantine[i].pid == pid)
			return true;
	return false;
}
