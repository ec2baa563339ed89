/* From a thread state to its frames, in the frozen window: few and large reads into a scratch, and then addresses followed in what was read.
 * Everything in there is hostile; reads, bytes and frames are bounded. */
#ifndef PYTHON_WALK_H
#define PYTHON_WALK_H

#include "python/python.h"

#include <string.h>

enum {
	WALK_SCRATCH_BYTES = 1 << 20, /* of a CPU's thread, touched as far as stacks need */
	WALK_BLOCKS_MAX = 128,        /* stretches of memory in there */
	WALK_READS_MAX = 128,         /* in one window */
};

/* Memory of the target that has been read already. */
struct block {
	uint64_t address;
	size_t n;
	const uint8_t *bytes;
};

struct scratch {
	struct window_read *read;
	const struct python_process *process;
	const struct python_layout *layout;
	struct block blocks[WALK_BLOCKS_MAX];
	uint32_t nblocks, reads;
	uint8_t *memory; /* WALK_SCRATCH_BYTES */
	size_t used;
};

struct walk {
	struct scratch *scratch;
	struct python_frame *frames;
	uint32_t n, from; /* from: where this chain begins */
	uint64_t root,
		root_at; /* what the thread state, or the _PyCFrame, says is the innermost frame, and where it says so */
};

/* Forgets what was read before, and knows these n bytes of the target. */
void walk_begin(struct scratch *s);
void walk_know(struct scratch *s, uint64_t address, const void *bytes, size_t n);
/* The frames of a thread state, of which the bytes are at hand, from w->from on; w->n behind the last. */
enum python_status walk_thread(struct walk *w, const uint8_t *thread, uint64_t thread_at);

#endif
