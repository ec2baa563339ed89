/* The samples of a worker that was late: they wait in its lane, up to the mark. All that can be said of them is whose they were and
 * how many. The lane is read-only and its reader is dead; the sampler goes on writing behind the mark. Both were hostile, perhaps. */
#ifndef MERGE_MISSED_H
#define MERGE_MISSED_H

#include "merge/profile.h"
#include "proto/lane.h"

/* Adds the samples between each ring's tail and the snapshot's mark, by process, under the frame "[why]"; and to `counters` what the
 * marks of earlier snapshots count that stand in front of it (the snapshot's own are known to the supervisor). 0; -EBADMSG: a ring
 * made no sense, what came before is added; -E2BIG or -ENOMEM. */
int missed_add(
	struct profile *p, const struct lane *lane, uint64_t snapshot, const char *why, uint64_t counters[COUNTER_MAX]);

#endif
