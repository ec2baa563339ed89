/* Signal handlers that spin: SIGALRM on the interrupted stack, SIGUSR1 on an alternate one; each may interrupt the
 * other. Chain: main; interrupted, then (signal frame; on_alarm|on_alternate; handler_work) up to twice. */
#include "workload.h"

enum { ALTERNATE_SIZE = 64 << 10 };

static NOINLINE void handler_work(void)
{
	SPIN(5000000);
}

static NOINLINE void on_alarm(int signal)
{
	(void)signal;
	handler_work();
	STAYS_ON_THE_STACK();
}

static NOINLINE void on_alternate(int signal)
{
	(void)signal;
	handler_work();
	STAYS_ON_THE_STACK();
}

static NOINLINE void interrupted(void)
{
	SPIN(100000);
}

int main(int argc, char **argv)
{
	workload_begin(argc, argv);
	stack_t stack = { .ss_sp = malloc(ALTERNATE_SIZE), .ss_size = ALTERNATE_SIZE };
	if (!stack.ss_sp || sigaltstack(&stack, NULL))
		abort();
	workload_timer(SIGALRM, on_alarm, 0, 7000000, 7000000);
	workload_timer(SIGUSR1, on_alternate, SA_ONSTACK, 11000000, 11000000);
	while (!workload_done)
		interrupted();
	return 0;
}
