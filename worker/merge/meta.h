/* What several encoders say about a snapshot as a whole. */
#ifndef MERGE_META_H
#define MERGE_META_H

#include "common/escape.h"

/* The next line of profile_meta.missing, escaped, in `out`; moves *at behind it. Empty lines are skipped; returns NULL
 * when there are no more. `*at` may be NULL. */
const char *meta_missing_line(const char **at, char out[static ESCAPE_MAX]);

#endif
