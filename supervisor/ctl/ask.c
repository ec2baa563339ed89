#include "ask.h"

#include "common/clock.h"
#include "ctl.h"
#include "pack.h"
#include "proto/channel.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* Between two attempts while the supervisor has more connections waiting than it accepts at once. */
enum { CONNECT_AGAIN_MS = 5 };

static int connect_to(const char *path, int64_t until)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	size_t n = strlen(path);
	if (n >= sizeof address.sun_path)
		return -ENAMETOOLONG;
	memcpy(address.sun_path, path, n + 1);
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	while (connect(fd, (struct sockaddr *)&address, sizeof address)) {
		int err = errno;
		if (err == EAGAIN && monotonic_ns() < until) {
			(void)poll(NULL, 0, CONNECT_AGAIN_MS);
			continue;
		}
		close(fd);
		return err == EAGAIN ? -ETIMEDOUT : -err;
	}
	return fd;
}

/* Takes parts until the last. */
static int receive(struct channel *c, int64_t until, struct buf *out)
{
	for (;;) {
		struct frame frame;
		const char *why;
		int err = channel_recv(c, &frame, &why);
		if (!err) {
			if (frame.row->number != MSG_PART || out->len + frame.field[1].n > PACK_MAX_BYTES)
				return -EBADMSG;
			if (!buf_put(out, frame.field[1].data, frame.field[1].n))
				return -ENOMEM;
			if (frame.field[0].u)
				return 0;
			continue;
		}
		/* a supervisor that does not know us hangs up without a word */
		if (err == -EPIPE)
			return out->len ? -EBADMSG : -EACCES;
		if (err != -EAGAIN)
			return err;
		int64_t left = until - monotonic_ns();
		struct pollfd wait = { .fd = c->fd, .events = POLLIN };
		int n = left > 0 ? poll(&wait, 1, (int)(left / NS_PER_MS) + 1) : 0;
		if (n < 0 && errno != EINTR)
			return -errno;
		if (!n)
			return -ETIMEDOUT;
	}
}

static int talk(const char *socket_path, enum message what, uint64_t number, const char *argument, int timeout_ms,
	struct buf *out)
{
	struct channel c;
	buf_clear(out);
	int64_t until = monotonic_ns() + timeout_ms * NS_PER_MS;
	int fd = connect_to(socket_path, until);
	if (fd < 0)
		return fd;
	int err = channel_init(&c, fd, PARTY_CLIENT, PARTY_SUPERVISOR);
	if (err) {
		close(fd);
		return err;
	}
	err = channel_send(&c, what, -1, number, (const void *)argument, strlen(argument));
	if (!err)
		err = receive(&c, until, out);
	else if (err == -EPIPE)
		err = -EACCES;
	channel_close(&c);
	return err;
}

int ask(const char *socket_path, enum ask question, int timeout_ms, struct buf *out)
{
	return talk(socket_path, MSG_ASK, question, "", timeout_ms, out);
}

int ask_operate(const char *socket_path, enum operate order, const char *argument, struct buf *out)
{
	return talk(socket_path, MSG_OPERATE, order, argument, ASK_PATIENCE_MS, out);
}

int ask_explain(const char *socket, int err)
{
	if (err == -ENOENT || err == -ECONNREFUSED)
		ctl_error("no service is running (%s): start it with `systemctl start bulkhead`, or run `bulkheadd`",
			socket);
	else if (err == -EACCES || err == -EPERM)
		ctl_error("%s: not permitted: only root, and the group that status_group in section [supervisor] of "
			  "/etc/bulkhead/bulkhead.conf names",
			socket);
	else if (err == -ETIMEDOUT)
		ctl_error("%s: no answer within %d s", socket, ASK_PATIENCE_MS / 1000);
	else if (err == -EBADMSG)
		ctl_error("%s: the answer makes no sense: is the service of another version?", socket);
	else
		ctl_error("%s: %s", socket, strerror(-err));
	return err == -EACCES || err == -EPERM ? CTL_PERMISSION : CTL_FAILED;
}
