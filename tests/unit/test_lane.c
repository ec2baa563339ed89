/* A lane must lose nothing and count nothing twice when either end is killed at any instruction. So both are, many
 * times. */
#include "unit/check.h"

#include "proto/lane.h"
#include "sampler/sampler.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { RING = LANE_RING_MIN, RECORDS = 200000, KILLS = 60 };

struct numbered {
	struct lane_record head;
	uint64_t number;
};

static void put_number(const struct lane *lane, struct lane_state *state, uint64_t number)
{
	struct numbered record = { { sizeof record, LANE_COMM, number, 1, 1 }, number };
	struct lane_piece piece = { &record, sizeof record };
	while (!lane_put(lane, 0, state, &piece, 1))
		;
	state->position = number;
	state->counters[COUNTER_taken]++;
	lane_publish(lane, 0, state);
	lane_wake(lane, 0);
}

static void pause_us(unsigned us)
{
	nanosleep(&(struct timespec) { 0, us * 1000L }, NULL);
}

static pid_t start(void (*body)(const struct lane *, int), const struct lane *lane, int fd)
{
	pid_t pid = fork();
	if (!pid) {
		body(lane, fd);
		_exit(0);
	}
	return pid;
}

static void produce(const struct lane *lane, int unused)
{
	(void)unused;
	struct lane_state state = lane_state(lane, 0);
	for (uint64_t number = state.position + 1; number <= RECORDS; number++)
		put_number(lane, &state, number);
}

/* Writes each number to the "stream" and commits, as the native worker does. */
static void consume(const struct lane *lane, int stream)
{
	uint64_t snapshot, at = lane_recover(lane, &snapshot), position = lane_tail(lane, 0);
	struct numbered record;
	for (;;) {
		int n = lane_get(lane, 0, position, &record, sizeof record);
		if (n < 0)
			_exit(2);
		if (!n) {
			lane_wait(lane, 0, position, 10);
			continue;
		}
		if (pwrite(stream, &record.number, sizeof record.number, (off_t)at) != sizeof record.number)
			_exit(3);
		at += sizeof record.number;
		position += (uint32_t)n;
		struct lane_tail tail = { .tail = position, .cpu = 0 };
		uint64_t counters[COUNTER_MAX] = { [COUNTER_taken] = record.number };
		lane_commit(lane, &tail, 1, at, counters);
		if (record.number == RECORDS)
			_exit(0);
	}
}

static void both_ends_killed_lose_nothing(void **state)
{
	(void)state;
	int fd = lane_create(1, RING), stream = memfd_create("stream", MFD_CLOEXEC);
	struct lane lane;
	assert_int_equal(lane_open(&lane, fd, 1, RING), 0);
	unsigned seed = (unsigned)time(NULL);
	pid_t producer = start(produce, &lane, -1), consumer = start(consume, &lane, stream);
	for (int i = 0; i < KILLS; i++) {
		pause_us((unsigned)rand_r(&seed) % 1500);
		pid_t *victim = i & 1 ? &producer : &consumer;
		kill(*victim, SIGKILL);
		waitpid(*victim, NULL, 0);
		*victim = i & 1 ? start(produce, &lane, -1) : start(consume, &lane, stream);
	}
	int status;
	waitpid(producer, &status, 0);
	assert_int_equal(status, 0);
	waitpid(consumer, &status, 0);
	assert_int_equal(status, 0);
	uint64_t snapshot, bytes, counters[COUNTER_MAX] = { 0 };
	assert_int_equal(lane_peek_commit(fd, &snapshot, &bytes), 0);
	assert_int_equal(bytes, RECORDS * sizeof(uint64_t));
	uint64_t marks[COUNTER_MAX] = { 0 };
	assert_int_equal(lane_peek_committed(fd, marks), 0);
	assert_int_equal(marks[COUNTER_taken], RECORDS); /* together with the stream's length */
	const uint64_t *numbers = mmap(NULL, bytes, PROT_READ, MAP_SHARED, stream, 0);
	for (uint64_t i = 0; i < RECORDS; i++)
		assert_int_equal(numbers[i], i + 1);
	assert_int_equal(lane_peek_counters(fd, 1, RING, counters), 0);
	assert_int_equal(counters[COUNTER_taken], RECORDS);
	lane_close(&lane);
	close(fd);
	close(stream);
}

static void a_lying_consumer_stops_only_itself(void **unused)
{
	(void)unused;
	int fd = lane_create(2, RING);
	struct lane lane;
	assert_int_equal(lane_open(&lane, fd, 2, RING), 0);
	atomic_store(&lane_ring(&lane, 0).consumer->tail, 1ULL << 60);
	struct lane_state state = lane_state(&lane, 0);
	struct numbered record = { { sizeof record, LANE_COMM, 0, 1, 1 }, 7 };
	struct lane_piece piece = { &record, sizeof record };
	assert_false(lane_put(&lane, 0, &state, &piece, 1));
	state = lane_state(&lane, 1);
	assert_true(lane_put(&lane, 1, &state, &piece, 1));
	lane_close(&lane);
	close(fd);
}

static void a_lying_producer_is_noticed(void **unused)
{
	(void)unused;
	int fd = lane_create(1, RING);
	struct lane lane;
	assert_int_equal(lane_open(&lane, fd, 1, RING), 0);
	struct numbered record;
	struct lane_state state = { .head = 1ULL << 40 };
	lane_publish(&lane, 0, &state);
	assert_int_equal(lane_get(&lane, 0, 0, &record, sizeof record), -EBADMSG);
	state.head = RING;
	lane_publish(&lane, 0, &state);
	for (uint32_t size = 0; size < 64; size++) { /* the ring's data are all zero: sizes that lie */
		memcpy(lane_ring(&lane, 0).data, &size, sizeof size);
		int n = lane_get(&lane, 0, 0, &record, sizeof record);
		assert_true(n == -EBADMSG || (n == (int)size && size >= sizeof record.head && size <= sizeof record));
	}
	lane_close(&lane);
	close(fd);
}

static void an_unsealed_memfd_is_refused(void **unused)
{
	(void)unused;
	int good = lane_create(1, RING);
	off_t size = lseek(good, 0, SEEK_END);
	int bad = memfd_create("bad", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_int_equal(ftruncate(bad, size), 0);
	struct lane lane;
	assert_int_equal(lane_open(&lane, bad, 1, RING), -EINVAL);
	assert_int_equal(lane_open(&lane, good, 2, RING), -EINVAL);
	assert_int_equal(lane_create(0, RING), -EINVAL);
	assert_int_equal(lane_create(1, RING + 1), -EINVAL);
	close(good);
	close(bad);
}

static void a_record_that_two_workers_died_of_is_passed_over(void **unused)
{
	(void)unused;
	int fd = lane_create(1, RING);
	struct lane lane;
	uint64_t snapshot;
	assert_int_equal(lane_open(&lane, fd, 1, RING), 0);
	for (int death = 0; death < 2; death++) {
		assert_true(lane_begin(&lane, 0, 64));
		(void)lane_recover(&lane, &snapshot); /* its successor starts */
	}
	assert_false(lane_begin(&lane, 0, 64));
	assert_true(lane_begin(&lane, 0, 128));
	lane_end(&lane);
	(void)lane_recover(&lane, &snapshot); /* this one died of something else */
	assert_true(lane_begin(&lane, 0, 192));
	lane_close(&lane);
	close(fd);
}

static void marks_that_a_killed_worker_had_read_are_not_forgotten(void **unused)
{
	(void)unused;
	int fd = lane_create(1, RING);
	struct lane lane;
	struct lane_tail tail = { .tail = 64, .cpu = 0 };
	uint64_t counters[COUNTER_MAX] = { [COUNTER_taken] = 197 }, found[COUNTER_MAX] = { [COUNTER_taken] = 3 };
	assert_int_equal(lane_open(&lane, fd, 1, RING), 0);
	lane_commit_stream(&lane, 3, 0);
	lane_commit(&lane, &tail, 1, 0, counters);
	lane_commit_stream(&lane, 3, 0); /* its successor begins the same stream anew: nothing was written yet */
	assert_int_equal(lane_peek_committed(fd, found), 0);
	assert_int_equal(found[COUNTER_taken], 200);
	lane_counters(&lane, found);
	assert_int_equal(found[COUNTER_taken], 197);
	lane_commit_stream(&lane, 4, 0); /* by then they have been told */
	lane_counters(&lane, found);
	assert_int_equal(found[COUNTER_taken], 0);
	lane_close(&lane);
	close(fd);
}

static void whose_memory_is_being_read_is_told(void **unused)
{
	(void)unused;
	int fd = lane_create(3, RING);
	struct lane lane;
	struct lane_suspect found[2];
	assert_int_equal(lane_open(&lane, fd, 3, RING), 0);
	assert_int_equal(lane_peek_reading(fd, 3, RING, 1000, found, 2), 0);
	lane_reading(&lane, 2, 7, 70, 500);
	lane_reading(&lane, 0, 7, 70, 500);
	assert_int_equal(lane_peek_reading(fd, 3, RING, 1000, found, 2), 1); /* each process once */
	assert_int_equal(found[0].pid, 7);
	assert_int_equal(found[0].start_time, 70);
	lane_reading(&lane, LANE_MAIN_THREAD, 8, 80, 500);
	lane_reading(&lane, 1, 7, 71, 500); /* another process, of the same pid */
	assert_int_equal(lane_peek_reading(fd, 3, RING, 1000, found, 2), 2);
	assert_int_equal(found[0].pid, 8);
	assert_int_equal(lane_peek_reading(fd, 3, RING, 500, found, 2), 0); /* they have only begun */
	for (uint32_t cpu = 0; cpu < 3; cpu++)
		lane_reading(&lane, cpu, 0, 0, 500);
	lane_reading(&lane, LANE_MAIN_THREAD, 0, 0, 500);
	assert_int_equal(lane_peek_reading(fd, 3, RING, 1000, found, 2), 0);
	lane_close(&lane);
	close(fd);
}

/* Three numbers, a mark, one number more. Returns where the mark ends. */
static uint64_t write_with_a_mark(const struct lane *lane, uint64_t snapshot)
{
	struct lane_state state = lane_state(lane, 0);
	lane_use(lane, 0);
	for (uint64_t i = 1; i <= 3; i++)
		put_number(lane, &state, i);
	struct taps taps;
	outlets[RUNTIME_NONE].lane = *lane;
	taps_open(&taps, 0, 0);
	assert_true(taps_mark(&taps, snapshot));
	outlets[RUNTIME_NONE].lane = (struct lane) { 0 };
	state = lane_state(lane, 0);
	uint64_t end = state.head;
	assert_int_equal(state.mark_end, end);
	put_number(lane, &state, 4);
	return end;
}

static void a_snapshot_is_cut_at_its_marks_without_its_reader(void **unused)
{
	(void)unused;
	int fd = lane_create(2, RING);
	struct lane lane;
	uint32_t damaged = 9;
	uint64_t counters[COUNTER_MAX] = { 0 }, fill;
	static const uint64_t none[COUNTER_MAX];
	assert_int_equal(lane_open(&lane, fd, 2, RING), 0);
	uint64_t end = write_with_a_mark(&lane, 5);
	struct lane_tail one = { sizeof(struct numbered), 0, 0 };
	lane_commit(&lane, &one, 1, 77, none);

	assert_int_equal(lane_peek_marks(fd, 2, RING, 4, true, counters), 0); /* of another snapshot */
	assert_int_equal(counters[COUNTER_taken], 0);
	assert_int_equal(lane_peek_marks(fd, 2, RING, 5, true, counters), 0);
	assert_int_equal(counters[COUNTER_taken], 3);
	assert_int_equal(lane_settle(fd, 2, RING, &damaged), 0);
	assert_int_equal(damaged, 0);
	assert_int_equal(lane_tail(&lane, 0), sizeof(struct numbered));
	assert_int_equal(lane_skip(fd, 2, RING, 4), 0);
	assert_int_equal(lane_tail(&lane, 0), sizeof(struct numbered));
	assert_int_equal(lane_peek_done(fd, 2, RING, 5), 0);
	assert_int_equal(lane_skip(fd, 2, RING, 5), 0);
	assert_int_equal(lane_peek_done(fd, 2, RING, 5), 1); /* the other ring is not in use */
	assert_int_equal(lane_peek_done(fd, 2, RING, 4), 0);
	assert_int_equal(lane_peek_done(fd, 2, RING, 6), 0);
	assert_int_equal(lane_tail(&lane, 0), end); /* what comes behind the mark is the next reader's */
	assert_int_equal(lane_peek_fullest(fd, 2, RING, &fill), 0);
	assert_int_equal(fill, sizeof(struct numbered));

	memset(counters, 0, sizeof counters);
	assert_int_equal(lane_peek_marks(fd, 2, RING, 5, true, counters), 0);
	assert_int_equal(counters[COUNTER_taken], 0); /* read now */
	assert_int_equal(lane_peek_marks(fd, 2, RING, 5, false, counters), 0);
	assert_int_equal(counters[COUNTER_taken], 3);
	lane_close(&lane);
	close(fd);
}

static void what_a_dead_reader_noted_is_done_for_it(void **unused)
{
	(void)unused;
	int fd = lane_create(1, RING);
	struct lane lane;
	uint32_t damaged = 9;
	uint64_t snapshot, bytes;
	assert_int_equal(lane_open(&lane, fd, 1, RING), 0);
	write_with_a_mark(&lane, 5);
	/* it died between the note and the deed */
	lane_commit_stream(&lane, 5, 10);
	lane.commit->noted_tail[0] = (struct lane_tail) { 2 * sizeof(struct numbered), 0, 0 };
	atomic_store(&lane.commit->noted_bytes, 20);
	atomic_store(&lane.commit->noted_counters[COUNTER_malformed], 6);
	atomic_store(&lane.commit->noted, 1);
	assert_int_equal(lane_settle(fd, 1, RING, &damaged), 0);
	assert_int_equal(damaged, 0);
	assert_int_equal(lane_tail(&lane, 0), 2 * sizeof(struct numbered));
	assert_int_equal(lane_peek_commit(fd, &snapshot, &bytes), 0);
	assert_int_equal(bytes, 20);
	uint64_t counters[COUNTER_MAX] = { 0 };
	assert_int_equal(lane_peek_committed(fd, counters), 0);
	assert_int_equal(counters[COUNTER_malformed], 6);

	/* a tail that makes no sense is put to where the producer is, and said */
	atomic_store(&lane_ring(&lane, 0).consumer->tail, 1ULL << 60);
	assert_int_equal(lane_settle(fd, 1, RING, &damaged), 0);
	assert_int_equal(damaged, 1);
	assert_int_equal(lane_tail(&lane, 0), lane_state(&lane, 0).head);
	lane_close(&lane);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_snapshot_is_cut_at_its_marks_without_its_reader),
		cmocka_unit_test(what_a_dead_reader_noted_is_done_for_it),
		cmocka_unit_test(both_ends_killed_lose_nothing),
		cmocka_unit_test(a_lying_consumer_stops_only_itself),
		cmocka_unit_test(a_lying_producer_is_noticed),
		cmocka_unit_test(an_unsealed_memfd_is_refused),
		cmocka_unit_test(a_record_that_two_workers_died_of_is_passed_over),
		cmocka_unit_test(whose_memory_is_being_read_is_told),
		cmocka_unit_test(marks_that_a_killed_worker_had_read_are_not_forgotten),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
