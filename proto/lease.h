/* Kinds of fds that are lent, and what the two values and the bytes of OPEN, ORDER and LEND mean for each.
 * LEASE(name, target, words): target: needs a pid. */
#ifndef PROTO_LEASE_H
#define PROTO_LEASE_H

#include <errno.h>

enum lease_kind {
	/* opened by the opener, on a worker's request (OPEN) */
	LEASE_MEM = 1, /* /proc/PID/mem, read-only */
	LEASE_MAPS,    /* /proc/PID/maps */
	LEASE_ABOUT,   /* a memfd with "comm", "cgroup", "nspid", "uid", "exe" and thread names, as lines, see opener */
	LEASE_MAPPED_FILE, /* an ELF file, by mapping: values: start and end address of a mapping in PID */
	LEASE_DEBUG_FILE,  /* a separate debug file: bytes: the raw build id */
	LEASE_PERF_MAP,    /* /tmp/perf-PID.map in the target's own root */
	LEASE_KALLSYMS,    /* /proc/kallsyms, opened with CAP_SYSLOG */
	LEASE_REQUESTABLE_MAX,
	/* made by the supervisor (LEND) */
	LEASE_PERF = 20, /* a perf event: values: CPU, ring size in pages (data) */
	LEASE_PERF_WAKE, /* one to be woken by, see priv_perf.c: values as of LEASE_PERF, which follows it */
	LEASE_LANE,      /* a lane's memfd: values: enum runtime_id << 32 | number of CPUs, ring size in bytes */
	LEASE_DOORBELL,  /* the lane's eventfd, a ring came into use: value: enum runtime_id */
	LEASE_STREAM,    /* a profile stream's memfd, to write: values: snapshot id, bytes already committed */
	LEASE_PART,      /* a finished profile stream, to read: values: index of the worker, committed bytes */
	LEASE_MISSED, /* a lane, read-only, whose reader was late: values: index of the worker, CPUs << 32 | ring size in bytes */
	LEASE_OUTPUT, /* a file to write: values: enum output_format; 1: it is to be on the disk before the answer */
	LEASE_ROUTES, /* the sampler's memory of who was asked for and whose is whose (routes.h) */
};

/* The errno of an answer: an open of this hung, or a read of this target's memory; nobody tries again for some minutes.
 * Through another target the same file may well be had. */
enum { LEASE_AVOIDED = EDEADLK };

enum output_format { OUTPUT_PPROF, OUTPUT_FOLDED, OUTPUT_HTML, OUTPUT_SUMMARY, OUTPUT_FORMAT_MAX };

#endif
