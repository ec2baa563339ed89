/* What one of our own processes uses, from /proc. Not for targets. */
#ifndef SUPERVISOR_USAGE_H
#define SUPERVISOR_USAGE_H

#include <stdint.h>
#include <sys/types.h>
#include <time.h>

struct usage {
	uint64_t rss_bytes, cpu_ns;
	uint32_t fds;
};

/* Fields that cannot be read stay 0. */
void usage_read(pid_t pid, struct usage *ret);
/* Its memory with a share of what it shares, in bytes; 0: cannot be read. The kernel walks all its pages for that. */
uint64_t usage_pss(pid_t pid);
/* Anonymous memory in RAM, in bytes, by the fd of usage_open_memory, which is kept: asking often costs a fifth then. An fd, 0 or
 * -errno. */
int usage_open_memory(pid_t pid);
int usage_memory(int fd, uint64_t *ret);
struct usage_times {
	int64_t cpu_ns;
	uint32_t threads;
};
/* The clock that runs while a process does (clock_getcpuclockid). Reading it is far cheaper than all else here, and a process for which it
 * stands still has changed nothing of its own. For one that runs at this moment it may be a tick behind. 0 or -errno. */
int usage_clock(pid_t pid, clockid_t *ret);
int usage_times(pid_t pid, struct usage_times *ret); /* 0 or -errno */
/* Open fds of one of our processes; -errno. */
int usage_fds(pid_t pid);

#endif
