/* A leaf in the control group tree (cgroup v2) for each worker process, where a tree is ours: systemd gave it to us (Delegate=yes), or
 * the configuration names it. What the kernel enforces there it enforces at once: memory.max, pids.max, cpu.max, and cgroup.kill ends
 * all of a leaf. Where a controller is not there, limits and polling do the same, later. */
#ifndef SUPERVISOR_PRIV_CGROUP_H
#define SUPERVISOR_PRIV_CGROUP_H

#include <stdbool.h>
#include <stdint.h>

enum cgroup_controller { CGROUP_MEMORY = 1, CGROUP_PIDS = 2, CGROUP_CPU = 4 };

struct cgroup_leaf {
	int fd; /* owned: the directory; -1: none */
	char name[48];
};

struct cgroup_limits {
	uint64_t memory; /* bytes */
	uint32_t processes;
	uint32_t cpu_percent; /* of one CPU */
};

/* `where`: "auto", "no" or a path. Never fatal: what cannot be had is logged, once. */
void priv_cgroup_open(const char *where);
void priv_cgroup_close(void);           /* all leaves are gone by then */
unsigned priv_cgroup_controllers(void); /* enum cgroup_controller: enforced by the kernel */
bool priv_cgroup_ours(void);            /* there are leaves at all */

/* A new empty leaf; ret->fd is -1 when there is none to be had. */
void priv_cgroup_make(
	const char *worker, uint32_t incarnation, const struct cgroup_limits *limits, struct cgroup_leaf *ret);
void priv_cgroup_limit_memory(const struct cgroup_leaf *leaf, uint64_t bytes);
bool priv_cgroup_oom(const struct cgroup_leaf *leaf);  /* the kernel killed in it for memory.max */
void priv_cgroup_kill(const struct cgroup_leaf *leaf); /* SIGKILL to all in it */
/* After its process was reaped. */
void priv_cgroup_remove(struct cgroup_leaf *leaf);

#endif
