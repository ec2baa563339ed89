/* What all C workloads share: they run for argv[1] seconds (default 1), print nothing, and exit with 0.
 * The time limit is a flag set by a timer, so the hot loops make no calls that are not in the expected chain. */
#ifndef WORKLOAD_H
#define WORKLOAD_H

#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NOINLINE __attribute__((noinline, noclone))
/* Behind a call: keeps it from becoming a tail call, which would take the caller out of the chain. */
#define STAYS_ON_THE_STACK() __asm__ volatile("" ::: "memory")

static volatile sig_atomic_t workload_done;

static void workload_end(int signal)
{
	(void)signal;
	workload_done = 1;
}

/* Calls `handler` on `signal` once after first_ns, then every again_ns (0: never). Plain C++ too. */
static inline void workload_timer(int signal, void (*handler)(int), int flags, int64_t first_ns, int64_t again_ns)
{
	struct sigaction action;
	struct sigevent event;
	struct itimerspec when;
	timer_t timer;
	memset(&action, 0, sizeof action);
	memset(&event, 0, sizeof event);
	action.sa_handler = handler;
	action.sa_flags = SA_RESTART | flags;
	event.sigev_notify = SIGEV_SIGNAL;
	event.sigev_signo = signal;
	when.it_value.tv_sec = first_ns / 1000000000;
	when.it_value.tv_nsec = first_ns % 1000000000;
	when.it_interval.tv_sec = again_ns / 1000000000;
	when.it_interval.tv_nsec = again_ns % 1000000000;
	if (sigaction(signal, &action, NULL) || timer_create(CLOCK_MONOTONIC, &event, &timer) ||
		timer_settime(timer, 0, &when, NULL))
		abort();
}

/* Sets workload_done after argv[1] seconds. */
static inline void workload_begin(int argc, char **argv)
{
	double seconds = argc > 1 ? atof(argv[1]) : 1;
	workload_timer(SIGRTMIN, workload_end, 0, (int64_t)(seconds * 1e9) + 1, 0);
}

/* About a nanosecond a step, and the compiler can neither remove nor shorten it. */
#define SPIN(steps)                                                                                                    \
	do {                                                                                                           \
		for (uint64_t spin_ = 0; spin_ < (steps); spin_++)                                                     \
			__asm__ volatile("" : "+r"(spin_));                                                            \
	} while (0)

#endif
