/* bulkhead-java: see java.h. Exit codes: kit.h. */
#include "java/java.h"

int main(int argc, char **argv)
{
	static const struct runtime java = {
		.name = "java",
		.id = RUNTIME_java,
		.reads_files = true, /* class data that is shared between virtual machines */
		.stack_max = 512 << 10,
		.prepare = java_prepare,
		.forget = java_forget,
		.made = java_made,
		.step = java_step_made,
		.capture = java_capture,
		.knows = java_knows,
		.mix = java_mix,
		.wants = java_wants,
		.describe = java_describe,
		.shed = java_shed,
		.turn = java_turn,
	};
	return lane_worker(&java, argc, argv);
}
