#include "json.h"

#include "common/escape.h"

#include <math.h>
#include <string.h>

static void put(struct buf *out, const char *text)
{
	buf_put(out, text, strlen(text));
}

static void put_string(struct buf *out, const void *data, size_t n)
{
	const uint8_t *p = data;
	put(out, "\"");
	for (size_t i = 0; i < n;) {
		uint32_t c = 0;
		size_t len = utf8_char(p + i, n - i, &c);
		if (!len) {
			put(out, "\\ufffd");
			len = 1;
		} else if (c == '"' || c == '\\') {
			put(out, "\\");
			buf_put_u8(out, (uint8_t)c);
		} else if (!utf8_harmful(c)) {
			buf_put(out, p + i, len);
		} else if (c > 0xffff) { /* two halves, as in UTF-16 */
			buf_printf(out, "\\u%04x\\u%04x", 0xd7c0 + (c >> 10), 0xdc00 + (c & 0x3ff));
		} else {
			buf_printf(out, "\\u%04x", c);
		}
		i += len;
	}
	put(out, "\"");
}

static void put_key(struct buf *out, const pack *key)
{
	char text[64];
	if (key->type == MSGPACK_OBJECT_STR || key->type == MSGPACK_OBJECT_BIN)
		put_string(out, key->via.str.ptr, key->via.str.size);
	else
		put_string(out, text, strlen(pack_show(key, text, sizeof text)));
}

static void put_value(struct buf *out, const pack *v, unsigned depth);

static void put_container(struct buf *out, const pack *v, unsigned depth)
{
	bool map = v->type == MSGPACK_OBJECT_MAP;
	uint32_t n = map ? v->via.map.size : v->via.array.size;
	put(out, map ? "{" : "[");
	for (uint32_t i = 0; i < n; i++) {
		buf_printf(out, "%s\n%*s", i ? "," : "", 2 * ((int)depth + 1), "");
		if (map) {
			put_key(out, &v->via.map.ptr[i].key);
			put(out, ": ");
		}
		put_value(out, map ? &v->via.map.ptr[i].val : &v->via.array.ptr[i], depth + 1);
	}
	if (n)
		buf_printf(out, "\n%*s", 2 * (int)depth, "");
	put(out, map ? "}" : "]");
}

static void put_value(struct buf *out, const pack *v, unsigned depth)
{
	switch (v->type) {
	case MSGPACK_OBJECT_BOOLEAN:
		put(out, v->via.boolean ? "true" : "false");
		return;
	case MSGPACK_OBJECT_POSITIVE_INTEGER:
		buf_printf(out, "%llu", (unsigned long long)v->via.u64);
		return;
	case MSGPACK_OBJECT_NEGATIVE_INTEGER:
		buf_printf(out, "%lld", (long long)v->via.i64);
		return;
	case MSGPACK_OBJECT_FLOAT32:
	case MSGPACK_OBJECT_FLOAT64:
		if (isfinite(v->via.f64))
			buf_printf(out, "%.15g", v->via.f64);
		else
			put(out, "null");
		return;
	case MSGPACK_OBJECT_STR:
	case MSGPACK_OBJECT_BIN:
		put_string(out, v->via.str.ptr, v->via.str.size);
		return;
	case MSGPACK_OBJECT_ARRAY:
	case MSGPACK_OBJECT_MAP:
		/* deeper than pack_check() lets pass: only for callers that did not ask it */
		if (depth >= PACK_MAX_DEPTH)
			put(out, "null");
		else
			put_container(out, v, depth);
		return;
	default:
		put(out, "null");
	}
}

void json_put(struct buf *out, const pack *value)
{
	put_value(out, value, 0);
}
