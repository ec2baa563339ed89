/* The life of a worker: any sequence of events, of any length, with any causes. Each byte of the input is one event. */
#include "life.h"

#include <stdlib.h>

#define WORLD_MUST(condition)                                                                                          \
	do {                                                                                                           \
		if (!(condition))                                                                                      \
			abort();                                                                                       \
	} while (0)
#include "../unit/life_world.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct life_limits limits = { .backoff_max_ms = 60 * 1000, .backoff_forget_ms = 60 * 1000 };
	world_begin_anew(&limits);
	for (size_t i = 0; i < size; i++) {
		struct life *life = data[i] & 0x80 ? &world.heir : &world.post;
		enum cause cause = (enum cause)(1 + (data[i] >> 3) % (CAUSE_MAX - 1));
		(void)world_step(life, (enum life_happening)((data[i] & 7) % LIFE_HAPPENING_MAX), cause);
	}
	return 0;
}
