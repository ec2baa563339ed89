/* What a snapshot looks like outside. Each encoder writes the whole file to `fd` (borrowed, from offset 0) and returns
 * 0 or -errno (-ENOSPC, -EIO; -E2BIG and -ENOMEM when its own tables do not fit). The values of each file sum up to
 * profile_total(). */
#ifndef MERGE_ENCODE_H
#define MERGE_ENCODE_H

#include "merge/profile.h"

/* pprof's profile.proto, gzip'd. Sample types: samples/count and cpu/nanoseconds. Labels: pid (a number), comm, thread,
 * container_id, and `stack` with the counter's name when the stack is not complete. Comments: "NAME VALUE" for each
 * counter that is not 0, "missing WORKER: CAUSE". */
int encode_pprof(const struct profile *p, const struct profile_meta *meta, int fd);

/* Folded stacks, sorted: "comm;root;...;leaf count" a line. */
int encode_folded(const struct profile *p, const struct profile_meta *meta, int fd);

/* One page with a flame graph, a table of functions and the counters, that needs nothing else. */
int encode_html(const struct profile *p, const struct profile_meta *meta, int fd);

/* Lines of fields between tabs, for programs: samples N; processes N; stacks N; dropped N (only when not 0); counter
 * NAME N; process N PID COMM; function SELF TOTAL NAME; missing TEXT. The ten hottest processes and functions. */
int encode_summary(const struct profile *p, const struct profile_meta *meta, int fd);

/* The page's template (flamegraph.html), made by the build. The data goes where FLAMEGRAPH_MARK stands. */
extern const unsigned char flamegraph_page[];
extern const unsigned flamegraph_page_size;
#define FLAMEGRAPH_MARK "@PROFILE@"

#endif
