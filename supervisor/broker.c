/* OPEN from a worker, ORDER to the opener, FILLED from it, OPENED to the worker. The opener works on one order at a
 * time and in order, so the one at the head is the one that hangs. Orders live in one fixed table, linked into one of
 * three kinds of list: queued (for the opener), sent (to it), answered (for each worker: its channel is full, or will
 * be used at once). */
#include "supervisor.h"

#include "common/clock.h"

#include <errno.h>
#include <limits.h>
#include <linux/sockios.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum {
	BUILD_ID_MAX = 64, /* bytes; SHA-1 has 20 */
	INDEX_BITS = 16,
	FDS_SPARE = 16, /* of the budget of fds: what a worker has of its own, and leases that it must get (LEND) */
	CHANNEL_FULL =
		128 << 10, /* unread bytes: what is left of the buffer is for frames that must go out (LEND, STOP) */
};

struct order {
	uint64_t id;           /* serial << 16 | index; 0: free */
	struct worker *worker; /* NULL: it has ended since */
	uint64_t request;
	uint8_t kind;
	int32_t pid;
	uint64_t start_time, a, b;
	uint8_t bytes[BUILD_ID_MAX];
	uint8_t bytes_n;
	int64_t queued_ns;
	/* the answer */
	int fd; /* owned; -1 */
	int error;
	struct order *next;
};

struct list {
	struct order *first, *last;
	unsigned count;
};

static struct supervisor *supervisor;
static struct order orders[ORDERS_MAX]; /* pages come into being with use */
static struct list queued, sent, answered[WORKERS_MAX];
static struct order *free_orders;
static unsigned orders_ever; /* places of `orders` that have been used */
static uint64_t serial;
static struct timer head_timer;

static void append(struct list *list, struct order *o)
{
	o->next = NULL;
	*(list->last ? &list->last->next : &list->first) = o;
	list->last = o;
	list->count++;
}

static struct order *take_first(struct list *list)
{
	struct order *o = list->first;
	if (!o)
		return NULL;
	list->first = o->next;
	if (!list->first)
		list->last = NULL;
	list->count--;
	return o;
}

static struct order *new_order(void)
{
	struct order *o = free_orders;
	if (o)
		free_orders = o->next;
	else if (orders_ever < ORDERS_MAX)
		o = &orders[orders_ever++];
	else
		return NULL;
	*o = (struct order) { .id = ++serial << INDEX_BITS | (uint64_t)(o - orders), .fd = -1 };
	return o;
}

static void free_order(struct order *o)
{
	if (o->fd >= 0)
		close(o->fd);
	if (o->worker)
		o->worker->orders--;
	o->id = 0;
	o->next = free_orders;
	free_orders = o;
}

static bool channel_is_full(const struct worker *w)
{
	int unread = 0;
	return !ioctl(w->channel.fd, SIOCOUTQ, &unread) && unread > CHANNEL_FULL;
}

/* 0: told; -EAGAIN: later. Everything else means that it will never hear it. */
static int tell(struct worker *w, const struct order *o)
{
	struct ledger *ledger = &w->supervisor->ledger;
	uint64_t lease = 0;
	if (channel_is_full(w))
		return -EAGAIN;
	int error = o->error;
	if (!error && ledger->fds[w->owner] + FDS_SPARE >= w->budget->fds)
		error = EMFILE; /* one that holds what it is lent gets no more */
	if (!error) {
		lease = ledger_add(ledger, w->owner, w->life.incarnation, o->kind, o->pid, monotonic_ns());
		if (!lease)
			return channel_send(&w->channel, MSG_OPENED, -1, o->request, (uint64_t)0, (uint64_t)ENFILE,
				(uint64_t)o->pid, o->start_time);
	}
	int r = channel_send(&w->channel, MSG_OPENED, error ? -1 : o->fd, o->request, lease, (uint64_t)error,
		(uint64_t)o->pid, o->start_time);
	if (r < 0 && lease)
		ledger_release(ledger, w->owner, lease);
	return r;
}

static void deliver(struct worker *w)
{
	struct list *list = &answered[w->index];
	while (list->first) {
		if (tell(w, list->first) == -EAGAIN) {
			dispatch_watch(w, true);
			return;
		}
		free_order(take_first(list));
	}
}

void broker_writable(struct worker *w)
{
	dispatch_watch(w, false);
	deliver(w);
}

static void answer(struct order *o, int error)
{
	o->error = error;
	if (!o->worker) {
		free_order(o);
		return;
	}
	append(&answered[o->worker->index], o);
	deliver(o->worker);
}

static struct worker *opener(void)
{
	return worker_of_party(supervisor, PARTY_OPENER);
}

static void on_head_late(void *context);

static void watch_head(void)
{
	if (sent.first)
		timer_set(&head_timer, opener()->budget->order_deadline_ns, on_head_late, NULL);
	else
		timer_clear(&head_timer);
}

static void pump(void)
{
	struct worker *o = opener();
	if (!worker_running(o))
		return;
	bool idle = !sent.first;
	while (queued.first && sent.count < ORDERS_IN_FLIGHT) {
		const struct order *next = queued.first;
		int r = channel_send(&o->channel, MSG_ORDER, -1, next->id, (uint64_t)next->kind, (uint64_t)next->pid,
			next->start_time, next->a, next->b, (const void *)next->bytes, (size_t)next->bytes_n);
		if (r < 0)
			break; /* it is ending, or on_head_late will see to it */
		append(&sent, take_first(&queued));
	}
	if (idle)
		watch_head();
}

/* Orders that the opener did not get to go back to the front. */
static void requeue(void)
{
	struct list all = sent;
	if (!all.first)
		return;
	all.last->next = queued.first;
	all.last = queued.last ? queued.last : all.last;
	all.count += queued.count;
	queued = all;
	sent = (struct list) { 0 };
	timer_clear(&head_timer);
}

static bool is_avoided(const struct order *o)
{
	return avoid_is_listed(&supervisor->avoided, o->pid, o->start_time, o->kind, monotonic_ns());
}

static void on_head_late(void *context)
{
	struct order *late = take_first(&sent);
	(void)context;
	if (!late)
		return;
	log_warn("opener: process %d, kind %u: no answer for %lld ms", late->pid, late->kind,
		(long long)(opener()->budget->order_deadline_ns / NS_PER_MS));
	if (late->pid)
		avoid_add(&supervisor->avoided, late->pid, late->start_time, late->kind, monotonic_ns());
	requeue();
	answer(late, ETIMEDOUT);
	worker_fail(opener(), CAUSE_deadline, "an order hangs");
}

/* What each kind may say. The order is built anew from this: nothing that a worker composed goes through as it came. */
static int check(struct order *o, const struct frame *f)
{
	uint64_t kind = f->field[1].u, pid = f->field[2].u;
	bool target = kind != LEASE_KALLSYMS && (kind != LEASE_DEBUG_FILE || pid);
	if (!kind || kind >= LEASE_REQUESTABLE_MAX)
		return -EBADMSG;
	o->kind = (uint8_t)kind;
	if (target) {
		if (!pid || pid > INT_MAX)
			return ESRCH; /* the idle task, say: nobody's fault */
		o->pid = (int32_t)pid;
		o->start_time = f->field[3].u;
		/* Nobody reads our memory; our names are no secret. */
		if (pid_is_ours(supervisor, o->pid) && kind != LEASE_ABOUT)
			return EPERM;
	}
	if (kind == LEASE_MAPPED_FILE) {
		o->a = f->field[4].u;
		o->b = f->field[5].u;
		if (o->a >= o->b)
			return EINVAL;
	}
	if (kind == LEASE_DEBUG_FILE) {
		if (f->field[6].n < 2 || f->field[6].n > BUILD_ID_MAX)
			return EINVAL;
		o->bytes_n = (uint8_t)f->field[6].n;
		memcpy(o->bytes, f->field[6].data, o->bytes_n);
	}
	return is_avoided(o) ? LEASE_AVOIDED : 0;
}

/* Over its limit, or no place left: the answer needs no order, but the worker must have room for it. */
static void turn_down(struct worker *w, const struct frame *f)
{
	int r = channel_send(&w->channel, MSG_OPENED, -1, f->field[0].u, (uint64_t)0, (uint64_t)EAGAIN, f->field[2].u,
		f->field[3].u);
	if (r == -EAGAIN)
		worker_fail(w, CAUSE_requests, "it asks for more and does not read the answers");
}

void broker_request(struct worker *w, const struct frame *f)
{
	struct order *o = w->life.state == LIFE_RUNNING && w->orders < w->budget->requests ? new_order() : NULL;
	if (!o) {
		turn_down(w, f);
		return;
	}
	o->worker = w;
	w->orders++;
	o->request = f->field[0].u;
	o->queued_ns = monotonic_ns();
	int r = check(o, f);
	if (r < 0) {
		free_order(o);
		worker_fail(w, CAUSE_protocol, "it asked for what cannot be asked for: kind %llu",
			(unsigned long long)f->field[1].u);
	} else if (r) {
		answer(o, r);
	} else {
		append(&queued, o);
		pump();
	}
}

void broker_filled(struct worker *w, struct frame *f)
{
	struct order *o = sent.first;
	uint64_t error = f->field[1].u;
	if (!o || o->id != f->field[0].u || error > INT_MAX || !error != (f->fd >= 0)) {
		if (f->fd >= 0)
			close(f->fd);
		worker_fail(w, CAUSE_protocol, "an answer to no order");
		return;
	}
	take_first(&sent);
	o->fd = f->fd;
	if (!o->start_time)
		o->start_time = f->field[3].u;
	watch_head();
	/* Only now is it known which process has this pid. Opening its memory is no risk; reading it is. */
	if (!error && is_avoided(o)) {
		close(o->fd);
		o->fd = -1;
		error = LEASE_AVOIDED;
	}
	answer(o, (int)error);
	pump();
}

void broker_opener_ready(struct supervisor *s)
{
	(void)s;
	pump();
}

static void forget_worker(struct list *list, const struct worker *w)
{
	for (struct order *o = list->first; o; o = o->next) {
		if (o->worker != w)
			continue;
		o->worker->orders--;
		o->worker = NULL; /* what the opener brings for it is closed */
	}
}

void broker_worker_gone(struct worker *w)
{
	if (w->row->party == PARTY_OPENER) {
		requeue();
		return;
	}
	forget_worker(&queued, w);
	forget_worker(&sent, w);
	while (answered[w->index].first)
		free_order(take_first(&answered[w->index]));
}

void broker_tick(void)
{
	int64_t limit = monotonic_ns() - ORDER_PATIENCE_MS * NS_PER_MS;
	while (queued.first && (queued.first->queued_ns < limit || !queued.first->worker))
		answer(take_first(&queued), ETIMEDOUT);
}

unsigned broker_orders(void)
{
	return queued.count + sent.count;
}

void broker_init(struct supervisor *s)
{
	supervisor = s;
}
