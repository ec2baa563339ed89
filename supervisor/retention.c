#include "retention.h"

#include "common/cleanup.h"
#include "common/clock.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	SLACK = 64,              /* deletes 1/64 of a limit more than it must */
	SCAN_FILES_MAX = 1 << 20 /* a directory with more is left alone: 32 MiB of memory */
};

struct found { /* one file */
	struct output_name name;
	enum output_format format;
	uint64_t bytes;
};

static int compare(const struct output_name *a, const struct output_name *b)
{
	if (a->time != b->time)
		return a->time < b->time ? -1 : 1;
	return a->number < b->number ? -1 : a->number > b->number;
}

static int compare_found(const void *a, const void *b)
{
	return compare(&((const struct found *)a)->name, &((const struct found *)b)->name);
}

static int scan(int dir, struct found **ret, size_t *ret_n)
{
	int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	if (!d) {
		int err = errno;
		if (fd >= 0)
			close(fd);
		return -err;
	}
	struct found *files = NULL;
	size_t n = 0, room = 0;
	int err = 0;
	for (struct dirent *e; !err && (e = readdir(d));) {
		struct found f;
		struct stat st;
		if (output_name_parse(e->d_name, &f.name, &f.format))
			continue;
		if (fstatat(dir, e->d_name, &st, AT_SYMLINK_NOFOLLOW) || !S_ISREG(st.st_mode))
			continue;
		f.bytes = (uint64_t)st.st_size;
		if (n == room) {
			room = room ? 2 * room : 256;
			struct found *more = room > SCAN_FILES_MAX ? NULL : reallocarray(files, room, sizeof *files);
			if (!more) {
				err = room > SCAN_FILES_MAX ? -E2BIG : -ENOMEM;
				break;
			}
			files = more;
		}
		files[n++] = f;
	}
	closedir(d);
	if (err) {
		free(files);
		return err;
	}
	if (n)
		qsort(files, n, sizeof *files, compare_found);
	*ret = files;
	*ret_n = n;
	return 0;
}

static bool due(const struct retention *r, int64_t now)
{
	return !r->scanned || (r->keep_files && r->files > r->keep_files) ||
	       (r->keep_bytes && r->bytes > r->keep_bytes) ||
	       (r->keep_age_ns && r->files && now - r->oldest > r->keep_age_ns / NS_PER_S);
}

/* The goals of a scan: when something is over its limit, somewhat less than the limit. */
static bool over(const struct retention *r, int64_t time, int64_t now, bool slack)
{
	uint64_t files = r->keep_files - (slack ? r->keep_files / SLACK : 0);
	uint64_t bytes = r->keep_bytes - (slack ? r->keep_bytes / SLACK : 0);
	int64_t age = (r->keep_age_ns - (slack ? r->keep_age_ns / SLACK : 0)) / NS_PER_S;
	return (r->keep_files && r->files > files) || (r->keep_bytes && r->bytes > bytes) ||
	       (r->keep_age_ns && now - time > age);
}

static int delete_snapshot(int dir, const struct found *files, size_t n)
{
	int err = 0;
	for (size_t i = 0; i < n; i++) {
		char name[OUTPUT_NAME_MAX];
		output_name_format(name, &files[i].name, files[i].format);
		if (unlinkat(dir, name, 0) && errno != ENOENT)
			err = -errno;
	}
	return err;
}

static struct timespec changed(int dir)
{
	struct stat st;
	if (fstat(dir, &st))
		st.st_mtim = (struct timespec) { 0 };
	return st.st_mtim;
}

void retention_look(struct retention *r, int dir)
{
	struct timespec now = changed(dir);
	if (now.tv_sec != r->left.tv_sec || now.tv_nsec != r->left.tv_nsec)
		r->scanned = false;
}

void retention_add(struct retention *r, const int fd[OUTPUT_FORMAT_MAX])
{
	r->files++;
	for (int i = 0; i < OUTPUT_FORMAT_MAX; i++) {
		struct stat st;
		if (fd[i] >= 0 && !fstat(fd[i], &st))
			r->bytes += (uint64_t)st.st_size;
	}
}

static int apply(struct retention *r, int dir, const struct output_name *just_written, int64_t now)
{
	cleanup_free struct found *files = NULL;
	size_t n = 0;
	int err = scan(dir, &files, &n);
	if (err)
		return err;
	r->scanned = true;
	r->files = r->bytes = 0;
	for (size_t i = 0; i < n; i++) {
		r->files += !i || compare(&files[i].name, &files[i - 1].name);
		r->bytes += files[i].bytes;
	}
	bool slack = n && over(r, files[0].name.time, now, false);
	r->oldest = now;
	for (size_t i = 0, next; i < n; i = next) {
		uint64_t bytes = 0;
		for (next = i; next < n && !compare(&files[next].name, &files[i].name); next++)
			bytes += files[next].bytes;
		bool keep = next == n || !compare(&files[i].name, just_written);
		if (!keep && (!slack || !over(r, files[i].name.time, now, true))) {
			/* sorted by time: what follows is younger, and the sums are within the limits */
			if (files[i].name.time < r->oldest)
				r->oldest = files[i].name.time;
			break;
		}
		int deleted = keep ? 0 : delete_snapshot(dir, files + i, next - i);
		if (deleted)
			err = deleted;
		if (!keep && !deleted) {
			r->files--;
			r->bytes -= bytes;
		} else if (files[i].name.time < r->oldest) {
			r->oldest = files[i].name.time;
		}
	}
	return err;
}

int retention_apply(struct retention *r, int dir, const struct output_name *just_written, int64_t now)
{
	int err = due(r, now) ? apply(r, dir, just_written, now) : 0;
	r->left = changed(dir);
	return err;
}
