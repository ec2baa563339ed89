#include "priv_cgroup.h"

#include "verify.h"

#include "common/cleanup.h"
#include "common/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

enum {
	FILE_MAX_BYTES = 4096,
	CPU_PERIOD_US = 100000, /* the kernel's default period of cpu.max */
};

static const char mount_point[] = "/sys/fs/cgroup", own_leaf[] = "supervisor", prefix[] = "worker-";
static int tree = -1; /* the directory that is ours */
static unsigned controllers;
static bool moved; /* we sit in a leaf of our own */

static int write_file(int dir, const char *name, const char *text)
{
	cleanup_close int fd = openat(dir, name, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	return write(fd, text, strlen(text)) < 0 ? -errno : 0;
}

/* The path below the mount point in the line "0::/path" of /proc/self/cgroup. */
static int own_path(char *to, size_t size)
{
	char text[FILE_MAX_BYTES];
	int r = read_small_file("/proc/self/cgroup", text, sizeof text);
	if (r < 0)
		return r;
	for (char *line = text, *rest = NULL; (line = strtok_r(line, "\n", &rest)); line = NULL)
		if (!strncmp(line, "0::/", 4))
			return snprintf(to, size, "%s%s", mount_point, line + 3) < (int)size ? 0 : -ENAMETOOLONG;
	return -ENOENT;
}

/* systemd marks what it hands over (systemd.resource-control(5), Delegate=). */
static bool is_delegated(const char *path)
{
	char value[8] = "";
	return (getxattr(path, "trusted.delegate", value, sizeof value - 1) > 0 ||
		       getxattr(path, "user.delegate", value, sizeof value - 1) > 0) &&
	       value[0] == '1';
}

/* A group with processes in it cannot give controllers to its children, so we move into a child ourselves. */
static int move_ourselves(int dir)
{
	if (mkdirat(dir, own_leaf, 0755) && errno != EEXIST)
		return -errno;
	cleanup_close int leaf = openat(dir, own_leaf, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	return leaf < 0 ? -errno : write_file(leaf, "cgroup.procs", "0");
}

static void enable_controllers(void)
{
	static const struct {
		const char *name, *order;
		enum cgroup_controller bit;
	} all[] = { { "memory", "+memory", CGROUP_MEMORY }, { "pids", "+pids", CGROUP_PIDS },
		{ "cpu", "+cpu", CGROUP_CPU } };
	for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
		int r = write_file(tree, "cgroup.subtree_control", all[i].order);
		if (!r)
			controllers |= all[i].bit;
		else
			log_info("control groups: no %s controller: %s", all[i].name, strerror(-r));
	}
}

/* Of a predecessor that was killed; its workers died with it. */
static void remove_leftovers(void)
{
	cleanup_close int copy = openat(tree, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = copy < 0 ? NULL : fdopendir(copy);
	if (!dir)
		return;
	copy = -1;
	for (struct dirent *e; (e = readdir(dir));)
		if (!strncmp(e->d_name, prefix, sizeof prefix - 1))
			(void)unlinkat(tree, e->d_name, AT_REMOVEDIR);
	closedir(dir);
}

void priv_cgroup_open(const char *where)
{
	char path[PATH_MAX];
	if (!strcmp(where, "no"))
		return;
	bool automatic = !strcmp(where, "auto");
	int r = automatic                                                     ? own_path(path, sizeof path)
		: snprintf(path, sizeof path, "%s", where) < (int)sizeof path ? 0
									      : -ENAMETOOLONG;
	if (!r && automatic && !is_delegated(path)) {
		log_debug("control groups: %s is not delegated to us", path);
		return;
	}
	if (!r)
		tree = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	r = r ? r : tree < 0 ? -errno : 0;
	if (!r && automatic) {
		r = move_ourselves(tree);
		moved = !r;
	}
	if (!r && faccessat(tree, "cgroup.procs", W_OK, 0))
		r = -errno;
	if (r < 0) {
		log_warn("control groups: %s: %s: budgets are enforced by limits and polling",
			automatic ? "our own" : where, strerror(-r));
		priv_cgroup_close();
		return;
	}
	remove_leftovers();
	enable_controllers();
}

void priv_cgroup_close(void)
{
	if (tree >= 0)
		close(tree);
	tree = -1;
	controllers = 0;
}

unsigned priv_cgroup_controllers(void)
{
	return controllers;
}

bool priv_cgroup_ours(void)
{
	return tree >= 0;
}

void priv_cgroup_limit_memory(const struct cgroup_leaf *leaf, uint64_t bytes)
{
	char text[32];
	if (leaf->fd < 0 || !(controllers & CGROUP_MEMORY))
		return;
	snprintf(text, sizeof text, "%" PRIu64, bytes);
	(void)write_file(leaf->fd, "memory.max", text);
}

static void set_limits(const struct cgroup_leaf *leaf, const struct cgroup_limits *limits)
{
	char text[64];
	if (controllers & CGROUP_MEMORY) {
		priv_cgroup_limit_memory(leaf, limits->memory);
		(void)write_file(leaf->fd, "memory.swap.max", "0");
		(void)write_file(leaf->fd, "memory.oom.group", "1");
	}
	if (controllers & CGROUP_PIDS) {
		snprintf(text, sizeof text, "%" PRIu32, limits->processes);
		(void)write_file(leaf->fd, "pids.max", text);
	}
	if (controllers & CGROUP_CPU) {
		/* A whole CPU at least: over its budget it is to be ended with a cause, not slowed down without one. */
		uint64_t quota =
			(uint64_t)CPU_PERIOD_US * (limits->cpu_percent > 100 ? limits->cpu_percent : 100) / 100;
		snprintf(text, sizeof text, "%" PRIu64 " %d", quota, CPU_PERIOD_US);
		(void)write_file(leaf->fd, "cpu.max", text);
	}
}

void priv_cgroup_make(
	const char *worker, uint32_t incarnation, const struct cgroup_limits *limits, struct cgroup_leaf *ret)
{
	*ret = (struct cgroup_leaf) { .fd = -1 };
	if (tree < 0)
		return;
	snprintf(ret->name, sizeof ret->name, "%s%s.%" PRIu32, prefix, worker, incarnation);
	if (mkdirat(tree, ret->name, 0755) && errno != EEXIST) {
		log_warn("%s: no control group: %s", worker, strerror(errno));
		return;
	}
	ret->fd = openat(tree, ret->name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (ret->fd >= 0)
		set_limits(ret, limits);
}

bool priv_cgroup_oom(const struct cgroup_leaf *leaf)
{
	char text[FILE_MAX_BYTES];
	if (leaf->fd < 0 || !(controllers & CGROUP_MEMORY))
		return false;
	cleanup_close int fd = openat(leaf->fd, "memory.events", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
	if (n <= 0)
		return false;
	text[n] = 0;
	const char *kills = strstr(text, "oom_kill ");
	return kills && strtoull(kills + sizeof "oom_kill " - 1, NULL, 10) > 0;
}

void priv_cgroup_kill(const struct cgroup_leaf *leaf)
{
	if (leaf->fd >= 0)
		(void)write_file(leaf->fd, "cgroup.kill", "1");
}

void priv_cgroup_remove(struct cgroup_leaf *leaf)
{
	if (leaf->fd < 0)
		return;
	close(leaf->fd);
	leaf->fd = -1;
	if (unlinkat(tree, leaf->name, AT_REMOVEDIR) && errno != ENOENT)
		log_warn("control group %s: %s", leaf->name, strerror(errno));
}
