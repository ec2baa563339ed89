/* Whose samples go where: forks and execs, in whatever order their CPUs' rings are read. */
#include "unit/check.h"

#include "sampler/sampler.h"

enum { PARENT = 100, CHILD = 101, OTHER = 102 };

static int setup(void **state)
{
	(void)state;
	return route_init(routes_create()) ? 0 : -1;
}

static void a_child_is_where_its_parent_is(void **state)
{
	(void)state;
	route_set(PARENT, RUNTIME_python);
	route_fork(PARENT, CHILD, 10);
	assert_int_equal(route_of(CHILD), RUNTIME_python);
	route_fork(OTHER, CHILD, 20); /* the number again, of another parent */
	assert_int_equal(route_of(CHILD), RUNTIME_NONE);
}

static void a_new_image_is_natives(void **state)
{
	(void)state;
	route_set(PARENT, RUNTIME_python);
	route_fork(PARENT, CHILD, 10);
	route_exec(CHILD, 11);
	assert_int_equal(route_of(CHILD), RUNTIME_NONE);
	assert_int_equal(route_of(PARENT), RUNTIME_python);
}

/* A native program that Python had started stayed in Python's lane for good. */
static void a_fork_that_is_heard_of_after_the_exec_does_not_undo_it(void **state)
{
	(void)state;
	route_set(PARENT, RUNTIME_python);
	route_exec(CHILD, 11);
	route_fork(PARENT, CHILD, 10);
	assert_int_equal(route_of(CHILD), RUNTIME_NONE);
	route_fork(PARENT, CHILD, 12); /* born again since */
	assert_int_equal(route_of(CHILD), RUNTIME_python);
}

static void only_those_that_were_asked_for_and_their_children_count(void **state)
{
	(void)state;
	assert_true(route_follows(OTHER));
	route_follow_only();
	route_follow(PARENT);
	assert_false(route_follows(OTHER));
	route_exec(CHILD, 11);
	route_fork(PARENT, CHILD, 10); /* an exec does not change whose child it is */
	assert_true(route_follows(CHILD));
	route_fork(OTHER, CHILD, 12);
	assert_false(route_follows(CHILD));
}

static void all_of_a_runtime_can_be_listed(void **state)
{
	(void)state;
	uint32_t pids[2], from = 0;
	route_set(7, RUNTIME_python);
	route_set(70000, RUNTIME_python);
	route_set(ROUTES_PIDS - 1, RUNTIME_python);
	assert_int_equal(route_list(RUNTIME_python, &from, pids, 2), 2);
	assert_int_equal(pids[0], 7);
	assert_int_equal(pids[1], 70000);
	assert_int_equal(route_list(RUNTIME_python, &from, pids, 2), 1);
	assert_int_equal(pids[0], ROUTES_PIDS - 1);
	assert_int_equal(route_list(RUNTIME_python, &from, pids, 2), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(a_child_is_where_its_parent_is, setup),
		cmocka_unit_test_setup(a_new_image_is_natives, setup),
		cmocka_unit_test_setup(a_fork_that_is_heard_of_after_the_exec_does_not_undo_it, setup),
		cmocka_unit_test_setup(only_those_that_were_asked_for_and_their_children_count, setup),
		cmocka_unit_test_setup(all_of_a_runtime_can_be_listed, setup),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
