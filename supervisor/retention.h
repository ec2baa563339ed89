/* Which finished profiles are deleted: oldest first by the time in the name, by count, bytes and age. Never the newest,
 * never the one just written, never a file that is not named as ours. A full directory has tens of thousands of files,
 * and the supervisor has a loop to run: tallies tell when something is due, and one scan then deletes 1/64 more than it
 * must, so that the next scan is not due with the next snapshot. */
#ifndef SUPERVISOR_RETENTION_H
#define SUPERVISOR_RETENTION_H

#include "output_names.h"

#include <stdint.h>
#include <time.h>

struct retention {
	uint64_t keep_files, keep_bytes; /* snapshots; bytes. 0: no limit */
	int64_t keep_age_ns;
	/* as of the last scan, and what was written since */
	bool scanned;
	uint64_t files, bytes;
	int64_t oldest;       /* seconds since 1970 */
	struct timespec left; /* when we last changed the directory */
};

/* Before a snapshot is written: has somebody else been in the directory since? Then the tallies are worth nothing. */
void retention_look(struct retention *r, int dir);

/* A snapshot was written: the fds of its files, -1 for none. */
void retention_add(struct retention *r, const int fd[OUTPUT_FORMAT_MAX]);
/* Deletes what is due; `now` in seconds since 1970. 0 or -errno; what could be deleted is. */
int retention_apply(struct retention *r, int dir, const struct output_name *just_written, int64_t now);

#endif
