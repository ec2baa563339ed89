/* The status socket: questions for root and one group, orders for root. A client that breaks a rule loses its connection, nothing more.
 * Places are few, and nobody can lock others out by holding them: who connects takes the place of whoever has been silent for
 * longest, root's first of all, and no user but root holds more than a few. */
#include "supervisor.h"

#include "common/cleanup.h"
#include "common/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

enum {
	BACKLOG = 128,               /* connected and not accepted; beyond, the kernel tells a client to come again */
	ANSWERS_PER_TURN = 2,        /* of the loop, to those who are in; an answer takes 0.1 ms */
	ACCEPTS_PER_S = 2000,        /* a few per cent of a CPU, whatever a crowd does */
	ACCEPT_PAUSE_MS = 10,        /* over that */
	ANSWERS_IN_ALL_PER_S = 3000, /* a fifth of a CPU; who asks for more waits */
	REST_MS = 10,                /* for that long */
	RECOVERY_MS = 1000,          /* without fds or memory, accepting again at once would spin */
	ANSWERS_PER_S =
		100, /* to all users but root together: who comes anew for each question has a fresh bucket each time */
	GROUPS_MAX = 256, /* of a client; one with more is judged by its first ones */
};

static const char socket_name[] = "status.sock";

struct client {
	struct supervisor *supervisor;
	struct channel channel; /* fd -1: the place is free */
	struct watch watch;
	struct timer idle, rest;
	struct bucket bucket;
	uid_t uid;
	pid_t pid;
	int64_t heard_ns; /* when it last asked, or took a part of its answer */
	bool waits;       /* for targets.c */
	char *answer;     /* owned; NULL: none under way */
	size_t size, sent;
};

static struct client clients[STATUS_CLIENTS_MAX];
static int listener = -1;
static struct watch listener_watch;
static struct timer accept_pause;
static struct bucket accepts, answers, all_answers; /* answers: to users other than root */
static struct {
	uint64_t turn;
	unsigned answers;
} now_answered;

static void on_client(void *context, short what);

static void drop(struct client *c)
{
	watch_clear(&c->watch);
	timer_clear(&c->idle);
	timer_clear(&c->rest);
	channel_close(&c->channel);
	free(c->answer);
	c->answer = NULL;
	c->waits = false;
}

static void on_idle(void *context)
{
	drop(context);
}

static void expect(struct client *c)
{
	c->heard_ns = monotonic_ns();
	timer_set(&c->idle, STATUS_IDLE_MS * NS_PER_MS, on_idle, c);
}

/* As much of the answer as the client takes now. False: it is gone. */
static bool send_answer(struct client *c)
{
	while (c->answer) {
		size_t left = c->size - c->sent, n = left < STATUS_PART_BYTES ? left : STATUS_PART_BYTES;
		int r = channel_send(
			&c->channel, MSG_PART, -1, (uint64_t)(n == left), (const void *)(c->answer + c->sent), n);
		if (r == -EAGAIN) {
			watch_set(&c->watch, c->channel.fd, EV_WRITE, on_client, c);
			return true;
		}
		if (r < 0) {
			drop(c);
			return false;
		}
		c->sent += n;
		expect(c);
		if (c->sent == c->size) {
			free(c->answer);
			c->answer = NULL;
			watch_set(&c->watch, c->channel.fd, EV_READ, on_client, c);
		}
	}
	return true;
}

/* Orders are root's, whatever group may ask. */
static int carry_out(struct client *c, const struct status_request *request)
{
	char who[64], words[160];
	bool done = false;
	snprintf(who, sizeof who, "uid %u, process %d", c->uid, c->pid);
	if (c->uid) {
		log_warn("operator (%s): refused: only root gives orders", who);
		snprintf(words, sizeof words, "only root gives orders");
	} else {
		done = operate(c->supervisor, request, who, words, sizeof words);
	}
	return status_words(done, words, &c->answer, &c->size);
}

/* One question a turn of the loop, and the next when the answer is out: an answer takes long enough that a client who asks many
 * at once would hold up all the others. */
static void take_question(struct client *c)
{
	struct frame f = { .fd = -1 };
	struct status_request request = { 0 };
	const char *why = NULL;
	int r = channel_recv(&c->channel, &f, &why);
	if (r == -EAGAIN)
		return;
	if (!r && !(bucket_take(&c->bucket, f.row->max_per_s, monotonic_ns()) &&
			  (!c->uid || bucket_take(&answers, ANSWERS_PER_S, monotonic_ns()))))
		r = -EBUSY;
	if (!r)
		r = status_request_check(&f, &request);
	if (!r && request.ask == ASK_TARGETS && !targets_ask(c->supervisor)) {
		c->waits = true;
		watch_clear(&c->watch); /* one question at a time */
		return;
	}
	if (!r)
		r = request.order ? carry_out(c, &request)
				  : status_answer(c->supervisor, request.ask, &c->answer, &c->size);
	if (r < 0) {
		if (r != -EPIPE)
			log_debug("status: a client is disconnected: %s", why ? why : strerror(-r));
		drop(c);
		return;
	}
	c->sent = 0;
	(void)send_answer(c);
}

/* The list of processes is there, for all who wait for it. */
void status_targets(struct supervisor *s)
{
	for (unsigned i = 0; i < STATUS_CLIENTS_MAX; i++) {
		struct client *c = &clients[i];
		if (c->channel.fd < 0 || !c->waits)
			continue;
		c->waits = false;
		c->sent = 0;
		if (targets_answer(s, &c->answer, &c->size) < 0)
			drop(c);
		else
			(void)send_answer(c);
	}
}

static void on_rest(void *context)
{
	struct client *c = context;
	watch_set(&c->watch, c->channel.fd, EV_READ, on_client, c);
}

/* Not in this turn, or not for a while: what it asked stays where it is. */
static bool must_wait(struct client *c)
{
	if (now_answered.turn != loop_turns())
		now_answered.answers = 0;
	now_answered.turn = loop_turns();
	if (now_answered.answers == ANSWERS_PER_TURN)
		return true;
	now_answered.answers++;
	if (bucket_take(&all_answers, ANSWERS_IN_ALL_PER_S, monotonic_ns()))
		return false;
	watch_clear(&c->watch);
	timer_set(&c->rest, REST_MS * NS_PER_MS, on_rest, c);
	return true;
}

static void on_client(void *context, short what)
{
	struct client *c = context;
	(void)what;
	if (!send_answer(c) || c->answer || must_wait(c))
		return;
	take_question(c);
}

/* The kernel's word, from the time of connect(). */
static bool is_permitted(const struct supervisor *s, int fd, struct ucred *ret_peer)
{
	struct ucred peer;
	gid_t groups[GROUPS_MAX];
	socklen_t size = sizeof peer;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size))
		return false;
	*ret_peer = peer;
	if (!peer.uid)
		return true;
	if (s->status_gid == (gid_t)-1)
		return false;
	if (peer.gid == s->status_gid)
		return true;
	size = sizeof groups;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &size)) /* ERANGE: more than we look at */
		return false;
	for (size_t i = 0; i < size / sizeof *groups; i++)
		if (groups[i] == s->status_gid)
			return true;
	return false;
}

/* What it has asked may lie there unread: those who come and those who ask are heard of in the same turn. */
static void make_way(struct client *c)
{
	if (!c->answer && !c->waits)
		take_question(c);
	if (c->channel.fd >= 0)
		drop(c);
}

/* Its place, emptied if need be. NULL: root has them all. */
static struct client *place_for(uid_t uid)
{
	struct status_place places[STATUS_CLIENTS_MAX];
	for (unsigned i = 0; i < STATUS_CLIENTS_MAX; i++)
		places[i] = (struct status_place) { clients[i].channel.fd >= 0, clients[i].uid, clients[i].heard_ns };
	unsigned i = status_place(places, STATUS_CLIENTS_MAX, uid);
	if (i == STATUS_CLIENTS_MAX)
		return NULL;
	if (places[i].taken)
		make_way(&clients[i]);
	return &clients[i];
}

static void welcome(struct supervisor *s, int fd)
{
	struct ucred peer;
	struct client *c = is_permitted(s, fd, &peer) ? place_for(peer.uid) : NULL;
	if (!c || channel_init(&c->channel, fd, PARTY_SUPERVISOR, PARTY_CLIENT) < 0) {
		close(fd);
		return;
	}
	c->supervisor = s;
	c->bucket = (struct bucket) { 0 };
	c->uid = peer.uid;
	c->pid = peer.pid;
	watch_set(&c->watch, fd, EV_READ, on_client, c);
	expect(c);
	take_question(c); /* most have asked already: an answer now cannot be lost to a crowd that comes after */
}

static void on_connect(void *context, short what);

static void on_accept_pause(void *context)
{
	watch_set(&listener_watch, listener, EV_READ, on_connect, context);
}

static void pause_accepting(struct supervisor *s, int ms)
{
	watch_clear(&listener_watch);
	timer_set(&accept_pause, ms * NS_PER_MS, on_accept_pause, s);
}

/* One a turn: then the others have their turn. */
static void on_connect(void *context, short what)
{
	struct supervisor *s = context;
	(void)what;
	if (!bucket_take(&accepts, ACCEPTS_PER_S, monotonic_ns())) {
		pause_accepting(s, ACCEPT_PAUSE_MS);
		return;
	}
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd >= 0) {
		welcome(s, fd);
	} else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
		log_warn("status: %s", strerror(errno));
		pause_accepting(s, RECOVERY_MS);
	}
}

/* The directory is ours alone, so a path relative to it is the file that we made. */
static int bind_in(struct supervisor *s, int fd)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	if (snprintf(address.sun_path, sizeof address.sun_path, "%s/%s", s->config.runtime_directory, socket_name) >=
		(int)sizeof address.sun_path)
		return -ENAMETOOLONG;
	if (unlinkat(s->runtime_fd, socket_name, 0) && errno != ENOENT)
		return -errno;
	if (bind(fd, (struct sockaddr *)&address, sizeof address))
		return -errno;
	if (fchownat(s->runtime_fd, socket_name, (uid_t)-1, s->status_gid, AT_SYMLINK_NOFOLLOW) ||
		fchmodat(s->runtime_fd, socket_name, 0660, 0))
		return -errno;
	return listen(fd, BACKLOG) ? -errno : 0;
}

int status_open(struct supervisor *s)
{
	for (unsigned i = 0; i < STATUS_CLIENTS_MAX; i++)
		clients[i].channel.fd = -1;
	cleanup_close int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int no = 0;
	/* Inherited by what is accepted: no client can hand us fds, not even before we know it. */
	if (fd >= 0)
		(void)setsockopt(fd, SOL_SOCKET, SO_PASSRIGHTS, &no, sizeof no);
	int r = fd < 0 ? -errno : bind_in(s, fd);
	if (r < 0) {
		(void)unlinkat(s->runtime_fd, socket_name, 0);
		log_error("status socket %s/%s: %s", s->config.runtime_directory, socket_name, strerror(-r));
		return r;
	}
	listener = fd;
	fd = -1;
	watch_set(&listener_watch, listener, EV_READ, on_connect, s);
	return 0;
}

void status_close(struct supervisor *s)
{
	if (listener < 0)
		return;
	for (unsigned i = 0; i < STATUS_CLIENTS_MAX; i++)
		if (clients[i].channel.fd >= 0)
			drop(&clients[i]);
	watch_clear(&listener_watch);
	timer_clear(&accept_pause);
	close(listener);
	listener = -1;
	(void)unlinkat(s->runtime_fd, socket_name, 0);
}
