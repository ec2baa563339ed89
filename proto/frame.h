/* Frames as bytes: the codec below channel.h. */
#ifndef PROTO_FRAME_H
#define PROTO_FRAME_H

#include "proto/channel.h"

#include <stdarg.h>

/* Encodes the frame of a row into buf. Its length, or -EMSGSIZE. */
int frame_encode(const struct message_row *row, bool has_fd, va_list fields, uint8_t *buf, size_t size);

#endif
