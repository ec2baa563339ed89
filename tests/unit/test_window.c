/* A window is the ring between the thread that reads frozen targets and the main thread, which comes when it has time. Here it runs on a
 * real lane, with samples of a process that nobody lent: each becomes an entry that says so, as long as there is room for its stack. */
#include "unit/check.h"

#include "kit/window.h"
#include "proto/lane.h"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum {
	LANE_BYTES = 8 << 20,  /* the window's ring is the first to be full */
	STRANGER = 0x7ffffff0, /* no process */
	WAIT_MS = 20000,
	PAIRS = 400,
	MANY = 20000,  /* twice what the ring takes */
	FLOOD = 15000, /* more than the ring takes, less than the lane */
	QUARTER_MS = 250,
	LAG = 3, /* entries that main leaves in the ring */
};

/* Records are numbered by their time, which is far off: none of them is too old to be read. */
static const uint64_t LATER = 1ULL << 62;
static struct lane lane;
static struct lane_state producer;
static int bell;
static uint64_t put, taken; /* so far */

/* Of the kit: what makes a frozen thread of one in the sandbox. Here it is a plain one. */
int kit_thread(void *(*run)(void *), void *argument, pthread_t *ret)
{
	return -pthread_create(ret, NULL, run, argument);
}

void kit_pin_thread(const struct kit *kit, uint32_t cpu)
{
	(void)kit;
	(void)cpu;
}

void kit_breathe(int64_t *rested_ns)
{
	(void)rested_ns;
}

static void publish(const void *record, size_t n)
{
	struct lane_piece piece = { record, n };
	while (!lane_put(&lane, 0, &producer, &piece, 1)) {
		lane_wake(&lane, 0);
		usleep(100);
	}
	lane_publish(&lane, 0, &producer);
}

static void put_sample(void)
{
	struct lane_sample sample = { .head = { sizeof sample, LANE_SAMPLE, LATER + ++put, STRANGER, STRANGER },
		.has_user = LANE_USER_64 };
	publish(&sample, sizeof sample);
}

static void put_urgent(void)
{
	struct lane_event event = { .head = { sizeof event, LANE_APPEARED, LATER + ++put, STRANGER, STRANGER } };
	publish(&event, sizeof event);
	lane_wake(&lane, 0);
}

static uint64_t hear_bell(void)
{
	struct pollfd fd = { bell, POLLIN, 0 };
	uint64_t rung = 0;
	assert_int_equal(poll(&fd, 1, WAIT_MS), 1);
	assert_int_equal(read(bell, &rung, sizeof rung), sizeof rung);
	return rung;
}

/* The next entry is the next record. Its status. */
static uint32_t take(void)
{
	const struct window_entry *entry = window_peek(0);
	for (int ms = 0; !entry && ms < WAIT_MS; ms++, entry = window_peek(0))
		usleep(1000);
	assert_non_null(entry);
	const struct lane_record *record = (const void *)(entry + 1);
	assert_int_equal(record->time, LATER + ++taken);
	assert_int_equal(entry->record_bytes, record->size);
	uint32_t status = entry->status;
	struct lane_tail tail = { .tail = entry->lane_end, .cpu = 0 };
	window_drop(0);
	lane_commit(&lane, &tail, 1, 0, (const uint64_t[COUNTER_MAX]) { 0 });
	return status;
}

static int start(void **state)
{
	(void)state;
	int fd = lane_create(1, LANE_BYTES);
	bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	assert_int_equal(lane_open(&lane, fd, 1, LANE_BYTES), 0);
	close(fd);
	lane_use(&lane, 0);
	producer = lane_state(&lane, 0);
	return windows_start(NULL, &lane, bell, NULL, 64 << 10);
}

/* What main had worked off, a ring begun anew counted as used, to its end: it was rung awake for nothing, and a second sample had no room. */
static void a_ring_begun_anew_is_empty(void **state)
{
	(void)state;
	for (int i = 0; i < PAIRS; i++) {
		put_sample();
		put_sample();
		put_urgent();
		uint64_t rung = hear_bell();
		assert_true(window_bell_urgent(rung));
		assert_int_equal(rung >> 32, 1); /* by the event alone */
		assert_int_equal(take(), WINDOW_EARLY);
		assert_int_equal(take(), WINDOW_EARLY);
		take();
		assert_null(window_peek(0));
	}
}

static void entries_keep_their_order_around_the_end_of_the_ring(void **state)
{
	(void)state;
	for (int i = 0; i < MANY; i++) {
		put_sample();
		lane_wake(&lane, 0);
		if (i >= LAG)
			assert_int_equal(take(), WINDOW_EARLY);
	}
	for (int i = 0; i < LAG; i++)
		take();
	assert_null(window_peek(0));
}

/* It rings for each entry once a quarter is full, and once a millisecond when all of it is. */
static void wait_until_full(void)
{
	uint64_t rings;
	do {
		usleep(QUARTER_MS * 1000);
		rings = hear_bell() >> 32;
	} while (!rings || rings > 2 * QUARTER_MS);
}

/* The window's ring fills, and the rest waits in the lane; a sample for whose stack there is no room goes without. */
static void nothing_is_lost_while_main_is_away(void **state)
{
	(void)state;
	uint64_t without = 0;
	for (int i = 0; i < FLOOD; i++)
		put_sample();
	lane_wake(&lane, 0);
	wait_until_full();
	while (taken < put)
		without += take() == WINDOW_LATE;
	assert_true(without > 0);
	assert_null(window_peek(0));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_ring_begun_anew_is_empty),
		cmocka_unit_test(entries_keep_their_order_around_the_end_of_the_ring),
		cmocka_unit_test(nothing_is_lost_while_main_is_away),
	};
	return cmocka_run_group_tests(tests, start, NULL);
}
