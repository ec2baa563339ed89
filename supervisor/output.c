#include "output.h"

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"
#include "output_names.h"
#include "retention.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	NAME_TRIES = 100, /* snapshots that end in the same second; more means that something else is wrong */
	FILE_MODE = 0640, /* profiles tell what a machine runs */
	DIRECTORY_MODE = 0750,
};

struct output {
	int dir; /* owned, and locked */
	char *path;
	bool formats[OUTPUT_FORMAT_MAX];
	struct retention retention;
};

static int random_name(char *out, size_t size)
{
	uint64_t r;
	if (getrandom(&r, sizeof r, 0) != sizeof r)
		return -EIO;
	snprintf(out, size, OUTPUT_TEMPORARY_PREFIX "%016llx" OUTPUT_TEMPORARY_SUFFIX, (unsigned long long)r);
	return 0;
}

static void remove_leftovers(struct output *o)
{
	int fd = openat(o->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	if (!d) {
		if (fd >= 0)
			close(fd);
		return;
	}
	for (struct dirent *e; (e = readdir(d));)
		if (output_is_temporary(e->d_name) && !unlinkat(o->dir, e->d_name, 0))
			log_info("removed %s/%s, left by a supervisor that was killed", o->path, e->d_name);
	closedir(d);
}

/* Others who can write in the directory could put links and files in the way of root's. */
static int check_directory(int dir, const char *path)
{
	struct stat st;
	if (fstat(dir, &st))
		return -errno;
	if (st.st_uid != geteuid()) {
		log_error("%s belongs to uid %u: give it to uid %u", path, st.st_uid, geteuid());
		return -EPERM;
	}
	if (st.st_mode & (S_IWGRP | S_IWOTH)) {
		log_error("%s has mode %03o, others can write there: chmod go-w %s", path, st.st_mode & 0777, path);
		return -EPERM;
	}
	/* two supervisors would take each other's temporary files for leftovers */
	if (flock(dir, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK) {
		log_error("%s: another bulkheadd writes there", path);
		return -EBUSY;
	}
	return 0;
}

int output_open(struct output **ret, const struct config *config)
{
	if (mkdir(config->directory, DIRECTORY_MODE) && errno != EEXIST) {
		int err = errno;
		log_error("cannot create %s: %s", config->directory, strerror(err));
		return -err;
	}
	int dir = open(config->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0) {
		int err = errno;
		log_error("cannot open %s: %s", config->directory, strerror(err));
		return -err;
	}
	int err = check_directory(dir, config->directory);
	struct output *o = err ? NULL : calloc(1, sizeof *o);
	if (o)
		o->path = strdup(config->directory);
	if (!o || !o->path) {
		free(o);
		close(dir);
		return err ? err : -ENOMEM;
	}
	o->dir = dir;
	memcpy(o->formats, config->formats, sizeof o->formats);
	o->retention = (struct retention) {
		.keep_files = config->keep_files, .keep_bytes = config->keep_bytes, .keep_age_ns = config->keep_age_ns
	};
	remove_leftovers(o);
	*ret = o;
	return 0;
}

void output_close(struct output *o)
{
	if (!o)
		return;
	close(o->dir);
	free(o->path);
	free(o);
}

void output_abandon(struct output *o, struct output_set *set)
{
	for (int i = 0; i < OUTPUT_FORMAT_MAX; i++) {
		if (set->fd[i] >= 0)
			close(set->fd[i]);
		set->fd[i] = -1;
		if (set->temporary[i][0])
			unlinkat(o->dir, set->temporary[i], 0);
		set->temporary[i][0] = 0;
	}
}

int output_begin(struct output *o, struct output_set *set)
{
	struct output_set s;
	retention_look(&o->retention, o->dir);
	for (int i = 0; i < OUTPUT_FORMAT_MAX; i++) {
		s.fd[i] = -1;
		s.temporary[i][0] = 0;
	}
	for (int i = 0; i < OUTPUT_SUMMARY; i++) {
		if (!o->formats[i])
			continue;
		char name[sizeof s.temporary[i]];
		int err = random_name(name, sizeof name);
		if (!err) {
			s.fd[i] = openat(o->dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, FILE_MODE);
			err = s.fd[i] < 0 ? -errno : 0;
		}
		if (err) {
			log_error("cannot create a file in %s: %s", o->path, strerror(-err));
			output_abandon(o, &s);
			return err;
		}
		memcpy(s.temporary[i], name, sizeof name);
	}
	*set = s;
	return 0;
}

/* A rename that never replaces. File systems without renameat2's flag (NFS, some FUSE) have link(2), which never does
 * either. */
static int rename_new(int dir, const char *from, const char *to)
{
	if (!renameat2(dir, from, dir, to, RENAME_NOREPLACE))
		return 0;
	if (errno != EINVAL && errno != ENOSYS)
		return -errno;
	if (linkat(dir, from, dir, to, 0))
		return -errno;
	unlinkat(dir, from, 0);
	return 0;
}

/* All files of the set under the same name, or none. */
static int rename_all(struct output *o, const struct output_set *set, const struct output_name *name)
{
	char final[OUTPUT_NAME_MAX];
	for (int i = 0; i < OUTPUT_FORMAT_MAX; i++) {
		if (set->fd[i] < 0)
			continue;
		output_name_format(final, name, (enum output_format)i);
		int err = rename_new(o->dir, set->temporary[i], final);
		if (!err)
			continue;
		while (--i >= 0) {
			if (set->fd[i] < 0)
				continue;
			output_name_format(final, name, (enum output_format)i);
			rename_new(o->dir, final, set->temporary[i]);
		}
		return err;
	}
	return 0;
}

/* A reader of the link finds the old profile or the new one. The profiles are safe without it, so it may fail. */
static void move_link(struct output *o, const char *target, enum output_format format)
{
	char name[48], temporary[48];
	snprintf(name, sizeof name, "last_profile%s", output_suffix(format));
	if (!random_name(temporary, sizeof temporary) && !symlinkat(target, o->dir, temporary)) {
		if (!renameat(o->dir, temporary, o->dir, name))
			return;
		int err = errno;
		unlinkat(o->dir, temporary, 0);
		errno = err;
	}
	log_warn("cannot move the link %s/%s: %s", o->path, name, strerror(errno));
}

/* Merge has seen to it that they are on the disk: a loop does not wait for one. */
static int check_files(struct output *o, const struct output_set *set)
{
	for (int i = 0; i < OUTPUT_FORMAT_MAX; i++) {
		struct stat st;
		if (set->fd[i] < 0)
			continue;
		int err = fstat(set->fd[i], &st)             ? -errno
			  : st.st_size || i == OUTPUT_FOLDED ? 0
							     : -ENODATA; /* no samples: no lines */
		if (err) {
			log_error("%s: the snapshot's %s file was not written: %s", o->path,
				output_format_name((enum output_format)i),
				err == -ENODATA ? "it is empty" : strerror(-err));
			return err;
		}
	}
	return 0;
}

int output_commit(struct output *o, struct output_set *set, int64_t end_ns)
{
	struct output_name name = { .time = end_ns / NS_PER_S, .number = 1 };
	int err = check_files(o, set);
	if (!err) {
		do
			err = rename_all(o, set, &name);
		while (err == -EEXIST && ++name.number <= NAME_TRIES);
		if (err)
			log_error("cannot name the snapshot's files in %s: %s", o->path, strerror(-err));
	}
	if (err) {
		output_abandon(o, set);
		return err;
	}
	for (int i = 0; i < OUTPUT_FORMAT_MAX; i++) {
		if (set->fd[i] < 0)
			continue;
		char final[OUTPUT_NAME_MAX];
		output_name_format(final, &name, (enum output_format)i);
		set->temporary[i][0] = 0;
		move_link(o, final, (enum output_format)i);
	}
	retention_add(&o->retention, set->fd);
	output_abandon(o, set); /* closes: nothing is left to remove */
	err = retention_apply(&o->retention, o->dir, &name, name.time);
	if (err)
		log_warn("cannot delete old profiles in %s: %s", o->path, strerror(-err));
	return 0;
}
