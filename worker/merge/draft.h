/* One stream as it is read: records as they came, not yet summed. Names may come later than their frames, also in a
 * later section (a worker that was restarted names in its second life what it had sampled in its first), so nothing is
 * added to the profile before the end. Private to profile.c. */
#ifndef MERGE_DRAFT_H
#define MERGE_DRAFT_H

#include <stddef.h>
#include <stdint.h>

struct draft;
struct profile;

struct draft *draft_new(size_t limit); /* bytes it may use; NULL: no memory */
void draft_free(struct draft *d);

/* The bytes stay borrowed until draft_free(). 0, -EBADMSG, -E2BIG, -ENOMEM; what came before can be added all the same.
 */
int draft_read(struct draft *d, const uint8_t *bytes, size_t n);
/* 0, -E2BIG or -ENOMEM: samples that did not fit are counted as dropped in the profile. */
int draft_add_to(struct draft *d, struct profile *p);

#endif
