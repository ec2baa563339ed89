/* A target with pages of a file system that does not answer: fuse_target HOW FILE. Each prints "ready" once it spins.
 *
 *   honest  the file is mapped right above the memory that its stack is in, from the start on
 *   racer   its stack is anonymous memory until the line "now" comes on its standard input: then the file is put over all
 *           of it above the pages that are used. It never touches the file itself, and prints "mapped". With any other
 *           line that memory is anonymous again, and it prints "back"
 *   locker  at the line "now" a child of it hangs in a read of its memory, where the file is mapped, and then it maps
 *           something: its memory is locked, and all who want to read it wait. Another thread spins on
 *   code    the file is mapped readable and executable
 *
 * Chain: on_own_stack; spin_in_place, on a stack that main made. */
#include "../workloads/workload.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <ucontext.h>
#include <unistd.h>

enum { PAGE = 4096, STACK = 64 * PAGE, USED = 16 * PAGE /* below: the stack that is really used */ };

static const char *how;
static int file;
static char *stack;

static void say(const char *what)
{
	(void)!write(STDOUT_FILENO, what, strlen(what));
}

static void map_file(char *at, size_t n, int protection)
{
	if (mmap(at, n, protection, MAP_PRIVATE | MAP_FIXED, file, 0) == MAP_FAILED)
		_exit(3);
}

static void map_nothing(char *at, size_t n)
{
	if (mmap(at, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
		_exit(3);
}

/* The child hangs with the lock taken for reading, we wait for writing, and so does everybody behind us. */
static NOINLINE void lock_memory(void)
{
	char path[32];
	snprintf(path, sizeof path, "/proc/%d/mem", getpid());
	pid_t pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		int fd = open(path, O_RDONLY | O_CLOEXEC);
		_exit(pread(fd, path, 1, (off_t)(uintptr_t)(stack + STACK)) < 0);
	}
	usleep(300000);
	say("mapped\n");
	map_nothing(stack, PAGE);
}

static void *burn(void *unused)
{
	for (;;)
		SPIN(2000000);
	return unused;
}

static NOINLINE void spin_in_place(void)
{
	char line[16];
	struct pollfd told = { .fd = STDIN_FILENO, .events = POLLIN };
	say("ready\n");
	for (;;) {
		SPIN(2000000);
		if (poll(&told, 1, 0) <= 0 || read(STDIN_FILENO, line, sizeof line) <= 0)
			continue;
		if (!strcmp(how, "locker")) {
			lock_memory();
		} else if (!strncmp(line, "now", 3)) {
			map_file(stack + USED, STACK - USED, PROT_READ | PROT_WRITE);
			say("mapped\n");
		} else {
			map_nothing(stack + USED, STACK - USED);
			say("back\n");
		}
	}
}

/* Never returns: what it would return to may be pages of the file by then. */
static NOINLINE void on_own_stack(void)
{
	spin_in_place();
	STAYS_ON_THE_STACK();
}

int main(int argc, char **argv)
{
	ucontext_t here, there;
	if (argc < 3)
		return 2;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	how = argv[1];
	file = open(argv[2], O_RDONLY | O_CLOEXEC);
	stack = mmap(NULL, 2 * STACK, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (file < 0 || stack == MAP_FAILED || getcontext(&there))
		return 1;
	size_t used = !strcmp(how, "racer") ? USED : STACK;
	/* Never memory that may be read, which the file is then put over: that would be a race. */
	if (!strcmp(how, "honest") || !strcmp(how, "locker"))
		map_file(stack + STACK, STACK, PROT_READ | PROT_WRITE);
	else if (!strcmp(how, "code"))
		map_file(stack + STACK, STACK, PROT_READ | PROT_EXEC);
	if (mprotect(stack, STACK, PROT_READ | PROT_WRITE))
		return 1;
	memset(stack, 0, STACK);
	pthread_t thread;
	if (!strcmp(how, "locker") && pthread_create(&thread, NULL, burn, NULL))
		return 1;
	there.uc_stack.ss_sp = stack;
	there.uc_stack.ss_size = used;
	there.uc_link = &here;
	makecontext(&there, on_own_stack, 0);
	return swapcontext(&here, &there) ? 1 : 0;
}
