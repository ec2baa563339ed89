#include "verify.h"

#include "common/cleanup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

enum {
	STATUS_MAX_BYTES = 8192, /* of /proc/PID/status: 1.5 KiB, longer with many CPUs and memory nodes */
	EXPECTED_FDS = 4,
	CHANNEL_FD = 3,
	ROOT_ENTRIES_MAX = 64,
};

const char *const namespace_names[NAMESPACE_COUNT] = { "mnt", "pid", "net", "ipc", "uts", "cgroup" };

__attribute__((format(printf, 2, 3))) static void miss(struct sandbox *s, const char *format, ...)
{
	size_t at = strlen(s->missing);
	va_list args;
	if (at)
		at += (size_t)snprintf(s->missing + at, sizeof s->missing - at, "; ");
	if (at >= sizeof s->missing)
		return;
	va_start(args, format);
	vsnprintf(s->missing + at, sizeof s->missing - at, format, args);
	va_end(args);
}

int read_small_file(const char *path, char *to, size_t size)
{
	cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	size_t at = 0;
	for (;;) {
		ssize_t n = read(fd, to + at, size - 1 - at);
		if (n < 0)
			return -errno;
		if (!n)
			break;
		at += (size_t)n;
		if (at == size - 1)
			return -E2BIG;
	}
	to[at] = 0;
	return (int)at;
}

/* The text behind "key" at the start of a line behind the first; NULL: none, or more than one. */
static const char *line_value(const char *text, const char *key)
{
	const char *found = NULL;
	size_t n = strlen(key);
	for (const char *p = strchr(text, '\n'); p && p[1]; p = strchr(p + 1, '\n')) {
		if (strncmp(p + 1, key, n))
			continue;
		if (found)
			return NULL;
		found = p + 1 + n;
	}
	return found;
}

static bool number_line(const char *text, const char *key, const char *format, void *ret)
{
	const char *value = line_value(text, key);
	return value && sscanf(value, format, ret) == 1;
}

static bool ids_line(const char *text, const char *key, uint32_t ids[4])
{
	const char *value = line_value(text, key);
	return value &&
	       sscanf(value, "%" SCNu32 " %" SCNu32 " %" SCNu32 " %" SCNu32, &ids[0], &ids[1], &ids[2], &ids[3]) == 4;
}

int process_status_parse(const char *text, struct process_status *ret)
{
	struct process_status p = { 0 };
	const char *groups = line_value(text, "Groups:");
	if (!groups || !ids_line(text, "Uid:", p.uid) || !ids_line(text, "Gid:", p.gid) ||
		!number_line(text, "CapInh:", "%" SCNx64, &p.cap_inh) ||
		!number_line(text, "CapPrm:", "%" SCNx64, &p.cap_prm) ||
		!number_line(text, "CapEff:", "%" SCNx64, &p.cap_eff) ||
		!number_line(text, "CapBnd:", "%" SCNx64, &p.cap_bnd) ||
		!number_line(text, "CapAmb:", "%" SCNx64, &p.cap_amb) ||
		!number_line(text, "NoNewPrivs:", "%u", &p.no_new_privs) ||
		!number_line(text, "Seccomp:", "%u", &p.seccomp) || !number_line(text, "Threads:", "%u", &p.threads))
		return -EBADMSG;
	groups += strspn(groups, " \t");
	p.groups_empty = *groups == '\n';
	*ret = p;
	return 0;
}

static void check_status(const struct sandbox_wanted *wanted, struct sandbox *ret)
{
	char path[64], text[STATUS_MAX_BYTES];
	struct process_status p;
	snprintf(path, sizeof path, "/proc/%d/status", wanted->pid);
	int r = read_small_file(path, text, sizeof text);
	if (r >= 0)
		r = process_status_parse(text, &p);
	if (r < 0) {
		miss(ret, "its status cannot be read: %s", strerror(-r));
		return;
	}
	ret->capabilities = p.cap_inh | p.cap_prm | p.cap_eff | p.cap_bnd | p.cap_amb;
	ret->no_new_privs = p.no_new_privs == 1;
	ret->seccomp = p.seccomp;
	ret->uid = p.uid[0];
	if (ret->capabilities & ~wanted->capabilities)
		miss(ret, "it has capabilities 0x%" PRIx64, ret->capabilities & ~wanted->capabilities);
	if (!ret->no_new_privs)
		miss(ret, "no_new_privs is not set");
	if (p.seccomp == SECCOMP_DEAD)
		miss(ret, "its filter has killed it");
	else if (p.seccomp != SECCOMP_FILTERED)
		miss(ret, "it has no seccomp filter");
	for (int i = 0; i < 4; i++) {
		if (p.uid[i] == wanted->uid && p.gid[i] == wanted->uid)
			continue;
		miss(ret, "it runs as user %" PRIu32 " and group %" PRIu32, p.uid[i], p.gid[i]);
		break;
	}
	if (!p.groups_empty)
		miss(ret, "it has supplementary groups");
}

int namespace_of(const char *process, const char *kind, struct namespace_id *ret)
{
	char path[64];
	struct stat st;
	snprintf(path, sizeof path, "/proc/%s/ns/%s", process, kind);
	if (stat(path, &st))
		return -errno;
	*ret = (struct namespace_id) { st.st_dev, st.st_ino };
	return 0;
}

static void check_namespaces(const struct sandbox_wanted *wanted, struct sandbox *ret)
{
	char pid[16];
	snprintf(pid, sizeof pid, "%d", wanted->pid);
	for (int i = 0; i < NAMESPACE_COUNT; i++) {
		struct namespace_id shunned = wanted->network, its = { 0 };
		bool left = 1 << i == NAMESPACE_NET && shunned.ino;
		if (!left && namespace_of("self", namespace_names[i], &shunned) < 0)
			continue; /* the kernel does not have this kind */
		int r = namespace_of(pid, namespace_names[i], &its);
		if (r < 0)
			miss(ret, "its %s namespace cannot be seen: %s", namespace_names[i], strerror(-r));
		else if (shunned.ino != its.ino || shunned.dev != its.dev)
			ret->namespaces |= 1U << i;
		else if (wanted->namespaces & 1U << i)
			miss(ret, left ? "it has the machine's %s namespace" : "it shares our %s namespace",
				namespace_names[i]);
	}
}

/* Nothing in it, and not ours. The worker's mount namespace holds a tmpfs that only it could have filled, so this
 * cannot block. */
static void check_root(const struct sandbox_wanted *wanted, struct sandbox *ret)
{
	char path[64];
	struct stat own, its;
	snprintf(path, sizeof path, "/proc/%d/root", wanted->pid);
	cleanup_close int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0 || fstat(fd, &its) || stat("/", &own)) {
		miss(ret, "its root cannot be seen: %s", strerror(errno));
		return;
	}
	if (own.st_dev == its.st_dev && own.st_ino == its.st_ino) {
		if (wanted->namespaces & NAMESPACE_MNT)
			miss(ret, "it sees our file system");
		return;
	}
	DIR *dir = fdopendir(fd);
	if (!dir) {
		miss(ret, "its root cannot be read: %s", strerror(errno));
		return;
	}
	fd = -1; /* dir's now */
	int entries = 0;
	for (struct dirent *e; entries < ROOT_ENTRIES_MAX && (e = readdir(dir));)
		if (strcmp(e->d_name, ".") && strcmp(e->d_name, ".."))
			entries++;
	closedir(dir);
	ret->root_empty = !entries;
	if (entries)
		miss(ret, "its root is not empty");
}

static bool is_null_device(const struct stat *st)
{
	return S_ISCHR(st->st_mode) && st->st_rdev == makedev(1, 3);
}

/* A bell between a worker's own threads, made after it said READY: it leads nowhere. */
static bool is_own_eventfd(int dir, const char *name)
{
	static const char eventfd[] = "anon_inode:[eventfd]";
	char link[sizeof eventfd + 1];
	return readlinkat(dir, name, link, sizeof link) == sizeof eventfd - 1 &&
	       !memcmp(link, eventfd, sizeof eventfd - 1);
}

/* Before the first lease: /dev/null three times and the channel. Anything else leaked in. */
static void check_fds(const struct sandbox_wanted *wanted, struct sandbox *ret)
{
	char path[64];
	snprintf(path, sizeof path, "/proc/%d/fd", wanted->pid);
	DIR *dir = opendir(path);
	if (!dir) {
		miss(ret, "its fds cannot be seen: %s", strerror(errno));
		return;
	}
	int right = 0;
	for (struct dirent *e; (e = readdir(dir));) {
		struct stat st;
		unsigned fd;
		if (sscanf(e->d_name, "%u", &fd) != 1)
			continue;
		/* The opener makes no secret of what it holds; a worker holds nothing whose inode could block. */
		bool seen = !fstatat(dirfd(dir), e->d_name, &st, 0);
		if (fd == CHANNEL_FD && seen && S_ISSOCK(st.st_mode) && st.st_ino == wanted->channel_inode)
			right++;
		else if (fd < CHANNEL_FD && seen && (is_null_device(&st) || (fd == 2 && wanted->sanitizer)))
			right++;
		else if (fd < EXPECTED_FDS || !is_own_eventfd(dirfd(dir), e->d_name))
			miss(ret, "fd %u is open and should not be", fd);
	}
	closedir(dir);
	if (right != EXPECTED_FDS && !ret->missing[0])
		miss(ret, "one of fds 0 to 3 is not what it was given");
}

bool sandbox_verify(const struct sandbox_wanted *wanted, struct sandbox *ret)
{
	*ret = (struct sandbox) { 0 };
	check_status(wanted, ret);
	if (!wanted->has_root) {
		check_namespaces(wanted, ret);
		check_root(wanted, ret);
	}
	check_fds(wanted, ret);
	/* All of the above was this process only if it has not ended meanwhile. */
	struct pollfd end = { .fd = wanted->pidfd, .events = POLLIN };
	if (poll(&end, 1, 0))
		miss(ret, "it ended while it was being looked at");
	return !ret->missing[0];
}
