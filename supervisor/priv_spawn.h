/* From nothing to a worker's exec: clone, new namespaces, limits, three null devices and the channel, exec. The
 * worker does the rest itself (worker/kit/lockdown.c) and verify.c looks whether it did. */
#ifndef SUPERVISOR_PRIV_SPAWN_H
#define SUPERVISOR_PRIV_SPAWN_H

#include "verify.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct spawn {
	const char *path;    /* of the executable, which is in a directory that only root writes */
	const char *name;    /* argv[0] */
	uint32_t uid;        /* argv[1]: who it becomes */
	int channel;         /* its end; stays open here */
	unsigned namespaces; /* enum sandbox_namespace: wanted */
	bool realtime;       /* RLIMIT_RTPRIO 1 */
	int64_t leash_ns;    /* with realtime: how long it may run on without a pause */
	uint64_t nofile, threads, fsize, address_space, data; /* the last two: 0: no limit */
	int oom_score;                                        /* oom_score_adj */
	int cgroup; /* a leaf's directory (cgroup v2) that it is born into; -1: none */
};

struct spawned {
	pid_t pid;
	int pidfd;           /* owned by the caller */
	unsigned namespaces; /* those that the kernel granted */
};

/* Once, before the first spawn: an fd that tells a child that we died, /dev/null, and a network namespace with nothing in it, for
 * us and for all that we start. *ret_network: the one that was left; ino 0: that was refused, and each child tries by itself. */
int priv_spawn_init(struct namespace_id *ret_network);

/* 0 or -errno. Namespaces that are refused at the first spawn are left out and logged by name. */
int priv_spawn(const struct spawn *what, struct spawned *ret);

/* A child that SIGKILL is on its way to needs the CPU for its end; a busy machine would let it wait. As urgent as we are, if we are. */
void priv_spawn_hasten(pid_t pid);

/* Exit codes of a child that did not get to its exec: in words, NULL for other codes. */
const char *spawn_step_failed(int exit_code);

#endif
