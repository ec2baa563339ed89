/* bulkhead.conf: what is accepted, and that each error names file, line, what is wrong and what would be right. */
#include "config.h"

#include "common/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char *errors;
static struct config config;

static int parse_n(const char *text, size_t n)
{
	size_t size;
	free(errors);
	errors = NULL;
	config_free(&config);
	config_defaults(&config);
	FILE *f = open_memstream(&errors, &size);
	int err = config_parse(&config, "f", text, n, f);
	fclose(f);
	return err;
}

static int parse(const char *text)
{
	return parse_n(text, strlen(text));
}

static void complains(const char *text, const char *expected)
{
	assert_int_equal(parse(text), -EINVAL);
	assert_string_equal(errors, expected);
}

static int teardown(void **state)
{
	(void)state;
	free(errors);
	errors = NULL;
	config_free(&config);
	return 0;
}

static void an_empty_file_means_the_defaults(void **state)
{
	(void)state;
	assert_int_equal(parse(""), 0);
	assert_int_equal(config.interval_ns, 60 * NS_PER_S);
	assert_int_equal(config.frequency, 19);
	assert_int_equal(config.deadline_ns, 5 * NS_PER_S);
	assert_true(config.realtime && config.pin && !config.isolated_cpus);
	assert_string_equal(config.directory, "/var/lib/bulkhead");
	assert_true(config.formats[OUTPUT_PPROF] && !config.formats[OUTPUT_HTML] && !config.formats[OUTPUT_FOLDED]);
	assert_int_equal(config.keep_files, 10080);
	assert_int_equal(config.keep_bytes, 2ULL << 30);
	assert_int_equal(config.keep_age_ns, 7LL * 86400 * NS_PER_S);
	assert_string_equal(config.runtime_directory, "/run/bulkhead");
	assert_null(config.status_group);
	assert_int_equal(config.log_level, LOG_LEVEL_INFO);
	assert_int_equal(config.uid_base, 60800);
}

static void every_kind_of_value_is_read(void **state)
{
	(void)state;
	assert_int_equal(parse("# a comment\n"
			       "; another\n"
			       "[snapshot]\n"
			       "  interval=10m   # after a value\n"
			       "frequency =  99\r\n"
			       "deadline = 500ms\n"
			       "\n"
			       "[output]\n"
			       "directory = /srv/a#b;c\n"
			       "formats = html, folded\n"
			       "keep_files = 0\n"
			       "keep_bytes = 512M\n"
			       "keep_age = 2h\n"
			       "[ supervisor ]\n"
			       "status_group = adm\n"
			       "log_level = debug\n"
			       "[sampler]\n"
			       "realtime = no\n"
			       "pin = no\n"
			       "isolated_cpus = yes"),
		0);
	assert_string_equal(errors, "");
	assert_int_equal(config.interval_ns, 600 * NS_PER_S);
	assert_int_equal(config.frequency, 99);
	assert_int_equal(config.deadline_ns, 500 * NS_PER_MS);
	assert_string_equal(config.directory, "/srv/a#b;c");
	assert_true(config.formats[OUTPUT_HTML] && config.formats[OUTPUT_FOLDED] && !config.formats[OUTPUT_PPROF]);
	assert_int_equal(config.keep_files, 0);
	assert_int_equal(config.keep_bytes, 512 << 20);
	assert_int_equal(config.keep_age_ns, 7200 * NS_PER_S);
	assert_string_equal(config.status_group, "adm");
	assert_int_equal(config.log_level, LOG_LEVEL_DEBUG);
	assert_true(!config.realtime && !config.pin && config.isolated_cpus);
}

static void a_mistyped_name_gets_the_nearest(void **state)
{
	(void)state;
	complains("[snapshot]\nintervall = 60s\n",
		"f:2: there is no key 'intervall' in [snapshot]; did you mean interval?\n");
	complains("[snapshto]\ninterval = 60s\n", "f:1: there is no section [snapshto]; did you mean [snapshot]?\n");
	complains("[output]\ninterval = 60s\n", "f:2: interval belongs into section [snapshot], not [output]\n");
	complains("[output]\nformats = pprof, htlm\n",
		"f:2: formats: 'htlm' is not a format: pprof, folded or html; did you mean html?\n");
	complains("[snapshot]\nzzz = 1\n",
		"f:2: there is no key 'zzz' in [snapshot]: there are interval, frequency, deadline\n");
	complains("[x]\n", "f:1: there is no section [x]: there are [snapshot], [sampler], [output], [supervisor] and "
			   "[worker NAME]\n");
}

static void each_worker_has_a_budget(void **state)
{
	(void)state;
	assert_int_equal(parse("[worker native]\nmemory = 100M\nmemory_recycle = 80M\nmemory_shed = 60M\nlifetime = 0\n"
			       "[worker merge]\nfds = 100\n"),
		0);
	const struct budget *native = config_budget(&config, "native"), *merge = config_budget(&config, "merge");
	assert_int_equal(native->memory, 100 << 20);
	assert_int_equal(native->lifetime_ns, 0);
	assert_int_equal(native->requests, 256); /* what is not said stays */
	assert_int_equal(merge->fds, 100);
	assert_null(config_budget(&config, "nobody"));
	complains("[worker native]\nmemory = 10M\n", "f:2: [worker native]: memory_shed (128M) must not be above "
						     "memory_recycle (192M), nor that above memory (10M)\n");
	complains("[worker nativ]\nmemory = 1G\n",
		"f:1: there is no section [worker nativ]; did you mean [worker native]?\n");
	complains("[snapshot]\nlifetime = 1d\n", "f:2: lifetime belongs into section [worker NAME], not [snapshot]\n");
	complains("[worker merge]\ncpu_percent = 0\n", "f:2: cpu_percent: 0 is out of range: from 1 to 10000\n");
	complains("[supervisor]\ncgroup = /tmp/x\n",
		"f:2: cgroup: '/tmp/x' is neither auto nor no nor a path below /sys/fs/cgroup/\n");
}

static void a_wrong_value_names_the_right_ones(void **state)
{
	(void)state;
	complains("[snapshot]\nfrequency = 5000\n", "f:2: frequency: 5000 is out of range: from 1 to 1000\n");
	complains("[snapshot]\nfrequency = 0\n", "f:2: frequency: 0 is out of range: from 1 to 1000\n");
	complains("[snapshot]\nfrequency = 99999999999999999999999\n",
		"f:2: frequency: 99999999999999999999999 is out of range: from 1 to 1000\n");
	complains("[snapshot]\nfrequency = -5\n", "f:2: frequency: '-5' is not a whole number\n");
	complains("[snapshot]\ninterval = 60\n",
		"f:2: interval: '60' is not a duration such as 500ms, 60s, 10m, 2h or 7d\n");
	complains("[snapshot]\ninterval = 2d\n", "f:2: interval: 2d is out of range: from 1s to 1d\n");
	complains("[snapshot]\ninterval = 999999999999999d\n",
		"f:2: interval: 999999999999999d is out of range: from 1s to 1d\n");
	complains("[output]\nkeep_bytes = 3X\n",
		"f:2: keep_bytes: '3X' is not a size in bytes, or with K, M, G or T, such as 512M\n");
	complains("[output]\nkeep_bytes = 3\n",
		"f:2: keep_bytes: 3 is out of range: from 1M to 1024T, or 0 for no limit\n");
	complains("[output]\nformats =\n", "f:2: formats: names no format: one or more of pprof, folded, html\n");
	complains("[output]\nformats = summary\n", "f:2: formats: 'summary' is not a format: pprof, folded or html\n");
	complains("[output]\ndirectory = here\n",
		"f:2: directory: 'here' is not an absolute path without '..', such as /var/lib/bulkhead\n");
	complains("[output]\ndirectory = /var/../etc\n",
		"f:2: directory: '/var/../etc' is not an absolute path without '..', such as /var/lib/bulkhead\n");
	complains("[sampler]\npin = true\n", "f:2: pin: 'true' is neither yes nor no\n");
	complains("[supervisor]\nlog_level = loud\n",
		"f:2: log_level: 'loud' is not a level: error, warning, info or debug\n");
	complains("[supervisor]\nstatus_group = a b\n",
		"f:2: status_group: 'a b' is not the name of a group, such as adm\n");
	complains("[supervisor]\nuid_base = 0\n", "f:2: uid_base: 0 is out of range: from 1000 to 4294900000\n");
}

static void a_wrong_line_says_what_a_line_is(void **state)
{
	(void)state;
	complains("interval = 60s\n",
		"f:1: interval stands before the first section: put it below a line such as [snapshot]\n");
	complains("[snapshot]\ninterval\n",
		"f:2: 'interval' is neither a [section] nor a line of the form key = value\n");
	complains("[snapshot]\n= 3\n", "f:2: '= 3' is neither a [section] nor a line of the form key = value\n");
	complains("[snapshot\n", "f:1: '[snapshot' is not a section: it needs a ']' at its end\n");
	complains("[\n", "f:1: '[' is not a section: it needs a ']' at its end\n");
	complains("[snapshot]\ninterval = 30s\ninterval = 60s\n",
		"f:3: interval is set twice: line 2 has it already; keep one of them\n");
	assert_int_equal(parse_n("[snapshot]\nfreq\0uency = 3\n", 26), -EINVAL);
	assert_string_equal(errors, "f:2: holds a byte 0: this is not a text file\n");
}

static void all_errors_are_told_not_only_the_first(void **state)
{
	(void)state;
	complains("[snapshot]\nfrequency = x\n[outptu]\ndirectory = y\n[sampler]\npin = 1\n",
		"f:2: frequency: 'x' is not a whole number\n"
		"f:3: there is no section [outptu]; did you mean [output]?\n"
		"f:6: pin: '1' is neither yes nor no\n");
}

static void escape_codes_do_not_reach_the_terminal(void **state)
{
	(void)state;
	assert_int_equal(parse("[snapshot]\n\033[31m = 1\n\033]0;x\007\n"), -EINVAL);
	assert_null(strchr(errors, '\033'));
}

static int load(const char *path)
{
	size_t size;
	free(errors);
	errors = NULL;
	config_free(&config);
	config_defaults(&config);
	FILE *f = open_memstream(&errors, &size);
	int err = config_load(&config, path, f);
	fclose(f);
	return err;
}

static void a_group_that_is_not_there_is_told_with_its_line(void **state)
{
	(void)state;
	static const char text[] = "[supervisor]\nstatus_group = no-such-group-here\n[snapshot]\nfrequency = 0\n";
	char path[] = "/tmp/bulkhead-test-config.XXXXXX", expected[512];
	int fd = mkostemp(path, O_CLOEXEC);
	assert_int_equal(write(fd, text, sizeof text - 1), sizeof text - 1);
	close(fd);
	assert_int_equal(load(path), -EINVAL);
	snprintf(expected, sizeof expected,
		"%s:4: frequency: 0 is out of range: from 1 to 1000\n"
		"%s:2: status_group: there is no group 'no-such-group-here': groupadd --system no-such-group-here\n",
		path, path);
	assert_string_equal(errors, expected);
	unlink(path);
}

static void a_file_that_others_can_change_is_refused(void **state)
{
	(void)state;
	char path[] = "/tmp/bulkhead-test-config.XXXXXX";
	int fd = mkostemp(path, O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, "[snapshot]\nfrequency = 7\n", 25), 25);
	assert_int_equal(load(path), 0);
	assert_int_equal(config.frequency, 7);
	if (geteuid()) {
		close(fd);
		unlink(path);
		skip();
	}
	assert_int_equal(fchmod(fd, 0664), 0);
	assert_int_equal(load(path), -EPERM);
	assert_non_null(strstr(errors, "mode 664"));
	assert_int_equal(fchmod(fd, 0644), 0);
	assert_int_equal(fchown(fd, 1, 0), 0);
	assert_int_equal(load(path), -EPERM);
	assert_non_null(strstr(errors, "belongs to uid 1"));
	close(fd);
	unlink(path);
}

static void what_is_not_a_file_is_refused_at_once(void **state)
{
	(void)state;
	char path[] = "/tmp/bulkhead-test-fifo.XXXXXX";
	assert_int_equal(load("/nonexistent/bulkhead.conf"), -ENOENT);
	assert_string_equal(errors, "/nonexistent/bulkhead.conf: No such file or directory\n");
	assert_int_equal(load("/tmp"), -EINVAL);
	close(mkostemp(path, O_CLOEXEC));
	unlink(path);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(load(path), -EINVAL); /* and it has not waited for a writer */
	unlink(path);
}

static char *read_all(const char *path)
{
	char *text = calloc(1, 1 << 16);
	FILE *f = fopen(path, "re");
	assert_non_null(f);
	assert_true(fread(text, 1, (1 << 16) - 1, f) > 0);
	fclose(f);
	return text;
}

static void the_sample_file_has_every_key_with_its_default(void **state)
{
	(void)state;
	char *sample = read_all(TEST_SOURCE_DIR "/../deploy/bulkhead.conf");
	char *manual = read_all(TEST_SOURCE_DIR "/../supervisor/bulkhead.conf.5");
	char line[256];
#define KEY(section, name, type, field, initial, least, most, words)                                                   \
	snprintf(line, sizeof line, *(initial) ? "\n#%s = %s\n" : "\n#%s =%s\n", #name, initial);                      \
	if (!strstr(sample, line))                                                                                     \
		fail_msg("deploy/bulkhead.conf lacks the line:%s", line);                                              \
	if (!strstr(manual, "\n.It Ic " #name " "))                                                                    \
		fail_msg("bulkhead.conf.5 lacks %s", #name);
#include "config.def"
#undef KEY
	char *native = strstr(sample, "\n[worker native]\n");
	assert_non_null(native);
#define COLUMN(name, type, field, least, most, words)                                                                  \
	if (!strstr(native, "\n#" #name " = "))                                                                        \
		fail_msg("deploy/bulkhead.conf lacks %s in [worker native]", #name);                                   \
	if (!strstr(manual, "\n.It Ic " #name " "))                                                                    \
		fail_msg("bulkhead.conf.5 lacks %s", #name);
#include "budgets.def"
#define BUDGET(worker, ...)                                                                                            \
	if (!strstr(sample, #worker))                                                                                  \
		fail_msg("deploy/bulkhead.conf does not speak of the worker %s", #worker);
#include "budgets.def"
	/* with every comment sign taken away it is a file that loads */
	for (char *at = sample; (at = strstr(at, "\n#")); at += 2)
		if (at[2] != ' ' && at[2] != '\n')
			at[1] = ' ';
	assert_int_equal(parse(sample), 0);
	free(sample);
	free(manual);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_empty_file_means_the_defaults),
		cmocka_unit_test(every_kind_of_value_is_read),
		cmocka_unit_test(a_mistyped_name_gets_the_nearest),
		cmocka_unit_test(each_worker_has_a_budget),
		cmocka_unit_test(a_wrong_value_names_the_right_ones),
		cmocka_unit_test(a_wrong_line_says_what_a_line_is),
		cmocka_unit_test(all_errors_are_told_not_only_the_first),
		cmocka_unit_test(escape_codes_do_not_reach_the_terminal),
		cmocka_unit_test(a_group_that_is_not_there_is_told_with_its_line),
		cmocka_unit_test(a_file_that_others_can_change_is_refused),
		cmocka_unit_test(what_is_not_a_file_is_refused_at_once),
		cmocka_unit_test(the_sample_file_has_every_key_with_its_default),
	};
	return cmocka_run_group_tests(tests, NULL, teardown);
}
