/* The opener's sandbox: a user of its own, the capabilities of opener_capabilities.h, and a filter that lets it look
 * and not touch. */
#include "opener/opener.h"

#include "opener_capabilities.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/securebits.h>
#include <seccomp.h>
#include <signal.h>
#include <sys/capability.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

static bool kernel_has(cap_value_t value)
{
	return prctl(PR_CAPBSET_READ, value, 0, 0, 0) >= 0;
}

static int drop_bounding_set(void)
{
	for (cap_value_t value = 0; kernel_has(value); value++)
		if (prctl(PR_CAPBSET_DROP, value, 0, 0, 0))
			return -1;
	return 0;
}

/* Those of the list that we have. Without all of them some files do not open, and say so. */
static int keep_listed(void)
{
	static const cap_value_t listed[] = {
#define VALUE(name, words) name,
		OPENER_CAPABILITIES(VALUE)
#undef VALUE
	};
	cap_t now = cap_get_proc(), next = cap_init();
	int r = now && next ? 0 : -1;
	for (size_t i = 0; i < sizeof listed / sizeof *listed && !r; i++) {
		cap_flag_value_t has;
		if (listed[i] == CAP_SYS_ADMIN && kernel_has(CAP_CHECKPOINT_RESTORE))
			continue;
		if (cap_get_flag(now, listed[i], CAP_PERMITTED, &has) || has != CAP_SET)
			continue;
		cap_set_flag(next, CAP_PERMITTED, 1, &listed[i], CAP_SET);
		cap_set_flag(next, CAP_EFFECTIVE, 1, &listed[i], CAP_SET);
	}
	if (!r)
		r = cap_set_proc(next);
	cap_free(now);
	cap_free(next);
	return r;
}

static const int allowed[] = {
	SCMP_SYS(read),
	SCMP_SYS(pread64),
	SCMP_SYS(lseek),
	SCMP_SYS(close),
	SCMP_SYS(fstat),
	SCMP_SYS(newfstatat),
	SCMP_SYS(statx), /* which device a detached mount is on */
	SCMP_SYS(readlinkat),
	SCMP_SYS(getdents64),
	SCMP_SYS(pidfd_open),
	SCMP_SYS(poll),
	SCMP_SYS(ppoll),
	SCMP_SYS(sendmsg),
	SCMP_SYS(recvmsg),
	SCMP_SYS(brk),
	SCMP_SYS(munmap),
	SCMP_SYS(mremap),
	SCMP_SYS(madvise),
	SCMP_SYS(getrandom),
	SCMP_SYS(clock_gettime),
	SCMP_SYS(futex),
	SCMP_SYS(rt_sigreturn),
	SCMP_SYS(rt_sigprocmask),
	SCMP_SYS(restart_syscall),
	SCMP_SYS(exit),
	SCMP_SYS(exit_group),
	SCMP_SYS(getpid),
	SCMP_SYS(gettid),
	SCMP_SYS(memfd_create),
	SCMP_SYS(write),   /* LEASE_ABOUT; nothing else is open for writing */
	SCMP_SYS(openat2), /* its flags are behind a pointer: what it opens, open_how() decides, and the user owns no
			      file */
#ifdef BULKHEAD_SANITIZE
	SCMP_SYS(sigaltstack),
	SCMP_SYS(sched_getaffinity),
	SCMP_SYS(prlimit64),
	SCMP_SYS(prctl),
	SCMP_SYS(sched_yield),
	SCMP_SYS(rt_sigaction),
	SCMP_SYS(getppid),
	SCMP_SYS(ioctl),
	SCMP_SYS(writev),
	SCMP_SYS(tgkill),
	SCMP_SYS(readlink),
	SCMP_SYS(clone),
	SCMP_SYS(getrlimit),
#endif
};

static int add_rules(scmp_filter_ctx filter)
{
	const struct scmp_arg_cmp not_executable = SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0);
	const struct scmp_arg_cmp only_reading = SCMP_A2(SCMP_CMP_MASKED_EQ, O_ACCMODE | O_CREAT | O_TRUNC, 0);
	static const unsigned commands[] = { F_GETFD, F_SETFD, F_GETFL, F_ADD_SEALS };
	int r = 0;
	for (size_t i = 0; i < sizeof allowed / sizeof *allowed && !r; i++)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, allowed[i], 0);
	for (size_t i = 0; i < sizeof commands / sizeof *commands && !r; i++)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(fcntl), 1, SCMP_A1(SCMP_CMP_EQ, commands[i], 0));
	r = r ? r : seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(openat), 1, only_reading);
	r = r ? r : seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1, not_executable);
	return r ? r : seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1, not_executable);
}

static int load_filter(void)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
	int r = filter ? 0 : -ENOMEM;
	if (!r)
		r = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
	r = r ? r : add_rules(filter);
	r = r ? r : seccomp_load(filter);
	seccomp_release(filter);
	errno = -r;
	return r;
}

const char *opener_lockdown(uid_t uid)
{
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return "no-new-privileges";
	if (drop_bounding_set())
		return "bounding set";
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0))
		return "ambient capabilities";
	if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0))
		return "keeping capabilities";
	if (setgroups(0, NULL) || setresgid(uid, uid, uid) || setresuid(uid, uid, uid))
		return "user id";
	if (keep_listed())
		return "capabilities";
	if (!setuid(0)) {
		errno = EPERM;
		return "proof: root came back";
	}
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0))
		return "not dumpable";
	/* Cleared by the change of user. A supervisor that died in between shows as the end of the channel. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0))
		return "parent-death signal";
	/* The supervisor's urgency was for getting here: its nice value, and the share of its session (autogroup). */
	if (setsid() < 0 || (getpriority(PRIO_PROCESS, 0) < 0 && setpriority(PRIO_PROCESS, 0, 0)))
		return "priority";
	return load_filter() ? "seccomp" : NULL;
}
