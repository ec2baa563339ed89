/* A target that is never the same for long. One source, several images: -DIMAGE=name gives the functions of each names of
 * their own, so that a frame of one image in a stack of another can be seen.
 *
 *	IMAGE exec SECONDS OTHER     burns 2 ms, then becomes OTHER, which becomes this one
 *	IMAGE reuse SECONDS OTHER    children of both images by turns, each for 15 ms, all with the same process id
 *	IMAGE leader SECONDS         its first thread ends, another runs on
 *	IMAGE remap SECONDS OTHER    maps OTHER's code and this one's at the same address by turns, while it burns in its own
 *	IMAGE storm SECONDS          forks and executes itself as fast as it can
 *	IMAGE burn MILLISECONDS
 *	IMAGE nothing */
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define JOIN2(a, b) a##_##b
#define JOIN(a, b) JOIN2(a, b)
#define NAMED(what) JOIN(IMAGE, what)

static volatile uint64_t sink;

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

__attribute__((noinline)) void NAMED(spin)(void)
{
	for (int i = 0; i < 20000; i++)
		sink += (uint64_t)i * sink + 1;
	__asm__ volatile("");
}

__attribute__((noinline)) void NAMED(burn)(double seconds)
{
	double end = now() + seconds;
	while (now() < end)
		NAMED(spin)();
	__asm__ volatile("");
}

static int exec_loop(const char *self, const char *end, const char *other)
{
	NAMED(burn)(0.002);
	if (now() > atof(end))
		return 0;
	execl(other, other, "exec_until", end, self, (char *)NULL);
	perror(other);
	return 1;
}

static int reuse(const char *self, double seconds, const char *other)
{
	/* Far from where the kernel is giving out ids now; whoever takes it in between makes us try again. */
	pid_t wanted = getpid() > 20000 ? getpid() - 15000 : getpid() + 15000;
	double end = now() + seconds;
	unsigned times = 0;
	while (now() < end) {
		struct clone_args args = {
			.exit_signal = SIGCHLD, .set_tid = (uint64_t)(uintptr_t)&wanted, .set_tid_size = 1
		};
		long pid = syscall(SYS_clone3, &args, sizeof args);
		if (pid < 0 && errno == EEXIST)
			continue;
		if (pid < 0) {
			perror("clone3");
			return 1;
		}
		if (!pid) {
			const char *image = times % 2 ? other : self;
			execl(image, image, "burn", "15", (char *)NULL);
			_exit(1);
		}
		while (waitpid((pid_t)pid, NULL, 0) < 0 && errno == EINTR)
			;
		times++;
	}
	printf("%u\n", times);
	return 0;
}

static void *run_on(void *seconds)
{
	NAMED(burn)(*(double *)seconds);
	_exit(0);
}

static int leader(double seconds)
{
	static double copy;
	pthread_t thread;
	copy = seconds;
	if (pthread_create(&thread, NULL, run_on, &copy))
		return 1;
	pthread_exit(NULL);
}

static int remap(const char *self, double seconds, const char *other)
{
	enum { BYTES = 1 << 16 };
	int fds[] = { open(self, O_RDONLY), open(other, O_RDONLY) };
	char *at = mmap(NULL, BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	double end = now() + seconds;
	if (fds[0] < 0 || fds[1] < 0 || at == MAP_FAILED)
		return 1;
	for (unsigned i = 0; now() < end; i++) {
		if (mmap(at, BYTES, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_FIXED, fds[i % 2], 0) == MAP_FAILED)
			return 1;
		if (i % 3 == 0)
			NAMED(spin)();
		if (i % 5 == 0)
			mmap(at, BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	}
	return 0;
}

static int storm(const char *self, double seconds)
{
	double end = now() + seconds;
	unsigned times = 0;
	while (now() < end) {
		pid_t pid = vfork();
		if (!pid) {
			execl(self, self, "nothing", (char *)NULL);
			_exit(1);
		}
		while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			;
		times += pid > 0;
	}
	printf("%u\n", times);
	return 0;
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "nothing", *other = argc > 3 ? argv[3] : "";
	double number = argc > 2 ? atof(argv[2]) : 0;
	char end[32];
	if (!strcmp(what, "exec_until"))
		return exec_loop(argv[0], argv[2], other);
	if (!strcmp(what, "exec")) {
		snprintf(end, sizeof end, "%.3f", now() + number);
		return exec_loop(argv[0], end, other);
	}
	if (!strcmp(what, "reuse"))
		return reuse(argv[0], number, other);
	if (!strcmp(what, "leader"))
		return leader(number);
	if (!strcmp(what, "remap"))
		return remap(argv[0], number, other);
	if (!strcmp(what, "storm"))
		return storm(argv[0], number);
	if (!strcmp(what, "burn"))
		NAMED(burn)(number / 1000);
	return 0;
}
