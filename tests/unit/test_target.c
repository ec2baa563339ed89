/* What is mapped where, as events tell of it one after the other. */
#include "unit/check.h"

#include "kit/target.h"
#include "kit/window.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static struct target *fresh_target(uint32_t pid)
{
	struct target *t = target_get(pid);
	t->code = calloc(2, sizeof *t->code);
	t->ncode = 2;
	t->code[0] = (struct code_range) { 0x1000, 0x5000, 0, NULL };
	t->code[1] = (struct code_range) { 0x8000, 0x9000, 0x100, NULL };
	return t;
}

static struct map_entry mapping(uint64_t start, uint64_t end, uint64_t inode)
{
	return (struct map_entry) { .start = start,
		.end = end,
		.inode = inode,
		.device = 7,
		.flags = MAP_IS_EXEC | (inode ? MAP_IS_FILE : 0) };
}

static void expect(const struct target *t, size_t i, uint64_t start, uint64_t end, uint64_t offset)
{
	assert_true(i < t->ncode);
	assert_int_equal(t->code[i].start, start);
	assert_int_equal(t->code[i].end, end);
	assert_int_equal(t->code[i].offset, offset);
}

static void a_mapping_in_the_middle_cuts_the_old_one_in_two(void **state)
{
	(void)state;
	struct target *t = fresh_target(100);
	struct map_entry e = mapping(0x2000, 0x3000, 5);
	target_map(t, &e, "/a", 1);
	assert_int_equal(t->ncode, 4);
	expect(t, 0, 0x1000, 0x2000, 0);
	expect(t, 1, 0x2000, 0x3000, 0);
	expect(t, 2, 0x3000, 0x5000, 0x2000);
	expect(t, 3, 0x8000, 0x9000, 0x100);
	assert_null(target_code(t, 0x5000));
	assert_string_equal(target_code(t, 0x2fff)->module->path, "/a");
	target_gone(100);
	assert_null(target_find(100));
}

static void a_plugin_in_the_place_of_another_is_not_taken_for_it(void **state)
{
	(void)state;
	struct target *t = fresh_target(101);
	struct map_entry a = mapping(0x6000, 0x7000, 11), b = mapping(0x6000, 0x7000, 12);
	target_map(t, &a, "/plugin_a.so", 1);
	struct module *first = target_code(t, 0x6000)->module;
	assert_int_equal(first->users, 1);
	target_map(t, &b, "/plugin_b.so (deleted)", 2);
	assert_int_equal(t->ncode, 3);
	assert_string_equal(target_code(t, 0x6000)->module->path, "/plugin_b.so");
	assert_int_equal(first->users, 0);
	target_gone(101);
}

static void one_mapping_can_cover_several(void **state)
{
	(void)state;
	struct target *t = fresh_target(102);
	struct map_entry e = mapping(0x4000, 0x8800, 0);
	target_map(t, &e, "", 1);
	assert_int_equal(t->ncode, 3);
	expect(t, 0, 0x1000, 0x4000, 0);
	expect(t, 1, 0x4000, 0x8800, 0);
	expect(t, 2, 0x8800, 0x9000, 0x900);
	struct map_entry below = mapping(0x100, 0x200, 0), above = mapping(0x10000, 0x11000, 0);
	target_map(t, &below, "", 2);
	target_map(t, &above, "", 3);
	expect(t, 0, 0x100, 0x200, 0);
	expect(t, 4, 0x10000, 0x11000, 0);
	target_gone(102);
}

static void an_event_older_than_the_maps_changes_nothing(void **state)
{
	(void)state;
	struct target *t = fresh_target(103);
	t->maps_read_ns = 10;
	struct map_entry e = mapping(0x2000, 0x3000, 5);
	target_map(t, &e, "/a", 9);
	assert_int_equal(t->ncode, 2);
	target_gone(103);
}

/* Two programs at the same addresses, one executing the other every few milliseconds: the names of one stood in stacks of the
 * other, because the maps that were opened were already the next one's. */
static void maps_of_the_next_image_do_not_name_this_one(void **state)
{
	(void)state;
	enum { EXEC_NS = 1000, SECOND = 1000000000 };
	const char comm[16] = "a";
	struct target *t = target_get(105);
	struct map_entry a = mapping(0x6000, 0x7000, 21), b = mapping(0x6000, 0x7000, 22);
	struct maps its = { .entries = &a, .n = 1 }, others = { .entries = &b, .n = 1 };
	target_exec(t, comm);
	t->told_ns = EXEC_NS;
	assert_true(target_maps_are_of_another_image(t, &its, EXEC_NS + 1)); /* nothing is told yet */
	target_map(t, &a, "/a", EXEC_NS + 1);
	assert_false(target_maps_are_of_another_image(t, &its, EXEC_NS + 2));
	assert_true(target_maps_are_of_another_image(t, &others, EXEC_NS + 2));
	assert_false(target_maps_are_of_another_image(t, &others, EXEC_NS + 2LL * SECOND)); /* an event was lost */
	target_gone(105);
}

static void thread_names_are_kept_and_fall_back_to_the_process(void **state)
{
	(void)state;
	struct target *t = target_get(104);
	char name[16];
	target_set_thread_name(t, 104, "main\0\0\0\0\0\0\0\0\0\0\0");
	target_set_thread_name(t, 105, "0123456789abcde");
	assert_string_equal(target_thread_name(t, 105, name), "0123456789abcde");
	assert_string_equal(target_thread_name(t, 106, name), "main");
	target_gone(104);
}

static void the_range_of_an_address(void **state)
{
	(void)state;
	struct view *view = calloc(1, sizeof *view + 2 * sizeof *view->range);
	view->n = 2;
	view->range[0] = (struct view_range) { 0x1000, 0x2000 };
	view->range[1] = (struct view_range) { 0x3000, 0x4000 };
	assert_null(view_range_of(view, 0xfff));
	assert_ptr_equal(view_range_of(view, 0x1000), &view->range[0]);
	assert_null(view_range_of(view, 0x2000));
	assert_ptr_equal(view_range_of(view, 0x3fff), &view->range[1]);
	assert_null(view_range_of(view, 0x4000));
	free(view);
}

/* Samples that came behind the word that its process is another reader's now made native's target anew: its end was told to the other one,
 * and native kept its fds for good. */
static void a_target_whose_end_nobody_told_of_is_forgotten(void **state)
{
	(void)state;
	enum { LATER = 10 };
	const int64_t second = 1000000000, now = 100 * second;
	char path[32];
	pid_t child = fork();
	if (!child) {
		pause();
		_exit(0);
	}
	struct target *t = target_get((uint32_t)child);
	struct view *view = calloc(1, sizeof *view);
	snprintf(path, sizeof path, "/proc/%d/mem", child);
	t->mem = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(t->mem >= 0);
	view->mem = t->mem;
	atomic_store(&t->view, view);
	targets_sweep(now);
	assert_int_equal(t->ended_ns, 0);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	targets_sweep(now + second); /* it has just been looked at */
	assert_int_equal(t->ended_ns, 0);
	targets_sweep(now + LATER * second);
	assert_int_equal(t->ended_ns, now + LATER * second);
	assert_int_equal(t->mem, -1);
	targets_sweep(now + 2 * LATER * second);
	assert_null(target_find((uint32_t)child));
}

static int give_back(void **unused)
{
	(void)unused;
	window_reclaim();
	window_reclaim();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_mapping_in_the_middle_cuts_the_old_one_in_two),
		cmocka_unit_test(a_plugin_in_the_place_of_another_is_not_taken_for_it),
		cmocka_unit_test(one_mapping_can_cover_several),
		cmocka_unit_test(an_event_older_than_the_maps_changes_nothing),
		cmocka_unit_test(maps_of_the_next_image_do_not_name_this_one),
		cmocka_unit_test(thread_names_are_kept_and_fall_back_to_the_process),
		cmocka_unit_test(the_range_of_an_address),
		cmocka_unit_test(a_target_whose_end_nobody_told_of_is_forgotten),
	};
	return cmocka_run_group_tests(tests, NULL, give_back);
}
