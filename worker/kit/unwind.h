/* One stack, from the registers of a sample to the outermost frame. Pure: memory and mappings come through callbacks, so
 * the same code unwinds a live read, a copy taken in the frozen window, and a fuzzer's image. */
#ifndef KIT_UNWIND_H
#define KIT_UNWIND_H

#include "kit/cfi.h"
#include "kit/regs.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { UNWIND_MAX_FRAMES = 2048 };

/* Why an unwinding ended. Complete: OUTERMOST only. */
enum unwind_end {
	UNWIND_OUTERMOST, /* _start, a thread's start (return address undefined, or 0 at the bottom), Go's goexit/rt0 */
	UNWIND_NO_MEMORY, /* the stack could not be read further (end of the copy, unreadable) */
	UNWIND_NO_CODE,   /* a return address outside executable mappings */
	UNWIND_NO_RULE,   /* neither a table row nor a plausible frame pointer */
	UNWIND_LOOP,      /* the stack pointer did not move outwards */
	UNWIND_TOO_DEEP,  /* UNWIND_MAX_FRAMES reached */
	UNWIND_END_MAX,
};

/* What the unwinder knows about the code at an address. */
struct unwind_code {
	struct cfi *cfi; /* NULL: none, use frame pointers */
	uint64_t vaddr;  /* the address in the file's own numbering */
	bool is_go;      /* frame pointers are always kept */
	bool made;       /* by a runtime, which walks it itself: unwind_env.step */
};

/* A frame of code that a runtime made, and that no table describes. */
struct unwind_made {
	struct regs *regs; /* of the frame; after UNWIND_CALLER, of its caller */
	size_t index;      /* its place among the frames */
	bool exact;        /* as in struct unwind_frame */
	bool switched;     /* out: the caller's frame is not above it, but on another stack */
	/* What the runtime's callback copied in the window (window.h); NULL: nothing. Filled in by whoever calls `step`. */
	const uint8_t *captured;
	size_t captured_bytes;
};

/* What unwind_env.step says when there is a caller; else it says an enum unwind_end. */
enum { UNWIND_CALLER = UNWIND_END_MAX };

struct unwind_env {
	void *context;
	/* n bytes of target memory: the stack, and a few bytes of code. 0 or negative errno. No side effects on failure. */
	int (*read)(void *context, uint64_t address, void *buf, size_t n);
	/* 0 when `pc` is in an executable mapping; -ENOENT otherwise. */
	int (*code)(void *context, uint64_t pc, struct unwind_code *ret);
	/* Of code that is `made`. NULL: there is none. */
	int (*step)(const struct unwind_env *env, struct unwind_made *made);
};

struct unwind_frame {
	uint64_t pc;
	uint64_t sp; /* the stack pointer in this frame: what lies from here to the next frame's is its own */
	bool exact; /* true: pc is the instruction itself (leaf, or interrupted by a signal); false: a return address, look up pc-1 */
	bool made; /* by a runtime: it has the name */
};

/* Leaf first. Returns the number of frames (at least 1: the sample's own pc). *regs is consumed. */
size_t unwind(const struct unwind_env *env, struct regs *regs, struct unwind_frame *frames, size_t max,
	enum unwind_end *ret_end);

#endif
