#include "record.h"

#include "output.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILE_MODE = 0644 /* less the umask */ };

static int say(const struct record_file *f, int err)
{
	ctl_error("%s: %s", f->path, strerror(err));
	return -err;
}

static int random_name(struct record_file *f, char *out, size_t size)
{
	uint32_t r;
	if (getrandom(&r, sizeof r, 0) != sizeof r)
		return -EIO;
	return snprintf(out, size, ".%s.%08x.tmp", f->name, r) < (int)size ? 0 : -ENAMETOOLONG;
}

/* What is there already may be replaced when it is a file; a link is replaced itself, not what it points to. */
static int check_destination(const struct record_file *f)
{
	struct stat st;
	if (fstatat(f->dir, f->name, &st, AT_SYMLINK_NOFOLLOW))
		return errno == ENOENT ? 0 : -errno;
	return S_ISDIR(st.st_mode) ? -EISDIR : S_ISREG(st.st_mode) || S_ISLNK(st.st_mode) ? 0 : -EEXIST;
}

int record_file_open(struct record_file *f, const char *path)
{
	const char *slash = strrchr(path, '/');
	char *dir = !slash ? strdup(".") : slash == path ? strdup("/") : strndup(path, (size_t)(slash - path));
	*f = (struct record_file) {
		.path = path, .format = (enum output_format)output_format_of(path), .fd = -1, .dir = -1
	};
	f->name = strdup(slash ? slash + 1 : path);
	if (!dir || !f->name) {
		free(dir);
		return say(f, ENOMEM);
	}
	f->dir = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int err = f->dir < 0 ? -errno : check_destination(f);
	free(dir);
	if (err)
		return say(f, -err);
	/* without a name, nothing has to be removed, whatever ends us; not every file system can */
	f->fd = openat(f->dir, ".", O_TMPFILE | O_WRONLY | O_CLOEXEC, FILE_MODE);
	if (f->fd >= 0)
		return 0;
	if (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL)
		return say(f, errno);
	char name[sizeof f->temporary];
	err = random_name(f, name, sizeof name);
	if (err)
		return say(f, -err);
	f->fd = openat(f->dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, FILE_MODE);
	if (f->fd < 0)
		return say(f, errno);
	memcpy(f->temporary, name, sizeof name);
	return 0;
}

/* Gives an anonymous file a temporary name. */
static int name_it(struct record_file *f)
{
	char link[32], name[sizeof f->temporary];
	int err = random_name(f, name, sizeof name);
	if (err)
		return err;
	snprintf(link, sizeof link, "/proc/self/fd/%d", f->fd);
	if (linkat(AT_FDCWD, link, f->dir, name, AT_SYMLINK_FOLLOW))
		return -errno;
	memcpy(f->temporary, name, sizeof name);
	return 0;
}

int record_file_commit(struct record_file *f)
{
	struct stat st;
	if (fsync(f->fd) || fstat(f->fd, &st))
		return say(f, errno);
	if (!st.st_size && f->format != OUTPUT_FOLDED) /* no samples: no lines */
		return say(f, ENODATA);
	int err = f->temporary[0] ? 0 : name_it(f);
	if (err)
		return say(f, -err);
	if (renameat(f->dir, f->temporary, f->dir, f->name))
		return say(f, errno);
	f->temporary[0] = 0;
	f->bytes = (uint64_t)st.st_size;
	return 0;
}

void record_file_close(struct record_file *f)
{
	if (f->temporary[0])
		unlinkat(f->dir, f->temporary, 0);
	if (f->fd >= 0)
		close(f->fd);
	if (f->dir >= 0)
		close(f->dir);
	free(f->name);
	*f = (struct record_file) { .fd = -1, .dir = -1 };
}
