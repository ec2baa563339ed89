/* bulkhead-native: the lane of every process that no runtime's worker has taken. Kernel and native stacks, and word of processes that
 * carry a runtime of proto/runtimes.def. Exit codes: kit.h. */
#include "kit/lane_worker.h"

int main(int argc, char **argv)
{
	static const struct runtime native = { .name = "native", .id = RUNTIME_NONE };
	return lane_worker(&native, argc, argv);
}
