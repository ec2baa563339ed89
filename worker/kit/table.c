#include "kit/table.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum {
	FIRST_SIZE = 256,
	POOL_FIRST = 4096,
	POOL_MAX = 64 << 20,    /* bytes of keys */
	KEEP_ENTRIES = 1 << 14, /* larger tables give their memory back when cleared */
};

/* Multiply-rotate over 8-byte words, seeded and finished as in the public-domain murmur3 mixer. */
static uint32_t hash_of(const void *key, size_t n)
{
	static uint64_t seed;
	if (!seed && (getrandom(&seed, sizeof seed, 0) != sizeof seed || !seed))
		seed = (uintptr_t)&seed | 1;
	const uint8_t *p = key;
	uint64_t h = seed ^ n;
	for (; n >= 8; p += 8, n -= 8) {
		uint64_t w;
		memcpy(&w, p, 8);
		h = (h ^ w) * 0x9fb21c651e98df25ULL;
		h ^= h >> 29;
	}
	uint64_t w = 0;
	memcpy(&w, p, n);
	h = (h ^ w) * 0xff51afd7ed558ccdULL;
	h ^= h >> 33;
	h *= 0xc4ceb9fe1a85ec53ULL;
	return (uint32_t)(h ^ h >> 33);
}

static struct table_entry *probe(const struct table *t, const void *key, size_t n, uint32_t hash)
{
	for (size_t i = hash & (t->size - 1);; i = (i + 1) & (t->size - 1)) {
		struct table_entry *e = &t->entries[i];
		if (!e->used || (e->hash == hash && e->key_len == n && !memcmp(t->pool + e->key_at, key, n)))
			return e;
	}
}

static bool grow(struct table *t)
{
	size_t size = t->size ? t->size * 2 : FIRST_SIZE;
	struct table_entry *old = t->entries, *fresh = calloc(size, sizeof *fresh);
	if (!fresh)
		return false;
	for (size_t i = 0; i < t->size; i++) {
		if (!old[i].used)
			continue;
		size_t k = old[i].hash & (size - 1);
		while (fresh[k].used)
			k = (k + 1) & (size - 1);
		fresh[k] = old[i];
	}
	free(old);
	t->entries = fresh;
	t->size = size;
	return true;
}

uint64_t *table_at(struct table *t, const void *key, size_t n)
{
	if (t->count * 4 >= t->size * 3 && !grow(t))
		return NULL;
	uint32_t hash = hash_of(key, n);
	struct table_entry *e = probe(t, key, n, hash);
	if (e->used)
		return &e->value;
	if (n > POOL_MAX - t->pool_len)
		return NULL;
	if (t->pool_len + n > t->pool_cap) {
		size_t cap = t->pool_cap ? t->pool_cap : POOL_FIRST;
		while (cap < t->pool_len + n)
			cap *= 2;
		uint8_t *pool = realloc(t->pool, cap);
		if (!pool)
			return NULL;
		t->pool = pool;
		t->pool_cap = cap;
	}
	if (n)
		memcpy(t->pool + t->pool_len, key, n);
	*e = (struct table_entry) { .key_at = (uint32_t)t->pool_len, .key_len = (uint32_t)n, .hash = hash, .used = 1 };
	t->pool_len += n;
	t->count++;
	return &e->value;
}

uint64_t *table_find(const struct table *t, const void *key, size_t n)
{
	if (!t->size)
		return NULL;
	struct table_entry *e = probe(t, key, n, hash_of(key, n));
	return e->used ? &e->value : NULL;
}

void table_clear(struct table *t)
{
	if (t->size > KEEP_ENTRIES) {
		table_free(t);
		return;
	}
	if (t->entries)
		memset(t->entries, 0, t->size * sizeof *t->entries);
	t->count = t->pool_len = 0;
}

void table_free(struct table *t)
{
	free(t->entries);
	free(t->pool);
	*t = (struct table) { 0 };
}

uint64_t *table_slot(const struct table *t, size_t i, const void **ret_key, size_t *ret_n)
{
	struct table_entry *e = &t->entries[i];
	if (!e->used)
		return NULL;
	*ret_key = t->pool + e->key_at;
	*ret_n = e->key_len;
	return &e->value;
}
