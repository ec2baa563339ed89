/* A stable merge sort of ids. The C library's qsort may ask the kernel how much memory there is (sysinfo), which the
 * sandbox does not answer. */
#ifndef MERGE_SORT_H
#define MERGE_SORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Whether a comes strictly before b. */
typedef bool sort_before(const void *context, uint32_t a, uint32_t b);

/* `scratch` has room for n ids, too. */
void sort_ids(uint32_t *ids, uint32_t *scratch, size_t n, sort_before *before, const void *context);

#endif
