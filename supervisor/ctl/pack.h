/* An answer of the supervisor as a tree: one msgpack map, checked before msgpack-c unpacks it (which allocates what a
 * header claims), and looked into without ever assuming that a key is there or has the right type. */
#ifndef CTL_PACK_H
#define CTL_PACK_H

#include <msgpack.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	PACK_MAX_BYTES = 1 << 20, /* an answer has a few KiB; a ledger with every row of every worker 300 */
	PACK_MAX_DEPTH = 8,       /* of arrays and maps within each other; answers use 4 */
};

typedef msgpack_object pack;

/* 0 when the bytes are exactly one value, not too deep, with no count that its bytes cannot hold; else -EBADMSG. */
int pack_check(const uint8_t *data, size_t n);
/* Checks and unpacks; `ret` is released with msgpack_unpacked_destroy() and borrows from `data`. */
int pack_unpack(const uint8_t *data, size_t n, msgpack_unpacked *ret);

/* NULL: no map (also NULL), or no such key. */
const pack *pack_get(const pack *map, const char *key);
uint64_t pack_u64(const pack *map, const char *key, uint64_t otherwise);
double pack_number(const pack *map, const char *key, double otherwise);
bool pack_bool(const pack *map, const char *key, bool otherwise);
/* The text, cut and escaped for a terminal, in `out`; "" when there is none. Returns `out`. */
const char *pack_text(const pack *map, const char *key, char *out, size_t size);
/* Any scalar as text: numbers, yes and no, escaped text; arrays and maps as "a, b" and "k v, k v". */
const char *pack_show(const pack *value, char *out, size_t size);

#endif
