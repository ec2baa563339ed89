#include "opener/opener.h"

#include "common/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { PROC_TEXT_MAX = 4096 /* bytes of stat and status; status grows with CPUs and memory nodes */ };

int start_time_parse(const char *stat, uint64_t *ret)
{
	const char *p = strrchr(stat, ')'); /* the name before it may hold anything, also ") S 1 2" */
	if (!p)
		return -EBADMSG;
	for (int field = 2; field < 22; field++) {
		p = strchr(p + 1, ' ');
		if (!p)
			return -EBADMSG;
	}
	return sscanf(p, " %" SCNu64, ret) == 1 ? 0 : -EBADMSG;
}

/* The text behind "key" at the start of a line behind the first, which is the name that the target chose. */
static const char *line(const char *text, const char *key)
{
	size_t n = strlen(key);
	for (const char *p = strchr(text, '\n'); p; p = strchr(p + 1, '\n'))
		if (!strncmp(p + 1, key, n))
			return p + 1 + n;
	return NULL;
}

int ids_parse(const char *status, uint32_t *ret_uid, pid_t *ret_nspid)
{
	const char *uid = line(status, "Uid:"), *nspid = line(status, "NSpid:");
	uint32_t effective;
	if (!uid || sscanf(uid, " %*u %" SCNu32, &effective) != 1)
		return -EBADMSG;
	*ret_uid = effective;
	pid_t last = 0;
	for (int n = 0; nspid && *nspid != '\n' && sscanf(nspid, " %d%n", &last, &n) == 1 && n > 0;)
		nspid += n;
	if (last <= 0)
		return -EBADMSG;
	*ret_nspid = last;
	return 0;
}

int target_read(const struct target *t, const char *name, char *to, size_t size)
{
	cleanup_close int fd = openat(t->proc, name, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ssize_t n = read(fd, to, size - 1);
	if (n < 0)
		return -errno;
	to[n] = 0;
	return (int)n;
}

int target_ids(const struct target *t, uint32_t *ret_uid, pid_t *ret_nspid)
{
	char text[PROC_TEXT_MAX];
	int r = target_read(t, "status", text, sizeof text);
	return r < 0 ? r : ids_parse(text, ret_uid, ret_nspid);
}

bool target_alive(const struct target *t)
{
	struct pollfd end = { .fd = t->pidfd, .events = POLLIN };
	return poll(&end, 1, 0) == 0;
}

static int open_proc(struct target *t, uint64_t start_time)
{
	char path[32], text[PROC_TEXT_MAX];
	snprintf(path, sizeof path, "/proc/%d", t->pid);
	t->proc = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (t->proc < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	int r = target_read(t, "stat", text, sizeof text);
	r = r < 0 ? r : start_time_parse(text, &t->start_time);
	if (r < 0)
		return r;
	if (start_time && start_time != t->start_time)
		return -ESRCH;
	return target_alive(t) ? 0 : -ESRCH; /* the directory was its own, not a successor's */
}

int target_open(struct target *t, pid_t pid, uint64_t start_time)
{
	*t = (struct target) { .pid = pid, .pidfd = -1, .proc = -1 };
	/* Refuses threads: /proc/TID would work, but it is not what was permitted. */
	t->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (t->pidfd < 0)
		return errno == EINVAL || errno == ENOENT ? -ESRCH : -errno;
	int r = open_proc(t, start_time);
	if (r < 0)
		target_close(t);
	return r;
}

void target_close(struct target *t)
{
	if (t->proc >= 0)
		close(t->proc);
	if (t->pidfd >= 0)
		close(t->pidfd);
	t->proc = t->pidfd = -1;
}
