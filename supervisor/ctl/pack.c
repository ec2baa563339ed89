#include "pack.h"

#include "common/escape.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static uint64_t big_endian(const uint8_t *p, size_t n)
{
	uint64_t v = 0;
	for (size_t i = 0; i < n; i++)
		v = v << 8 | p[i];
	return v;
}

struct head {
	size_t bytes;   /* of the value without its children: header and payload */
	uint64_t items; /* values that follow as children */
	bool nested;
};

/* What the value at p needs. -EBADMSG: cut short, or the one byte that msgpack never uses. */
static int read_head(const uint8_t *p, size_t n, struct head *ret)
{
	uint8_t type = p[0];
	struct head h = { .bytes = 1 };
	if (type >= 0x80 && type <= 0x8f) {
		h.nested = true;
		h.items = 2 * (type & 15);
	} else if (type >= 0x90 && type <= 0x9f) {
		h.nested = true;
		h.items = type & 15;
	} else if (type >= 0xa0 && type <= 0xbf) {
		h.bytes += type & 31;
	} else if (type == 0xc1) {
		return -EBADMSG;
	} else if (type >= 0xc4 && type <= 0xdf) {
		/* 0xc4 to 0xdf: bytes of a length field (high nibble) or of a fixed payload (low nibble); +1 for ext's
		 * type */
		static const uint8_t length[] = { 1, 2, 4, 1, 2, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2,
			4, 2, 4, 2, 4 };
		static const uint8_t fixed[] = { 0, 0, 0, 1, 1, 1, 4, 8, 1, 2, 4, 8, 1, 2, 4, 8, 2, 3, 5, 9, 17, 0, 0,
			0, 0, 0, 0, 0 };
		size_t len = length[type - 0xc4];
		if (n < 1 + len)
			return -EBADMSG;
		uint64_t v = big_endian(p + 1, len);
		h.bytes += len + fixed[type - 0xc4];
		if (type >= 0xdc) {
			h.nested = true;
			h.items = type >= 0xde ? 2 * v : v;
		} else if (v > n) {
			return -EBADMSG;
		} else {
			h.bytes += (size_t)v;
		}
	}
	if (h.bytes > n || h.items > n - h.bytes) /* each child has a byte at least */
		return -EBADMSG;
	*ret = h;
	return 0;
}

int pack_check(const uint8_t *data, size_t n)
{
	uint64_t left[PACK_MAX_DEPTH + 1]; /* values still to come on each level */
	unsigned depth = 0;
	left[0] = 1;
	while (left[0] || depth) {
		if (!left[depth]) {
			depth--;
			continue;
		}
		struct head h;
		if (!n || read_head(data, n, &h))
			return -EBADMSG;
		left[depth]--;
		data += h.bytes;
		n -= h.bytes;
		if (h.nested) {
			if (depth == PACK_MAX_DEPTH)
				return -EBADMSG;
			left[++depth] = h.items;
		}
	}
	return n ? -EBADMSG : 0;
}

int pack_unpack(const uint8_t *data, size_t n, msgpack_unpacked *ret)
{
	if (n > PACK_MAX_BYTES || pack_check(data, n))
		return -EBADMSG;
	msgpack_unpacked_init(ret);
	size_t at = 0;
	if (msgpack_unpack_next(ret, (const char *)data, n, &at) == MSGPACK_UNPACK_SUCCESS && at == n)
		return 0;
	msgpack_unpacked_destroy(ret);
	return -EBADMSG;
}

static bool is_key(const pack *key, const char *name, size_t n)
{
	/* an empty text has no address */
	return key->type == MSGPACK_OBJECT_STR && key->via.str.size == n && (!n || !memcmp(key->via.str.ptr, name, n));
}

const pack *pack_get(const pack *map, const char *key)
{
	size_t n = strlen(key);
	if (!map || map->type != MSGPACK_OBJECT_MAP)
		return NULL;
	for (uint32_t i = 0; i < map->via.map.size; i++)
		if (is_key(&map->via.map.ptr[i].key, key, n))
			return &map->via.map.ptr[i].val;
	return NULL;
}

uint64_t pack_u64(const pack *map, const char *key, uint64_t otherwise)
{
	const pack *v = pack_get(map, key);
	return v && v->type == MSGPACK_OBJECT_POSITIVE_INTEGER ? v->via.u64 : otherwise;
}

double pack_number(const pack *map, const char *key, double otherwise)
{
	const pack *v = pack_get(map, key);
	if (!v)
		return otherwise;
	switch (v->type) {
	case MSGPACK_OBJECT_POSITIVE_INTEGER:
		return (double)v->via.u64;
	case MSGPACK_OBJECT_NEGATIVE_INTEGER:
		return (double)v->via.i64;
	case MSGPACK_OBJECT_FLOAT32:
	case MSGPACK_OBJECT_FLOAT64:
		return v->via.f64;
	default:
		return otherwise;
	}
}

bool pack_bool(const pack *map, const char *key, bool otherwise)
{
	const pack *v = pack_get(map, key);
	return v && v->type == MSGPACK_OBJECT_BOOLEAN ? v->via.boolean : otherwise;
}

const char *pack_text(const pack *map, const char *key, char *out, size_t size)
{
	const pack *v = pack_get(map, key);
	out[0] = 0;
	if (v && (v->type == MSGPACK_OBJECT_STR || v->type == MSGPACK_OBJECT_BIN))
		escape_text(out, size, v->via.str.ptr, v->via.str.size);
	return out;
}

static size_t append(char *out, size_t size, size_t at, const char *text)
{
	int n = snprintf(out + at, size - at, "%s", text);
	return at + (size_t)n < size ? at + (size_t)n : size - 1;
}

const char *pack_show(const pack *v, char *out, size_t size)
{
	char part[ESCAPE_MAX];
	size_t at = 0;
	out[0] = 0;
	if (!v)
		return out;
	switch (v->type) {
	case MSGPACK_OBJECT_NIL:
		snprintf(out, size, "-");
		break;
	case MSGPACK_OBJECT_BOOLEAN:
		snprintf(out, size, "%s", v->via.boolean ? "yes" : "no");
		break;
	case MSGPACK_OBJECT_POSITIVE_INTEGER:
		snprintf(out, size, "%llu", (unsigned long long)v->via.u64);
		break;
	case MSGPACK_OBJECT_NEGATIVE_INTEGER:
		snprintf(out, size, "%lld", (long long)v->via.i64);
		break;
	case MSGPACK_OBJECT_FLOAT32:
	case MSGPACK_OBJECT_FLOAT64:
		snprintf(out, size, "%.3g", v->via.f64);
		break;
	case MSGPACK_OBJECT_STR:
	case MSGPACK_OBJECT_BIN:
		escape_text(part, sizeof part, v->via.str.ptr, v->via.str.size);
		snprintf(out, size, "%s", part);
		break;
	case MSGPACK_OBJECT_ARRAY:
		if (!v->via.array.size)
			snprintf(out, size, "none");
		for (uint32_t i = 0; i < v->via.array.size; i++) {
			at = append(out, size, at, i ? ", " : "");
			at = append(out, size, at, pack_show(&v->via.array.ptr[i], part, sizeof part));
		}
		break;
	case MSGPACK_OBJECT_MAP:
		for (uint32_t i = 0; i < v->via.map.size; i++) {
			at = append(out, size, at, i ? ", " : "");
			at = append(out, size, at, pack_show(&v->via.map.ptr[i].key, part, sizeof part));
			at = append(out, size, at, " ");
			at = append(out, size, at, pack_show(&v->via.map.ptr[i].val, part, sizeof part));
		}
		break;
	default:
		break;
	}
	return out;
}
