#include "proto/frame.h"

#include <errno.h>
#include <limits.h>
#include <msgpack.h>
#include <string.h>

struct bounded {
	uint8_t *data;
	size_t size, n;
};

static int append(void *to, const char *data, size_t n)
{
	struct bounded *out = to;
	if (n > out->size - out->n)
		return -1;
	memcpy(out->data + out->n, data, n);
	out->n += n;
	return 0;
}

int frame_encode(const struct message_row *row, bool has_fd, va_list fields, uint8_t *buf, size_t size)
{
	struct bounded out = { .data = buf, .size = size < row->max_bytes ? size : row->max_bytes };
	msgpack_packer packer;
	msgpack_packer_init(&packer, &out, append);
	size_t count = strlen(row->signature);
	int failed = msgpack_pack_array(&packer, count + 2);
	failed |= msgpack_pack_uint64(&packer, row->number);
	failed |= has_fd ? msgpack_pack_true(&packer) : msgpack_pack_false(&packer);
	for (size_t i = 0; i < count && !failed; i++) {
		if (row->signature[i] == 'u') {
			failed = msgpack_pack_uint64(&packer, va_arg(fields, uint64_t));
		} else if (row->signature[i] == 'b') {
			const void *data = va_arg(fields, const void *);
			size_t n = va_arg(fields, size_t);
			failed = n > size || msgpack_pack_bin(&packer, n) ||
				 (n && msgpack_pack_bin_body(&packer, data, n));
		} else {
			const uint64_t *numbers = va_arg(fields, const uint64_t *);
			size_t n = va_arg(fields, size_t);
			failed = n > FRAME_MAX_ARRAY || msgpack_pack_array(&packer, n);
			for (size_t k = 0; k < n && !failed; k++)
				failed = msgpack_pack_uint64(&packer, numbers[k]);
		}
	}
	return failed ? -EMSGSIZE : (int)out.n;
}

/* What a header byte announces: bytes that follow it, and how many of those are a big-endian count. */
struct shape {
	enum { NUMBER, BYTES, ARRAY, BOOLEAN, OTHER } kind;
	size_t header; /* with the first byte */
	uint64_t count;
};

static struct shape shape_of(const uint8_t *p, size_t n)
{
	struct shape other = { OTHER, 0, 0 };
	if (!n)
		return other;
	uint8_t b = p[0];
	if (b < 0x80)
		return (struct shape) { NUMBER, 1, 0 };
	if (b >= 0x90 && b <= 0x9f)
		return (struct shape) { ARRAY, 1, b & 15 };
	if (b == 0xc2 || b == 0xc3)
		return (struct shape) { BOOLEAN, 1, 0 };
	size_t width;
	struct shape s = other;
	if (b >= 0xcc && b <= 0xcf) {
		s = (struct shape) { NUMBER, 1 + (1U << (b - 0xcc)), 0 };
		return s.header <= n ? s : other;
	}
	if (b >= 0xc4 && b <= 0xc6) {
		width = 1U << (b - 0xc4);
		s.kind = BYTES;
	} else if (b == 0xdc || b == 0xdd) {
		width = b == 0xdc ? 2 : 4;
		s.kind = ARRAY;
	} else {
		return other;
	}
	if (1 + width > n)
		return other;
	s.header = 1 + width;
	for (size_t i = 0; i < width; i++)
		s.count = s.count << 8 | p[1 + i];
	return s;
}

/* Walks the packet before msgpack-c sees it, because that allocates what a header claims: the nesting is exactly ours,
 * no count exceeds the bytes that are left, and the end of the last field is the end of the packet. NULL when all is
 * well. */
static const char *prescan(const uint8_t *p, size_t n, const struct message_row **ret_row)
{
	struct shape s = shape_of(p, n);
	if (s.kind != ARRAY || s.count < 2)
		return "not an array";
	uint64_t fields = s.count;
	p += s.header, n -= s.header;
	s = shape_of(p, n);
	if (s.kind != NUMBER || s.header != 1)
		return "no message number";
	const struct message_row *row = message_row(p[0]);
	if (!row)
		return "unknown message number";
	if (fields != strlen(row->signature) + 2)
		return "wrong number of fields";
	p++, n--;
	if (shape_of(p, n).kind != BOOLEAN)
		return "no fd mark";
	p++, n--;
	for (const char *type = row->signature; *type; type++) {
		s = shape_of(p, n);
		if (s.kind != (*type == 'u' ? NUMBER : *type == 'b' ? BYTES : ARRAY))
			return "a field of the wrong type";
		p += s.header, n -= s.header;
		if (s.kind == ARRAY) {
			if (s.count > FRAME_MAX_ARRAY)
				return "an array too long";
			for (uint64_t i = 0; i < s.count; i++) {
				struct shape item = shape_of(p, n);
				if (item.kind != NUMBER)
					return "an array item that is not a number";
				p += item.header, n -= item.header;
			}
		} else {
			if (s.count > n)
				return "a field longer than the frame";
			p += s.count, n -= s.count;
		}
	}
	if (n)
		return "bytes left over";
	*ret_row = row;
	return NULL;
}

static const char *check_row(
	const struct message_row *row, size_t n, uint8_t from, uint8_t to, bool marked, bool has_fd)
{
	if (!(row->from & from) || !(row->to & to))
		return "not this sender's message";
	if (n > row->max_bytes)
		return "a frame over its size limit";
	if (marked != has_fd)
		return marked ? "an fd was announced and did not come" : "an fd came that was not announced";
	if (has_fd && !(row->flags & (MESSAGE_FD | MESSAGE_MAYBE_FD)))
		return "an fd with a message that carries none";
	if (!has_fd && row->flags & MESSAGE_FD)
		return "a message without its fd";
	return NULL;
}

int frame_decode(const uint8_t *packet, size_t n, uint8_t from, uint8_t to, bool has_fd, uint64_t *numbers,
	struct frame *ret, const char **ret_why)
{
	const struct message_row *row;
	const char *why = prescan(packet, n, &row);
	if (why) {
		*ret_why = why;
		return -EBADMSG;
	}
	msgpack_unpacked unpacked;
	msgpack_unpacked_init(&unpacked);
	size_t used = 0;
	int r = 0;
	struct frame frame = { .row = row, .fd = -1 };
	if (msgpack_unpack_next(&unpacked, (const char *)packet, n, &used) != MSGPACK_UNPACK_SUCCESS || used != n) {
		*ret_why = "not msgpack";
		r = -EBADMSG;
		goto out;
	}
	const msgpack_object *item = unpacked.data.via.array.ptr;
	why = check_row(row, n, from, to, item[1].via.boolean, has_fd);
	if (why) {
		*ret_why = why;
		r = -EBADMSG;
		goto out;
	}
	size_t taken = 0;
	for (size_t i = 0; row->signature[i]; i++) {
		const msgpack_object *o = &item[i + 2];
		struct field *field = &frame.field[i];
		if (row->signature[i] == 'u') {
			field->u = o->via.u64;
		} else if (row->signature[i] == 'b') {
			field->data = (const uint8_t *)o->via.bin.ptr; /* points into the packet */
			field->n = o->via.bin.size;
		} else {
			if (o->via.array.size > FRAME_MAX_ARRAY - taken) {
				*ret_why = "arrays too long";
				r = -EBADMSG;
				goto out;
			}
			field->array = numbers + taken;
			field->n = o->via.array.size;
			for (size_t k = 0; k < field->n; k++)
				numbers[taken++] = o->via.array.ptr[k].via.u64;
		}
	}
	*ret = frame;
out:
	msgpack_unpacked_destroy(&unpacked);
	return r;
}
