/* A growing byte buffer with a hard limit, and LEB128 varints (the wire format of the profile stream and of protobuf).
 * An append that fails (limit, memory) sets `failed` and leaves the content as it was; check once at the end. */
#ifndef COMMON_BUF_H
#define COMMON_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf {
	uint8_t *data; /* owned */
	size_t len, cap;
	size_t limit; /* bytes; 0 means none */
	bool failed;
};

void buf_free(struct buf *b);
void buf_clear(struct buf *b); /* keeps the memory */
bool buf_put(struct buf *b, const void *data, size_t n);
bool buf_put_u8(struct buf *b, uint8_t v);
bool buf_put_varint(struct buf *b, uint64_t v);
__attribute__((format(printf, 2, 3))) bool buf_printf(struct buf *b, const char *format, ...);

/* A reader over borrowed bytes. Reading past the end sets `failed`, and everything read afterwards is 0 or NULL. */
struct cursor {
	const uint8_t *p, *end;
	bool failed;
};

uint8_t cursor_u8(struct cursor *c);
uint64_t cursor_varint(struct cursor *c);             /* unsigned LEB128, at most 10 bytes */
int64_t cursor_svarint(struct cursor *c);             /* signed LEB128 */
const void *cursor_bytes(struct cursor *c, size_t n); /* NULL when fewer are left */

#endif
