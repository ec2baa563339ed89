/* Law 2: the sandbox of a worker, as the kernel tells it in /proc/WORKER, before the first lease. What the worker says
 * of itself counts for nothing. The process must not have been reaped: then its pid cannot be another's. */
#ifndef SUPERVISOR_VERIFY_H
#define SUPERVISOR_VERIFY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Namespaces that a worker gets, and how they are called in /proc/PID/ns. */
enum sandbox_namespace {
	NAMESPACE_MNT = 1,
	NAMESPACE_PID = 2,
	NAMESPACE_NET = 4,
	NAMESPACE_IPC = 8,
	NAMESPACE_UTS = 16,
	NAMESPACE_CGROUP = 32,
	NAMESPACE_ALL = 63,
	NAMESPACE_COUNT = 6,
};

extern const char *const namespace_names[NAMESPACE_COUNT]; /* bit 0 first */

struct namespace_id {
	dev_t dev;
	ino_t ino; /* 0: none */
};

/* Which one of this kind (namespace_names) a process is in; process: its number, or "self". 0 or -errno. */
int namespace_of(const char *process, const char *kind, struct namespace_id *ret);

/* As /proc/PID/status says it; DEAD (Linux 5.15): the filter has killed it, and it is on its way out. */
enum seccomp_mode { SECCOMP_NONE = 0, SECCOMP_FILTERED = 2, SECCOMP_DEAD = 3 };

struct sandbox_wanted {
	pid_t pid;
	int pidfd;
	uint32_t uid;                /* user and group, all four of each */
	unsigned namespaces;         /* those that the kernel granted must differ from ours */
	struct namespace_id network; /* the machine's, which we have left and it must not be in; none: ours is */
	uint64_t channel_inode;      /* the socket that is fd 3 */
	uint64_t capabilities;       /* 0, but for the opener: the most it may keep */
	bool has_root;               /* the opener sees the host */
	bool sanitizer;              /* the run-time of sanitizer builds keeps standard error */
};

struct sandbox {
	uint64_t capabilities; /* in any of the five sets */
	bool no_new_privs;
	unsigned seccomp; /* enum seccomp_mode */
	uint32_t uid;
	unsigned namespaces; /* own ones */
	bool root_empty;
	char missing[256]; /* in words, separated by "; "; empty: complete */
};

/* True when nothing is missing. *ret is filled in either case. */
bool sandbox_verify(const struct sandbox_wanted *wanted, struct sandbox *ret);

/* The lines of /proc/PID/status that matter. The first line is the name, which the process chooses: it is skipped. */
struct process_status {
	uint64_t cap_inh, cap_prm, cap_eff, cap_bnd, cap_amb;
	uint32_t uid[4], gid[4];
	unsigned no_new_privs, seccomp, threads;
	bool groups_empty;
};

/* 0; -EBADMSG: a line is missing or malformed. */
int process_status_parse(const char *text, struct process_status *ret);

/* Bytes of a small /proc file as a string; -errno, -E2BIG when it is longer. */
int read_small_file(const char *path, char *to, size_t size);

#endif
