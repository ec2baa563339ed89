#include "sampler/sampler.h"

static const uint32_t pids = LANE_KEEP_BYTES * 8U;
static _Atomic uint64_t *followed; /* bit 0, a pid that no process has: only followed processes count */

void follow_init(const struct lane *lane)
{
	followed = lane_keep(lane);
}

static bool bit(uint32_t pid)
{
	return followed[pid / 64] >> pid % 64 & 1;
}

void follow_only(void)
{
	followed[0] |= 1;
}

void follow_add(uint32_t pid)
{
	if (pid && pid < pids)
		atomic_fetch_or(&followed[pid / 64], 1ULL << pid % 64);
}

bool follow_has(uint32_t pid)
{
	return !bit(0) || (pid && pid < pids && bit(pid));
}

/* A bit is cleared when its pid is born again elsewhere, not at exit: threads may outlive their leader. */
void follow_fork(uint32_t parent, uint32_t child)
{
	if (!bit(0) || child >= pids)
		return;
	if (follow_has(parent))
		follow_add(child);
	else
		atomic_fetch_and(&followed[child / 64], ~(1ULL << child % 64));
}
