/* The library that plt.c calls; hop_two calls hop_three through this library's own table. */
#include <stdint.h>

uint64_t hop_one(uint64_t value);
uint64_t hop_two(uint64_t value);
uint64_t hop_three(uint64_t value);

uint64_t hop_one(uint64_t value)
{
	/* Long enough to be met: an interrupt waits for what is under way, and of two instructions the second may never be. */
	for (int i = 0; i < 6; i++)
		value = (value ^ value >> 7) * 3 + 1;
	return value;
}

uint64_t hop_two(uint64_t value)
{
	return hop_three(value ^ 5) + 1;
}

uint64_t hop_three(uint64_t value)
{
	return value * value + 7;
}
