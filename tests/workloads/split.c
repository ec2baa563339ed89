/* A known split of CPU time: 70 % in seventy(), 20 % in twenty(), 10 % in ten(), by the thread's own CPU clock, in
 * rounds of about 50 ms. The length of a round varies, so that no sampling frequency keeps step with it. What one
 * function overruns is taken from the next one's slice: the errors cancel. Chain: main; seventy|twenty|ten;
 * spin|clock_gettime. */
#include "workload.h"

static int64_t cpu_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static NOINLINE void spin(void)
{
	SPIN(20000);
}

static NOINLINE void seventy(int64_t until)
{
	while (cpu_ns() < until)
		spin();
}

static NOINLINE void twenty(int64_t until)
{
	while (cpu_ns() < until)
		spin();
}

static NOINLINE void ten(int64_t until)
{
	while (cpu_ns() < until)
		spin();
}

int main(int argc, char **argv)
{
	workload_begin(argc, argv);
	uint32_t random = 12345;
	int64_t at = cpu_ns();
	while (!workload_done) {
		random = random * 1664525 + 1013904223;
		int64_t tenth = 3500000 + (random >> 8) % 3000000;
		seventy(at + 7 * tenth);
		twenty(at + 9 * tenth);
		ten(at + 10 * tenth);
		at += 10 * tenth;
	}
	return 0;
}
