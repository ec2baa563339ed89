/* Pieces of `bulkhead`: summaries, parents of processes, numbers for people, options. */
#include "ctl/record.h"
#include "ctl/summary.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static void a_name_cannot_pretend_to_be_a_parent(void **state)
{
	(void)state;
	assert_int_equal(family_parse_parent("12 (cat) S 7 12 12 0"), 7);
	assert_int_equal(family_parse_parent("12 (a) S 1 (b) R 99 12"), 99);
	assert_int_equal(family_parse_parent("12 (x)) Z 3 1"), 3);
	assert_int_equal(family_parse_parent("12 (x) S"), -EINVAL);
	assert_int_equal(family_parse_parent(""), -EINVAL);
}

static char *print(const char *text)
{
	static struct summary s;
	char *copy = strdup(text), *out = NULL;
	size_t size;
	FILE *f = open_memstream(&out, &size);
	summary_parse(&s, copy);
	summary_print(&s, f);
	fclose(f);
	free(copy);
	return out;
}

static void a_summary_has_shares_and_words(void **state)
{
	(void)state;
	char *out = print("samples\t1000\nprocesses\t2\nstacks\t30\ncounter\ttaken\t1010\ncounter\tfiltered\t10\n"
			  "counter\tcomplete\t990\ncounter\tmoved\t10\nprocess\t750\t12\txz\tand a tab\n"
			  "function\t250\t500\tmain\nmissing\tnative: deadline\n");
	assert_non_null(strstr(out, "1,000 samples of 2 processes, 30 different stacks"));
	assert_non_null(strstr(out, "  75.0 %       750       12  xz\\x09and a tab\n"));
	assert_non_null(strstr(out, "  25.0 %   50.0 %       250  main\n"));
	assert_non_null(strstr(out, "           990  samples with a complete stack (99.0 %)\n"));
	assert_non_null(strstr(out, "            10  samples of processes that were not asked for\n"));
	assert_non_null(strstr(out, "the part of native: deadline"));
	assert_null(strstr(out, "unaccounted"));
	free(out);
}

static void samples_that_vanished_are_told(void **state)
{
	(void)state;
	char *out = print("samples\t9\ncounter\ttaken\t10\ncounter\tcomplete\t9\n");
	assert_non_null(strstr(out, "1  samples unaccounted for"));
	free(out);
}

static void nonsense_is_passed_over(void **state)
{
	(void)state;
	char *out = print("samples\t-5\nsamples\nsamples\t1\t2\ncounter\tno_"
			  "such\t5\ncounter\ttaken\tx\nprocess\t1\t2\n\n\t\t\t\t\n"
			  "function\t99999999999999999999999\t1\tf\n");
	assert_string_equal(out, "0 samples of 0 processes, 0 different stacks\n");
	free(out);
	out = print("");
	assert_string_equal(out, "0 samples of 0 processes, 0 different stacks\n");
	free(out);
}

static void numbers_are_for_people(void **state)
{
	(void)state;
	struct human h;
	assert_string_equal(human_count(&h, 0), "0");
	assert_string_equal(human_count(&h, 999), "999");
	assert_string_equal(human_count(&h, 1000), "1,000");
	assert_string_equal(human_count(&h, UINT64_MAX), "18,446,744,073,709,551,615");
	assert_string_equal(human_bytes(&h, 512), "512 B");
	assert_string_equal(human_bytes(&h, 1536), "1.5 KiB");
	assert_string_equal(human_bytes(&h, 3.0 * (1 << 30)), "3.0 GiB");
	assert_string_equal(human_seconds(&h, 3.25), "3.2 s");
	assert_string_equal(human_seconds(&h, 125), "2 min 5 s");
	assert_string_equal(human_seconds(&h, 100000), "1 d 3 h");
	assert_string_equal(human_seconds(&h, -1), "0.0 s");
}

/* Parses "record ARGS..." ; the exit code when it stops there, else -1. */
static int options(struct record_options *o, ...)
{
	char *argv[16] = { (char[]) { "record" } };
	int argc = 1, result = -1;
	va_list args;
	va_start(args, o);
	while ((argv[argc] = va_arg(args, char *)))
		argc++;
	va_end(args);
	optind = 0;
	int saved = dup(STDERR_FILENO), null = open("/dev/null", O_WRONLY | O_CLOEXEC);
	dup2(null, STDERR_FILENO);
	int err = record_options_parse(argc, argv, o, &result);
	dup2(saved, STDERR_FILENO);
	close(saved);
	close(null);
	return err ? result : -1;
}

static void options_have_sensible_defaults(void **state)
{
	(void)state;
	struct record_options o;
	assert_int_equal(options(&o, (char *)NULL), -1);
	assert_int_equal(o.duration_ms, 10000);
	assert_int_equal(o.frequency, 99);
	assert_int_equal(o.files_count, 2);
	assert_null(o.command);
	assert_int_equal(options(&o, "--", "sleep", "-d", "3", (char *)NULL), -1);
	assert_int_equal(o.duration_ms, 0);
	assert_string_equal(o.command[1], "-d");
	assert_int_equal(
		options(&o, "-d", "0.5", "-F", "1000", "-p", "1,22", "-p", "3", "-o", "x.folded", (char *)NULL), -1);
	assert_int_equal(o.duration_ms, 500);
	assert_int_equal(o.named_count, 3);
	assert_int_equal(o.named[1], 22);
	assert_int_equal(o.files_count, 1);
}

static void wrong_options_are_refused(void **state)
{
	(void)state;
	struct record_options o;
	static const char *const wrong[][2] = { { "-d", "0" }, { "-d", "-1" }, { "-d", "nan" }, { "-d", "1e9" },
		{ "-d", "" }, { "-F", "0" }, { "-F", "1001" }, { "-F", "9.5" }, { "-p", "0" }, { "-p", "1," },
		{ "-p", "" }, { "-p", "99999999999" }, { "-o", "x.svg" }, { "-o", ".html" }, { "-o", "x.summary" },
		{ "-o", "" }, { "--log-level", "loud" }, { "--bogus", "x" } };
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
		if (options(&o, wrong[i][0], wrong[i][1], (char *)NULL) != CTL_USAGE)
			fail_msg("%s %s was taken", wrong[i][0], wrong[i][1]);
	assert_int_equal(options(&o, "-o", "a.html", "-o", "a.html", (char *)NULL), CTL_USAGE);
}

static void children_are_found(void **state)
{
	(void)state;
	int hold[2], told[2];
	assert_int_equal(pipe2(hold, O_CLOEXEC), 0);
	assert_int_equal(pipe2(told, O_CLOEXEC), 0);
	pid_t child = fork();
	if (!child) {
		pid_t grandchild = fork();
		char byte;
		close(hold[1]);
		if (grandchild && write(told[1], &grandchild, sizeof grandchild) < 0)
			_exit(1);
		_exit(read(hold[0], &byte, 1) != 0);
	}
	pid_t grandchild = 0;
	assert_int_equal(read(told[0], &grandchild, sizeof grandchild), sizeof grandchild);
	static struct family f;
	assert_int_equal(family_add(&f, child), 0);
	assert_int_equal(family_add(&f, child), 0);
	assert_int_equal(family_descendants(&f), 0);
	assert_int_equal(f.named, 1);
	assert_int_equal(f.count, 2);
	assert_int_equal(f.pids[1], grandchild);
	assert_false(family_ended(&f));
	family_free(&f);
	close(hold[1]);
	waitpid(child, NULL, 0);
	close(hold[0]);
	close(told[0]);
	close(told[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_name_cannot_pretend_to_be_a_parent),
		cmocka_unit_test(a_summary_has_shares_and_words),
		cmocka_unit_test(samples_that_vanished_are_told),
		cmocka_unit_test(nonsense_is_passed_over),
		cmocka_unit_test(numbers_are_for_people),
		cmocka_unit_test(options_have_sensible_defaults),
		cmocka_unit_test(wrong_options_are_refused),
		cmocka_unit_test(children_are_found),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
