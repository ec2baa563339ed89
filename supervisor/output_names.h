/* The names of files in the directory of profiles: profile_20260102T030405Z.pb.gz, and profile_20260102T030405Z-2.pb.gz
 * when the first is taken. Files with other names are not ours and are never touched. */
#ifndef SUPERVISOR_OUTPUT_NAMES_H
#define SUPERVISOR_OUTPUT_NAMES_H

#include "proto/lease.h"

#include <stdbool.h>
#include <stdint.h>

#define OUTPUT_TEMPORARY_PREFIX ".profile_"
#define OUTPUT_TEMPORARY_SUFFIX ".tmp"

enum { OUTPUT_NAME_MAX = 64 };

struct output_name {
	int64_t time;    /* seconds since 1970 */
	uint32_t number; /* 1, or the N of "-N" */
};

void output_name_format(char out[OUTPUT_NAME_MAX], const struct output_name *name, enum output_format format);
/* -EINVAL: not a name that output_name_format() makes. */
int output_name_parse(const char *file, struct output_name *ret, enum output_format *ret_format);
bool output_is_temporary(const char *file);

#endif
