/* Law 5: whose memory does a worker hang in? It has left word in its lane, in front of each
 * read. That is the word of a worker that may have been taken over: it can blame only processes whose memory was lent
 * to it, only a few of them, and all that comes of it is that those are not read. */
#include "supervisor.h"

#include "common/clock.h"

#include <limits.h>

static bool was_lent(const struct supervisor *s, unsigned owner, int32_t pid)
{
	uint32_t at = 0;
	for (const struct ledger_row *row; (row = ledger_next(&s->ledger, &at));)
		if (row->owner == owner && row->kind == LEASE_MEM && row->pid == pid)
			return true;
	return false;
}

/* Into `ret`: how many. */
static unsigned find(const struct worker *w, struct lane_suspect ret[BLAMED_MAX])
{
	const struct supervisor *s = w->supervisor;
	struct lane_suspect suspects[BLAMED_MAX];
	unsigned count = 0;
	if (s->lanes[w->index].memfd < 0)
		return 0;
	int n = lane_peek_reading(s->lanes[w->index].memfd, s->lane_cpus, s->lane_ring,
		monotonic_ns() - HANGS_MS * NS_PER_MS, suspects, BLAMED_MAX);
	for (int i = 0; i < n; i++)
		if (suspects[i].pid <= INT_MAX && was_lent(s, w->index, (int32_t)suspects[i].pid))
			ret[count++] = suspects[i];
	return count;
}

void blame(struct quarantined *q, const struct worker *w)
{
	q->blamed_count = find(w, q->blamed);
	for (unsigned i = 0; i < q->blamed_count; i++) {
		avoid_hold(&w->supervisor->avoided, (int32_t)q->blamed[i].pid, q->blamed[i].start_time, monotonic_ns());
		log_warn(
			"%s: process %d hangs in the memory of process %u, which is not read until it ends, nor for %d "
			"minutes after",
			w->row->name, w->pid, q->blamed[i].pid, AVOIDED_MS / 60000);
	}
}

/* Whoever hangs in a page has the lock on the target's memory; once the target wants to map something, all other readers
 * wait for that lock. SIGKILL ends these, but their successors would wait again. */
void blame_killed(const struct worker *w)
{
	struct lane_suspect found[BLAMED_MAX];
	unsigned n = find(w, found);
	for (unsigned i = 0; i < n; i++) {
		avoid_add(&w->supervisor->avoided, (int32_t)found[i].pid, found[i].start_time, AVOID_MEMORY,
			monotonic_ns());
		log_warn("%s: a read of the memory of process %u hung: it is not read for %d minutes", w->row->name,
			found[i].pid, AVOIDED_MS / 60000);
	}
}

void blame_over(struct quarantined *q)
{
	for (unsigned i = 0; i < q->blamed_count; i++)
		avoid_let_go(
			&q->supervisor->avoided, (int32_t)q->blamed[i].pid, q->blamed[i].start_time, monotonic_ns());
	q->blamed_count = 0;
}
