/* Fields of protocol buffers (protobuf.dev/programming-guides/encoding), appended to a buffer. Zeroes are left out, as
 * proto3 does. */
#ifndef MERGE_PROTOBUF_H
#define MERGE_PROTOBUF_H

#include "common/buf.h"

static inline void protobuf_uint(struct buf *b, unsigned field, uint64_t value)
{
	if (!value)
		return;
	buf_put_varint(b, field << 3);
	buf_put_varint(b, value);
}

static inline void protobuf_bytes(struct buf *b, unsigned field, const void *data, size_t n)
{
	buf_put_varint(b, field << 3 | 2);
	buf_put_varint(b, n);
	buf_put(b, data, n);
}

#endif
