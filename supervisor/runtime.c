/* The runtime directory: ours, and only one supervisor's at a time. */
#include "supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static const char lock_name[] = "supervisor.lock";

static int refuse(const char *path, const char *why, int error)
{
	log_error("runtime directory %s: %s", path, why);
	return -error;
}

/* Who could write there could put a socket in place of ours. */
static int check_directory(const char *path, int fd)
{
	struct stat st;
	if (fstat(fd, &st))
		return -errno;
	if (st.st_uid != geteuid() || st.st_mode & (S_IWGRP | S_IWOTH))
		return refuse(path, "others than root can write there", EPERM);
	return 0;
}

int runtime_open(struct supervisor *s)
{
	const char *path = s->config.runtime_directory;
	if (mkdir(path, 0755) && errno != EEXIST)
		return refuse(path, strerror(errno), errno);
	s->runtime_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->runtime_fd < 0)
		return refuse(path, strerror(errno), errno);
	int r = check_directory(path, s->runtime_fd);
	if (r < 0)
		return r;
	s->lock_fd = openat(s->runtime_fd, lock_name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (s->lock_fd < 0)
		return refuse(path, strerror(errno), errno);
	if (!flock(s->lock_fd, LOCK_EX | LOCK_NB))
		return 0;
	int error = errno;
	close(s->lock_fd); /* the other's, or perhaps: runtime_close must not remove it */
	s->lock_fd = -1;
	return error == EWOULDBLOCK ? refuse(path, "another bulkheadd is running there", EBUSY)
				    : refuse(path, strerror(error), error);
}

void runtime_close(struct supervisor *s)
{
	if (s->lock_fd >= 0) {
		(void)unlinkat(s->runtime_fd, lock_name, 0);
		close(s->lock_fd);
	}
	if (s->runtime_fd >= 0)
		close(s->runtime_fd);
	s->lock_fd = s->runtime_fd = -1;
}
