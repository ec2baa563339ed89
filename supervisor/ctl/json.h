/* A msgpack value as JSON (RFC 8259), indented, for programs and people: valid UTF-8 whatever the bytes were, and no
 * character that a terminal would obey. */
#ifndef CTL_JSON_H
#define CTL_JSON_H

#include "common/buf.h"
#include "pack.h"

/* Appends to `out`; check out->failed. Not a number, infinite, and extension values become null; a map's key that is
 * not text becomes its text. */
void json_put(struct buf *out, const pack *value);

#endif
