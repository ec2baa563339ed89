/* The opener's judgement: which process, which file system, which file. */
#include "unit/check.h"

#include "opener/opener.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static void test_start_time(void **context)
{
	(void)context;
	uint64_t t = 0;
	assert_int_equal(start_time_parse("77 (sh) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20", &t), 0);
	assert_int_equal(t, 4711);
	/* a name made to look like the rest of the line */
	const char *hostile =
		"77 (x) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 1 1) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 "
		"16 17 18 4711 20";
	assert_int_equal(start_time_parse(hostile, &t), 0);
	assert_int_equal(t, 4711);
	assert_int_equal(start_time_parse("", &t), -EBADMSG);
	assert_int_equal(start_time_parse("77 (sh", &t), -EBADMSG);
	assert_int_equal(start_time_parse("77 (sh) S 1 2", &t), -EBADMSG);
	assert_int_equal(start_time_parse("77 (sh) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 x", &t), -EBADMSG);
}

static void test_ids(void **context)
{
	(void)context;
	uint32_t uid = 1;
	pid_t nspid = 0;
	assert_int_equal(ids_parse("Name:\tx\nUid:\t1000\t1001\t1002\t1003\nNSpid:\t77\t12\t3\nX:\n", &uid, &nspid), 0);
	assert_int_equal(uid, 1001);
	assert_int_equal(nspid, 3);
	assert_int_equal(ids_parse("Name:\tUid:\t0\t0\nUid:\t5\t5\nNSpid:\t9\n", &uid, &nspid), 0);
	assert_int_equal(uid, 5);
	assert_int_equal(nspid, 9);
	assert_int_equal(ids_parse("Name:\tx\nUid:\t1\t1\n", &uid, &nspid), -EBADMSG);
	assert_int_equal(ids_parse("Name:\tx\nNSpid:\t1\n", &uid, &nspid), -EBADMSG);
	assert_int_equal(ids_parse("", &uid, &nspid), -EBADMSG);
}

static void test_mounts(void **context)
{
	(void)context;
	static const char text[] = "22 27 0:21 / /proc rw,relatime - proc proc rw\n"
				   "27 1 254:0 / / rw,relatime shared:1 master:2 - ext4 /dev/vda rw\n"
				   "270 27 0:50 / /mnt/a\\040-\\040ext4\\040b rw - fuse.sshfs x rw\n"
				   "31 27 0:9 / /x rw\n";
	const char *type;
	size_t n;
	assert_int_equal(mount_type(text, 27, &type, &n), 0);
	assert_int_equal(n, 4);
	assert_memory_equal(type, "ext4", 4);
	assert_int_equal(mount_type(text, 270, &type, &n), 0);
	assert_false(mount_type_allowed(type, n)); /* its mount point says ext4, escaped */
	assert_int_equal(mount_type(text, 7, &type, &n), -ENOENT);
	assert_int_equal(mount_type(text, 2, &type, &n), -ENOENT);
	assert_int_equal(mount_type(text, 31, &type, &n), -ENOENT); /* cut off: not the next line's type */
	assert_int_equal(mount_type("", 1, &type, &n), -ENOENT);
	assert_true(mount_type_allowed("overlay", 7));
	assert_false(mount_type_allowed("ext", 3));
	assert_false(mount_type_allowed("ext44", 5));
	assert_false(mount_type_allowed("fuse", 4));
	assert_false(mount_type_allowed("fuseblk", 7));
	assert_false(mount_type_allowed("nfs4", 4));
	assert_false(mount_type_allowed("9p", 2));
	assert_false(mount_type_allowed("virtiofs", 8));
	assert_false(mount_type_allowed("", 0));
}

static void test_the_right_process(void **context)
{
	(void)context;
	struct target t;
	assert_int_equal(target_open(&t, getpid(), 0), 0);
	uint64_t start = t.start_time;
	assert_true(start > 0);
	assert_true(target_alive(&t));
	target_close(&t);
	assert_int_equal(target_open(&t, getpid(), start), 0);
	target_close(&t);
	assert_int_equal(target_open(&t, getpid(), start + 1), -ESRCH); /* the pid is another's by now */
	pid_t child = fork();
	if (!child)
		_exit(0);
	siginfo_t end;
	waitid(P_PID, (id_t)child, &end, WEXITED | WNOWAIT);
	assert_int_equal(target_open(&t, child, 0), -ESRCH); /* a zombie */
	waitid(P_PID, (id_t)child, &end, WEXITED);
	assert_int_equal(target_open(&t, child, 0), -ESRCH);
}

static void test_about(void **context)
{
	(void)context;
	struct target t;
	assert_int_equal(target_open(&t, getpid(), 0), 0);
	int fd = about_open(&t);
	assert_true(fd >= 0);
	char text[4096], wanted[64];
	ssize_t n = pread(fd, text, sizeof text - 1, 0);
	assert_true(n > 0);
	text[n] = 0;
	assert_int_equal(strncmp(text, "comm test_opener\n", 17), 0);
	snprintf(wanted, sizeof wanted, "\nuid %u\n", geteuid());
	assert_non_null(strstr(text, wanted));
	snprintf(wanted, sizeof wanted, "\nthread %d test_opener\n", getpid());
	assert_non_null(strstr(text, wanted));
	assert_non_null(strstr(text, "\nexe /"));
	int seals = fcntl(fd, F_GET_SEALS);
	assert_true(seals & F_SEAL_WRITE && seals & F_SEAL_SHRINK);
	close(fd);
	target_close(&t);
}

static void test_mapped_file(void **context)
{
	(void)context;
	if (geteuid())
		skip(); /* map_files needs a capability */
	uint64_t start = 0, end = 0;
	char line[512], path[256] = "";
	FILE *maps = fopen("/proc/self/maps", "re");
	assert_non_null(maps);
	while (fgets(line, sizeof line, maps))
		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " r-xp %*s %*s %*s %255s", &start, &end, path) == 3 &&
			*path == '/')
			break;
	fclose(maps);
	struct target t;
	struct stat a, b;
	assert_int_equal(mounts_init(), 0);
	assert_int_equal(target_open(&t, getpid(), 0), 0);
	int fd = file_open_mapped(&t, start, end);
	if (fd < 0)
		fail_msg("%s: %s", path, strerror(-fd));
	assert_int_equal(fstat(fd, &a), 0);
	assert_int_equal(stat(path, &b), 0);
	assert_int_equal(a.st_ino, b.st_ino);
	assert_int_equal(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
	close(fd);
	assert_int_equal(file_open_mapped(&t, start, end + 4096), -ENOENT);
	assert_int_equal(file_open_mapped(&t, 0, 4096), -ENOENT);
	target_close(&t);
}

/* Whoever can write to /tmp can put anything under that name. */
static void test_perf_map(void **context)
{
	(void)context;
	char path[64], other[64];
	struct target t;
	snprintf(path, sizeof path, "/tmp/perf-%d.map", getpid());
	snprintf(other, sizeof other, "/tmp/bulkhead-test-%d", getpid());
	unlink(path);
	assert_int_equal(mounts_init(), 0);
	assert_int_equal(target_open(&t, getpid(), 0), 0);
	assert_int_equal(file_open_perf_map(&t), -ENOENT);
	int fd = open(other, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(symlink(other, path), 0);
	assert_int_equal(file_open_perf_map(&t), -ELOOP);
	unlink(path);
	assert_int_equal(mkfifo(path, 0666), 0);
	assert_int_equal(file_open_perf_map(&t), -OPENER_NO_FILE);
	unlink(path);
	assert_int_equal(rename(other, path), 0);
	fd = file_open_perf_map(&t);
	assert_true(fd >= 0);
	close(fd);
	if (!geteuid()) {
		assert_int_equal(chown(path, 12345, 12345), 0);
		assert_int_equal(file_open_perf_map(&t), -OPENER_NOT_ITS_OWN);
	}
	unlink(path);
	target_close(&t);
}

static void test_debug_file(void **context)
{
	(void)context;
	const uint8_t id[20] = { 0xff, 0xee, 0xdd };
	assert_int_equal(file_open_debug(NULL, id, sizeof id), -ENOENT);
	assert_int_equal(file_open_debug(NULL, id, 1), -EINVAL);
	assert_int_equal(file_open_debug(NULL, id, 65), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_start_time),
		cmocka_unit_test(test_ids),
		cmocka_unit_test(test_mounts),
		cmocka_unit_test(test_the_right_process),
		cmocka_unit_test(test_about),
		cmocka_unit_test(test_mapped_file),
		cmocka_unit_test(test_perf_map),
		cmocka_unit_test(test_debug_file),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
