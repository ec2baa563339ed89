/* bulkhead-java: Java's frames in their places among the native ones, from a process that can touch nothing, and with nothing inside the
 * target. HotSpot says where its structures are (layout.def), so the walk can step over its code itself: while the native unwinder walks
 * the copied stack, it asks at each address in a code heap for the caller (step.c), and goes on by the tables behind it. What the frames
 * are called is looked up from the live process when the whole stack is known (mix.c): methods, and the code of methods, stay where they
 * are as long as a thread is in them, and what has changed since is noticed: garbage collections, which alone free them, are counted.
 *
 *   main.c      the callbacks
 *   process.c   one process: whether it is a HotSpot that we understand, and whether its samples are taken
 *   layout.c    where this HotSpot keeps what we read, from its own tables
 *   vm.c        what was read of a process's code and methods, remembered and looked at again
 *   code.c      code heaps, blobs, and what is inlined where
 *   method.c, lines.c   names and lines
 *   step.c      from one frame to its caller; x86.c: whether a frame stands, by the instructions around
 *   continuation.c   frames of virtual threads that are in the heap
 *   capture.c   the frozen window: how many collections there were, and those frames
 *   mix.c       one sample's frames */
#ifndef JAVA_JAVA_H
#define JAVA_JAVA_H

#include "java/step.h"
#include "java/vm.h"
#include "kit/lane_worker.h"
#include "kit/retry.h"
#include "kit/target.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	JAVA_FRAMES_MAX = 1024, /* of one stack, beside the kernel's */
	JAVA_READS_MAX =
		32 *
		1024, /* of a target's memory for one sample: 50 ms; a deep stack of methods that are all new needs a quarter */
};

struct java_process {
	struct java_vm vm;
	struct target *target;
	uint32_t reads;   /* for the sample at hand */
	bool ready;       /* else `why` says what is missing */
	const char *why;  /* for operators, a literal; NULL: nothing is missing */
	uint64_t refused; /* where the machine is mapped of which that will not change; 0: none */
	struct retry retry;
	_Atomic uint64_t
		collections; /* address of how many garbage collections there were; 0: not known. Frozen threads read it too */
	/* The walk at hand. */
	enum java_trouble trouble;
	size_t last_made,       /* places of frames */
		native_frame;   /* of the frame behind a native method's; 0: none */
	uint64_t native_caller; /* that one's address */
};

/* process.c */
void java_prepare(struct target *t);
bool java_wants(struct target *t);
bool java_knows(struct target *t);
void java_forget(struct target *t);
void java_turn(void);
void java_shed(void);
void java_describe(struct target *t, struct description *d);

/* capture.c */
window_capture java_capture;

/* mix.c */
bool java_made(struct target *t, uint64_t pc);
int java_step_made(struct target *t, const struct unwind_env *env, struct unwind_made *made);
enum counter java_mix(
	const struct native_stack *stack, const uint8_t *captured, size_t n, struct mixed *out, const char **ret_words);

#endif
