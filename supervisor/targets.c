/* `bulkhead status --targets`: each lane's worker is asked for its processes, and those who ask get the answers of all, put together by
 * process. A worker that does not answer in time is left out, and named: nothing waits for it (law 5). */
#include "supervisor.h"

#include "common/clock.h"
#include "common/escape.h"
#include "proto/runtimes.h"

#include <errno.h>
#include <msgpack.h>
#include <stdlib.h>
#include <string.h>

enum {
	ROWS_MAX = 3000, /* processes in one answer: it has to fit into what a client takes */
	TIME_MS = 1000,
	GAP_MS = 500, /* between two collections: a worker that tells of ROWS_MAX each time keeps to TARGET's rate */
	COMM_BYTES = 16,
	VERSION_BYTES = 24,
	WHY_BYTES = 96,
};

struct row {
	bool knows; /* said by the worker of its runtime */
	uint64_t numbers[TARGET_NUMBERS];
	char comm[COMM_BYTES + 1], version[VERSION_BYTES], why[WHY_BYTES];
};

static struct {
	struct row *rows; /* owned; NULL: none is being collected */
	uint32_t n, left_out;
	uint64_t request;
	enum { NOT_ASKED, ASKED, ANSWERED } of[WORKERS_MAX];
	int64_t next_ns; /* CLOCK_MONOTONIC: not begun before */
	struct timer timer;
} collection;

static void finish(struct supervisor *s)
{
	timer_clear(&collection.timer);
	status_targets(s);
	memset(collection.of, 0, sizeof collection.of);
	free(collection.rows);
	collection.rows = NULL;
}

static void on_time(void *context)
{
	finish(context);
}

static void finish_if_all(struct supervisor *s)
{
	for (unsigned i = 0; i < s->workers_count; i++)
		if (collection.of[i] == ASKED)
			return;
	if (collection.rows)
		timer_set(&collection.timer, 0, on_time, s); /* in a turn of its own */
}

static void begin(void *context)
{
	struct supervisor *s = context;
	collection.next_ns = monotonic_ns() + GAP_MS * NS_PER_MS;
	for (unsigned i = 0; i < s->workers_count; i++) {
		struct worker *w = &s->workers[i];
		if (w->row->party == PARTY_LANE && worker_running(w) &&
			!channel_send(&w->channel, MSG_DESCRIBE, -1, collection.request))
			collection.of[i] = ASKED;
	}
	timer_set(&collection.timer, TIME_MS * NS_PER_MS, on_time, s);
	finish_if_all(s);
}

int targets_ask(struct supervisor *s)
{
	if (collection.rows)
		return 0; /* who comes later gets the same answer */
	collection.rows = calloc(ROWS_MAX, sizeof *collection.rows);
	if (!collection.rows)
		return -ENOMEM;
	collection.n = collection.left_out = 0;
	collection.request++;
	/* Questions are not to cost a worker its life, which answers no more than so many in a second. */
	int64_t wait = collection.next_ns - monotonic_ns();
	if (wait > 0)
		timer_set(&collection.timer, wait, begin, s);
	else
		begin(s);
	return 0;
}

static void copy(char *to, size_t size, const struct field *from)
{
	size_t n = from->n < size - 1 ? from->n : size - 1;
	memcpy(to, from->data, n);
	to[n] = 0;
}

/* The runtime's worker knows best what a process is; who has its samples counts them. */
static void put_together(struct row *into, const struct row *other)
{
	const struct row *said = other->knows || (!into->knows && other->numbers[TARGET_RUNTIME]) ? other : into;
	uint64_t runtime = said->numbers[TARGET_RUNTIME],
		 taken = into->numbers[TARGET_TAKEN] | other->numbers[TARGET_TAKEN];
	for (unsigned i = TARGET_SAMPLES; i < TARGET_NUMBERS; i++)
		into->numbers[i] += other->numbers[i];
	into->numbers[TARGET_RUNTIME] = runtime;
	into->numbers[TARGET_TAKEN] = taken;
	into->knows |= other->knows;
	if (said == other) {
		memcpy(into->version, other->version, sizeof into->version);
		memcpy(into->why, other->why, sizeof into->why);
	}
}

void targets_one(struct worker *w, const struct frame *f)
{
	struct row row = { 0 };
	if (!collection.rows || f->field[0].u != collection.request || collection.of[w->index] != ASKED)
		return;
	if (f->field[1].n != TARGET_NUMBERS) {
		worker_fail(w, CAUSE_protocol, "a TARGET of %zu numbers", f->field[1].n);
		return;
	}
	memcpy(row.numbers, f->field[1].array, sizeof row.numbers);
	row.knows = worker_runtime(w) != RUNTIME_NONE;
	if (row.knows) /* it speaks for its own runtime only */
		row.numbers[TARGET_RUNTIME] = worker_runtime(w);
	copy(row.comm, sizeof row.comm, &f->field[2]);
	copy(row.version, sizeof row.version, &f->field[3]);
	copy(row.why, sizeof row.why, &f->field[4]);
	if (collection.n == ROWS_MAX)
		collection.left_out++;
	else
		collection.rows[collection.n++] = row;
}

void targets_described(struct worker *w, const struct frame *f)
{
	if (!collection.rows || f->field[0].u != collection.request || collection.of[w->index] != ASKED)
		return;
	collection.of[w->index] = ANSWERED;
	finish_if_all(w->supervisor);
}

static int by_process(const void *a, const void *b)
{
	const struct row *x = a, *y = b;
	if (x->numbers[TARGET_PID] != y->numbers[TARGET_PID])
		return x->numbers[TARGET_PID] < y->numbers[TARGET_PID] ? -1 : 1;
	return 0;
}

static void key_text(msgpack_packer *p, const char *key, const char *text)
{
	char safe[ESCAPE_MAX];
	size_t n = escape_text(safe, sizeof safe, text, strlen(text));
	msgpack_pack_str_with_body(p, key, strlen(key));
	msgpack_pack_str_with_body(p, safe, n);
}

static void key_number(msgpack_packer *p, const char *key, uint64_t value)
{
	msgpack_pack_str_with_body(p, key, strlen(key));
	msgpack_pack_uint64(p, value);
}

/* native says that nobody took it; here is known why. */
static const char *why_of(const struct supervisor *s, const struct row *row)
{
	for (unsigned i = 0; i < s->workers_count; i++) {
		const struct worker *w = &s->workers[i];
		if (row->knows || !row->numbers[TARGET_RUNTIME] || w->row->party != PARTY_LANE ||
			worker_runtime(w) != row->numbers[TARGET_RUNTIME])
			continue;
		if (w->disabled)
			return "the worker of its runtime was disabled by the operator: bulkhead enable";
		if (!worker_running(w))
			return "the worker of its runtime is not running: see bulkhead status and the log";
	}
	return row->why;
}

static void pack_row(msgpack_packer *p, const struct supervisor *s, const struct row *row)
{
	const char *runtime = runtime_name((enum runtime_id)row->numbers[TARGET_RUNTIME]);
	runtime = runtime ? runtime : "?";
	msgpack_pack_map(p, 13);
	key_number(p, "pid", row->numbers[TARGET_PID]);
	key_text(p, "comm", row->comm);
	key_text(p, "lane", row->numbers[TARGET_TAKEN] ? runtime : "native");
	key_text(p, "runtime", runtime);
	key_text(p, "version", row->version);
	key_number(p, "samples", row->numbers[TARGET_SAMPLES]);
	key_number(p, "torn", row->numbers[TARGET_TORN]);
	key_number(p, "skewed", row->numbers[TARGET_SKEWED]);
	key_number(p, "unreadable", row->numbers[TARGET_UNREADABLE]);
	key_number(p, "truncated", row->numbers[TARGET_TRUNCATED]);
	key_number(p, "late", row->numbers[TARGET_LATE]);
	key_number(p, "start_time", row->numbers[TARGET_START]);
	key_text(p, "why", why_of(s, row));
}

/* Why a worker's processes may be missing, or NULL. */
static const char *silence_of(const struct worker *w)
{
	if (w->row->party != PARTY_LANE || collection.of[w->index] == ANSWERED)
		return NULL;
	if (w->disabled)
		return "disabled by the operator: bulkhead enable";
	if (!worker_running(w))
		return "not running: see bulkhead status and the log";
	return "it did not answer within a second: processes of its lane may be missing, ask again";
}

static void pack_silent(msgpack_packer *p, const struct supervisor *s)
{
	uint32_t n = 0;
	for (unsigned i = 0; i < s->workers_count; i++)
		n += silence_of(&s->workers[i]) != NULL;
	msgpack_pack_str_with_body(p, "silent", strlen("silent"));
	msgpack_pack_array(p, n);
	for (unsigned i = 0; i < s->workers_count; i++) {
		const char *why = silence_of(&s->workers[i]);
		if (!why)
			continue;
		msgpack_pack_map(p, 2);
		key_text(p, "worker", s->workers[i].row->name);
		key_text(p, "why", why);
	}
}

int targets_answer(struct supervisor *s, char **ret, size_t *ret_size)
{
	msgpack_sbuffer buffer;
	msgpack_packer packer;
	uint32_t n = 0;
	if (!collection.rows)
		return -EAGAIN;
	qsort(collection.rows, collection.n, sizeof *collection.rows, by_process);
	for (uint32_t i = 0; i < collection.n; i++) {
		if (n && !by_process(&collection.rows[n - 1], &collection.rows[i]))
			put_together(&collection.rows[n - 1], &collection.rows[i]);
		else
			collection.rows[n++] = collection.rows[i];
	}
	collection.n = n;
	msgpack_sbuffer_init(&buffer);
	msgpack_packer_init(&packer, &buffer, msgpack_sbuffer_write);
	msgpack_pack_map(&packer, 3);
	msgpack_pack_str_with_body(&packer, "targets", strlen("targets"));
	msgpack_pack_array(&packer, n);
	for (uint32_t i = 0; i < n; i++)
		pack_row(&packer, s, &collection.rows[i]);
	msgpack_pack_str_with_body(&packer, "left_out", strlen("left_out"));
	msgpack_pack_uint64(&packer, collection.left_out);
	pack_silent(&packer, s);
	if (!buffer.size)
		return -ENOMEM;
	*ret_size = buffer.size;
	*ret = msgpack_sbuffer_release(&buffer);
	return 0;
}
