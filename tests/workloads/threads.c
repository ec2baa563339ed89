/* Two threads that live as long as the program, and one short-lived thread of a few milliseconds after the other.
 * Chains: thread start; long_lived; long_work. Thread start; short_lived; short_work. main; one_after_the_other;
 * pthread_*. */
#include "workload.h"

#include <pthread.h>

static NOINLINE void long_work(void)
{
	SPIN(50000);
}

static NOINLINE void short_work(void)
{
	SPIN(50000);
}

static NOINLINE void *long_lived(void *unused)
{
	while (!workload_done)
		long_work();
	return unused;
}

static NOINLINE void *short_lived(void *unused)
{
	for (int i = 0; i < 60 && !workload_done; i++)
		short_work();
	return unused;
}

static NOINLINE void one_after_the_other(void)
{
	while (!workload_done) {
		pthread_t thread;
		if (pthread_create(&thread, NULL, short_lived, NULL))
			abort();
		pthread_join(thread, NULL);
	}
}

int main(int argc, char **argv)
{
	workload_begin(argc, argv);
	pthread_t thread[2];
	for (int i = 0; i < 2; i++)
		if (pthread_create(&thread[i], NULL, long_lived, NULL))
			abort();
	one_after_the_other();
	for (int i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
	return 0;
}
