/* Files that a target may have put there. Each is first taken as a mere place (O_PATH: nothing is opened, no device or
 * FIFO stirs), looked at, and only then opened through that fd. */
#include "opener/opener.h"

#include "common/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
	OPEN_TRIES = 8, /* openat2 gives EAGAIN when a rename somewhere raced with it */
	BUILD_ID_MAX = 64,
};

static int open_how(int dir, const char *path, uint64_t flags, uint64_t resolve)
{
	struct open_how how = { .flags = flags | O_PATH | O_CLOEXEC, .resolve = resolve };
	for (int i = 0; i < OPEN_TRIES; i++) {
		int fd = (int)syscall(SYS_openat2, dir, path, &how, sizeof how);
		if (fd >= 0)
			return fd;
		if (errno != EAGAIN && errno != EINTR)
			return -errno;
	}
	return -EAGAIN;
}

enum { OWNER_ANY = -1 };

/* place: an O_PATH fd on an allowed file system. owner: this user's or root's, or OWNER_ANY. */
static int open_place(int place, int64_t owner)
{
	char path[40];
	struct stat st, opened;
	if (fstat(place, &st))
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -OPENER_NO_FILE;
	if (owner != OWNER_ANY && st.st_uid && st.st_uid != (uint64_t)owner)
		return -OPENER_NOT_ITS_OWN;
	snprintf(path, sizeof path, "/proc/self/fd/%d", place);
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (!fstat(fd, &opened) && opened.st_dev == st.st_dev && opened.st_ino == st.st_ino)
		return fd;
	close(fd);
	return -ESTALE;
}

static int check_and_open(int place, const struct target *t, int64_t owner)
{
	int r = mounts_check(place, t);
	return r < 0 ? r : open_place(place, owner);
}

int file_open_mapped(const struct target *t, uint64_t start, uint64_t end)
{
	char name[64];
	snprintf(name, sizeof name, "map_files/%" PRIx64 "-%" PRIx64, start, end);
	cleanup_close int place = openat(t->proc, name, O_PATH | O_CLOEXEC);
	if (place < 0)
		return -errno;
	return check_and_open(place, t, OWNER_ANY);
}

/* From the target's root down, one name at a time and never through a link: each directory's file system is looked at
 * before anything in it is looked up. */
static int open_below_root(const struct target *t, const char *const *names, size_t n, int64_t owner)
{
	int at = openat(t->proc, "root", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (at < 0)
		return -errno;
	for (size_t i = 0; i < n; i++) {
		bool last = i == n - 1;
		int r = mounts_check(at, t);
		int next = r < 0 ? r
				 : open_how(at, names[i], last ? 0 : O_DIRECTORY,
					   RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS);
		close(at);
		if (next < 0)
			return next;
		at = next;
	}
	int fd = check_and_open(at, t, owner);
	close(at);
	return fd;
}

int file_open_debug(const struct target *t, const uint8_t *build_id, size_t n)
{
	char directory[8], name[2 * BUILD_ID_MAX + 8], path[64 + 2 * BUILD_ID_MAX];
	if (n < 2 || n > BUILD_ID_MAX)
		return -EINVAL;
	snprintf(directory, sizeof directory, "%02x", build_id[0]);
	for (size_t i = 1; i < n; i++)
		snprintf(name + 2 * (i - 1), 3, "%02x", build_id[i]);
	snprintf(name + 2 * (n - 1), sizeof name - 2 * (n - 1), ".debug");
	snprintf(path, sizeof path, "/usr/lib/debug/.build-id/%s/%s", directory, name);
	int place = open_how(AT_FDCWD, path, 0, RESOLVE_NO_MAGICLINKS);
	if (place >= 0) {
		int fd = check_and_open(place, NULL, 0);
		close(place);
		if (fd >= 0)
			return fd;
	}
	if (!t)
		return place < 0 ? place : -ENOENT;
	const char *names[] = { "usr", "lib", "debug", ".build-id", directory, name };
	return open_below_root(t, names, sizeof names / sizeof *names, 0);
}

int file_open_perf_map(const struct target *t)
{
	uint32_t uid;
	pid_t nspid;
	char name[40];
	int r = target_ids(t, &uid, &nspid);
	if (r < 0)
		return r;
	snprintf(name, sizeof name, "perf-%d.map", nspid);
	const char *names[] = { "tmp", name };
	return open_below_root(t, names, sizeof names / sizeof *names, uid);
}
