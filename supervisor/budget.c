#include "budget.h"

#include "common/clock.h"

#include <string.h>

struct memory_limits budget_memory(const struct budget *b, uint32_t cpus, unsigned squeeze)
{
	uint64_t more = b->memory_per_cpu * cpus;
	if (squeeze > BUDGET_SQUEEZE_MAX)
		squeeze = BUDGET_SQUEEZE_MAX;
	return (struct memory_limits) {
		.shed = (b->memory_shed + more) >> squeeze,
		.recycle = (b->memory_recycle + more) >> squeeze,
		.kill = (b->memory + more) >> squeeze,
	};
}

enum memory_step budget_memory_step(const struct memory_limits *limits, uint64_t bytes)
{
	return bytes > limits->kill      ? MEMORY_KILL
	       : bytes > limits->recycle ? MEMORY_RECYCLE
	       : bytes > limits->shed    ? MEMORY_SHED
					 : MEMORY_FINE;
}

uint32_t budget_cpu_percent(const struct budget *b, uint32_t cpus)
{
	return b->cpu_percent + b->cpu_percent_per_cpu * cpus;
}

static bool only_grew(const struct creep *c, uint64_t least)
{
	for (unsigned i = 1; i < c->parts; i++)
		if (c->low[i] <= c->low[i - 1])
			return false;
	return c->low[c->parts - 1] - c->low[0] >= least;
}

bool creep_note(struct creep *c, const struct budget *b, uint64_t bytes, int64_t now_ns)
{
	if (!b->creep_window_ns)
		return false;
	if (!c->part_began_ns) {
		c->part_began_ns = now_ns;
		c->lowest = bytes;
	}
	if (bytes < c->lowest)
		c->lowest = bytes;
	if (now_ns - c->part_began_ns < b->creep_window_ns / CREEP_PARTS)
		return false;
	if (c->parts == CREEP_PARTS) {
		memmove(c->low, c->low + 1, (CREEP_PARTS - 1) * sizeof *c->low);
		c->parts--;
	}
	c->low[c->parts++] = c->lowest;
	c->part_began_ns = now_ns;
	c->lowest = bytes;
	return c->parts == CREEP_PARTS && only_grew(c, b->memory / CREEP_SHARE);
}
