/* /etc/bulkhead/bulkhead.conf: INI, sections and keys from config.def; every error names file, line, what is wrong and
 * what would be right. Read once at start, by the supervisor, from a file that only root may write. */
#ifndef SUPERVISOR_CONFIG_H
#define SUPERVISOR_CONFIG_H

#include "budget.h"

#include "common/log.h"
#include "proto/lease.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum { CONFIG_WORKERS_MAX = 16 /* rows of budgets.def */ };

struct config {
	/* [snapshot] */
	int64_t interval_ns; /* length of a snapshot */
	unsigned frequency;  /* samples a second on each CPU */
	int64_t deadline_ns; /* after its end, for all parts to arrive and be written */
	/* [sampler] */
	bool realtime;      /* SCHED_FIFO 1 for the readers; no: the frozen read's fallback */
	bool pin;           /* readers pinned to their CPU; no: likewise */
	bool isolated_cpus; /* profile CPUs of isolcpus and nohz_full too */
	/* [output] */
	char *directory; /* owned, as are the other strings */
	bool formats[OUTPUT_FORMAT_MAX];
	uint64_t keep_files; /* snapshots kept; 0: no limit */
	uint64_t keep_bytes; /* of all files together; 0: no limit */
	int64_t keep_age_ns; /* 0: no limit */
	/* [supervisor] */
	char *runtime_directory;
	char *status_group; /* NULL: root only */
	enum log_level log_level;
	uint32_t uid_base;   /* workers run as this uid and the ones behind it */
	char *cgroup;        /* "auto", "no", or the path of a control group that is ours */
	bool pressure;       /* budgets and rate follow the machine's memory and CPU pressure */
	uint32_t spawn_rate; /* processes started in a second, all workers together */
	int64_t backoff_max_ns,
		backoff_forget_ns; /* longest wait before a restart; a life after which its past is forgiven */
	/* [worker NAME], in the order of budgets.def */
	struct budget budgets[CONFIG_WORKERS_MAX];
};

/* The row of a worker's name; NULL: none. */
const struct budget *config_budget(const struct config *c, const char *worker);

void config_defaults(struct config *c);
void config_free(struct config *c);
/* On top of config_defaults(): 0, or -EINVAL after having printed each error on `errors`, or -errno when the file
 * cannot be read, or when others than root can change it (also printed). On failure *c is to be freed, not used. */
int config_load(struct config *c, const char *path, FILE *errors);
/* For the fuzzer and the tests: the same from memory, without a look at the system (whether the group exists). */
int config_parse(struct config *c, const char *path, const char *text, size_t n, FILE *errors);

#endif
