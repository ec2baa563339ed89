/* Names that try to break whoever prints them: the main thread and a second one name themselves with a separator of the
 * folded format, a newline, terminal escapes and bytes that are not UTF-8. The tests also give the file such a name,
 * and patch the symbol hostile_symbol_000000. Chains: main; hostile_symbol_000000. Thread start; second;
 * hostile_symbol_000000. */
#include "workload.h"

#include <pthread.h>
#include <sys/prctl.h>

NOINLINE void hostile_symbol_000000(void);

NOINLINE void hostile_symbol_000000(void)
{
	SPIN(100000);
}

static NOINLINE void *second(void *unused)
{
	prctl(PR_SET_NAME, "two;\n\x1b]0;x\a\xc3(");
	while (!workload_done)
		hostile_symbol_000000();
	return unused;
}

int main(int argc, char **argv)
{
	workload_begin(argc, argv);
	prctl(PR_SET_NAME, "a;b\nc 7\n\x1b[31m\xff");
	pthread_t thread;
	if (pthread_create(&thread, NULL, second, NULL))
		abort();
	while (!workload_done)
		hostile_symbol_000000();
	pthread_join(thread, NULL);
	return 0;
}
