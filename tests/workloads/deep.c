/* 200 frames of mutual recursion, more than 20 KiB of stack, and a leaf that spins.
 * Chain: main; descend_even; descend_odd; ... (200 in all); bottom. */
#include "workload.h"

enum { DEPTH = 200 };

static NOINLINE void bottom(void)
{
#ifdef FRAME_IN_LEAF
	/* The compiler leaves it out of a leaf, whatever its options say. */
	__asm__ volatile("" ::"r"(__builtin_frame_address(0)));
#endif
	SPIN(200000);
}

static NOINLINE unsigned descend_even(unsigned depth);

static NOINLINE unsigned descend_odd(unsigned depth)
{
	volatile char ballast[96];
	ballast[0] = (char)depth;
	unsigned below = 0;
	if (depth < DEPTH)
		below = descend_even(depth + 1);
	else
		bottom();
	return below + (unsigned)ballast[0];
}

static NOINLINE unsigned descend_even(unsigned depth)
{
	volatile char ballast[160];
	ballast[0] = (char)depth;
	unsigned below = 0;
	if (depth < DEPTH)
		below = descend_odd(depth + 1);
	else
		bottom();
	return below + (unsigned)ballast[0];
}

int main(int argc, char **argv)
{
	workload_begin(argc, argv);
	unsigned sum = 0;
	while (!workload_done)
		sum += descend_even(1);
	return sum == 1;
}
