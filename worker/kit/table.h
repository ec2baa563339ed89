/* A hash table from byte strings to numbers, open addressing, for the dictionaries of a snapshot: strings, stacks,
 * counts. Keys are copied. The hash is seeded at start, so that a target can not choose names that collide. Not
 * thread-safe. */
#ifndef KIT_TABLE_H
#define KIT_TABLE_H

#include <stddef.h>
#include <stdint.h>

struct table_entry {
	uint64_t value;
	uint32_t key_at, key_len; /* in the pool */
	uint32_t hash, used;
};

struct table {
	struct table_entry *entries;            /* owned */
	uint8_t *pool;                          /* owned: keys */
	size_t size, count, pool_len, pool_cap; /* size: a power of two, or 0 */
};

/* The value slot of the key; a new one begins at 0 (so 0 means "not there yet"). NULL: out of memory. Valid until the
 * next table_at. */
uint64_t *table_at(struct table *t, const void *key, size_t n);
/* The same, without making one: NULL when not there. */
uint64_t *table_find(const struct table *t, const void *key, size_t n);
void table_clear(struct table *t); /* keeps memory, up to a bound */
void table_free(struct table *t);
/* Walks: i from 0 to size - 1; NULL for an empty slot. The key's bytes in *ret_key. */
uint64_t *table_slot(const struct table *t, size_t i, const void **ret_key, size_t *ret_n);

#endif
