#include "opener/opener.h"

#include "common/buf.h"
#include "common/cleanup.h"
#include "common/escape.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
	THREADS_MAX = 512, /* names of more are not told; they have their process's */
	CGROUP_MAX = 4096, /* bytes */
	ABOUT_MAX = 96 << 10,
};

/* "key value", on one line whatever the value is. */
static void put(struct buf *out, const char *key, const char *value, size_t n)
{
	char safe[ESCAPE_MAX];
	while (n && value[n - 1] == '\n')
		n--;
	escape_text(safe, sizeof safe, value, n);
	buf_printf(out, "%s %s\n", key, safe);
}

static void put_file(struct buf *out, const struct target *t, const char *key, const char *name)
{
	char text[256];
	int n = target_read(t, name, text, sizeof text);
	if (n > 0)
		put(out, key, text, (size_t)n);
}

static void put_cgroups(struct buf *out, const struct target *t)
{
	char text[CGROUP_MAX];
	int n = target_read(t, "cgroup", text, sizeof text);
	for (char *p = text; n > 0 && *p;) {
		size_t length = strcspn(p, "\n");
		put(out, "cgroup", p, length);
		p += length + (p[length] == '\n');
	}
}

static void put_exe(struct buf *out, const struct target *t)
{
	char path[PATH_MAX];
	ssize_t n = readlinkat(t->proc, "exe", path, sizeof path);
	if (n > 0)
		put(out, "exe", path, (size_t)n);
}

static void put_threads(struct buf *out, const struct target *t)
{
	int fd = openat(t->proc, "task", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir) {
		if (fd >= 0)
			close(fd);
		return;
	}
	int count = 0;
	for (struct dirent *e; count < THREADS_MAX && (e = readdir(dir));) {
		char name[NAME_MAX + 16], key[NAME_MAX + 16];
		if (e->d_name[0] < '1' || e->d_name[0] > '9')
			continue;
		snprintf(name, sizeof name, "task/%s/comm", e->d_name);
		snprintf(key, sizeof key, "thread %s", e->d_name);
		put_file(out, t, key, name);
		count++;
	}
	closedir(dir);
}

static int seal(const struct buf *text)
{
	int fd = memfd_create("bulkhead-about", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return -errno;
	if (write(fd, text->data, text->len) != (ssize_t)text->len ||
		fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL)) {
		int error = errno;
		close(fd);
		return -error;
	}
	return fd;
}

int about_open(const struct target *t)
{
	struct buf text = { .limit = ABOUT_MAX };
	uint32_t uid;
	pid_t nspid;
	int r = target_ids(t, &uid, &nspid);
	if (r < 0)
		return r;
	put_file(&text, t, "comm", "comm");
	buf_printf(&text, "uid %u\nnspid %d\n", uid, nspid);
	put_cgroups(&text, t);
	put_exe(&text, t);
	put_threads(&text, t);
	r = text.len ? seal(&text) : -ENOMEM;
	buf_free(&text);
	return r;
}
