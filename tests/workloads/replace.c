/* Replaces its own binary while it runs: every 100 ms the file of its own path becomes, by rename, a copy of argv[2],
 * which is another program; with argv[2] "-" it is deleted at once. What runs stays the same image. Chain: main;
 * old_image; old_work. Run it from a directory of its own: it keeps nothing of its file. */
#include "workload.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

static NOINLINE void old_work(void)
{
	SPIN(1000000);
}

static NOINLINE void old_image(void)
{
	for (int i = 0; i < 100 && !workload_done; i++)
		old_work();
	STAYS_ON_THE_STACK();
}

static NOINLINE void replace_file(const char *own, const char *other)
{
	char fresh[PATH_MAX + 8], bytes[65536];
	snprintf(fresh, sizeof fresh, "%s.new", own);
	int from = open(other, O_RDONLY | O_CLOEXEC), to = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
	if (from < 0 || to < 0)
		abort();
	ssize_t n;
	while ((n = read(from, bytes, sizeof bytes)) > 0)
		if (write(to, bytes, (size_t)n) != n)
			abort();
	close(from);
	close(to);
	if (rename(fresh, own))
		abort();
	STAYS_ON_THE_STACK();
}

int main(int argc, char **argv)
{
	workload_begin(argc, argv);
	char own[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", own, sizeof own - 1);
	if (n < 0 || argc < 3)
		abort();
	own[n] = 0;
	if (!strcmp(argv[2], "-") && unlink(own))
		abort();
	while (!workload_done) {
		if (strcmp(argv[2], "-"))
			replace_file(own, argv[2]);
		old_image();
	}
	return 0;
}
