/* bulkheadd: wiring. Options, signals and exit codes are in options.c (--help). */
#include "supervisor.h"

#include "priv_spawn.h"

#include "common/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct supervisor the_supervisor;

/* fds 0 to 2 are open, so that nothing of ours becomes one of them. */
static int fill_standard_fds(void)
{
	int fd;
	do
		fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	while (fd >= 0 && fd <= 2);
	if (fd < 0)
		return -errno;
	close(fd);
	return 0;
}

/* A build tree has the workers beside us. */
static void find_workers(struct supervisor *s)
{
	static char beside[PATH_MAX];
	char probe[PATH_MAX + 32];
	if (s->libexec)
		return;
	s->libexec = BULKHEAD_LIBEXECDIR;
	ssize_t n = readlink("/proc/self/exe", beside, sizeof beside - 1);
	if (n <= 0)
		return;
	beside[n] = 0;
	*strrchr(beside, '/') = 0;
	snprintf(probe, sizeof probe, "%s/bulkhead-native", beside);
	if (!access(probe, X_OK))
		s->libexec = beside;
}

static int find_group(struct supervisor *s)
{
	s->status_gid = (gid_t)-1;
	if (!s->config.status_group)
		return 0;
	const struct group *group = getgrnam(s->config.status_group);
	if (!group) {
		log_error("there is no group '%s' (status_group in section [supervisor])", s->config.status_group);
		return -ENOENT;
	}
	s->status_gid = group->gr_gid;
	return 0;
}

static int count_cpus(struct supervisor *s)
{
	struct cpu_set_bits possible;
	int r = cpulist_read("/sys/devices/system/cpu/possible", &possible);
	if (r < 0) {
		log_error("/sys/devices/system/cpu/possible: %s", strerror(-r));
		return r;
	}
	s->lane_cpus = cpulist_limit(&possible);
	return s->lane_cpus ? 0 : -ENODEV;
}

/* One perf event per CPU and what is lent: as many as we may. */
static void raise_fd_limit(void)
{
	struct rlimit limit;
	if (getrlimit(RLIMIT_NOFILE, &limit))
		return;
	limit.rlim_cur = limit.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &limit);
}

static void stop_now(struct supervisor *s)
{
	for (unsigned i = 0; i < s->workers_count; i++) {
		worker_event(&s->workers[i], LIFE_FAIL, CAUSE_operator);
		worker_event(&s->heirs[i], LIFE_FAIL, CAUSE_operator);
	}
	loop_stop();
}

static void on_stop_time(void *context)
{
	stop_now(context);
}

void supervisor_stop(struct supervisor *s, int exit_code)
{
	if (s->stopping)
		return;
	s->stopping = true;
	s->exit_code = exit_code;
	s->snapshots.stage = SNAPSHOT_OVER;
	timer_clear(&s->snapshots.timer);
	timer_clear(&s->snapshots.closing_timer);
	for (unsigned i = 0; i < s->workers_count; i++) {
		worker_event(&s->workers[i], LIFE_STOP, CAUSE_operator);
		worker_event(&s->heirs[i], LIFE_STOP, CAUSE_operator);
	}
	timer_set(&s->stop_timer, STOP_MS * NS_PER_MS, on_stop_time, s);
	if (workers_ended(s))
		loop_stop();
}

static void on_signal(void *context, int number)
{
	struct supervisor *s = context;
	if (number == SIGALRM) {
		enforce_alarmed(s);
		return;
	}
	if (number == SIGHUP) {
		log_info("SIGHUP is ignored: restart the service for a new configuration; profiles are new files "
			 "anyway");
		return;
	}
	if (s->stopping || s->snapshots.last) {
		log_warn("a second signal: exiting at once");
		s->exit_code = EXIT_RUNTIME;
		stop_now(s);
		return;
	}
	log_at(s->record.on ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO, "finishing the running snapshot");
	snapshot_stop(s);
}

static void on_owner_gone(void *context, short what)
{
	struct supervisor *s = context;
	(void)what;
	watch_clear(&s->owner_gone);
	watch_clear(&s->ready_gone);
	log_warn("nobody waits for this recording any more");
	supervisor_stop(s, EXIT_RUNTIME);
}

static void on_tick(void *context)
{
	struct supervisor *s = context;
	timer_set(&s->tick, TICK_MS * NS_PER_MS, on_tick, s);
	if (s->stopping)
		return;
	priv_perf_hotplug(s);
	broker_tick();
	enforce_tick(s);
	(void)notify_watchdog();
}

static void on_reconcile(void *context)
{
	struct supervisor *s = context;
	timer_set(&s->reconcile, RECONCILE_MS * NS_PER_MS, on_reconcile, s);
	reconcile_workers(s);
}

static int watch_owner(struct supervisor *s)
{
	if (!s->record.on)
		return 0;
	if (!s->record.owner)
		s->record.owner = getppid();
	s->record.owner_pidfd = (int)syscall(SYS_pidfd_open, s->record.owner, 0);
	if (s->record.owner_pidfd < 0) {
		log_error("the process that wants this recording (%d): %s", s->record.owner, strerror(errno));
		return -errno;
	}
	watch_set(&s->owner_gone, s->record.owner_pidfd, EV_READ, on_owner_gone, s);
	struct stat st;
	/* Of the writing end of a pipe only the hangup is ever "read". */
	if (s->record.ready_fd >= 0 && !fstat(s->record.ready_fd, &st) && S_ISFIFO(st.st_mode))
		watch_set(&s->ready_gone, s->record.ready_fd, EV_READ, on_owner_gone, s);
	return 0;
}

static int prepare(struct supervisor *s)
{
	log_process("bulkheadd");
	log_set_level(s->config.log_level);
	signal(SIGPIPE, SIG_IGN);
	notify_init();
	raise_fd_limit();
	find_workers(s);
	int r = find_group(s);
	r = r ? r : count_cpus(s);
	r = r ? r : loop_init();
	r = r ? r : runtime_open(s);
	if (!r && !s->record.on)
		r = output_open(&s->snapshots.directory, &s->config);
	if (!r && !s->record.on)
		priv_cgroup_open(s->config.cgroup);
	return r ? r : priv_spawn_init(&s->network);
}

static int give_up_privilege(void)
{
	priv_self_oom();
	priv_self_nice();
	int r = priv_self_capabilities();
#ifndef BULKHEAD_SANITIZE                         /* the leak checker looks at itself in /proc */
	(void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); /* no other process of root's reads our memory by accident */
#endif
	return r ? r : priv_self_filter();
}

static int watch_signals(struct supervisor *s)
{
	static const int numbers[] = { SIGTERM, SIGINT, SIGHUP, SIGALRM, 0 };
	int r = loop_signals(numbers, on_signal, s);
	if (r < 0)
		log_error("signals cannot be waited for: %s", strerror(-r));
	return r;
}

static void start(struct supervisor *s)
{
	timer_set(&s->tick, TICK_MS * NS_PER_MS, on_tick, s);
	timer_set(&s->reconcile, RECONCILE_MS * NS_PER_MS, on_reconcile, s);
	broker_init(s);
	workers_init(s);
	remember_load(s);
	workers_start(s);
}

static void finish(struct supervisor *s)
{
	notify_say("STOPPING=1");
	reap_end();
	if (s->snapshots.outputs_begun && s->snapshots.directory)
		output_abandon(s->snapshots.directory, &s->snapshots.outputs);
	status_close(s);
	priv_perf_close(s);
	priv_cgroup_close();
	if (s->snapshots.directory)
		output_close(s->snapshots.directory);
	runtime_close(s);
	loop_free();
	ledger_free(&s->ledger);
	config_free(&s->config);
}

static int exit_code_of(int error)
{
	return error == -EPERM || error == -EACCES ? EXIT_PERMISSION : EXIT_RUNTIME;
}

int main(int argc, char **argv)
{
	struct supervisor *s = &the_supervisor;
	s->runtime_fd = s->lock_fd = -1;
	s->started_ns = monotonic_ns();
	if (fill_standard_fds() < 0)
		return EXIT_RUNTIME;
	int code = options_parse(s, argc, argv);
	if (code >= 0)
		return code;
	int r = prepare(s);
	r = r ? r : give_up_privilege();
	if (!r)
		reap_start(); /* whatever it does to the mask of signals, the next step sets that */
	r = r ? r : watch_signals(s);
	r = r ? r : watch_owner(s);
	r = r ? r : status_open(s);
	if (!r) {
		start(s);
		r = loop_run();
	}
	finish(s);
	return r < 0 ? exit_code_of(r) : s->exit_code;
}
