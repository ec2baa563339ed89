/* Does nothing but system calls. Chains: main; call_getppid|call_read|call_pread; libc's wrapper; kernel. */
#include "workload.h"

#include <fcntl.h>
#include <unistd.h>

static NOINLINE long call_getppid(void)
{
	long sum = 0;
	for (int i = 0; i < 2000; i++)
		sum += getppid();
	return sum;
}

static NOINLINE long call_read(int fd)
{
	char bytes[512];
	long sum = 0;
	for (int i = 0; i < 2000; i++)
		sum += read(fd, bytes, sizeof bytes);
	return sum;
}

static NOINLINE long call_pread(int fd)
{
	char bytes[4096];
	long sum = 0;
	for (int i = 0; i < 2000; i++)
		sum += pread(fd, bytes, sizeof bytes, 0);
	return sum;
}

int main(int argc, char **argv)
{
	workload_begin(argc, argv);
	int zero = open("/dev/zero", O_RDONLY | O_CLOEXEC), own = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	if (zero < 0 || own < 0)
		abort();
	long sum = 0;
	while (!workload_done)
		sum += call_getppid() + call_read(zero) + call_pread(own);
	return sum == 0;
}
