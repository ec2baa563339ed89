/* bulkhead-python: see python.h. Exit codes: kit.h. */
#include "python/python.h"

int main(int argc, char **argv)
{
	static const struct runtime python = {
		.name = "python",
		.id = RUNTIME_python,
		.stack_max =
			512
			<< 10, /* up to 3.10 each Python frame has some 500 bytes of C stack, and 1,000 may be nested */
		.prepare = python_prepare,
		.forget = python_forget,
		.capture = python_capture,
		.mix = python_mix,
		.wants = python_wants,
		.describe = python_describe,
		.shed = python_shed,
		.turn = python_turn,
	};
	return lane_worker(&python, argc, argv);
}
