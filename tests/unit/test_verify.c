/* The sandbox check: what it reads, what a hostile name cannot do to it, and that a process without a sandbox does not pass. */
#include "unit/check.h"

#include "verify.h"

#include <errno.h>
#include <fcntl.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static const char good[] =
	"Name:\tbulkhead-native\nUmask:\t0077\nState:\tS (sleeping)\nUid:\t60802\t60802\t60802\t60802\n"
	"Gid:\t60802\t60802\t60802\t60802\nGroups:\t \nNSpid:\t77\t1\nThreads:\t3\n"
	"CapInh:\t0000000000000000\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\n"
	"CapBnd:\t0000000000000000\nCapAmb:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\n"
	"Seccomp_filters:\t2\n";

static void test_parse(void **context)
{
	(void)context;
	struct process_status p;
	assert_int_equal(process_status_parse(good, &p), 0);
	assert_int_equal(p.uid[0], 60802);
	assert_int_equal(p.gid[3], 60802);
	assert_int_equal(p.seccomp, 2);
	assert_int_equal(p.no_new_privs, 1);
	assert_int_equal(p.threads, 3);
	assert_true(p.groups_empty);
	assert_int_equal(p.cap_inh | p.cap_prm | p.cap_eff | p.cap_bnd | p.cap_amb, 0);
}

static char *with(const char *from, const char *to)
{
	static char text[sizeof good + 256];
	const char *at = strstr(good, from);
	assert_non_null(at);
	snprintf(text, sizeof text, "%.*s%s%s", (int)(at - good), good, to, at + strlen(from));
	return text;
}

static void test_parse_what_is_wrong(void **context)
{
	(void)context;
	struct process_status p;
	assert_int_equal(process_status_parse(with("Groups:\t \n", "Groups:\t0 27 \n"), &p), 0);
	assert_false(p.groups_empty);
	assert_int_equal(process_status_parse(with("CapBnd:\t0000000000000000", "CapBnd:\t000001ffffffffff"), &p), 0);
	assert_int_equal(p.cap_bnd, 0x1ffffffffffULL);
	assert_int_equal(process_status_parse(with("Seccomp:\t2", "Seccomp:\t0"), &p), 0);
	assert_int_equal(p.seccomp, 0);
	static const char *const needed[] = { "Uid:\t60802", "Gid:\t60802",
		"CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:", "NoNewPrivs:", "Seccomp:\t", "Groups:" };
	for (size_t i = 0; i < sizeof needed / sizeof *needed; i++)
		if (process_status_parse(with(needed[i], "Other:"), &p) != -EBADMSG)
			fail_msg("nobody misses %s", needed[i]);
	assert_int_equal(process_status_parse("", &p), -EBADMSG);
	/* the same line twice: which one would be true? */
	assert_int_equal(process_status_parse(with("Threads:\t3\n", "Seccomp:\t0\nThreads:\t3\n"), &p), -EBADMSG);
}

/* The kernel escapes a newline in the name; if it did not, the first line would still count for nothing. */
static void test_the_name_is_not_believed(void **context)
{
	(void)context;
	struct process_status p;
	assert_int_equal(
		process_status_parse(with("Name:\tbulkhead-native", "Name:\tUid:\t0\t0\t0\t0 Seccomp:\t2"), &p), 0);
	assert_int_equal(p.uid[0], 60802);
}

static void test_an_open_process_does_not_pass(void **context)
{
	(void)context;
	int pair[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	struct stat st;
	assert_int_equal(fstat(pair[1], &st), 0);
	pid_t pid = fork();
	if (!pid) {
		pause();
		_exit(0);
	}
	int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	struct sandbox_wanted wanted = {
		.pid = pid, .pidfd = pidfd, .uid = 60802, .namespaces = NAMESPACE_ALL, .channel_inode = st.st_ino
	};
	struct sandbox found;
	assert_false(sandbox_verify(&wanted, &found));
	assert_non_null(strstr(found.missing, "no_new_privs"));
	assert_false(found.root_empty);
	assert_int_equal(found.namespaces, 0);
	syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
	siginfo_t end;
	waitid(P_PIDFD, (id_t)pidfd, &end, WEXITED | WNOWAIT);
	assert_false(sandbox_verify(&wanted, &found)); /* a zombie has no sandbox either */
	waitid(P_PIDFD, (id_t)pidfd, &end, WEXITED);
	close(pidfd);
	close(pair[0]);
	close(pair[1]);
}

/* We have left the machine's network, and a worker that has it has not inherited ours. */
static void test_the_network_that_was_left_is_the_wrong_one(void **context)
{
	(void)context;
	pid_t pid = fork();
	if (!pid) {
		pause();
		_exit(0);
	}
	int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	struct sandbox_wanted wanted = { .pid = pid, .pidfd = pidfd, .namespaces = NAMESPACE_NET };
	struct sandbox found;
	assert_int_equal(namespace_of("self", "net", &wanted.network), 0);
	assert_false(sandbox_verify(&wanted, &found));
	assert_non_null(strstr(found.missing, "it has the machine's net namespace"));
	assert_int_equal(found.namespaces, 0);
	wanted.network.ino++; /* another one was left: that the two of us share one is as it should be */
	assert_false(sandbox_verify(&wanted, &found));
	assert_null(strstr(found.missing, "net namespace"));
	assert_int_equal(found.namespaces, NAMESPACE_NET);
	siginfo_t end;
	syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
	waitid(P_PIDFD, (id_t)pidfd, &end, WEXITED);
	close(pidfd);
}

/* A worker that its own filter killed at this moment was once taken for one that had none. */
static void test_a_filter_that_has_killed_is_a_filter(void **context)
{
	(void)context;
	pid_t pid = fork();
	if (!pid) {
		scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
		seccomp_rule_add(filter, SCMP_ACT_KILL_PROCESS, SCMP_SYS(getppid), 0);
		if (seccomp_load(filter))
			_exit(1);
		getppid();
		_exit(2);
	}
	siginfo_t end;
	waitid(P_PID, (id_t)pid, &end, WEXITED | WNOWAIT);
	assert_int_equal(end.si_status, SIGSYS);
	int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	struct sandbox_wanted wanted = { .pid = pid, .pidfd = pidfd };
	struct sandbox found;
	assert_false(sandbox_verify(&wanted, &found));
	assert_null(strstr(found.missing, "no seccomp filter"));
	waitid(P_PID, (id_t)pid, &end, WEXITED);
	close(pidfd);
}

static void test_small_files_are_bounded(void **context)
{
	(void)context;
	char text[8];
	assert_int_equal(read_small_file("/proc/self/maps", text, sizeof text), -E2BIG);
	assert_int_equal(read_small_file("/nonexistent", text, sizeof text), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse),
		cmocka_unit_test(test_parse_what_is_wrong),
		cmocka_unit_test(test_the_name_is_not_believed),
		cmocka_unit_test(test_an_open_process_does_not_pass),
		cmocka_unit_test(test_the_network_that_was_left_is_the_wrong_one),
		cmocka_unit_test(test_a_filter_that_has_killed_is_a_filter),
		cmocka_unit_test(test_small_files_are_bounded),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
