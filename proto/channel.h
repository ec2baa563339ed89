/* One end of a channel: an AF_UNIX SOCK_SEQPACKET socket on which each packet is one frame: a msgpack array
 * [number, has_fd, field...] as messages.def says, with at most one fd. The peer is hostile: size, nesting, counts and
 * types are checked before msgpack-c unpacks, and a frame must end exactly where its packet ends. */
#ifndef PROTO_CHANNEL_H
#define PROTO_CHANNEL_H

#include "proto/messages.h"

#include <stddef.h>
#include <stdint.h>

enum { FRAME_MAX_ARRAY = 4096 /* numbers in one array field */ };

struct field {
	uint64_t u;            /* 'u' */
	const uint8_t *data;   /* 'b'; borrowed until the next receive */
	const uint64_t *array; /* 'U'; likewise */
	size_t n;              /* bytes of data, or numbers in array */
};

struct frame {
	const struct message_row *row;
	int fd; /* -1: none; owned by the receiver once received; stays the sender's when sent */
	struct field field[MESSAGE_MAX_FIELDS];
};

struct channel {
	int fd;             /* owned; -1 when closed */
	uint8_t *packet;    /* owned: the last packet received */
	size_t packet_size; /* how many bytes of it may be used: the largest row this end can receive */
	uint64_t *numbers;  /* owned: arrays of the last frame */
	uint8_t self, peer; /* enum party */
};

/* Takes the fd (non-blocking, close-on-exec). 0 or -errno. */
int channel_init(struct channel *c, int fd, uint8_t self, uint8_t peer);
void channel_close(struct channel *c);

/* Builds the frame from varargs in the order of the row's signature: u: uint64_t; b: const void *, size_t;
 * U: const uint64_t *, size_t. `fd`: -1 or an fd to lend (stays open here). 0; -EAGAIN: the peer does not drain;
 * -EMSGSIZE; -EPIPE: gone. */
int channel_send(struct channel *c, enum message number, int fd, ...);

/* The next frame. 0; -EAGAIN: none now; -EPIPE: end of file; -EBADMSG: the peer broke the protocol (why in *ret_why);
 * any fd of a bad packet is closed. On 0 the caller owns ret->fd. */
int channel_recv(struct channel *c, struct frame *ret, const char **ret_why);

/* The decoder alone, for the fuzzer: bytes of one packet. `has_fd` tells whether one came along. */
int frame_decode(const uint8_t *packet, size_t n, uint8_t from, uint8_t to, bool has_fd, uint64_t *numbers,
	struct frame *ret, const char **ret_why);

#endif
