/* Distinct byte strings, numbered from 1 in the order they first came: the profile's names, frames and stacks, and the
 * nodes of the call tree. Memory comes out of a room with a hard limit, so a hostile stream ends in an error, not in an
 * OOM kill that would take the good streams with it. */
#ifndef MERGE_INTERN_H
#define MERGE_INTERN_H

#include <stddef.h>
#include <stdint.h>

/* What a group of tables may use together. */
struct room {
	size_t used, limit; /* bytes */
	uint64_t key[2];    /* of the hash: targets choose names, so they must not be able to choose collisions */
};

struct room room_new(size_t limit);

/* A growing array of equal items. */
struct list {
	void *items; /* owned */
	uint32_t n;
	size_t cap; /* bytes */
};

/* A new zeroed item at the end, or NULL and *ret_error: -ENOMEM or -E2BIG (the room is full). */
void *list_push(struct list *list, struct room *room, size_t item_size, int *ret_error);
void list_free(struct list *list, struct room *room);

struct intern {
	struct room *room;   /* borrowed */
	struct list bytes;   /* the strings, one behind the other, each aligned to 8 bytes */
	struct list entries; /* struct intern_entry */
	uint32_t *slots;     /* owned: open addressing, 0 is free */
	uint32_t slot_count; /* a power of 2, or 0 */
};

/* The id of these bytes. 0, -ENOMEM or -E2BIG. The bytes must not lie in this table itself. */
int intern(struct intern *t, const void *bytes, size_t n, uint32_t *ret_id);
uint32_t intern_find(const struct intern *t, const void *bytes, size_t n); /* 0: not there */
/* The bytes of an id that intern() gave, followed by a NUL; valid until the next intern(). */
const void *intern_get(const struct intern *t, uint32_t id, size_t *ret_n);
uint32_t intern_count(const struct intern *t);
void intern_free(struct intern *t);

#endif
