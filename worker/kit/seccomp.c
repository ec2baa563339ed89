/* The filter of the workers: a list of what they do, all else kills the process (SIGSYS, which the supervisor reports
 * as the cause). Policy as data: a call, a condition on one argument, a reason where one is owed. */
#include "kit/kit.h"
#include "kit/lockdown.h"
#include "kit/window.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>

enum when { ALWAYS, IF_REALTIME, IF_WRITES };

struct allowed {
	int call;
	enum when when;
};

static const struct allowed allowed[] = {
	/* lent fds */
	{ SCMP_SYS(read), ALWAYS },
	{ SCMP_SYS(write), ALWAYS }, /* eventfds, and lent outputs; nothing else is open */
	{ SCMP_SYS(pread64), ALWAYS },
	{ SCMP_SYS(pwrite64), IF_WRITES },
	{ SCMP_SYS(ftruncate), IF_WRITES },
	{ SCMP_SYS(fsync), IF_WRITES },
	{ SCMP_SYS(lseek), ALWAYS },
	{ SCMP_SYS(fstat), ALWAYS },
	{ SCMP_SYS(newfstatat), ALWAYS }, /* fstat of newer C libraries; the root is empty */
	{ SCMP_SYS(close), ALWAYS },
	{ SCMP_SYS(recvmsg), ALWAYS },
	{ SCMP_SYS(sendmsg), ALWAYS }, /* the channel; no other socket exists */
	{ SCMP_SYS(poll), ALWAYS },
	{ SCMP_SYS(ppoll), ALWAYS },
	{ SCMP_SYS(eventfd2), ALWAYS },
	/* memory; never executable, see below */
	{ SCMP_SYS(munmap), ALWAYS },
	{ SCMP_SYS(mremap), ALWAYS },
	{ SCMP_SYS(madvise), ALWAYS },
	{ SCMP_SYS(brk), ALWAYS },
	/* time, randomness, ending */
	{ SCMP_SYS(clock_gettime), ALWAYS },
	{ SCMP_SYS(clock_nanosleep), ALWAYS },
	{ SCMP_SYS(getrandom), ALWAYS }, /* malloc's tcache key */
	{ SCMP_SYS(exit), ALWAYS },
	{ SCMP_SYS(exit_group), ALWAYS },
	{ SCMP_SYS(rt_sigreturn), ALWAYS },
	{ SCMP_SYS(rt_sigprocmask), ALWAYS },
	{ SCMP_SYS(restart_syscall), ALWAYS },
	{ SCMP_SYS(getpid), ALWAYS },
	{ SCMP_SYS(gettid), ALWAYS },
	{ SCMP_SYS(futex), ALWAYS },
	{ SCMP_SYS(sysinfo), ALWAYS }, /* the C library's qsort asks how much memory there is */
	/* threads and their priority */
	{ SCMP_SYS(rseq), IF_REALTIME },
	{ SCMP_SYS(set_robust_list), IF_REALTIME },
	{ SCMP_SYS(rt_sigaction), IF_REALTIME },
	{ SCMP_SYS(tgkill), IF_REALTIME }, /* to wake the sampler's own threads: it sees no other process */
	{ SCMP_SYS(sched_getaffinity), IF_REALTIME },
	{ SCMP_SYS(sched_setaffinity), IF_REALTIME }, /* pinning: the frozen read */
	{ SCMP_SYS(getcpu), IF_REALTIME },
};

#ifdef BULKHEAD_SANITIZE
/* What the sanitizers' run-time calls; the filter of a sanitizer build is for testing the rest of it. */
static const int sanitizer_calls[] = {
	SCMP_SYS(sigaltstack),
	SCMP_SYS(sched_getaffinity),
	SCMP_SYS(prlimit64),
	SCMP_SYS(getrlimit),
	SCMP_SYS(prctl),
	SCMP_SYS(sched_yield),
	SCMP_SYS(rt_sigaction),
	SCMP_SYS(getppid),
	SCMP_SYS(ioctl),
	SCMP_SYS(writev),
	SCMP_SYS(tgkill),
};
static const int sanitizer_refused[] = { SCMP_SYS(openat), SCMP_SYS(open), SCMP_SYS(readlink), SCMP_SYS(readlinkat),
	SCMP_SYS(access), SCMP_SYS(stat) };
#endif

static bool applies(enum when when, unsigned needs)
{
	return when == ALWAYS || (when == IF_REALTIME && needs & KIT_REALTIME) ||
	       (when == IF_WRITES && needs & KIT_WRITES);
}

static int conditions(scmp_filter_ctx filter, unsigned needs)
{
	const struct scmp_arg_cmp not_executable = SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0);
	int r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1, not_executable);
	r = r ? r : seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1, not_executable);
	static const unsigned commands[] = { F_GETFD, F_GETFL, F_SETFL, F_GET_SEALS };
	for (size_t i = 0; i < sizeof commands / sizeof *commands && !r; i++)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(fcntl), 1, SCMP_A1(SCMP_CMP_EQ, commands[i], 0));
	if (r || !(needs & KIT_REALTIME))
		return r;
	const unsigned long thread = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD;
	r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1, SCMP_A0(SCMP_CMP_MASKED_EQ, thread, thread));
	/* Its flags are behind a pointer; with ENOSYS the C library falls back to clone. */
	r = r ? r : seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
	r = r ? r
	      : seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1,
			SCMP_A1(SCMP_CMP_MASKED_EQ, 0xffffffffU, (unsigned)WINDOW_PROCMAP_QUERY));
	r = r == -EEXIST ? 0 : r; /* sanitizer builds allow more of it already */
	return r ? r
		 : seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(prctl), 1, SCMP_A0(SCMP_CMP_EQ, PR_SET_NAME, 0));
}

const char *lockdown_seccomp(unsigned needs)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
	if (!filter) {
		errno = ENOMEM;
		return "seccomp";
	}
	int r = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
	r = r ? r : seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
	for (size_t i = 0; i < sizeof allowed / sizeof *allowed && !r; i++)
		if (applies(allowed[i].when, needs))
			r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, allowed[i].call, 0);
#ifdef BULKHEAD_SANITIZE
	for (size_t i = 0; i < sizeof sanitizer_calls / sizeof *sanitizer_calls && !r; i++) {
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, sanitizer_calls[i], 0);
		r = r == -EEXIST ? 0 : r;
	}
	for (size_t i = 0; i < sizeof sanitizer_refused / sizeof *sanitizer_refused && !r; i++)
		r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EACCES), sanitizer_refused[i], 0);
#endif
	r = r ? r : conditions(filter, needs);
	r = r ? r : seccomp_load(filter);
	seccomp_release(filter);
	errno = -r;
	return r ? "seccomp" : NULL;
}
