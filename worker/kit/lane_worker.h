/* The main of every worker that reads a lane: the channel, the lane's rings in order of time, stacks, marks, commits. What a runtime
 * adds is a struct runtime of callbacks; native adds nothing.
 *
 *   lane_worker.c   the loop
 *   lane_sample.c   one sample: which process, which stack, which outcome */
#ifndef KIT_LANE_WORKER_H
#define KIT_LANE_WORKER_H

#include "kit/unwind.h"
#include "kit/window.h"
#include "proto/counters.h"
#include "proto/runtimes.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One frame of the stack that a runtime puts together, leaf first: an id of collect.h. */
struct mixed {
	uint32_t *frames; /* room for `max` */
	size_t n, max;
	enum counter
		outcome; /* what a stack that stands as it is counts as; COUNTER_complete: as what the walk of it came to */
};

/* The user part of a sample's stack as the tables tell it. */
struct native_stack {
	struct target *target;
	const struct unwind_frame *frames; /* leaf first */
	size_t n;
	bool whole;         /* it reaches the outermost frame */
	const char *ending; /* what stands in place of the rest; NULL when it is whole */
};

/* What operators are told of a process. Texts are borrowed until the next call. */
struct description {
	enum runtime_id runtime;
	const char *version, *why; /* why: it has no frames of its runtime; "" where it has */
};

struct runtime {
	const char *name; /* of the worker */
	enum runtime_id id;
	bool reads_files;   /* what it reads lies in private mappings of files, too, that are no ELF files */
	uint32_t stack_max; /* bytes of stack that are read at most; 0: TARGET_STACK_MAX */
	/* All but `capture` are called by the main thread. NULL: nothing to do. */
	/* Told of the image, its code and its memory, and when any of it changed; t->runtime is the runtime's own. */
	void (*prepare)(struct target *t);
	/* The image is gone: the frozen threads may still look at what t->runtime points to (window_retire). */
	void (*forget)(struct target *t);
	/* Whether an address is in code that the runtime made, and walks itself. */
	bool (*made)(struct target *t, uint64_t pc);
	/* As unwind_env.step, of such code. `read` there reads the stack. */
	int (*step)(struct target *t, const struct unwind_env *env, struct unwind_made *made);
	/* In the frozen window, after the stack was read: copies what the runtime's frames need, at most `room` bytes. */
	window_capture *capture;
	/* Whether a process is understood, so that its samples are mixed without anything captured. NULL: they are not. */
	bool (*knows)(struct target *t);
	/* The runtime's frames among the native ones, with what was captured, if anything was. COUNTER_complete: `out` has the stack. Else why the runtime's frames cannot be
	 * believed, in which case native frames stand alone; *ret_words says so at the root. */
	enum counter (*mix)(const struct native_stack *stack, const uint8_t *captured, size_t n, struct mixed *out,
		const char **ret_words);
	/* Whether a process whose samples come here, and of which nothing could be captured, is one of its own, or may be. NULL: all are. */
	bool (*wants)(struct target *t);
	void (*describe)(struct target *t, struct description *d); /* for operators */
	void (*shed)(void);                                        /* memory is short: drop what can be had again */
	void (*turn)(void);                                        /* now and then, between samples */
};

/* Does not return before the process is to end. */
int lane_worker(const struct runtime *runtime, int argc, char **argv);

/* lane_sample.c: counts the sample of an entry; false: it should wait for answers (leases) that are under way. */
bool sample_take(const struct runtime *runtime, const struct window_entry *entry);
uint32_t sample_stack_max(const struct runtime *runtime); /* bytes */
/* The id of a native frame, for `mix`. */
uint32_t sample_native_frame(struct target *t, const struct unwind_frame *frame);

#endif
