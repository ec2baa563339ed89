/* How the files behind code are asked for, and how fast. */
#include "unit/check.h"

#include "kit/leases.h"
#include "kit/module.h"

#include "common/bucket.h"
#include "common/clock.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

enum { RUNNER = 500, ANOTHER = 501 };

static struct kit kit;
static struct channel supervisor;

/* The next OPEN that the supervisor gets: its request id, and for which target. 0: there is none. */
static uint64_t next_open(uint64_t *ret_pid)
{
	struct frame f;
	const char *why = NULL;
	leases_flush();
	if (channel_recv(&supervisor, &f, &why))
		return 0;
	assert_int_equal(f.row->number, MSG_OPEN);
	*ret_pid = f.field[2].u;
	return f.field[0].u;
}

static void answer(uint64_t request, int error)
{
	struct frame f = { .fd = -1, .field = { { .u = request }, { 0 }, { .u = (uint64_t)error } } };
	leases_opened(&f);
}

static void ignore(void *object, enum lease_kind kind, const struct lease_answer *answer)
{
	(void)object;
	(void)kind;
	(void)answer;
}

static struct module *libc_of_all(void)
{
	struct map_entry e = {
		.start = 0x1000, .end = 0x2000, .inode = 77, .device = 8, .flags = MAP_IS_EXEC | MAP_IS_FILE
	};
	return module_of(&e, "/lib/libc.so.6");
}

static void a_target_that_ended_does_not_hold_back_one_that_lives(void **state)
{
	struct module *m = libc_of_all();
	uint64_t pid = 0, request;
	(void)state;
	module_ask(m, RUNNER, 1, 0x1000, 0x2000);
	request = next_open(&pid);
	assert_true(request && pid == RUNNER && module_pending(m));
	module_ask(m, ANOTHER, 1, 0x1000, 0x2000); /* one question at a time */
	assert_int_equal(next_open(&pid), 0);
	answer(request, ESRCH);
	assert_false(module_pending(m));

	module_ask(m, RUNNER, 1, 0x1000, 0x2000); /* it has just failed: not at once again */
	assert_int_equal(next_open(&pid), 0);
	module_ask(m, ANOTHER, 1, 0x1000, 0x2000);
	request = next_open(&pid);
	assert_true(request && pid == ANOTHER && module_pending(m));
	answer(request, EACCES);
	assert_int_equal(m->state, MODULE_FAILED); /* the file itself was refused: for everyone */
	module_ask(m, RUNNER, 1, 0x1000, 0x2000);
	assert_int_equal(next_open(&pid), 0);
	modules_sweep();
}

static void what_stood_in_the_way_once_is_not_the_files_fault(void **state)
{
	static const int passing[] = { ETIMEDOUT, EAGAIN, EMFILE, EBUSY };
	uint64_t pid = 0;
	(void)state;
	for (size_t i = 0; i < sizeof passing / sizeof *passing; i++) {
		struct module *m = libc_of_all();
		module_ask(m, RUNNER, 1, 0x1000, 0x2000);
		answer(next_open(&pid), passing[i]);
		module_ask(m, ANOTHER, 1, 0x1000, 0x2000);
		uint64_t request = next_open(&pid);
		assert_true(request && pid == ANOTHER);
		answer(request, EACCES);
		modules_sweep();
	}
}

/* A plugin that its program loads and unloads without end: the mapping is gone as often as not when it is opened. */
static void a_mapping_that_went_may_be_back(void **state)
{
	struct module *m = libc_of_all();
	uint64_t pid = 0, request;
	(void)state;
	for (int i = 0; i < 3; i++) {
		module_mapped(m, RUNNER, 1, 0x1000, 0x2000);
		request = next_open(&pid);
		assert_true(request && pid == RUNNER && module_pending(m));
		answer(request, ENOENT);
	}
	module_ask(m, RUNNER, 1, 0x1000, 0x2000); /* a sample alone does not make it come back */
	assert_int_equal(next_open(&pid), 0);
	modules_sweep();
}

/* The supervisor kills a worker that sends more OPENs than messages.def allows; how many it needs is up to its targets. */
static void a_storm_of_requests_stays_below_the_limit(void **state)
{
	const uint32_t limit = message_row(MSG_OPEN)->max_per_s;
	struct bucket supervisors = { 0 };
	struct frame f;
	const char *why = NULL;
	uint32_t asked = 0;
	(void)state;
	int64_t begin = monotonic_ns(), end = begin + 3 * NS_PER_S / 2;
	while (monotonic_ns() < end) {
		struct lease_request request = { .kind = LEASE_MEM, .pid = RUNNER, .handler = ignore };
		leases_ask(&request);
		leases_flush();
		while (!channel_recv(&supervisor, &f, &why)) {
			asked++;
			assert_true(bucket_take(&supervisors, limit, monotonic_ns()));
			answer(f.field[0].u, ESRCH);
		}
	}
	/* or the machine was too slow for this test to say anything */
	assert_true(asked > limit / 2);
	while (leases_waiting()) {
		leases_flush();
		while (!channel_recv(&supervisor, &f, &why))
			answer(f.field[0].u, ESRCH);
	}
}

static int set_up(void **unused)
{
	int pair[2];
	(void)unused;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair))
		return -1;
	leases_init(&kit);
	return channel_init(&kit.channel, pair[0], PARTY_LANE, PARTY_SUPERVISOR) ||
	       channel_init(&supervisor, pair[1], PARTY_SUPERVISOR, PARTY_LANE);
}

static int tear_down(void **unused)
{
	(void)unused;
	channel_close(&kit.channel);
	channel_close(&supervisor);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_target_that_ended_does_not_hold_back_one_that_lives),
		cmocka_unit_test(what_stood_in_the_way_once_is_not_the_files_fault),
		cmocka_unit_test(a_mapping_that_went_may_be_back),
		cmocka_unit_test(a_storm_of_requests_stays_below_the_limit),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
