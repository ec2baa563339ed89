/* The directory of finished profiles. A file is complete or it is not there: written under a temporary name
 * (".profile_….tmp"), synced and renamed; the last_profile.* links are replaced atomically; then retention. Everything
 * is relative to a directory fd opened once. Files left by a supervisor that was killed are removed at start. */
#ifndef SUPERVISOR_OUTPUT_H
#define SUPERVISOR_OUTPUT_H

#include "config.h"

#include <stdint.h>

struct output;                     /* a directory */
struct output_set {                /* the files of one snapshot */
	int fd[OUTPUT_FORMAT_MAX]; /* owned; -1: not wanted */
	char temporary[OUTPUT_FORMAT_MAX][48];
};

/* Creates the directory when missing (0750); refuses one that others can write to. 0 or -errno, with a log line. */
int output_open(struct output **ret, const struct config *config);
void output_close(struct output *o);
int output_begin(struct output *o, struct output_set *set);
/* Renames to profile_<UTC of end_ns as YYYYMMDDTHHMMSSZ>.{pb.gz,folded,html} (a "-2" and so on when taken), moves the
 * links, applies retention. On error nothing of the set stays. */
int output_commit(struct output *o, struct output_set *set, int64_t end_ns);
void output_abandon(struct output *o, struct output_set *set);

const char *output_suffix(enum output_format format);      /* ".pb.gz", ".folded", ".html", ".summary" */
const char *output_format_name(enum output_format format); /* "pprof", "folded", "html", "summary" */
int output_format_from_name(const char *name);             /* -EINVAL when unknown */
/* By the ending of a path; -EINVAL when unknown. Only files that people open: not OUTPUT_SUMMARY. */
int output_format_of(const char *path);

#endif
