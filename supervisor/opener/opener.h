/* bulkhead-opener: the supervisor's disposable hand. It makes the calls that a target could block or steer: everything
 * below /proc/PID of a target. It decides nothing: the supervisor has permitted each order, and has a deadline on it;
 * when a call hangs, this process is killed, or quarantined, and replaced.
 *
 * It holds the few capabilities of opener_capabilities.h, as a user of its own, behind a filter that lets it open and
 * not write. What it checks, it checks on the fd that it got, never on the path.
 *
 * argv[1]: the uid and gid to become; fd 3: the channel. Exit codes as worker/kit/kit.h says: 0 told to or the
 * supervisor is gone, 70 no sandbox, 71 protocol, 64 started by hand. */
#ifndef OPENER_OPENER_H
#define OPENER_OPENER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Answers beside those of the kernel */
enum {
	OPENER_ELSEWHERE = 66 /* EREMOTE: on a file system that can hang (FUSE, network), or one that we do not know */,
	OPENER_NO_FILE = 22 /* EINVAL: not a regular file */,
	OPENER_NOT_ITS_OWN = 13 /* EACCES: neither the target's nor root's */,
};

struct order {
	unsigned kind; /* enum lease_kind */
	pid_t pid;
	uint64_t start_time; /* 0: not known */
	uint64_t a, b;
	const uint8_t *bytes;
	size_t n;
};

/* A process that is the one meant, for as long as target_alive says so afterwards. */
struct target {
	pid_t pid;
	int pidfd, proc;     /* owned; proc: /proc/PID */
	uint64_t start_time; /* clock ticks since boot */
};

/* target.c. All: 0 (or an fd) or -errno. */
int target_open(struct target *t, pid_t pid, uint64_t start_time); /* -ESRCH: gone, or another one with this pid */
void target_close(struct target *t);
bool target_alive(const struct target *t);
int target_read(
	const struct target *t, const char *name, char *to, size_t size); /* a small file of /proc/PID, as a string */
/* Effective user, and the pid in its innermost PID namespace. */
int target_ids(const struct target *t, uint32_t *ret_uid, pid_t *ret_nspid);
int start_time_parse(const char *stat, uint64_t *ret);                  /* field 22 of /proc/PID/stat; -EBADMSG */
int ids_parse(const char *status, uint32_t *ret_uid, pid_t *ret_nspid); /* from /proc/PID/status; -EBADMSG */

/* about.c: a sealed memfd with what LEASE_ABOUT promises */
int about_open(const struct target *t);

/* file.c: LEASE_MAPPED_FILE, LEASE_DEBUG_FILE, LEASE_PERF_MAP */
int file_open_mapped(const struct target *t, uint64_t start, uint64_t end);
int file_open_debug(const struct target *t, const uint8_t *build_id, size_t n); /* t NULL: on the host only */
int file_open_perf_map(const struct target *t);

/* mounts.c: whether the file system that an O_PATH fd is on is one that cannot hang, found out without asking that file
 * system. t: whose mounts to look through besides our own; NULL: none. 0 or -OPENER_ELSEWHERE. */
int mounts_init(void);
int mounts_check(int fd, const struct target *t);
/* Type of the mount with this id, from the text of a mountinfo file; 0 and the length, or -ENOENT. */
int mount_type(const char *mountinfo, uint64_t id, const char **ret, size_t *ret_n);
bool mount_type_allowed(const char *type, size_t n);

/* lockdown.c: NULL, or the step that failed. */
const char *opener_lockdown(uid_t uid);

#endif
