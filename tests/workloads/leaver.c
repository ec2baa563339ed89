/* Processes that leave while they are looked at: each lives for argv[2] ms (default 30), spins, maps and unmaps memory,
 * and ends without cleaning up; the parent keeps four of them going. Chain: main; one_life; brief_work. */
#include "workload.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static NOINLINE void brief_work(void)
{
	void *memory = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	SPIN(200000);
	munmap(memory, 1 << 20);
	STAYS_ON_THE_STACK();
}

static NOINLINE void one_life(double ms)
{
	struct timespec start, now;
	clock_gettime(CLOCK_MONOTONIC, &start);
	do {
		brief_work();
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while ((now.tv_sec - start.tv_sec) * 1e3 + (now.tv_nsec - start.tv_nsec) / 1e6 < ms);
	_exit(0);
}

int main(int argc, char **argv)
{
	workload_begin(argc, argv);
	double ms = argc > 2 ? atof(argv[2]) : 30;
	int alive = 0;
	while (!workload_done) {
		pid_t pid = fork();
		if (pid < 0)
			abort();
		if (!pid)
			one_life(ms);
		if (++alive < 4)
			continue;
		while (waitpid(-1, NULL, 0) < 0 && errno == EINTR)
			;
		alive--;
	}
	while (wait(NULL) > 0)
		;
	return 0;
}
