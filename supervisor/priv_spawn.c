#include "priv_spawn.h"

#include "common/clock.h"
#include "common/log.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	CHANNEL_FD = 3,
	/* Beyond the leash, which is SIGXCPU, it is SIGKILL. The kernel counts ticks, of 1 to 10 ms, and looks at the hard limit first: it
	 * has to be three of the longest further, or a worker's end has no cause. */
	RTTIME_HARD_MORE_US = 30000,
	NICE_LIMIT = 40, /* nice -20: where real-time priority is refused */
	MEMLOCK_BYTES = 1 << 20,
};

/* Steps between clone and exec, as exit codes; anything beyond is the worker's own. */
enum step {
	STEP_FIRST = 200,
	STEP_ORPHAN = STEP_FIRST,
	STEP_SIGNALS,
	STEP_NAMESPACES,
	STEP_FDS,
	STEP_LIMITS,
	STEP_EXEC,
	STEP_LAST = STEP_EXEC
};

static int self_pidfd = -1, null_fd = -1;
static bool networkless; /* we have no network ourselves, and our children have none from us */
static bool tried;       /* whether all namespaces are granted */
static unsigned refused; /* those that are not */

static const unsigned long clone_flags[NAMESPACE_COUNT] = {
	CLONE_NEWNS,
	CLONE_NEWPID,
	CLONE_NEWNET,
	CLONE_NEWIPC,
	CLONE_NEWUTS,
	CLONE_NEWCGROUP,
};

const char *spawn_step_failed(int exit_code)
{
	static const char *const words[] = {
		"the supervisor died meanwhile",
		"its signals could not be unblocked",
		"its namespaces could not be made",
		"its fds could not be set up",
		"its limits could not be set",
		"its executable could not be run",
	};
	return exit_code >= STEP_FIRST && exit_code <= STEP_LAST ? words[exit_code - STEP_FIRST] : NULL;
}

/* We need no network either: local sockets with a path, and those that are open already (notify.c), know no such namespaces. One for
 * each worker took the kernel 0.5 ms at its birth and as much at its end, and a birth waits for the ends that are under way. */
static void leave_network(struct namespace_id *ret)
{
	struct namespace_id left;
	*ret = (struct namespace_id) { 0 };
	if (namespace_of("self", "net", &left) < 0 || unshare(CLONE_NEWNET))
		return; /* find_refused() says so, should it be refused to workers, too */
	networkless = true;
	*ret = left;
}

int priv_spawn_init(struct namespace_id *ret_network)
{
	leave_network(ret_network);
	self_pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);
	if (self_pidfd < 0)
		return -errno;
	null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	return null_fd < 0 ? -errno : 0;
}

static unsigned long flags_of(unsigned namespaces)
{
	unsigned long flags = 0;
	for (int i = 0; i < NAMESPACE_COUNT; i++)
		if (namespaces & 1U << i)
			flags |= clone_flags[i];
	return flags;
}

/* Like fork: the child runs on a copy of our memory, where only system calls may be made. */
static pid_t clone_process(unsigned long flags, int cgroup, int *ret_pidfd)
{
	int pidfd = -1;
	struct clone_args args = {
		.flags = flags | CLONE_PIDFD | (cgroup >= 0 ? CLONE_INTO_CGROUP : 0), /* Linux 5.7 */
		.pidfd = (uint64_t)(uintptr_t)&pidfd,
		.exit_signal = SIGCHLD,
		.cgroup = cgroup >= 0 ? (uint64_t)cgroup : 0,
	};
	long pid = syscall(SYS_clone3, &args, sizeof args);
	/* Container runtimes hide clone3 because its flags are behind a pointer. */
	if (pid < 0 && errno == ENOSYS)
		pid = syscall(SYS_clone, flags | CLONE_PIDFD | SIGCHLD, 0UL, &pidfd, 0UL, 0UL);
	if (pid > 0) {
		fcntl(pidfd, F_SETFD, FD_CLOEXEC);
		*ret_pidfd = pidfd;
	}
	return (pid_t)pid;
}

/* As much of a limit as we may give: without CAP_SYS_RESOURCE a hard limit cannot be raised, and a tighter one is no
 * harm. */
static int limit(int resource, rlim_t soft, rlim_t hard)
{
	struct rlimit now, want = { soft, hard };
	if (!setrlimit(resource, &want))
		return 0;
	if (errno != EPERM || getrlimit(resource, &now))
		return -1;
	want.rlim_max = now.rlim_max;
	want.rlim_cur = soft < now.rlim_max ? soft : now.rlim_max;
	return setrlimit(resource, &want);
}

static int set_limits(const struct spawn *what)
{
	rlim_t leash_us = (rlim_t)(what->leash_ns / NS_PER_US);
	if (limit(RLIMIT_CORE, 0, 0) || limit(RLIMIT_MSGQUEUE, 0, 0) ||
		limit(RLIMIT_MEMLOCK, MEMLOCK_BYTES, MEMLOCK_BYTES) ||
		limit(RLIMIT_NOFILE, what->nofile, what->nofile) || limit(RLIMIT_NPROC, what->threads, what->threads) ||
		limit(RLIMIT_FSIZE, what->fsize, what->fsize))
		return -1;
	if (what->realtime ? limit(RLIMIT_RTPRIO, 1, 1) || limit(RLIMIT_NICE, NICE_LIMIT, NICE_LIMIT) ||
				     limit(RLIMIT_RTTIME, leash_us, leash_us + RTTIME_HARD_MORE_US)
			   : limit(RLIMIT_RTPRIO, 0, 0))
		return -1;
	if (what->data && limit(RLIMIT_DATA, what->data, what->data))
		return -1;
	return what->address_space ? limit(RLIMIT_AS, what->address_space, what->address_space) : 0;
}

static int set_fds(int channel)
{
	/* Our own fds are above 2, the channel may be 3 already: then dup3 refuses and the flag has to go. */
#ifdef BULKHEAD_SANITIZE
	const int last_null = 1; /* reports go to standard error */
#else
	const int last_null = 2;
#endif
	for (int fd = 0; fd <= last_null; fd++)
		if (dup3(null_fd, fd, 0) < 0)
			return -1;
	if (channel == CHANNEL_FD ? fcntl(channel, F_SETFD, 0) : dup3(channel, CHANNEL_FD, 0) < 0)
		return -1;
	/* Everything is close-on-exec from birth; this is the belt (kernel 5.9). */
	return syscall(SYS_close_range, CHANNEL_FD + 1U, ~0U, 0U) && errno != ENOSYS ? -1 : 0;
}

static int reset_signals(void)
{
	struct sigaction plain = { .sa_handler = SIG_DFL };
	sigset_t none;
	for (int number = 1; number < NSIG; number++)
		sigaction(number, &plain, NULL);
	sigemptyset(&none);
	return sigprocmask(SIG_SETMASK, &none, NULL);
}

static void volunteer_for_oom(const char *score, size_t n)
{
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	(void)!write(fd, score, n);
	close(fd);
}

/* A PID namespace begins with its first process. */
static unsigned long at_birth(unsigned namespaces)
{
	return flags_of(namespaces & NAMESPACE_PID);
}

/* The others are the child's own work, not a turn of our loop. Its mount namespace it makes when it empties its root: one that is left
 * for another is waited for. */
static unsigned long by_itself(unsigned namespaces)
{
	return flags_of(namespaces & ~(unsigned)(NAMESPACE_PID | NAMESPACE_MNT | (networkless ? NAMESPACE_NET : 0)));
}

struct birth {
	unsigned namespaces;
	int nice;
	const char *score; /* oom_score_adj */
	char *const *argv;
};

__attribute__((noreturn)) static void child(const struct spawn *what, const struct birth *birth)
{
	char *const environment[] = { NULL };
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* It may have died before the line above. In a new PID namespace getppid() says nothing. */
	struct pollfd supervisor = { .fd = self_pidfd, .events = POLLIN };
	if (poll(&supervisor, 1, 0))
		_exit(STEP_ORPHAN);
	if (reset_signals())
		_exit(STEP_SIGNALS);
	/* As urgent as we are until it is locked down, when it leaves our session: a restart does not wait for the busy. It was born without
	 * our nice value (priv_self_nice). */
	if (birth->nice < 0)
		(void)setpriority(PRIO_PROCESS, 0, birth->nice);
	if (by_itself(birth->namespaces) && unshare((int)by_itself(birth->namespaces)))
		_exit(STEP_NAMESPACES);
	umask(077);
	volunteer_for_oom(birth->score, strlen(birth->score));
	if (set_fds(what->channel))
		_exit(STEP_FDS);
	if (set_limits(what))
		_exit(STEP_LIMITS);
	execve(what->path, birth->argv, environment);
	_exit(STEP_EXEC);
}

/* 0, or why the kernel refuses these namespaces. */
static int try_namespaces(unsigned namespaces)
{
	int pidfd = -1;
	siginfo_t end;
	pid_t pid = clone_process(flags_of(namespaces), -1, &pidfd);
	if (!pid)
		_exit(0);
	if (pid < 0)
		return -errno;
	while (waitid(P_PIDFD, (id_t)pidfd, &end, WEXITED) && errno == EINTR)
		;
	close(pidfd);
	return 0;
}

/* Once: all of them together, and if that is refused each alone. */
static void find_refused(unsigned namespaces)
{
	int r;
	if (tried)
		return;
	tried = true;
	if (!try_namespaces(namespaces))
		return;
	for (int i = 0; i < NAMESPACE_COUNT; i++) {
		if (!(namespaces & 1U << i) || !(r = try_namespaces(1U << i)))
			continue;
		log_warn("workers get no %s namespace of their own: %s", namespace_names[i], strerror(-r));
		refused |= 1U << i;
	}
}

int priv_spawn(const struct spawn *what, struct spawned *ret)
{
	char uid[16], name[32], score[8];
	snprintf(uid, sizeof uid, "%u", what->uid);
	snprintf(name, sizeof name, "%s", what->name);
	snprintf(score, sizeof score, "%d", what->oom_score);
	char realtime[] = "realtime";
	char *argv[] = { name, uid, what->realtime ? realtime : NULL, NULL };
	int pidfd = -1;
	if (what->namespaces)
		find_refused(what->namespaces);
	const struct birth birth = { what->namespaces & ~refused, getpriority(PRIO_PROCESS, 0), score, argv };
	pid_t pid = clone_process(at_birth(birth.namespaces), what->cgroup, &pidfd);
	int error = errno;
	if (!pid)
		child(what, &birth);
	if (pid < 0)
		return -error;
	*ret = (struct spawned) { pid, pidfd, birth.namespaces };
	return 0;
}

void priv_spawn_hasten(pid_t pid)
{
	char path[32], nice[16];
	int own = getpriority(PRIO_PROCESS, 0);
	if (own >= 0 || getsid(pid) != pid)
		return; /* it has not left our session, or a shell's */
	snprintf(path, sizeof path, "/proc/%d/autogroup", pid);
	snprintf(nice, sizeof nice, "%d", own);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	(void)!write(fd, nice, strlen(nice));
	close(fd);
}
