/* The last of a worker. The kernel drops what is cached of /proc/WORKER when it is reaped, and spins as long as somebody else who
 * looked there is in the middle of the same: that held the loop up for 20 ms where the other one had to wait for a CPU (Linux
 * 6.18, shrink_dcache_parent). How a process ended is known without reaping it; the rest a thread does, which has nothing else. */
#include "supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static int order = -1; /* pidfds, one after the other, in a pipe */
static pthread_t thread;

static void reap(int pidfd)
{
	siginfo_t end;
	while (waitid(P_PIDFD, (id_t)pidfd, &end, WEXITED) && errno == EINTR)
		;
	close(pidfd);
}

/* No lock is ever held here that a child of the other thread could miss. */
static void *run(void *argument)
{
	int from = *(int *)argument, pidfd;
	sigset_t all;
	sigfillset(&all); /* it was born so, but if that was refused */
	pthread_sigmask(SIG_SETMASK, &all, NULL);
	prctl(PR_SET_NAME, "reaper");
	while (read(from, &pidfd, sizeof pidfd) == sizeof pidfd)
		reap(pidfd);
	close(from);
	return NULL;
}

void reap_start(void)
{
	static int ends[2];
	pthread_attr_t attr;
	sigset_t all, before;
	sigfillset(&all); /* signals are the loop's: one that came before the thread blocked it would be our end */
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int r = pipe2(ends, O_CLOEXEC) ? errno : 0;
	if (!r) {
		pthread_attr_init(&attr);
		pthread_attr_setstacksize(&attr, PTHREAD_STACK_MIN);
		r = pthread_create(&thread, &attr, run, &ends[0]);
		pthread_attr_destroy(&attr);
		if (r) {
			close(ends[0]);
			close(ends[1]);
		}
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (r) {
		log_warn("no thread that reaps, the loop does it: %s", strerror(r));
		return;
	}
	order = ends[1];
	(void)fcntl(order, F_SETFL, O_NONBLOCK);
}

void reap_later(int pidfd)
{
	if (order < 0 || write(order, &pidfd, sizeof pidfd) != sizeof pidfd)
		reap(pidfd);
}

void reap_end(void)
{
	if (order < 0)
		return;
	close(order);
	order = -1;
	pthread_join(thread, NULL);
}
