/* Kernel symbols: the real /proc/kallsyms as root, and what a hostile or odd one could hold. */
#include "kit/kallsyms.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#include <cmocka.h>

#include "common/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

static int file_of(const char *text)
{
	int fd = memfd_create("kallsyms", MFD_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	return fd;
}

static struct kallsyms *load(const char *text)
{
	cleanup_close int fd = file_of(text);
	struct kallsyms *k = NULL;
	assert_int_equal(kallsyms_load(&k, fd), 0);
	return k;
}

static void expect(const struct kallsyms *k, uint64_t address, const char *name)
{
	char out[256] = "";
	size_t n = kallsyms_find(k, address, out, sizeof(out));
	assert_int_equal(n, strlen(name));
	if (n)
		assert_string_equal(out, name);
}

static void unsorted_lines_are_found(void **state)
{
	(void)state;
	struct kallsyms *k = load("ffffffffc0300000 t mod_b\t[beta]\n"
				  "ffffffff81000000 T first\n"
				  "ffffffffc0200000 t bpf_prog_1234_x\t[bpf]\n"
				  "ffffffff81000100 D data\n"
				  "ffffffff81000200 t second\n");
	expect(k, 0, "");
	expect(k, 0xffffffff80ffffff, "");
	expect(k, 0xffffffff81000000, "first");
	expect(k, 0xffffffff810001ff, "first");
	expect(k, 0xffffffff81000200, "second");
	expect(k, 0xffffffffc0200010, "bpf_prog_1234_x [bpf]");
	expect(k, 0xffffffffc0300000, "mod_b [beta]");
	kallsyms_free(k);
}

static void nothing_is_said_far_above_a_symbol(void **state)
{
	(void)state;
	struct kallsyms *k = load("ffffffff81000000 T first\nffffffffc0000000 T last\n");
	expect(k, 0xffffffff81100000, "first");
	expect(k, 0xffffffff81100001, "");
	expect(k, 0xffffffffc0100000, "last");
	expect(k, UINT64_MAX, "");
	kallsyms_free(k);
}

static void symbols_may_be_far_apart(void **state)
{
	(void)state;
	struct kallsyms *k = load("1000 T low\n"
				  "ffff800000001000 T middle\n"
				  "ffff8000f0001000 T middle_too\n"
				  "ffffffffffffffff T top\n");
	expect(k, 0xfff, "");
	expect(k, 0x1004, "low");
	expect(k, 0x900000000, "");
	expect(k, 0xffff800000001004, "middle");
	expect(k, 0xffff8000f0001000, "middle_too");
	expect(k, 0xffffffffffffffff, "top");
	kallsyms_free(k);
}

static void the_sensible_alias_is_shown(void **state)
{
	(void)state;
	struct kallsyms *k = load("1000 T _text\n1000 T _stext\n1000 T srso_alias_untrain_ret\n"
				  "2000 t __do_sys_getpid\n2000 T __ia32_sys_getpid\n2000 T __x64_sys_getpid\n"
				  "3000 W weak\n3000 T strong\n"
				  "4000 T __irqentry_text_start\n4000 T __pfx_entry\n"
				  "5000 T __memcpy\n5000 T memcpy\n");
	expect(k, 0x1000, "srso_alias_untrain_ret");
	expect(k, 0x2000, "__x64_sys_getpid");
	expect(k, 0x3000, "strong");
	expect(k, 0x4000, "entry");
	expect(k, 0x5000, "memcpy");
	kallsyms_free(k);
}

static void a_function_begins_with_its_padding(void **state)
{
	(void)state;
	struct kallsyms *shared = load("1000 t __pfx_a_rather_long_name\t[m]\n1010 t a_rather_long_name\t[m]\n");
	struct kallsyms *apart = load("1000 t __pfx_b_rather_long_name\t[m]\n1010 t a_rather_long_name\t[m]\n");
	expect(shared, 0x1000, "a_rather_long_name [m]");
	expect(shared, 0x1010, "a_rather_long_name [m]");
	expect(apart, 0x1000, "b_rather_long_name [m]");
	expect(apart, 0x1010, "a_rather_long_name [m]");
	assert_true(kallsyms_memory(shared) < kallsyms_memory(apart));
	kallsyms_free(shared);
	kallsyms_free(apart);
}

static void hidden_addresses_are_an_error(void **state)
{
	(void)state;
	struct kallsyms *k = NULL;
	cleanup_close int zero = file_of("0000000000000000 T _text\n0000000000000000 t other\t[mod]\n");
	assert_int_equal(kallsyms_load(&k, zero), -EPERM);
	cleanup_close int empty = file_of("");
	assert_int_equal(kallsyms_load(&k, empty), -ENODATA);
	assert_int_equal(kallsyms_load(&k, -1), -EBADF);
	assert_null(k);
}

static void odd_lines_are_skipped(void **state)
{
	(void)state;
	char text[12000];
	strcpy(text, "\n \nzz T x\n1000\n1000 T\n1000 T \n1000 T__ y\n11111111111111111 T wide\n1000 T ");
	size_t len = strlen(text);
	memset(text + len, 'n', 9000); /* cut at the length of a line */
	strcpy(text + len + 9000, "\n2000 T \x1b[31mred\xff\n3000 T __pfx_\n4000 t end");
	struct kallsyms *k = load(text);
	char out[64];
	assert_int_equal(kallsyms_find(k, 0x1000, out, sizeof(out)), sizeof(out) - 1);
	assert_int_equal(strspn(out, "n"), sizeof(out) - 1);
	assert_int_equal(kallsyms_find(k, 0x1000, out, 1), 0);
	assert_int_equal(kallsyms_find(k, 0x1000, out, 0), 0);
	expect(k, 0x2000, "\x1b[31mred\xff");
	expect(k, 0x3000, "__pfx_");
	expect(k, 0x4000, "end");
	kallsyms_free(k);
}

static double now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* Each address of the real file must give its own name, or the name of an alias. */
static void the_real_file_agrees(void **state)
{
	(void)state;
	cleanup_close int fd = open("/proc/kallsyms", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		skip();
	struct kallsyms *k = NULL;
	double begin = now_ms();
	int r = kallsyms_load(&k, fd);
	double took = now_ms() - begin;
	if (r == -EPERM || r == -ENODATA)
		skip();
	assert_int_equal(r, 0);
	print_message("loaded in %.1f ms, %zu bytes\n", took, kallsyms_memory(k));

	cleanup_fclose FILE *f = fopen("/proc/kallsyms", "re");
	char line[1024], previous[600] = "", name[512], module[64], out[600];
	uint64_t before = 0;
	bool padding = false; /* a padding begins at `before` */
	size_t same = 0, checked = 0;
	while (fgets(line, sizeof(line), f)) {
		uint64_t address;
		char type;
		int fields = sscanf(line, "%" SCNx64 " %c %511s %63s", &address, &type, name, module);
		if (fields < 3 || !strchr("tTwW", type) || !address)
			continue;
		char whole[600];
		bool pads = strncmp(name, "__pfx_", 6) == 0;
		snprintf(whole, sizeof(whole), fields == 4 ? "%s %s" : "%s", name + (pads ? 6 : 0), module);
		assert_true(kallsyms_find(k, address, out, sizeof(out)) > 0);
		checked++;
		same += strcmp(out, whole) == 0;
		/* The byte before belongs to the symbol before, when the file is sorted there and it has no alias, is not this
		 * one's padding, and is not one of the same name. */
		if (address > before && address - before < 4096 && strcmp(out, whole) == 0 && !padding &&
			strcmp(previous, whole)) {
			char last[600];
			assert_true(kallsyms_find(k, address - 1, last, sizeof(last)) > 0);
			assert_string_not_equal(last, whole);
		}
		padding = pads || (padding && address == before);
		before = address;
		strcpy(previous, whole);
	}
	print_message("%zu of %zu by the same name, the others by an alias\n", same, checked);
	assert_true(checked > 1000 && same > checked / 100 * 98);
	assert_true(kallsyms_memory(k) < checked * 48);
	kallsyms_free(k);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(unsorted_lines_are_found),
		cmocka_unit_test(nothing_is_said_far_above_a_symbol),
		cmocka_unit_test(symbols_may_be_far_apart),
		cmocka_unit_test(the_sensible_alias_is_shown),
		cmocka_unit_test(a_function_begins_with_its_padding),
		cmocka_unit_test(hidden_addresses_are_an_error),
		cmocka_unit_test(odd_lines_are_skipped),
		cmocka_unit_test(the_real_file_agrees),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
