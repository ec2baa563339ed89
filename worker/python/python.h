/* bulkhead-python: exact Python stacks, mixed with native ones, from a process that can touch nothing.
 *
 * In the frozen window (capture.c) the sampled thread's state, the memory that its frames lie in, and what is new of their code objects
 * are copied; nothing is decoded there but addresses. The main thread (mix.c) puts each run of Python frames in the place of the native
 * frame of the interpreter's loop that executes it. From 3.10 on each call of the loop has a structure on the C stack (_PyCFrame, or an
 * entry frame), so that place is known by address and not by counting; 3.8 and 3.9 are counted, and rejected where the counts differ.
 *
 *   main.c      the callbacks
 *   process.c   one process: where its interpreter is, of which version; which processes are taken
 *   layout.c    where each version keeps what we read
 *   capture.c   the frozen window; walk.c   its walk from a thread state to the frames
 *   threads.c   from a kernel thread to its Python thread state
 *   mix.c       one sample's Python frames among its native ones
 *   codes.c     code objects of a process: names and lines, read once and validated again
 *   code.c, lines.c   how code objects, strings and line tables decode */
#ifndef PYTHON_PYTHON_H
#define PYTHON_PYTHON_H

#include "kit/lane_worker.h"
#include "kit/retry.h"
#include "kit/target.h"
#include "python/code.h"
#include "python/layout.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	PYTHON_FRAMES_MAX = 2000,   /* of one stack; the interpreter's own limit is 1,000 */
	PYTHON_BEGINNING_MAX = 512, /* bytes of code at the beginning of the interpreter's loop */
	PYTHON_THREAD_SLOTS = 64,   /* places of known threads, at first */
	PYTHON_THREADS_MAX = 4096,  /* of one process */
	PYTHON_INTERPRETERS_MAX = 64,
	PYTHON_STATES_MAX = 4,       /* of one thread: one in each interpreter that it is in */
	PYTHON_REVALIDATE_MS = 1000, /* a code object's address may be another's by then */
};

/* A kernel thread's Python thread state. Racy and harmless: whoever uses it reads the state and sees whose it is. */
struct python_thread {
	_Atomic uint32_t tid;          /* 0: free */
	_Atomic uint64_t state;        /* 0: it had none... */
	_Atomic int64_t none_until_ns; /* ...and is not looked for before (CLOCK_MONOTONIC) */
};

struct python_threads {
	uint32_t size; /* a power of two */
	_Atomic uint32_t taken;
	struct python_thread thread[];
};

/* What the window reads, of all that one process has. The main thread makes it and replaces it as a whole. */
struct python_process {
	struct python_layout layout;
	uint64_t runtime;              /* address of _PyRuntime */
	uint64_t loop_begin, loop_end; /* _PyEval_EvalFrameDefault, as far as one symbol covers it */
	/* How its code begins, up to the first jump to an instruction's: for each byte, how large the C frame is there. A call of the loop of
	 * 3.11 or 3.12 links its _PyCFrame in there, and a few instructions later its frame. */
	uint32_t beginning; /* bytes */
	uint16_t cframe_room[PYTHON_BEGINNING_MAX];
	uint32_t tid, ntid;   /* of the first thread, outside and in its own PID namespace */
	uint16_t pthread_tid; /* where the C library's thread descriptor has the thread's number; 0: not needed */
	struct python_threads *_Atomic threads; /* owned */
	_Atomic bool many;                      /* interpreters: a thread may have a state in each */
	int64_t looked_ns;                      /* CLOCK_MONOTONIC: when that was last looked at */
	int64_t learned_ns;                     /* likewise: when all threads were last read */
	struct python_codes *codes;             /* owned */
	/* the main thread's */
	_Atomic bool ready; /* else `why` says what is missing */
	const char *why;    /* for operators, a literal; NULL: nothing is missing */
	struct retry retry;
};

enum python_status {
	PYTHON_WHOLE,     /* from the innermost frame to the bottom */
	PYTHON_NO_THREAD, /* a thread that is not Python's */
	PYTHON_TORN,      /* changed under the reader, or makes no sense */
	PYTHON_UNREADABLE,
	PYTHON_TRUNCATED, /* more than PYTHON_FRAMES_MAX */
};

/* One frame of the interpreter, or the mark of a call of its loop. */
struct python_frame {
	uint64_t code; /* 0: a mark */
	uint64_t
		instruction; /* as python_instruction takes it; of a mark: an address inside that call's frame on the C stack, 0: not known */
};

/* Followed by struct python_frame frames[nframes], innermost first, then npieces times struct python_piece and its bytes. */
struct python_capture {
	uint32_t status, nframes, npieces;
	uint32_t reads; /* of the target's memory */
};

/* Memory of the target, copied in the window; n is a multiple of 8. */
struct python_piece {
	uint64_t address, n;
};

/* capture.c */
window_capture python_capture;

/* threads.c: by a frozen thread. The thread states' addresses, of the first also its bytes (layout.thread_bytes): how many, at most
 * PYTHON_STATES_MAX; -ENOENT: it has none; or what a read said. */
int python_thread_find(
	struct window_read *read, struct python_process *p, uint8_t *state, uint64_t *ret, uint32_t *reads);
struct python_threads *python_threads_new(uint32_t size);
/* By the main thread: which threads there are. -errno, or how many. */
int python_threads_learn(struct target *t, struct python_process *p);
/* By the main thread, now and then: whether more is to be learned. */
void python_threads_look(struct target *t, struct python_process *p);

/* process.c */
/* Of a struct target, by the main thread: as struct python_memory wants it. */
int python_read_live(void *target, uint64_t address, void *buf, size_t n);
void python_prepare(struct target *t);
bool python_wants(struct target *t);
void python_forget(struct target *t);
void python_turn(void);
void python_shed(void);
void python_describe(struct target *t, struct description *d);

/* mix.c */
enum counter python_mix(
	const struct native_stack *stack, const uint8_t *captured, size_t n, struct mixed *out, const char **ret_words);

/* codes.c: the codes of one process. */
struct python_codes *python_codes_new(void);
void python_codes_free(struct python_codes *codes);
/* In the window: how well the code at an address is known. A code object's memory may be another's a moment later: until it has been found
 * the same a few times, each sample looks. */
enum python_known { PYTHON_CODE_NEW, PYTHON_CODE_YOUNG, PYTHON_CODE_TRUSTED };
enum python_known python_codes_known(const struct python_codes *codes, uint64_t address);
/* In the window, of a young one: whether it is still the code of that print. */
bool python_codes_same(struct python_codes *codes, uint64_t address, uint64_t print, int64_t now_ns);
/* The frame of an instruction, as an id of collect.h. `memory`: what was captured, and behind it the live process. 0 and the id;
 * -ESTALE: the address belongs to another code now; -EINVAL: not a code object, or the instruction is not in it. */
int python_codes_frame(struct python_codes *codes, const struct python_layout *layout,
	const struct python_memory *captured, const struct python_memory *live, const struct python_frame *frame,
	uint32_t *ret_id);
size_t python_codes_memory(void); /* bytes, of all processes */

#endif
