/* From a frame of HotSpot's own code to its caller. Compiled code has frames of a fixed size, the interpreter and the stubs have frame
 * records (rbp); where a thread was interrupted while a frame is made or undone, the instructions around say so. What cannot be decided
 * ends the walk. */
#ifndef JAVA_STEP_H
#define JAVA_STEP_H

#include "java/vm.h"
#include "kit/unwind.h"

enum java_note_kind {
	JAVA_NOTE_NONE, /* what the frame is, is not known */
	JAVA_NOTE_COMPILED,
	JAVA_NOTE_INTERPRETED,
	JAVA_NOTE_STUB,
	JAVA_NOTE_CALL_STUB, /* where native code calls Java */
	JAVA_NOTE_BARRIER,   /* the callers of a virtual thread that are still in the heap, and not known */
	JAVA_NOTE_FETCHED,   /* no frame: those callers follow */
};

enum {
	JAVA_CAPTURE_BYTES =
		4 /* the number of garbage collections (unsigned int); a chunk may follow (continuation.h) */
};

/* What was found out about a frame. */
struct java_note {
	enum java_note_kind kind;
	struct java_known *known; /* NULL: of a barrier */
	uint64_t entry;           /* of a stub's routine; 0: not known */
	uint64_t pc;              /* compiled: as it was before a deoptimisation */
	bool exact;
	uint64_t method; /* interpreted */
	int32_t bci;     /* interpreted; -1: not known, or a native method */
	bool cut;        /* there are callers in the heap that were not copied: the carrier's frames are next */
};

/* Why a walk ended in Java's code. */
enum java_trouble {
	JAVA_TROUBLE_NONE,
	JAVA_TROUBLE_TORN,       /* code was there that is no longer */
	JAVA_TROUBLE_UNREADABLE, /* the memory of the virtual machine */
	JAVA_TROUBLE_UNDECIDED,
};

/* UNWIND_CALLER, or an enum unwind_end and *ret_trouble. */
int java_step(struct java_vm *vm, const struct unwind_env *env, struct unwind_made *made, struct java_note *note,
	enum java_trouble *ret_trouble);

#endif
