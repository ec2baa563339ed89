/* Short calls through the procedure linkage table: into a library of ours, and into libc, which calls back.
 * Chains: main; hops; hop_N or its stub. main; sorts; qsort...; compare. main; searches; bsearch; compare. main;
 * strings; strlen. */
#include "workload.h"

uint64_t hop_one(uint64_t), hop_two(uint64_t), hop_three(uint64_t);

static int numbers[256];

static NOINLINE int compare(const void *a, const void *b)
{
	int left = *(const int *)a, right = *(const int *)b;
	return (left > right) - (left < right);
}

static NOINLINE uint64_t hops(uint64_t value)
{
	for (int i = 0; i < 30000; i++)
		value = hop_three(hop_two(hop_one(value)));
	return value;
}

static NOINLINE uint64_t sorts(uint64_t value)
{
	for (int round = 0; round < 8; round++) {
		for (unsigned i = 0; i < 256; i++)
			numbers[i] = (int)((value + round + i) * 2654435761u >> 4);
		qsort(numbers, 256, sizeof *numbers, compare);
	}
	return value + (uint64_t)numbers[3];
}

static NOINLINE uint64_t searches(uint64_t value)
{
	void *(*volatile search)(const void *, const void *, size_t, size_t, __compar_fn_t) = bsearch;
	for (int i = 0; i < 3000; i++) {
		int key = numbers[(value + (uint64_t)i) & 255];
		if (search(&key, numbers, 256, sizeof *numbers, compare))
			value++;
	}
	return value;
}

static NOINLINE uint64_t strings(uint64_t value)
{
	static char text[512];
	memset(text, 'x', sizeof text - 1);
	for (int i = 0; i < 5000; i++) {
		text[value & 255] = 'y';
		value += strlen(text) + (strchr(text, 'y') != NULL);
	}
	return value;
}

int main(int argc, char **argv)
{
	workload_begin(argc, argv);
	uint64_t value = 1;
	while (!workload_done)
		value = strings(searches(sorts(hops(value))));
	return value == 0;
}
