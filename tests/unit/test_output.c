/* The directory of profiles: complete or not there, never over someone's file, and what is deleted when. */
#include "output.h"
#include "output_names.h"
#include "retention.h"

#include "common/clock.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static const int64_t noon = 1767268800 * NS_PER_S; /* 2026-01-01 12:00:00 UTC */
static char directory[64];
static struct config config;
static struct output *output;

static int setup(void **state)
{
	(void)state;
	log_set_level(LOG_LEVEL_ERROR);
	snprintf(directory, sizeof directory, "/tmp/bulkhead-test-output.XXXXXX");
	assert_non_null(mkdtemp(directory));
	config_defaults(&config);
	free(config.directory);
	config.directory = strdup(directory);
	config.formats[OUTPUT_HTML] = true;
	config.keep_files = config.keep_bytes = 0;
	config.keep_age_ns = 0;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	char command[128];
	output_close(output);
	output = NULL;
	config_free(&config);
	snprintf(command, sizeof command, "rm -rf %s", directory);
	return system(command);
}

static bool exists(const char *name)
{
	char path[256];
	struct stat st;
	snprintf(path, sizeof path, "%s/%s", directory, name);
	return !lstat(path, &st);
}

static void plant(const char *name, size_t bytes)
{
	char path[256];
	snprintf(path, sizeof path, "%s/%s", directory, name);
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
	close(fd);
}

static unsigned count(void)
{
	unsigned n = 0;
	DIR *d = opendir(directory);
	for (struct dirent *e; (e = readdir(d));)
		n += strcmp(e->d_name, ".") && strcmp(e->d_name, "..");
	closedir(d);
	return n;
}

static const char *link_of(const char *name)
{
	static char target[256];
	char path[256];
	snprintf(path, sizeof path, "%s/%s", directory, name);
	ssize_t n = readlink(path, target, sizeof target - 1);
	assert_true(n > 0);
	target[n] = 0;
	return target;
}

static int write_snapshot(int64_t end_ns)
{
	struct output_set set;
	int err = output_begin(output, &set);
	if (err)
		return err;
	for (int i = 0; i < OUTPUT_FORMAT_MAX; i++)
		if (set.fd[i] >= 0)
			assert_int_equal(write(set.fd[i], "0123456789", 10), 10);
	return output_commit(output, &set, end_ns);
}

static void open_it(void)
{
	assert_int_equal(output_open(&output, &config), 0);
}

static void a_snapshot_becomes_files_and_links(void **state)
{
	(void)state;
	open_it();
	struct output_set set;
	assert_int_equal(output_begin(output, &set), 0);
	assert_true(set.fd[OUTPUT_PPROF] >= 0 && set.fd[OUTPUT_HTML] >= 0 && set.fd[OUTPUT_FOLDED] == -1);
	assert_true(fcntl(set.fd[OUTPUT_PPROF], F_GETFD) & FD_CLOEXEC);
	assert_int_equal(count(), 2);
	assert_int_equal(write(set.fd[OUTPUT_PPROF], "p", 1), 1);
	assert_int_equal(write(set.fd[OUTPUT_HTML], "h", 1), 1);
	assert_false(exists("profile_20260101T120000Z.pb.gz"));
	assert_int_equal(output_commit(output, &set, noon + 999), 0);
	assert_int_equal(set.fd[OUTPUT_PPROF], -1);
	assert_true(exists("profile_20260101T120000Z.pb.gz") && exists("profile_20260101T120000Z.html"));
	assert_string_equal(link_of("last_profile.pb.gz"), "profile_20260101T120000Z.pb.gz");
	assert_string_equal(link_of("last_profile.html"), "profile_20260101T120000Z.html");
	assert_int_equal(write_snapshot(noon + NS_PER_S), 0);
	assert_string_equal(link_of("last_profile.pb.gz"), "profile_20260101T120001Z.pb.gz");
	assert_int_equal(count(), 6);
}

static void an_abandoned_or_empty_snapshot_leaves_nothing(void **state)
{
	(void)state;
	open_it();
	struct output_set set;
	assert_int_equal(output_begin(output, &set), 0);
	output_abandon(output, &set);
	assert_int_equal(count(), 0);
	assert_int_equal(output_begin(output, &set), 0);
	assert_int_equal(write(set.fd[OUTPUT_PPROF], "p", 1), 1);
	log_set_level((enum log_level) - 1);
	assert_int_equal(output_commit(output, &set, noon), -ENODATA); /* the .html is empty */
	assert_int_equal(count(), 0);
}

static void the_same_second_gets_a_number(void **state)
{
	(void)state;
	open_it();
	plant("profile_20260101T120000Z.html", 3); /* not even all files of the first name */
	assert_int_equal(write_snapshot(noon), 0);
	assert_false(exists("profile_20260101T120000Z.pb.gz"));
	assert_true(exists("profile_20260101T120000Z-2.pb.gz") && exists("profile_20260101T120000Z-2.html"));
	assert_int_equal(write_snapshot(noon), 0);
	assert_true(exists("profile_20260101T120000Z-3.html"));
	assert_string_equal(link_of("last_profile.html"), "profile_20260101T120000Z-3.html");
	assert_int_equal(count(), 1 + 2 + 2 + 2);
}

static void planted_links_are_not_followed(void **state)
{
	(void)state;
	char path[256], victim[256];
	snprintf(victim, sizeof victim, "%s/victim", directory);
	plant("victim", 5);
	snprintf(path, sizeof path, "%s/profile_20260101T120000Z.html", directory);
	assert_int_equal(symlink(victim, path), 0);
	snprintf(path, sizeof path, "%s/last_profile.html", directory);
	assert_int_equal(symlink(victim, path), 0);
	snprintf(path, sizeof path, "%s/.profile_0000000000000000.tmp", directory);
	assert_int_equal(symlink(victim, path), 0);
	open_it();
	assert_int_equal(write_snapshot(noon), 0);
	struct stat st;
	assert_int_equal(stat(victim, &st), 0);
	assert_int_equal(st.st_size, 5);
	assert_string_equal(link_of("last_profile.html"), "profile_20260101T120000Z-2.html");
	assert_false(exists(".profile_0000000000000000.tmp"));
}

static void a_link_that_cannot_be_moved_costs_no_profile(void **state)
{
	(void)state;
	char path[256];
	snprintf(path, sizeof path, "%s/last_profile.html", directory);
	assert_int_equal(mkdir(path, 0700), 0);
	open_it();
	assert_int_equal(write_snapshot(noon), 0);
	assert_true(exists("profile_20260101T120000Z.html"));
	assert_int_equal(count(), 4);
}

static void leftovers_go_at_start_and_nothing_else_does(void **state)
{
	(void)state;
	plant(".profile_1234.tmp", 9);
	plant(".profile_1234.tmpx", 9);
	plant("profile_1234.tmp", 9);
	plant("notes.txt", 9);
	open_it();
	assert_false(exists(".profile_1234.tmp"));
	assert_int_equal(count(), 3);
}

static void retention_by_count_keeps_the_newest(void **state)
{
	(void)state;
	config.keep_files = 3;
	plant("profile_20250101T000000Z.pb.gz", 1);
	plant("profile_20250101T000000Z.html", 1);
	plant("profile_20250102T000000Z-2.pb.gz", 1);
	plant("profile_20250102T000000Z.pb.gz", 1);
	plant("profile_20241301T000000Z.pb.gz", 1); /* no such month: not ours */
	plant("profile_20240101T000000Z.txt", 1);
	plant("profile_20240101T000000Z-02.html", 1);
	plant("my_profile_20240101T000000Z.html", 1);
	open_it();
	assert_int_equal(write_snapshot(noon), 0);
	assert_false(exists("profile_20250101T000000Z.pb.gz") || exists("profile_20250101T000000Z.html"));
	assert_true(exists("profile_20250102T000000Z.pb.gz") && exists("profile_20250102T000000Z-2.pb.gz"));
	assert_int_equal(write_snapshot(noon + NS_PER_S), 0);
	assert_false(exists("profile_20250102T000000Z.pb.gz"));
	assert_true(exists("profile_20250102T000000Z-2.pb.gz"));
	assert_true(exists("profile_20241301T000000Z.pb.gz") && exists("profile_20240101T000000Z.txt"));
	assert_true(exists("profile_20240101T000000Z-02.html") && exists("my_profile_20240101T000000Z.html"));
}

static void retention_by_bytes_counts_all_files(void **state)
{
	(void)state;
	config.keep_bytes = 10000;
	plant("profile_20250101T000000Z.pb.gz", 4000);
	plant("profile_20250102T000000Z.html", 6000);
	plant("profile_20250103T000000Z.html", 3500);
	open_it();
	assert_int_equal(write_snapshot(noon), 0); /* 20 bytes more: the first goes, then 9520 are left */
	assert_false(exists("profile_20250101T000000Z.pb.gz"));
	assert_true(exists("profile_20250102T000000Z.html") && exists("profile_20250103T000000Z.html"));
}

static void retention_by_age_goes_by_the_name(void **state)
{
	(void)state;
	config.keep_age_ns = 86400 * NS_PER_S;
	plant("profile_20251231T110000Z.html", 1);
	plant("profile_20251231T130000Z.html", 1);
	open_it();
	assert_int_equal(write_snapshot(noon), 0);
	assert_false(exists("profile_20251231T110000Z.html"));
	assert_true(exists("profile_20251231T130000Z.html"));
	assert_int_equal(write_snapshot(noon + 7200 * NS_PER_S), 0);
	assert_false(exists("profile_20251231T130000Z.html"));
}

static void the_newest_and_the_last_written_stay(void **state)
{
	(void)state;
	config.keep_bytes = 5;
	config.keep_files = 1;
	plant("profile_20270101T000000Z.html", 100); /* the clock was once ahead */
	open_it();
	assert_int_equal(write_snapshot(noon), 0);
	assert_true(exists("profile_20270101T000000Z.html"));
	assert_true(exists("profile_20260101T120000Z.html"));
	assert_int_equal(write_snapshot(noon + NS_PER_S), 0);
	assert_false(exists("profile_20260101T120000Z.html"));
	assert_true(exists("profile_20260101T120001Z.html"));
}

static void a_large_limit_is_not_scanned_for_each_snapshot(void **state)
{
	(void)state;
	config.keep_files = 128; /* slack 2 */
	for (int i = 0; i < 128; i++) {
		char name[64];
		snprintf(name, sizeof name, "profile_20250101T%02d%02d00Z.html", i / 60, i % 60);
		plant(name, 1);
	}
	open_it();
	assert_int_equal(write_snapshot(noon), 0); /* 129: down to 126 */
	assert_int_equal(count(), 126 + 3);        /* and a .pb.gz, and two links */
}

static void what_others_do_in_the_directory_is_noticed(void **state)
{
	(void)state;
	config.keep_bytes = 10000;
	open_it();
	assert_int_equal(write_snapshot(noon), 0);
	usleep(20000); /* the clock of file times ticks every 4 to 10 ms */
	plant("profile_20250101T000000Z.pb.gz", 12000);
	assert_int_equal(write_snapshot(noon + NS_PER_S), 0);
	assert_false(exists("profile_20250101T000000Z.pb.gz"));
	assert_true(exists("profile_20260101T120000Z.html"));
}

static void names_are_read_back(void **state)
{
	(void)state;
	struct output_name name, again;
	enum output_format format;
	char text[OUTPUT_NAME_MAX];
	name = (struct output_name) { .time = noon / NS_PER_S, .number = 12 };
	output_name_format(text, &name, OUTPUT_FOLDED);
	assert_string_equal(text, "profile_20260101T120000Z-12.folded");
	assert_int_equal(output_name_parse(text, &again, &format), 0);
	assert_int_equal(again.time, name.time);
	assert_int_equal(again.number, 12);
	assert_int_equal(format, OUTPUT_FOLDED);
	assert_int_equal(output_name_parse("profile_20260101T120000Z-1.html", &again, &format), -EINVAL);
	assert_int_equal(output_name_parse("profile_20260101T120000Zx.html", &again, &format), -EINVAL);
	assert_int_equal(output_name_parse("profile_+026 101T120000Z.html", &again, &format), -EINVAL);
	assert_int_equal(output_name_parse("profile_20260101T120000Z", &again, &format), -EINVAL);
	assert_int_equal(output_format_of("a/b.pb.gz"), OUTPUT_PPROF);
	assert_int_equal(output_format_of("b.html"), OUTPUT_HTML);
	assert_int_equal(output_format_of("a/.html"), -EINVAL);
	assert_int_equal(output_format_of(".html"), -EINVAL);
	assert_int_equal(output_format_of("b.summary"), -EINVAL);
	assert_int_equal(output_format_of("b.svg"), -EINVAL);
}

static void a_directory_of_others_is_refused(void **state)
{
	(void)state;
	log_set_level((enum log_level) - 1);
	assert_int_equal(chmod(directory, 0777), 0);
	assert_int_equal(output_open(&output, &config), -EPERM);
	assert_int_equal(chmod(directory, 0770), 0);
	assert_int_equal(output_open(&output, &config), -EPERM);
	assert_int_equal(chmod(directory, 0750), 0);
	open_it();
	struct output *second = NULL;
	assert_int_equal(output_open(&second, &config), -EBUSY);
	assert_null(second);
	output_close(output);
	output = NULL;
	if (geteuid())
		skip();
	assert_int_equal(chown(directory, 1, 1), 0);
	assert_int_equal(output_open(&output, &config), -EPERM);
	free(config.directory);
	config.directory = strdup("/proc/version");
	assert_int_equal(output_open(&output, &config), -ENOTDIR);
}

static void a_missing_directory_is_made(void **state)
{
	(void)state;
	char path[256];
	struct stat st;
	snprintf(path, sizeof path, "%s/new", directory);
	free(config.directory);
	config.directory = strdup(path);
	open_it();
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0750);
}

static void a_full_disk_leaves_nothing_half_written(void **state)
{
	(void)state;
	if (geteuid() || unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
		mount("tmpfs", directory, "tmpfs", MS_NOSUID, "size=64k,mode=750"))
		skip();
	open_it();
	assert_int_equal(write_snapshot(noon), 0);
	struct output_set set;
	assert_int_equal(output_begin(output, &set), 0);
	char block[4096] = { 1 };
	int err = 0;
	for (int i = 0; i < 64 && !err; i++)
		err = write(set.fd[OUTPUT_PPROF], block, sizeof block) < 0 ? errno : 0;
	assert_int_equal(err, ENOSPC);
	output_abandon(output, &set);
	assert_int_equal(count(), 4);
	assert_string_equal(link_of("last_profile.html"), "profile_20260101T120000Z.html");
	assert_int_equal(write_snapshot(noon + NS_PER_S), 0); /* and goes on when there is room again */
	output_close(output);
	output = NULL;
	assert_int_equal(umount(directory), 0);
}

static void a_directory_without_inodes_fails_early(void **state)
{
	(void)state;
	if (geteuid() || mount("tmpfs", directory, "tmpfs", MS_NOSUID, "nr_inodes=2,mode=750"))
		skip();
	open_it();
	struct output_set set;
	log_set_level((enum log_level) - 1);
	assert_int_equal(output_begin(output, &set), -ENOSPC); /* the second of two files */
	assert_int_equal(count(), 0);
	output_close(output);
	output = NULL;
	assert_int_equal(umount(directory), 0);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(a_snapshot_becomes_files_and_links),
		TEST(an_abandoned_or_empty_snapshot_leaves_nothing),
		TEST(the_same_second_gets_a_number),
		TEST(planted_links_are_not_followed),
		TEST(a_link_that_cannot_be_moved_costs_no_profile),
		TEST(leftovers_go_at_start_and_nothing_else_does),
		TEST(retention_by_count_keeps_the_newest),
		TEST(retention_by_bytes_counts_all_files),
		TEST(retention_by_age_goes_by_the_name),
		TEST(the_newest_and_the_last_written_stay),
		TEST(a_large_limit_is_not_scanned_for_each_snapshot),
		TEST(what_others_do_in_the_directory_is_noticed),
		TEST(names_are_read_back),
		TEST(a_directory_of_others_is_refused),
		TEST(a_missing_directory_is_made),
		TEST(a_full_disk_leaves_nothing_half_written),
		TEST(a_directory_without_inodes_fails_early),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
