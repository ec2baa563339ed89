/* Inside the unwinder: what unwind.c (the walk) and unwind_special.c (frames that tables get wrong or do not have)
 * share. */
#ifndef KIT_UNWIND_PARTS_H
#define KIT_UNWIND_PARTS_H

#include "kit/unwind.h"

/* What a step says: an enum unwind_end, or that there is a caller. */
enum { STEP_CALLER = UNWIND_CALLER };

struct step {
	const struct unwind_env *env;
	struct regs *regs; /* of the frame; after STEP_CALLER, of its caller */
	struct unwind_code code;
	size_t index;  /* of the frame */
	bool exact;    /* as in struct unwind_frame */
	bool first;    /* the leaf */
	bool signal;   /* out: the caller was interrupted: its pc is exact, and it may be on any stack */
	bool switched; /* out: the caller is on another stack for another reason */
};

int unwind_read(void *env, uint64_t address, uint64_t *ret); /* a cfi_read_fn */

/* [fp] is the caller's fp, [fp + 8] the return address: System V ABI AMD64 3.2.2, and the frame record of AAPCS64. */
int unwind_by_frame_pointer(struct step *step);

/* The kernel's signal frame, where the trampoline below the handler has no table. -ENOENT: it is not one. */
int unwind_signal_frame(struct step *step);

/* Behind the system call of clone and clone3, where glibc ends its table. -ENOENT: it is not there. */
int unwind_clone(struct step *step);

/* Go's assembly changes stacks under a frame whose table does not know: decides between a row's CFA and the frame
 * pointer. -ENOENT: the row stands. */
int unwind_go(struct step *step, uint64_t cfa);
/* Go's tables say nothing of saved frame pointers. */
void unwind_go_frame_pointer(const struct step *step, uint64_t cfa, struct regs *caller);

#endif
