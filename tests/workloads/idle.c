/* Many live processes for the memory figures: argv[2] (default 50) children that each spin for a moment every 50 ms, in
 * different programs' worth of memory. Chain in each: main; nap; nap_work. */
#include "workload.h"

#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static NOINLINE void nap_work(void)
{
	SPIN(500000);
}

static NOINLINE void nap(void)
{
	nap_work();
	usleep(50000);
	STAYS_ON_THE_STACK();
}

int main(int argc, char **argv)
{
	workload_begin(argc, argv);
	int children = argc > 2 ? atoi(argv[2]) : 50;
	for (int i = 0; i < children; i++) {
		pid_t pid = fork();
		if (pid < 0)
			abort();
		if (!pid) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			workload_begin(argc, argv);
			while (!workload_done)
				nap();
			_exit(0);
		}
	}
	while (wait(NULL) > 0)
		;
	return 0;
}
