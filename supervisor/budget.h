/* The budget row of a worker, and the decisions that follow from it. Nothing here makes a system call; enforce.c measures and acts. */
#ifndef SUPERVISOR_BUDGET_H
#define SUPERVISOR_BUDGET_H

#include <stdbool.h>
#include <stdint.h>

struct budget {
	uint32_t cpu_percent, cpu_percent_per_cpu;                    /* of one CPU, over BUDGET_CPU_WINDOW_NS */
	uint64_t memory, memory_recycle, memory_shed, memory_per_cpu; /* bytes */
	uint32_t fds, processes;
	uint64_t output; /* bytes */
	uint32_t requests, requests_per_s;
	int64_t lag_ns, order_deadline_ns, realtime_leash_ns, creep_window_ns, lifetime_ns; /* 0: no limit */
};

#define BUDGET_CPU_WINDOW_NS (10 * NS_PER_S)

enum {
	BUDGET_SQUEEZE_MAX = 3, /* levels of memory pressure; each halves the memory budgets */
	CREEP_PARTS = 6,        /* of the window: the lowest value of each must be above that of the one before */
	CREEP_SHARE = 8,        /* and the growth in all at least this part of the budget: less is a cache that fills */
};

/* Limits in bytes on a machine with so many CPUs, under so much pressure. */
struct memory_limits {
	uint64_t shed, recycle, kill;
};
struct memory_limits budget_memory(const struct budget *b, uint32_t cpus, unsigned squeeze);

enum memory_step { MEMORY_FINE, MEMORY_SHED, MEMORY_RECYCLE, MEMORY_KILL };
enum memory_step budget_memory_step(const struct memory_limits *limits, uint64_t bytes);

/* Of one CPU, on a machine with so many. */
uint32_t budget_cpu_percent(const struct budget *b, uint32_t cpus);

/* Memory that only ever grows. Fed with a value now and then; all zero is new. */
struct creep {
	int64_t part_began_ns;
	uint64_t low[CREEP_PARTS], lowest; /* of the parts that are over, oldest first; of the present one */
	unsigned parts;
};
/* True: it grew all through the window. */
bool creep_note(struct creep *c, const struct budget *b, uint64_t bytes, int64_t now_ns);

#endif
