#include "record.h"

#include "common/cleanup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <unistd.h>

enum { STAT_BYTES = 256 /* of /proc/PID/stat: the parent stands behind at most 80 */ };

static bool followed(const struct family *f, pid_t pid)
{
	for (unsigned i = 0; i < f->count; i++)
		if (f->pids[i] == pid)
			return true;
	return false;
}

int family_add(struct family *f, pid_t pid)
{
	if (followed(f, pid))
		return 0;
	int fd = pidfd_open(pid, 0);
	if (fd < 0 && errno == EINVAL)
		ctl_error("-p %d: is a thread; give its process (Tgid in /proc/%d/status)", pid, pid);
	else if (fd < 0)
		ctl_error("-p %d: %s", pid, errno == ESRCH ? "there is no such process" : strerror(errno));
	if (fd < 0)
		return -errno;
	f->pidfds[f->named++] = fd;
	f->pids[f->count++] = pid;
	return 0;
}

pid_t family_parse_parent(const char *stat)
{
	const char *end = strrchr(stat, ')');
	char state;
	int parent;
	if (!end || sscanf(end, ") %c %d", &state, &parent) != 2)
		return -EINVAL;
	return parent;
}

static pid_t read_parent(int proc, const char *pid)
{
	char path[32], text[STAT_BYTES + 1];
	if ((size_t)snprintf(path, sizeof path, "%s/stat", pid) >= sizeof path)
		return -EINVAL;
	cleanup_close int fd = openat(proc, path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, STAT_BYTES);
	if (n <= 0)
		return -ESRCH;
	text[n] = 0;
	return family_parse_parent(text);
}

struct process {
	pid_t pid, parent;
};

/* All processes of this moment. */
static int read_processes(struct process **ret, size_t *ret_n)
{
	DIR *d = opendir("/proc");
	if (!d)
		return -errno;
	struct process *all = NULL;
	size_t n = 0, room = 0;
	int err = 0;
	for (struct dirent *e; (e = readdir(d));) {
		if (e->d_name[0] < '1' || e->d_name[0] > '9')
			continue;
		pid_t parent = read_parent(dirfd(d), e->d_name);
		if (parent < 0)
			continue;
		if (n == room) {
			room = room ? 2 * room : 256;
			struct process *more = reallocarray(all, room, sizeof *all);
			if (!more) {
				err = -ENOMEM;
				break;
			}
			all = more;
		}
		all[n++] = (struct process) { atoi(e->d_name), parent };
	}
	closedir(d);
	if (err) {
		free(all);
		return err;
	}
	*ret = all;
	*ret_n = n;
	return 0;
}

int family_descendants(struct family *f)
{
	cleanup_free struct process *all = NULL;
	size_t n = 0;
	int err = read_processes(&all, &n);
	if (err) {
		ctl_error("cannot read /proc: %s", strerror(-err));
		return err;
	}
	/* a child may stand before its parent: until a pass finds nothing more */
	for (bool more = true; more;) {
		more = false;
		for (size_t i = 0; i < n; i++) {
			if (!followed(f, all[i].parent) || followed(f, all[i].pid) || all[i].pid == getpid())
				continue;
			if (f->count == RECORD_FOLLOW_MAX) {
				ctl_error("-p: more than %d processes with their children: profile the whole machine "
					  "instead",
					RECORD_FOLLOW_MAX);
				return -E2BIG;
			}
			f->pids[f->count++] = all[i].pid;
			more = true;
		}
	}
	return 0;
}

bool family_ended(const struct family *f)
{
	for (unsigned i = 0; i < f->named; i++)
		if (f->pidfds[i] >= 0)
			return false;
	return f->named > 0;
}

void family_free(struct family *f)
{
	for (unsigned i = 0; i < f->named; i++)
		if (f->pidfds[i] >= 0)
			close(f->pidfds[i]);
	*f = (struct family) { 0 };
}
