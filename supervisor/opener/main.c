/* bulkhead-opener: see opener.h. */
#include "opener/opener.h"

#include "common/log.h"
#include "proto/channel.h"
#include "proto/lease.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CHANNEL_FD = 3 };
enum { EXIT_CODE_OK = 0, EXIT_CODE_USAGE = 64, EXIT_CODE_SANDBOX = 70, EXIT_CODE_PROTOCOL = 71, EXIT_CODE_MEMORY = 72 };

static struct channel channel;

static void log_to_supervisor(enum log_level level, const char *text)
{
	(void)channel_send(&channel, MSG_LOG, -1, (uint64_t)level, (const void *)text, strlen(text));
}

static int open_for(const struct order *o, const struct target *t)
{
	int fd;
	switch (o->kind) {
	case LEASE_MEM:
		fd = openat(t->proc, "mem", O_RDONLY | O_CLOEXEC);
		return fd < 0 ? -errno : fd;
	case LEASE_MAPS:
		fd = openat(t->proc, "maps", O_RDONLY | O_CLOEXEC);
		return fd < 0 ? -errno : fd;
	case LEASE_ABOUT:
		return about_open(t);
	case LEASE_MAPPED_FILE:
		return file_open_mapped(t, o->a, o->b);
	case LEASE_DEBUG_FILE:
		return file_open_debug(t, o->bytes, o->n);
	case LEASE_PERF_MAP:
		return file_open_perf_map(t);
	default:
		return -EINVAL;
	}
}

/* The process is held by its pidfd: it was the same one before and after. */
static int fill_target(const struct order *o, uint64_t *ret_start_time)
{
	struct target t;
	int r = target_open(&t, o->pid, o->start_time);
	if (r < 0)
		return r;
	int fd = open_for(o, &t);
	*ret_start_time = t.start_time;
	if (fd >= 0 && !target_alive(&t)) {
		close(fd);
		fd = -ESRCH;
	}
	target_close(&t);
	return fd;
}

static int fill(const struct order *o, uint64_t *ret_start_time)
{
	if (o->kind == LEASE_KALLSYMS) {
		int fd = open("/proc/kallsyms", O_RDONLY | O_CLOEXEC);
		return fd < 0 ? -errno : fd;
	}
	if (o->kind == LEASE_DEBUG_FILE && !o->pid)
		return file_open_debug(NULL, o->bytes, o->n);
	return fill_target(o, ret_start_time);
}

static void answer(const struct frame *f)
{
	struct order o = {
		.kind = (unsigned)f->field[1].u,
		.pid = (pid_t)f->field[2].u,
		.start_time = f->field[3].u,
		.a = f->field[4].u,
		.b = f->field[5].u,
		.bytes = f->field[6].data,
		.n = f->field[6].n,
	};
	uint64_t id = f->field[0].u, start_time = o.start_time;
	int fd = fill(&o, &start_time);
	int r = channel_send(
		&channel, MSG_FILLED, fd < 0 ? -1 : fd, id, (uint64_t)(fd < 0 ? -fd : 0), (uint64_t)o.pid, start_time);
	if (fd >= 0)
		close(fd);
	if (r < 0) /* it sends a few orders and takes every answer: it is gone, or not itself */
		_exit(r == -EPIPE ? EXIT_CODE_OK : EXIT_CODE_PROTOCOL);
}

static void handle_all(void)
{
	struct frame f = { .fd = -1 };
	const char *why = NULL;
	int r;
	while (!(r = channel_recv(&channel, &f, &why))) {
		if (f.fd >= 0)
			close(f.fd);
		if (f.row->number == MSG_STOP)
			_exit(EXIT_CODE_OK);
		if (f.row->number == MSG_ORDER)
			answer(&f);
	}
	if (r == -EAGAIN)
		return;
	_exit(r == -EPIPE ? EXIT_CODE_OK : EXIT_CODE_PROTOCOL); /* law 8 */
}

static void start(int argc, char **argv)
{
	char *end = NULL;
	unsigned long uid = argc > 1 ? strtoul(argv[1], &end, 10) : 0;
	if (!uid || !end || *end || uid > INT32_MAX)
		_exit(EXIT_CODE_USAGE);
	if (channel_init(&channel, CHANNEL_FD, PARTY_OPENER, PARTY_SUPERVISOR) < 0)
		_exit(EXIT_CODE_MEMORY);
	log_process("opener");
	log_set_sink(log_to_supervisor);
	int r = mounts_init();
	if (r < 0)
		log_warn("files on memfds will not open: %s", strerror(-r));
	const char *failed = opener_lockdown((uid_t)uid);
	if (failed) {
		log_error("no sandbox, no work: %s: %s", failed, strerror(errno));
		_exit(EXIT_CODE_SANDBOX);
	}
#ifdef BULKHEAD_SANITIZE
	const uint64_t sanitizer = 1;
#else
	const uint64_t sanitizer = 0;
#endif
	if (channel_send(&channel, MSG_READY, -1, (uint64_t)PROTO_VERSION, (uint64_t)0, (uint64_t)0, (uint64_t)0,
		    sanitizer) < 0)
		_exit(EXIT_CODE_PROTOCOL);
}

int main(int argc, char **argv)
{
	start(argc, argv);
	for (;;) {
		struct pollfd fd = { .fd = CHANNEL_FD, .events = POLLIN };
		if (poll(&fd, 1, -1) > 0)
			handle_all();
	}
}
