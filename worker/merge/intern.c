#include "merge/intern.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>

struct intern_entry {
	uint32_t hash;
	uint32_t at; /* in units of 8 bytes */
	uint32_t n;
};

enum { FIRST_BYTES = 256, FIRST_SLOTS = 64, ALIGN = 8 };

struct room room_new(size_t limit)
{
	struct room room = { .limit = limit };
	/* 16 random bytes that the kernel gave this process: no system call needed in the sandbox. */
	const void *random = (const void *)getauxval(AT_RANDOM); // NOLINT(performance-no-int-to-ptr)
	if (random)
		memcpy(room.key, random, sizeof room.key);
	return room;
}

static int room_resize(struct room *room, void **data, size_t from, size_t to)
{
	if (to - from > room->limit || room->used > room->limit - (to - from))
		return -E2BIG;
	void *bigger = realloc(*data, to);
	if (!bigger)
		return -ENOMEM;
	*data = bigger;
	room->used += to - from;
	return 0;
}

/* Makes sure that `n` bytes follow the first `len`. */
static int list_reserve(struct list *list, struct room *room, size_t len, size_t n)
{
	if (len + n <= list->cap)
		return 0;
	size_t cap = list->cap ? list->cap + list->cap / 2 : FIRST_BYTES;
	if (cap < len + n)
		cap = len + n;
	int r = room_resize(room, &list->items, list->cap, cap);
	if (r < 0)
		return r;
	list->cap = cap;
	return 0;
}

void *list_push(struct list *list, struct room *room, size_t item_size, int *ret_error)
{
	int r = list->n == UINT32_MAX ? -E2BIG : list_reserve(list, room, list->n * item_size, item_size);
	if (r < 0) {
		*ret_error = r;
		return NULL;
	}
	void *item = (uint8_t *)list->items + list->n++ * item_size;
	return memset(item, 0, item_size);
}

void list_free(struct list *list, struct room *room)
{
	room->used -= list->cap;
	free(list->items);
	*list = (struct list) { 0 };
}

static uint64_t rotate(uint64_t v, unsigned by)
{
	return v << by | v >> (64 - by);
}

static void sip_round(uint64_t v[4])
{
	v[0] += v[1];
	v[2] += v[3];
	v[1] = rotate(v[1], 13) ^ v[0];
	v[3] = rotate(v[3], 16) ^ v[2];
	v[0] = rotate(v[0], 32);
	v[2] += v[1];
	v[0] += v[3];
	v[1] = rotate(v[1], 17) ^ v[2];
	v[3] = rotate(v[3], 21) ^ v[0];
	v[2] = rotate(v[2], 32);
}

/* SipHash-1-3 (Aumasson, Bernstein: SipHash, 2012), folded to 32 bits. */
static uint32_t hash_of(const uint64_t key[2], const uint8_t *p, size_t n)
{
	uint64_t v[4] = { key[0] ^ 0x736f6d6570736575, key[1] ^ 0x646f72616e646f6d, key[0] ^ 0x6c7967656e657261,
		key[1] ^ 0x7465646279746573 };
	uint64_t last = (uint64_t)n << 56;
	for (; n >= 8; p += 8, n -= 8) {
		uint64_t word;
		memcpy(&word, p, 8);
		v[3] ^= word;
		sip_round(v);
		v[0] ^= word;
	}
	for (size_t i = 0; i < n; i++)
		last |= (uint64_t)p[i] << 8 * i;
	v[3] ^= last;
	sip_round(v);
	v[0] ^= last;
	v[2] ^= 0xff;
	for (int i = 0; i < 3; i++)
		sip_round(v);
	uint64_t h = v[0] ^ v[1] ^ v[2] ^ v[3];
	return (uint32_t)(h ^ h >> 32);
}

static struct intern_entry *entry_of(const struct intern *t, uint32_t id)
{
	return (struct intern_entry *)t->entries.items + (id - 1);
}

static bool same(const struct intern *t, uint32_t id, uint32_t hash, const void *bytes, size_t n)
{
	const struct intern_entry *e = entry_of(t, id);
	return e->hash == hash && e->n == n &&
	       !memcmp((const uint8_t *)t->bytes.items + (size_t)e->at * ALIGN, bytes, n);
}

/* The slot that holds these bytes, or the free one where they belong. */
static uint32_t find(const struct intern *t, uint32_t hash, const void *bytes, size_t n)
{
	uint32_t mask = t->slot_count - 1, i = hash & mask;
	while (t->slots[i] && !same(t, t->slots[i], hash, bytes, n))
		i = (i + 1) & mask;
	return i;
}

static int grow_slots(struct intern *t)
{
	uint32_t count = t->slot_count ? t->slot_count * 2 : FIRST_SLOTS;
	void *slots = t->slots;
	int r = room_resize(
		t->room, &slots, (size_t)t->slot_count * sizeof *t->slots, (size_t)count * sizeof *t->slots);
	if (r < 0)
		return r;
	t->slots = slots;
	t->slot_count = count;
	memset(t->slots, 0, (size_t)count * sizeof *t->slots);
	for (uint32_t id = 1; id <= t->entries.n; id++) {
		uint32_t i = entry_of(t, id)->hash & (count - 1);
		while (t->slots[i])
			i = (i + 1) & (count - 1);
		t->slots[i] = id;
	}
	return 0;
}

int intern(struct intern *t, const void *bytes, size_t n, uint32_t *ret_id)
{
	uint32_t hash = hash_of(t->room->key, bytes, n);
	uint32_t known = t->slot_count ? t->slots[find(t, hash, bytes, n)] : 0;
	if (known) {
		*ret_id = known;
		return 0;
	}
	if (t->entries.n >= t->slot_count / 2) {
		int r = grow_slots(t);
		if (r < 0)
			return r;
	}
	size_t size = (n + 1 + ALIGN - 1) / ALIGN * ALIGN; /* with room for a NUL */
	if (size > (size_t)UINT32_MAX - t->bytes.n)
		return -E2BIG;
	int r = list_reserve(&t->bytes, t->room, t->bytes.n, size);
	if (r < 0)
		return r;
	struct intern_entry *entry = list_push(&t->entries, t->room, sizeof *entry, &r);
	if (!entry)
		return r;
	uint8_t *to = (uint8_t *)t->bytes.items + t->bytes.n;
	memset(to + size - ALIGN, 0, ALIGN);
	memcpy(to, bytes, n);
	*entry = (struct intern_entry) { .hash = hash, .at = t->bytes.n / ALIGN, .n = (uint32_t)n };
	t->bytes.n += (uint32_t)size;
	t->slots[find(t, hash, bytes, n)] = t->entries.n;
	*ret_id = t->entries.n;
	return 0;
}

uint32_t intern_find(const struct intern *t, const void *bytes, size_t n)
{
	return t->slot_count ? t->slots[find(t, hash_of(t->room->key, bytes, n), bytes, n)] : 0;
}

const void *intern_get(const struct intern *t, uint32_t id, size_t *ret_n)
{
	const struct intern_entry *e = entry_of(t, id);
	if (ret_n)
		*ret_n = e->n;
	return (const uint8_t *)t->bytes.items + (size_t)e->at * ALIGN;
}

uint32_t intern_count(const struct intern *t)
{
	return t->entries.n;
}

void intern_free(struct intern *t)
{
	struct room *room = t->room;
	if (!room)
		return;
	room->used -= (size_t)t->slot_count * sizeof *t->slots;
	free(t->slots);
	list_free(&t->bytes, room);
	list_free(&t->entries, room);
	*t = (struct intern) { .room = room };
}
