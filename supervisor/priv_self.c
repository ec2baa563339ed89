/* What the supervisor gives up of its own: capabilities that it has no use for, and system calls. Both lists say why.
 */
#include "supervisor.h"

#include "common/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <sched.h>
#include <seccomp.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef CAP_PERFMON
#define CAP_PERFMON 38 /* Linux 5.8 */
#endif
#ifndef CAP_CHECKPOINT_RESTORE
#define CAP_CHECKPOINT_RESTORE 40 /* Linux 5.9 */
#endif

static const struct {
	cap_value_t value;
	const char *words;
} kept[] = {
	{ CAP_SYS_ADMIN, "namespaces of the workers, and the mounts by which they empty their root" },
	{ CAP_PERFMON, "perf events of the whole machine" },
	{ CAP_IPC_LOCK, "the perf rings, beyond perf_event_mlock_kb" },
	{ CAP_SYS_PTRACE, "/proc/WORKER/{ns,root,fd}: the sandbox check; and passed on to the opener" },
	{ CAP_DAC_READ_SEARCH, "likewise" },
	{ CAP_CHECKPOINT_RESTORE, "only passed on to the opener: /proc/PID/map_files" },
	{ CAP_SYSLOG, "only passed on to the opener: /proc/kallsyms" },
	{ CAP_SETUID, "used by the workers, once, to become their user" },
	{ CAP_SETGID, "likewise" },
	{ CAP_SETPCAP, "used by the workers, once, to empty their bounding set" },
	{ CAP_SYS_CHROOT, "used by the workers, once, to leave our root" },
	{ CAP_SYS_NICE, "our own nice value; used by the workers, once, for real-time priority where its limit cannot "
			"be raised" },
	{ CAP_SYS_RESOURCE, "raises the limit of real-time priority for the workers" },
	{ CAP_KILL, "SIGKILL to workers, which have another user" },
	{ CAP_CHOWN, "gives the status socket to its group" },
	{ CAP_DAC_OVERRIDE, "writes profiles into a directory that belongs to another user" },
	{ CAP_FOWNER, "changes the mode of the status socket after it was given away" },
};

enum { KEPT = sizeof kept / sizeof *kept };

static bool is_kept(cap_value_t value)
{
	for (unsigned i = 0; i < KEPT; i++)
		if (kept[i].value == value)
			return true;
	return false;
}

static int drop_bounding_set(void)
{
	for (cap_value_t value = 0; prctl(PR_CAPBSET_READ, value, 0, 0, 0) >= 0; value++)
		if (!is_kept(value) && prctl(PR_CAPBSET_DROP, value, 0, 0, 0))
			return -errno;
	return 0;
}

/* What we have of the list, in the permitted and the effective set. A supervisor that is not root also makes it
 * inheritable: its children have it from there. */
static int set_capabilities(void)
{
	bool root = !geteuid();
	cap_t now = cap_get_proc(), next = cap_init();
	int r = now && next ? 0 : -ENOMEM;
	for (unsigned i = 0; i < KEPT && !r; i++) {
		cap_flag_value_t has;
		if (cap_get_flag(now, kept[i].value, CAP_PERMITTED, &has) || has != CAP_SET)
			continue;
		cap_set_flag(next, CAP_PERMITTED, 1, &kept[i].value, CAP_SET);
		cap_set_flag(next, CAP_EFFECTIVE, 1, &kept[i].value, CAP_SET);
		if (!root)
			cap_set_flag(next, CAP_INHERITABLE, 1, &kept[i].value, CAP_SET);
	}
	if (!r && cap_set_proc(next))
		r = -errno;
	for (unsigned i = 0; i < KEPT && !r && !root; i++)
		(void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, kept[i].value, 0, 0);
	cap_free(now);
	cap_free(next);
	return r;
}

int priv_self_capabilities(void)
{
	int r = drop_bounding_set();
	if (r == -EPERM) {
		log_error("this user may not drop capabilities: bulkheadd needs root, or CAP_SETPCAP and those in its "
			  "manual page");
		return r;
	}
	if (!r)
		r = set_capabilities();
	if (!r && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		r = -errno;
	if (r < 0)
		log_error("capabilities: %s", strerror(-r));
	return r;
}

void priv_self_oom(void)
{
	static const char score[] = "-500"; /* after nearly everything else: whoever watches should be the last to go */
	cleanup_close int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, score, sizeof score - 1) < 0)
		log_debug("oom_score_adj: %s", strerror(errno));
}

enum { NICE = -20 };

/* Where the kernel shares the CPUs among sessions first (autogroup), a nice value counts only within one. Ours gets it, if it is ours
 * alone, as that of a service or a recording is: a shell's has its other programs in it. An operator's own choice stays. */
static void raise_session(void)
{
	static const char plain[] = " nice 0\n";
	char text[64] = "";
	if (getsid(0) != getpid())
		return;
	cleanup_close int fd = open("/proc/self/autogroup", O_RDWR | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
	size_t end = sizeof plain - 1;
	if (n < (ssize_t)end || strcmp(text + n - end, plain))
		return;
	int length = snprintf(text, sizeof text, "%d", NICE);
	if (write(fd, text, (size_t)length) < 0)
		log_debug("autogroup: %s", strerror(errno));
}

/* Whoever watches has to get to it while others are busy, and needs little. An operator's own choice stays; children begin anew.
 *
 * Not real-time priority: with it waitid() never came back. The kernel drops what is cached of /proc/WORKER there, and while
 * somebody else holds a part of that it tries again without sleeping; who held it waited for the same CPU (Linux 6.18,
 * shrink_dcache_parent). */
void priv_self_nice(void)
{
	struct sched_param plain = { 0 };
	if (getpriority(PRIO_PROCESS, 0) || sched_getscheduler(0) != SCHED_OTHER)
		return;
	if (sched_setscheduler(0, SCHED_OTHER | SCHED_RESET_ON_FORK, &plain) || setpriority(PRIO_PROCESS, 0, NICE))
		log_debug("nice value: %s", strerror(errno));
	raise_session();
}

/* The filter is inherited: it must also allow what a worker does until its own one is in place, and what that one
 * allows. What is in neither list gets ENOSYS, which a C library takes for an older kernel. */
static const int allowed[] = {
	/* fds */
	SCMP_SYS(read),
	SCMP_SYS(write),
	SCMP_SYS(pread64),
	SCMP_SYS(pwrite64),
	SCMP_SYS(readv),
	SCMP_SYS(writev),
	SCMP_SYS(lseek),
	SCMP_SYS(close),
	SCMP_SYS(close_range),
	SCMP_SYS(dup),
	SCMP_SYS(dup2),
	SCMP_SYS(dup3),
	SCMP_SYS(fcntl),
	SCMP_SYS(ioctl),
	SCMP_SYS(poll),
	SCMP_SYS(ppoll),
	SCMP_SYS(epoll_create1),
	SCMP_SYS(epoll_ctl),
	SCMP_SYS(epoll_wait),
	SCMP_SYS(epoll_pwait),
	SCMP_SYS(epoll_pwait2),
	SCMP_SYS(eventfd2),
	SCMP_SYS(timerfd_create),
	SCMP_SYS(timerfd_settime),
	SCMP_SYS(pipe2),
	SCMP_SYS(memfd_create),
	SCMP_SYS(ftruncate),
	SCMP_SYS(fsync),
	SCMP_SYS(fdatasync),
	SCMP_SYS(flock),
	SCMP_SYS(fallocate),
	SCMP_SYS(copy_file_range),
	SCMP_SYS(sendfile),
	/* files: configuration, profiles, /proc/WORKER */
	SCMP_SYS(open),
	SCMP_SYS(openat),
	SCMP_SYS(openat2),
	SCMP_SYS(stat),
	SCMP_SYS(lstat),
	SCMP_SYS(fstat),
	SCMP_SYS(newfstatat),
	SCMP_SYS(statx),
	SCMP_SYS(fstatfs),
	SCMP_SYS(statfs),
	SCMP_SYS(access),
	SCMP_SYS(faccessat),
	SCMP_SYS(faccessat2),
	SCMP_SYS(readlink),
	SCMP_SYS(readlinkat),
	SCMP_SYS(getdents64),
	SCMP_SYS(getcwd),
	SCMP_SYS(chdir),
	SCMP_SYS(mkdir),
	SCMP_SYS(mkdirat),
	SCMP_SYS(unlink),
	SCMP_SYS(unlinkat),
	SCMP_SYS(rename),
	SCMP_SYS(renameat),
	SCMP_SYS(renameat2),
	SCMP_SYS(link),
	SCMP_SYS(linkat),
	SCMP_SYS(symlink),
	SCMP_SYS(symlinkat),
	SCMP_SYS(rmdir),
	SCMP_SYS(fchmod),
	SCMP_SYS(fchmodat),
	SCMP_SYS(chmod),
	SCMP_SYS(fchown),
	SCMP_SYS(fchownat),
	SCMP_SYS(umask),
	SCMP_SYS(utimensat),
	/* sockets of the local machine: see conditions() for socket() itself */
	SCMP_SYS(bind),
	SCMP_SYS(listen),
	SCMP_SYS(accept4),
	SCMP_SYS(connect),
	SCMP_SYS(sendmsg),
	SCMP_SYS(recvmsg),
	SCMP_SYS(sendto),
	SCMP_SYS(recvfrom),
	SCMP_SYS(getsockopt),
	SCMP_SYS(setsockopt),
	SCMP_SYS(getsockname),
	SCMP_SYS(getpeername),
	SCMP_SYS(shutdown),
	/* memory */
	SCMP_SYS(mmap),
	SCMP_SYS(munmap),
	SCMP_SYS(mremap),
	SCMP_SYS(mprotect),
	SCMP_SYS(madvise),
	SCMP_SYS(brk),
	SCMP_SYS(msync),
	SCMP_SYS(mlock),
	SCMP_SYS(munlock),
	/* processes */
	SCMP_SYS(clone),
	SCMP_SYS(clone3),
	SCMP_SYS(execve),
	SCMP_SYS(exit),
	SCMP_SYS(exit_group),
	SCMP_SYS(waitid),
	SCMP_SYS(pidfd_open),
	SCMP_SYS(pidfd_send_signal),
	SCMP_SYS(getpid),
	SCMP_SYS(getppid),
	SCMP_SYS(gettid),
	SCMP_SYS(getpgrp),
	SCMP_SYS(getpgid),
	SCMP_SYS(getsid),
	SCMP_SYS(setsid),
	SCMP_SYS(setpgid),
	SCMP_SYS(tgkill),
	SCMP_SYS(getrusage),
	SCMP_SYS(times),
	SCMP_SYS(prlimit64),
	SCMP_SYS(getrlimit),
	SCMP_SYS(setrlimit),
	SCMP_SYS(arch_prctl),
	SCMP_SYS(set_tid_address),
	SCMP_SYS(set_robust_list),
	SCMP_SYS(rseq),
	SCMP_SYS(futex),
	SCMP_SYS(membarrier),
	SCMP_SYS(personality), /* the loader of sanitizer builds looks at it */
	/* signals */
	SCMP_SYS(rt_sigaction),
	SCMP_SYS(rt_sigprocmask),
	SCMP_SYS(rt_sigreturn),
	SCMP_SYS(rt_sigpending),
	SCMP_SYS(rt_sigtimedwait),
	SCMP_SYS(sigaltstack),
	SCMP_SYS(signalfd4),
	SCMP_SYS(restart_syscall),
	/* time, randomness, names */
	SCMP_SYS(clock_gettime),
	SCMP_SYS(clock_getres),
	SCMP_SYS(timer_create),
	SCMP_SYS(timer_settime),
	SCMP_SYS(timer_delete),
	SCMP_SYS(clock_nanosleep),
	SCMP_SYS(nanosleep),
	SCMP_SYS(gettimeofday),
	SCMP_SYS(time),
	SCMP_SYS(getrandom),
	SCMP_SYS(uname),
	SCMP_SYS(sysinfo),
	SCMP_SYS(getcpu),
	/* scheduling: the workers' readers */
	SCMP_SYS(sched_getaffinity),
	SCMP_SYS(sched_setaffinity),
	SCMP_SYS(sched_setscheduler),
	SCMP_SYS(sched_getscheduler),
	SCMP_SYS(sched_getparam),
	SCMP_SYS(sched_setparam),
	SCMP_SYS(sched_get_priority_max),
	SCMP_SYS(sched_yield),
	SCMP_SYS(setpriority),
	SCMP_SYS(getpriority),
	/* who we are */
	SCMP_SYS(getuid),
	SCMP_SYS(geteuid),
	SCMP_SYS(getgid),
	SCMP_SYS(getegid),
	SCMP_SYS(getgroups),
	SCMP_SYS(getresuid),
	SCMP_SYS(getresgid),
	SCMP_SYS(capget),
};

#ifdef BULKHEAD_SANITIZE
/* The leak checker stops its own process from a thread of its own. */
static const int sanitizer_calls[] = {
	SCMP_SYS(ptrace),
	SCMP_SYS(wait4),
	SCMP_SYS(getdents),
	SCMP_SYS(kill),
	SCMP_SYS(tkill),
};
#endif

/* A call that would be of use to whoever took us over, and why it is needed all the same. */
static const struct {
	int call;
	const char *words;
} dangerous[] = {
	{ SCMP_SYS(perf_event_open), "the samples" },
	{ SCMP_SYS(mount), "workers empty their root" },
	{ SCMP_SYS(umount2), "likewise" },
	{ SCMP_SYS(pivot_root), "likewise" },
	{ SCMP_SYS(chroot), "likewise, where pivot_root is refused" },
	{ SCMP_SYS(unshare), "workers leave our namespaces, and prove that they cannot any more" },
	{ SCMP_SYS(setuid), "workers prove that they cannot become root again" },
	{ SCMP_SYS(setgid), "likewise" },
	{ SCMP_SYS(setresuid), "workers become their user" },
	{ SCMP_SYS(setresgid), "likewise" },
	{ SCMP_SYS(setgroups), "workers leave all groups" },
	{ SCMP_SYS(capset), "workers and the opener drop capabilities" },
	{ SCMP_SYS(prctl), "likewise; no_new_privs; the parent-death signal" },
	{ SCMP_SYS(seccomp), "their own filters, on top of this one" },
	{ SCMP_SYS(landlock_create_ruleset), "their own rules" },
	{ SCMP_SYS(landlock_add_rule), "likewise" },
	{ SCMP_SYS(landlock_restrict_self), "likewise" },
};

/* None of us ever has a reason: whoever calls one of these is not us any more. */
static const int deadly[] = {
	SCMP_SYS(process_vm_readv), SCMP_SYS(process_vm_writev), SCMP_SYS(kexec_load), SCMP_SYS(kexec_file_load),
	SCMP_SYS(init_module), SCMP_SYS(finit_module), SCMP_SYS(delete_module), SCMP_SYS(bpf), SCMP_SYS(userfaultfd),
	SCMP_SYS(open_by_handle_at), SCMP_SYS(setns), SCMP_SYS(reboot), SCMP_SYS(swapon), SCMP_SYS(swapoff),
	SCMP_SYS(add_key), SCMP_SYS(request_key), SCMP_SYS(keyctl), SCMP_SYS(io_uring_setup), SCMP_SYS(io_uring_enter),
	SCMP_SYS(io_uring_register), SCMP_SYS(acct), SCMP_SYS(settimeofday), SCMP_SYS(clock_settime),
	SCMP_SYS(adjtimex), SCMP_SYS(clock_adjtime), SCMP_SYS(sethostname), SCMP_SYS(setdomainname), SCMP_SYS(mknod),
	SCMP_SYS(mknodat), SCMP_SYS(iopl), SCMP_SYS(ioperm), SCMP_SYS(quotactl), SCMP_SYS(pidfd_getfd), SCMP_SYS(kcmp),
	SCMP_SYS(move_mount), SCMP_SYS(open_tree), SCMP_SYS(fsopen), SCMP_SYS(fsmount), SCMP_SYS(fsconfig),
#ifndef BULKHEAD_SANITIZE
	SCMP_SYS(ptrace), SCMP_SYS(kill), SCMP_SYS(tkill), /* signals go by pidfd; tgkill is for abort() */
#endif
};

static int add_rules(scmp_filter_ctx filter)
{
	int r = 0;
	for (unsigned i = 0; i < sizeof allowed / sizeof *allowed && !r; i++)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, allowed[i], 0);
	for (unsigned i = 0; i < sizeof dangerous / sizeof *dangerous && !r; i++)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, dangerous[i].call, 0);
#ifdef BULKHEAD_SANITIZE
	for (unsigned i = 0; i < sizeof sanitizer_calls / sizeof *sanitizer_calls && !r; i++)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, sanitizer_calls[i], 0);
#endif
	for (unsigned i = 0; i < sizeof deadly / sizeof *deadly && !r; i++)
		r = seccomp_rule_add(filter, SCMP_ACT_KILL_PROCESS, deadly[i], 0);
	if (!r)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(socket), 1, SCMP_A0(SCMP_CMP_EQ, AF_UNIX, 0));
	if (!r)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(socketpair), 1, SCMP_A0(SCMP_CMP_EQ, AF_UNIX, 0));
	return r;
}

int priv_self_filter(void)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(ENOSYS));
	int r = filter ? 0 : -ENOMEM;
	if (!r)
		r = seccomp_attr_set(
			filter, SCMP_FLTATR_CTL_OPTIMIZE, 2); /* a binary tree: the workers go through it too */
	if (!r)
		r = add_rules(filter);
	if (!r)
		r = seccomp_load(filter);
	seccomp_release(filter);
	malloc_trim(0); /* building it took more than all else will */
	if (r < 0)
		log_error("system call filter: %s", strerror(-r));
	return r;
}
