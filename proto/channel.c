#include "proto/channel.h"

#include "proto/frame.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* The longest row that `from` may send to `to`: a larger packet is cut by the kernel (MSG_TRUNC) and refused. */
static size_t largest_row(uint8_t from, uint8_t to)
{
	size_t largest = 0;
	for (const struct message_row *row = message_rows(); row->name; row++)
		if (row->from & from && row->to & to && row->max_bytes > largest)
			largest = row->max_bytes;
	return largest;
}

static size_t largest_array(uint8_t from, uint8_t to)
{
	for (const struct message_row *row = message_rows(); row->name; row++)
		if (row->from & from && row->to & to && strchr(row->signature, 'U'))
			return FRAME_MAX_ARRAY;
	return 1;
}

int channel_init(struct channel *c, int fd, uint8_t self, uint8_t peer)
{
	size_t size = largest_row(peer, self);
	uint8_t *packet = malloc(size + 1);
	uint64_t *numbers = malloc(largest_array(peer, self) * sizeof *numbers);
	if (!packet || !numbers) {
		free(packet);
		free(numbers);
		return -ENOMEM;
	}
	*c = (struct channel) {
		.fd = fd, .packet = packet, .packet_size = size, .numbers = numbers, .self = self, .peer = peer
	};
	return 0;
}

void channel_close(struct channel *c)
{
	if (c->fd >= 0)
		close(c->fd);
	free(c->packet);
	free(c->numbers);
	*c = (struct channel) { .fd = -1 };
}

union control {
	char bytes[CMSG_SPACE(sizeof(int))];
	struct cmsghdr align;
};

int channel_send(struct channel *c, enum message number, int fd, ...)
{
	const struct message_row *row = message_row(number);
	uint8_t small[1024], *buf = small;
	size_t size = sizeof small;
	if (row->max_bytes > size) {
		size = row->max_bytes;
		buf = malloc(size);
		if (!buf)
			return -ENOMEM;
	}
	va_list fields;
	va_start(fields, fd);
	int n = frame_encode(row, fd >= 0, fields, buf, size);
	va_end(fields);
	if (n < 0)
		goto out;
	struct iovec piece = { buf, (size_t)n };
	struct msghdr message = { .msg_iov = &piece, .msg_iovlen = 1 };
	union control control = { 0 };
	if (fd >= 0) {
		message.msg_control = control.bytes;
		message.msg_controllen = sizeof control.bytes;
		struct cmsghdr *head = CMSG_FIRSTHDR(&message);
		head->cmsg_level = SOL_SOCKET;
		head->cmsg_type = SCM_RIGHTS;
		head->cmsg_len = CMSG_LEN(sizeof fd);
		memcpy(CMSG_DATA(head), &fd, sizeof fd);
	}
	ssize_t sent;
	do
		sent = sendmsg(c->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (sent < 0 && errno == EINTR);
	/* ETOOMANYREFS: the peer does not take the fds that are under way; as good as not draining. */
	n = sent >= 0 ? 0 : errno == ECONNRESET ? -EPIPE : errno == ETOOMANYREFS || errno == ENOBUFS ? -EAGAIN : -errno;
out:
	if (buf != small)
		free(buf);
	return n;
}

/* Takes the fds out of the control data; at most one is kept, surplus ones are closed and counted. */
static int take_fds(struct msghdr *message, int *ret_fd)
{
	int count = 0;
	*ret_fd = -1;
	for (struct cmsghdr *head = CMSG_FIRSTHDR(message); head; head = CMSG_NXTHDR(message, head)) {
		if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS)
			continue;
		size_t n = (head->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < n; i++, count++) {
			int fd;
			memcpy(&fd, CMSG_DATA(head) + i * sizeof fd, sizeof fd);
			if (count)
				close(fd);
			else
				*ret_fd = fd;
		}
	}
	return count;
}

int channel_recv(struct channel *c, struct frame *ret, const char **ret_why)
{
	struct iovec piece = { c->packet, c->packet_size };
	union control control;
	struct msghdr message = {
		.msg_iov = &piece,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof control.bytes,
	};
	ssize_t n;
	do
		n = recvmsg(c->fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == ECONNRESET ? -EPIPE : -errno;
	int fd, fds = take_fds(&message, &fd);
	const char *why = NULL;
	if (message.msg_flags & MSG_CTRUNC)
		why = "its fds were cut off";
	else if (message.msg_flags & MSG_TRUNC)
		why = "a frame over every size limit";
	else if (fds > 1)
		why = "more than one fd";
	if (!why && !n && !fds)
		return -EPIPE;
	if (!why && !frame_decode(c->packet, (size_t)n, c->peer, c->self, fds == 1, c->numbers, ret, &why)) {
		ret->fd = fd;
		return 0;
	}
	if (fd >= 0)
		close(fd);
	*ret_why = why;
	return -EBADMSG;
}
