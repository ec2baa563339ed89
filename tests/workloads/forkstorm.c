/* Starts argv[2] (default 167) short-lived processes a second, 10,000 a minute, each a fork and an exec of argv[3]
 * (default true). Processes that cannot be started in time are made up for. Chains in the parent: main; start_one;
 * fork. In the child: its own. */
#include "workload.h"

#include <errno.h>
#include <sys/wait.h>
#include <unistd.h>

static NOINLINE void start_one(const char *program)
{
	pid_t pid = fork();
	if (pid < 0)
		abort();
	if (!pid) {
		execlp(program, program, "0", (char *)NULL);
		_exit(127);
	}
	int status;
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (!WIFEXITED(status) || WEXITSTATUS(status) == 127)
		abort();
	STAYS_ON_THE_STACK();
}

int main(int argc, char **argv)
{
	workload_begin(argc, argv);
	long rate = argc > 2 ? atol(argv[2]) : 167;
	struct timespec next;
	clock_gettime(CLOCK_MONOTONIC, &next);
	while (!workload_done) {
		start_one(argc > 3 ? argv[3] : "true");
		next.tv_nsec += 1000000000 / rate;
		if (next.tv_nsec >= 1000000000) {
			next.tv_sec++;
			next.tv_nsec -= 1000000000;
		}
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
	}
	return 0;
}
