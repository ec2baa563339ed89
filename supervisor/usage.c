#include "usage.h"

#include "verify.h"

#include "common/clock.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PROC_FILE_MAX_BYTES = 2048 /* of stat, statm and smaps_rollup: all below 1 KiB */ };

int usage_fds(pid_t pid)
{
	char path[32];
	struct stat st;
	snprintf(path, sizeof path, "/proc/%d/fd", pid);
	if (stat(path, &st))
		return -errno;
	if (st.st_size > 0)
		return (int)st.st_size; /* Linux 6.2: the size is the count */
	DIR *dir = opendir(path);
	if (!dir)
		return -errno;
	int count = 0;
	for (struct dirent *e; (e = readdir(dir));)
		count += e->d_name[0] != '.';
	closedir(dir);
	return count;
}

static int read_file(pid_t pid, const char *name, char text[PROC_FILE_MAX_BYTES])
{
	char path[40];
	snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
	return read_small_file(path, text, PROC_FILE_MAX_BYTES);
}

int usage_clock(pid_t pid, clockid_t *ret)
{
	return -clock_getcpuclockid(pid, ret);
}

int usage_times(pid_t pid, struct usage_times *ret)
{
	char text[PROC_FILE_MAX_BYTES];
	uint64_t user, system, threads;
	int r = read_file(pid, "stat", text);
	if (r < 0)
		return r;
	const char *p = strrchr(text, ')'); /* the name in front of it may hold anything */
	if (!p ||
		sscanf(p + 1,
			" %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %" SCNu64 " %" SCNu64 " %*d %*d %*d %*d %" SCNu64,
			&user, &system, &threads) != 3)
		return -EBADMSG;
	*ret = (struct usage_times) { .cpu_ns =
					      (int64_t)((user + system) * (NS_PER_S / (uint64_t)sysconf(_SC_CLK_TCK))),
		.threads = (uint32_t)threads };
	return 0;
}

int usage_open_memory(pid_t pid)
{
	char path[32];
	snprintf(path, sizeof path, "/proc/%d/statm", pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int usage_memory(int fd, uint64_t *ret)
{
	char text[PROC_FILE_MAX_BYTES];
	uint64_t resident, shared;
	ssize_t n = pread(fd, text, sizeof text - 1, 0);
	if (n < 0)
		return -errno;
	text[n] = 0;
	if (sscanf(text, "%*u %" SCNu64 " %" SCNu64, &resident, &shared) != 2 || shared > resident)
		return -EBADMSG;
	*ret = (resident - shared) * (uint64_t)sysconf(_SC_PAGESIZE);
	return 0;
}

uint64_t usage_pss(pid_t pid)
{
	char text[PROC_FILE_MAX_BYTES];
	uint64_t kib;
	const char *pss = read_file(pid, "smaps_rollup", text) < 0 ? NULL : strstr(text, "\nPss:");
	return pss && sscanf(pss, " Pss: %" SCNu64, &kib) == 1 ? kib << 10 : 0;
}

void usage_read(pid_t pid, struct usage *ret)
{
	char text[PROC_FILE_MAX_BYTES];
	struct usage u = { 0 };
	uint64_t pages;
	if (read_file(pid, "statm", text) >= 0 && sscanf(text, "%*u %" SCNu64, &pages) == 1)
		u.rss_bytes = pages * (uint64_t)sysconf(_SC_PAGESIZE);
	struct usage_times times;
	if (!usage_times(pid, &times))
		u.cpu_ns = (uint64_t)times.cpu_ns;
	int fds = usage_fds(pid);
	u.fds = fds > 0 ? (uint32_t)fds : 0;
	*ret = u;
}
