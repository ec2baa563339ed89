/* A file on FUSE or on a network can make fstat() and fstatfs() wait for ever, also for SIGKILL. So the type of the
 * file system is found without a call to it: the mount's id from fdinfo, its type from mountinfo. */
#include "opener/opener.h"

#include "common/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	MOUNTINFO_MAX = 4 << 20, /* bytes: some 30,000 mounts */
	MOUNTINFO_CHUNK = 16 << 10,
};

/* Local, and answered by the kernel alone. One that stacks (overlay) may have something else below; the deadline is for
 * that. */
static const char *const allowed[] = {
	"ext2",
	"ext3",
	"ext4",
	"xfs",
	"btrfs",
	"bcachefs",
	"f2fs",
	"zfs",
	"jfs",
	"nilfs2",
	"reiserfs",
	"overlay",
	"squashfs",
	"erofs",
	"cramfs",
	"romfs",
	"iso9660",
	"udf",
	"vfat",
	"msdos",
	"exfat",
	"ntfs3",
	"tmpfs",
	"ramfs",
	"rootfs",
	"devtmpfs",
	"hugetlbfs",
};

static uint64_t memfd_mount; /* the kernel's own mount that memfds are on: in no mountinfo */

bool mount_type_allowed(const char *type, size_t n)
{
	for (size_t i = 0; i < sizeof allowed / sizeof *allowed; i++)
		if (strlen(allowed[i]) == n && !memcmp(allowed[i], type, n))
			return true;
	return false;
}

/* Lines are "ID parent major:minor root point options [tags] - type source options"; the kernel escapes spaces in
 * paths. */
int mount_type(const char *mountinfo, uint64_t id, const char **ret, size_t *ret_n)
{
	for (const char *line = mountinfo; line && *line;) {
		const char *end = strchr(line, '\n');
		char *rest;
		if (strtoull(line, &rest, 10) == id && rest != line) {
			const char *dash = strstr(rest, " - ");
			if (!dash || (end && dash > end))
				return -ENOENT;
			*ret = dash + 3;
			*ret_n = strcspn(dash + 3, " \n");
			return 0;
		}
		line = end ? end + 1 : NULL;
	}
	return -ENOENT;
}

/* A whole file of /proc, as a string on the heap. */
static int read_mounts(int fd, char **ret)
{
	size_t size = 0, at = 0;
	char *text = NULL;
	for (;;) {
		if (size - at < MOUNTINFO_CHUNK) {
			size = size ? size * 2 : 4 * MOUNTINFO_CHUNK;
			char *grown = size > MOUNTINFO_MAX ? NULL : realloc(text, size);
			if (!grown)
				break;
			text = grown;
		}
		ssize_t n = read(fd, text + at, size - at - 1);
		if (n < 0)
			break;
		at += (size_t)n;
		if (n)
			continue;
		text[at] = 0;
		*ret = text;
		return 0;
	}
	free(text);
	return -E2BIG;
}

static int mount_id(int fd, uint64_t *ret)
{
	char path[40], text[512];
	snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
	cleanup_close int info = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = info < 0 ? -1 : read(info, text, sizeof text - 1);
	if (n < 0)
		return -errno;
	text[n] = 0;
	const char *line = strstr(text, "mnt_id:");
	return line && sscanf(line, "mnt_id: %" SCNu64, ret) == 1 ? 0 : -EBADMSG;
}

/* -ENOENT: not in this list. */
static int check_in(int dir, const char *name, uint64_t id)
{
	cleanup_close int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
	cleanup_free char *text = NULL;
	const char *type;
	size_t n;
	if (fd < 0 || read_mounts(fd, &text) < 0 || mount_type(text, id, &type, &n) < 0)
		return -ENOENT;
	return mount_type_allowed(type, n) ? 0 : -OPENER_ELSEWHERE;
}

/* A mount that was detached (a sandbox that left its root behind) is in no list, but its device mostly is. DONT_SYNC: attributes as
 * they are known, without asking a daemon or a server. */
static int check_device(int fd)
{
	struct statx st = { 0 };
	cleanup_free char *text = NULL;
	cleanup_close int mounts = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
	if (mounts < 0 || statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE, &st) ||
		read_mounts(mounts, &text) < 0)
		return -ENOENT;
	for (const char *line = text; line && *line;) {
		unsigned major = 0, minor = 0;
		uint64_t id = 0;
		const char *type, *end = strchr(line, '\n');
		size_t n;
		if (sscanf(line, "%" SCNu64 " %*u %u:%u", &id, &major, &minor) == 3 && major == st.stx_dev_major &&
			minor == st.stx_dev_minor && !mount_type(line, id, &type, &n))
			return mount_type_allowed(type, n) ? 0 : -OPENER_ELSEWHERE;
		line = end ? end + 1 : NULL;
	}
	return -ENOENT;
}

int mounts_check(int fd, const struct target *t)
{
	uint64_t id = 0;
	if (mount_id(fd, &id) < 0)
		return -OPENER_ELSEWHERE;
	if (id == memfd_mount)
		return 0;
	int r = check_in(AT_FDCWD, "/proc/self/mountinfo", id);
	if (r == -ENOENT && t)
		r = check_in(t->proc, "mountinfo", id);
	if (r == -ENOENT)
		r = check_device(fd);
	return r == -ENOENT ? -OPENER_ELSEWHERE : r; /* unmounted since, or in a namespace that nobody shows us */
}

int mounts_init(void)
{
	cleanup_close int fd = memfd_create("bulkhead-probe", MFD_CLOEXEC);
	return fd < 0 ? -errno : mount_id(fd, &memfd_mount);
}
