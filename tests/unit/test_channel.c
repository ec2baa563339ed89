/* The channel refuses everything that messages.def does not allow, and says why. */
#include "unit/check.h"

#include "proto/channel.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

static struct channel supervisor, worker;

static int setup(void **state)
{
	(void)state;
	int fds[2];
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds))
		return -1;
	return channel_init(&supervisor, fds[0], PARTY_SUPERVISOR, PARTY_LANE) ||
	       channel_init(&worker, fds[1], PARTY_LANE, PARTY_SUPERVISOR);
}

static int teardown(void **state)
{
	(void)state;
	channel_close(&supervisor);
	channel_close(&worker);
	return 0;
}

static void expect_refused(const char *why_wanted)
{
	struct frame f;
	const char *why = NULL;
	assert_int_equal(channel_recv(&supervisor, &f, &why), -EBADMSG);
	assert_string_equal(why, why_wanted);
}

static void every_kind_of_field_arrives(void **state)
{
	(void)state;
	struct frame f;
	const char *why;
	assert_int_equal(channel_send(&worker, MSG_OPEN, -1, (uint64_t)1, (uint64_t)2, (uint64_t)70000, UINT64_MAX,
				 (uint64_t)5, (uint64_t)6, "a\0b", (size_t)3),
		0);
	assert_int_equal(channel_recv(&supervisor, &f, &why), 0);
	assert_int_equal(f.row->number, MSG_OPEN);
	assert_int_equal(f.field[2].u, 70000);
	assert_true(f.field[3].u == UINT64_MAX);
	assert_int_equal(f.field[6].n, 3);
	assert_memory_equal(f.field[6].data, "a\0b", 3);
	assert_int_equal(f.fd, -1);
	uint64_t numbers[] = { 1, 300, 1ULL << 40 };
	assert_int_equal(channel_send(&worker, MSG_RELEASE, -1, (const uint64_t *)numbers, (size_t)3), 0);
	assert_int_equal(channel_recv(&supervisor, &f, &why), 0);
	assert_int_equal(f.field[0].n, 3);
	assert_true(f.field[0].array[2] == 1ULL << 40);
	assert_int_equal(channel_recv(&supervisor, &f, &why), -EAGAIN);
}

static void an_fd_comes_along_and_close_on_exec(void **state)
{
	(void)state;
	struct frame f;
	const char *why;
	assert_int_equal(
		channel_send(&supervisor, MSG_LEND, STDIN_FILENO, (uint64_t)1, (uint64_t)2, (uint64_t)3, (uint64_t)4),
		0);
	assert_int_equal(channel_recv(&worker, &f, &why), 0);
	assert_true(f.fd > 2);
	assert_int_equal(fcntl(f.fd, F_GETFD), FD_CLOEXEC);
	close(f.fd);
}

static void raw(const void *bytes, size_t n)
{
	assert_int_equal(send(worker.fd, bytes, n, 0), (ssize_t)n);
}

static void malformed_frames_are_refused(void **state)
{
	(void)state;
	static const struct {
		const char *bytes;
		size_t n;
		const char *why;
	} cases[] = {
		{ "x", 1, "not an array" },
		{ "\x91\x01", 2, "not an array" },
		{ "\x92\xcc\x01", 3, "no message number" },
		{ "\x92\x7f\xc2", 3, "unknown message number" },
		{ "\x92\x01\xc2", 3, "wrong number of fields" },
		{ "\x92\x04\x01", 3, "no fd mark" },
		{ "\x92\x04\xc2", 3, "not this sender's message" },
		{ "\x94\x05\xc2\x01\x01", 5, "a field of the wrong type" },
		{ "\x94\x05\xc2\x01\xc4\x05x", 7, "a field longer than the frame" },
		{ "\x94\x05\xc2\x01\xc6\xff\xff\xff\xff", 9, "a field longer than the frame" },
		{ "\x94\x05\xc2\x01\xc4\x01xy", 8, "bytes left over" },
		{ "\x93\x0d\xc2\xdd\xff\xff\xff\xff", 8, "an array too long" },
		{ "\x93\x0d\xc2\x92\x01", 5, "an array item that is not a number" },
		{ "\x93\x0d\xc2\x91\x91\x01", 6, "an array item that is not a number" },
		{ "\x94\x05\xc3\x01\xc4\x01x", 7, "an fd was announced and did not come" },
		{ "\xdd\xff\xff\xff\xff", 5, "no message number" },
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		raw(cases[i].bytes, cases[i].n);
		expect_refused(cases[i].why);
	}
}

static void a_frame_over_its_limit_is_refused(void **state)
{
	(void)state;
	char big[70000] = { '\x94', 0x05, '\xc2', 0x01, '\xc5', 0x03, 0 }; /* LOG with 768 bytes: over its 640 */
	raw(big, 7 + 768 - 0);
	struct frame f;
	const char *why = NULL;
	assert_int_equal(channel_recv(&supervisor, &f, &why), -EBADMSG);
	raw(big, sizeof big);
	expect_refused("a frame over every size limit");
}

static void send_with_fds(const char *bytes, size_t n, int fd, int count)
{
	char control[CMSG_SPACE(8 * sizeof(int))] = { 0 };
	struct iovec piece = { (void *)(uintptr_t)bytes, n };
	struct msghdr message = { .msg_iov = &piece,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = CMSG_SPACE((size_t)count * sizeof(int)) };
	struct cmsghdr *head = CMSG_FIRSTHDR(&message);
	head->cmsg_level = SOL_SOCKET;
	head->cmsg_type = SCM_RIGHTS;
	head->cmsg_len = CMSG_LEN((size_t)count * sizeof(int));
	for (int i = 0; i < count; i++)
		memcpy(CMSG_DATA(head) + (size_t)i * sizeof fd, &fd, sizeof fd);
	assert_true(sendmsg(worker.fd, &message, 0) > 0);
}

static int lowest_free_fd(void)
{
	int fd = dup(0);
	close(fd);
	return fd;
}

static void surplus_fds_are_closed_and_refused(void **state)
{
	(void)state;
	const char log[] = "\x94\x05\xc2\x01\xc4\x01x";
	int before = lowest_free_fd();
	send_with_fds(log, sizeof log - 1, 0, 1);
	expect_refused("an fd came that was not announced");
	send_with_fds("\x94\x05\xc3\x01\xc4\x01x", sizeof log - 1, 0, 1);
	expect_refused("an fd with a message that carries none");
	send_with_fds(log, sizeof log - 1, 0, 2);
	struct frame f;
	const char *why = NULL;
	assert_int_equal(channel_recv(&supervisor, &f, &why), -EBADMSG);
	send_with_fds(log, sizeof log - 1, 0, 8);
	expect_refused("its fds were cut off");
	assert_int_equal(lowest_free_fd(), before);
}

static void fds_cut_by_the_fd_limit_fail_the_message(void **state)
{
	(void)state;
	struct rlimit old, tight;
	getrlimit(RLIMIT_NOFILE, &old);
	assert_int_equal(
		channel_send(&supervisor, MSG_LEND, STDIN_FILENO, (uint64_t)1, (uint64_t)2, (uint64_t)3, (uint64_t)4),
		0);
	tight = old;
	tight.rlim_cur = (rlim_t)lowest_free_fd();
	setrlimit(RLIMIT_NOFILE, &tight);
	struct frame f;
	const char *why = NULL;
	int r = channel_recv(&worker, &f, &why);
	setrlimit(RLIMIT_NOFILE, &old);
	assert_int_equal(r, -EBADMSG);
	assert_string_equal(why, "its fds were cut off");
}

static void end_of_file_is_told(void **state)
{
	(void)state;
	channel_close(&worker);
	struct frame f;
	const char *why;
	assert_int_equal(channel_recv(&supervisor, &f, &why), -EPIPE);
	assert_int_equal(channel_send(&supervisor, MSG_STOP, -1), -EPIPE);
}

static void a_peer_that_does_not_drain_is_told_apart(void **state)
{
	(void)state;
	int r = 0;
	for (int i = 0; i < 100000 && !r; i++)
		r = channel_send(&worker, MSG_LOG, -1, (uint64_t)1, "x", (size_t)1);
	assert_int_equal(r, -EAGAIN);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(every_kind_of_field_arrives),
		TEST(an_fd_comes_along_and_close_on_exec),
		TEST(malformed_frames_are_refused),
		TEST(a_frame_over_its_limit_is_refused),
		TEST(surplus_fds_are_closed_and_refused),
		TEST(fds_cut_by_the_fd_limit_fail_the_message),
		TEST(end_of_file_is_told),
		TEST(a_peer_that_does_not_drain_is_told_apart),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
