/* The processes that a lane's worker is about: what was lent of each, what is mapped where, and the part of that which
 * the frozen threads may use (the view). The main thread owns all of it; frozen threads only look up views, inside
 * window_enter/leave (window.h), and what they might be looking at is freed behind them. */
#ifndef KIT_TARGET_H
#define KIT_TARGET_H

#include "kit/kit.h"
#include "kit/maps.h"
#include "kit/module.h"
#include "kit/table.h"
#include "proto/counters.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum {
	TARGETS_MAX_LENT = 1500, /* targets with open fds: two each; the longest unsampled one gives back */
	TARGET_STACK_MIN =
		8 << 10,   /* bytes of stack read in the frozen window: what the target's stacks needed of late */
	TARGET_YOUNG = 12, /* samples: each costs a turn of main's own */
	TARGET_STACK_FIRST = 32 << 10,
	TARGET_STACK_MAX = 128 << 10,
	TARGET_STACK_GROWTH =
		8 << 20, /* [stack] grows downwards by itself, by no more than this (RLIMIT_STACK's default) */
};

/* Readable anonymous memory: the only memory that is read in the window. File mappings could hang the reader; for a runtime, whose
 * static data lies in them, those are added whose file the opener has found to be on a file system that cannot. */
struct view_range {
	uint64_t start, end;
};

struct view {
	_Atomic bool gone;      /* a read gave 0 bytes: the image ended, by exec or exit */
	_Atomic uint32_t asked; /* how often the kernel was asked for a range that is not in here */
	int mem, maps;          /* /proc/PID/mem and /proc/PID/maps */
	uint64_t start_time;
	uint32_t n;
	struct view_range range[]; /* ascending */
};

/* The range that covers the address, or NULL. */
const struct view_range *view_range_of(const struct view *view, uint64_t address);

/* Executable memory, for the unwinder and for names. */
struct code_range {
	uint64_t start, end, offset;
	struct module *module; /* NULL: anonymous: a JIT's, or unknown */
};

/* Where a stack goes on elsewhere (a handler on its own stack, Go's system stack): learned from an unwinding that ended
 * there, so that the next one finds both parts read. Racy and harmless: it only says what else to copy. */
struct stack_switch {
	_Atomic uint64_t range; /* start of the range that the stack pointer is in */
	_Atomic uint64_t slot;  /* address of the word that holds the other stack's pointer */
};

enum { TARGET_SWITCHES = 8 };

struct runtime;

enum target_part { PART_MEM = 1, PART_MAPS = 2, PART_ABOUT = 4, PART_PERF_MAP = 8 };

struct target {
	struct target *_Atomic next; /* in its bucket */
	uint32_t pid;
	uint64_t start_time;
	struct view *_Atomic view; /* NULL: nothing to be read yet */
	struct stack_switch switches[TARGET_SWITCHES];
	uint32_t next_switch;
	void *_Atomic runtime; /* the runtime's own; NULL: not prepared */
	_Atomic uint32_t want; /* bytes of stack to read */
	_Atomic uint32_t
		seen; /* samples of this image; the first TARGET_YOUNG are worked off at once, to learn from them */

	unsigned asked, answered;   /* enum target_part */
	int mem, maps_fd, perf_map; /* -1: none */
	uint64_t mem_lease, maps_lease, perf_map_lease;
	bool own;     /* the supervisor refused: Bulkhead itself */
	bool refused; /* gone, or not to be had */
	bool avoided; /* a read of its memory never ended, or an open: the supervisor lends it to nobody for a while */
	bool kernel;  /* a kernel thread: no maps */
	enum runtime_id found; /* it carries this, and that was told */
	int64_t tell_again_ns; /* CLOCK_MONOTONIC: when that is told again... */
	int64_t tell_pause_ns; /* ...and how long after that once more */
	bool taken;            /* its samples were asked for */
	bool told;             /* its code is known from its exec on, by events, whether its maps are read or not */
	int64_t ended_ns;      /* CLOCK_MONOTONIC: when it ended, or ceased to be ours; 0: it lives */
	int64_t image_ns;      /* CLOCK_MONOTONIC: what events say of before is of another image */
	int64_t introduced_ns; /* CLOCK_MONOTONIC: when another worker said that it is ours to look at, or it was born to one of ours; 0: never */
	int64_t told_ns;                    /* CLOCK_MONOTONIC: when we heard of it */
	int64_t asked_ns;                   /* CLOCK_MONOTONIC, as are these */
	int64_t maps_read_ns, view_read_ns; /* CLOCK_MONOTONIC */
	int64_t sampled_ns, due_ns;         /* last sample; when to ask (0: now) */
	int64_t taken_ns;                   /* when the sample at hand was taken by the kernel */
	int64_t looked_ns;                  /* last look whether it still lives */
	struct code_range *code;            /* owned; ascending */
	size_t ncode;
	struct module **data; /* owned; files that are mapped to be read, where the runtime reads such */
	size_t ndata;
	uint32_t deepest[2]; /* bytes of stack that the samples of this round and the one before needed */
	uint32_t since_deepest;

	uint32_t nspid;                 /* its number in its own PID namespace; 0: not known */
	char comm[16];                  /* raw, terminated if shorter */
	uint64_t outcomes[COUNTER_MAX]; /* of its samples */
	char *container;                /* owned; NULL: none */
	struct table threads;           /* tid -> string place in names, see target_thread_name */
	struct target *newer, *older;   /* by last sample, while lent */
};

void targets_init(struct kit *kit, const struct runtime *runtime);
/* Sends what is to be told of processes: those that carry a runtime, and those whose samples are asked for. Once a turn of the loop. */
void targets_tell(void);
/* Of those that carry a runtime and that nobody has taken, with the next sweeps. */
void targets_tell_soon(void);
/* From now on its samples are this worker's, or (false) native's again. */
void target_take(struct target *t, bool take);
/* Reads its memory, at normal priority, inside what may be read; leaves word that it does. 0 or -errno. */
int target_read_memory(struct target *t, uint64_t address, void *buf, size_t n);
/* The first target of a bucket, or NULL; the others hang on it. False: there are no more buckets. */
bool target_in_bucket(size_t i, struct target **ret);
/* All targets: calls with each. */
void targets_each(void (*call)(struct target *t));

struct target *target_find(uint32_t pid); /* any thread, inside the window; or NULL */
struct target *target_get(uint32_t pid);  /* main thread: made when unknown; NULL: out of memory */
void target_ask(struct target *t, unsigned parts);
bool target_pending(const struct target *t, int64_t now); /* an answer that matters is awaited, and not for too long */
/* `user`: with user registers; a kernel thread has no memory to ask for. */
void target_sampled(struct target *t, int64_t now, bool user);
/* A new image: all that was lent is of the old one. */
void target_exec(struct target *t, const char comm[16]);
/* It ran before us, or we are to look at it; `time` is when that was said. */
void target_appeared(struct target *t, int64_t time);
void target_fork(struct target *parent, struct target *child);
/* It ended: all that was lent goes back. Its name stays for a while: a process is sampled on its last steps too. */
void target_ended(struct target *t, int64_t now);
/* It is no process of our runtime any more, from `time` on; what was so before may be heard of later. */
void target_left(uint32_t pid, int64_t time);
/* Nothing of our runtime is in it: who introduced it meant the image before. */
void target_let_go(struct target *t);
/* What was lent of it is of a program that it is no more, or it has ended. */
bool target_image_is_gone(const struct target *t);
void target_gone(uint32_t pid);
void targets_shed(
	void); /* what was lent of targets that are not sampled of late goes back, and can be asked for again */
void targets_sweep(
	int64_t now); /* forgets those that ended a while ago, whether an event told of it or not, and tells again; now and then */
void target_set_thread_name(struct target *t, uint32_t tid, const char name[16]);
/* Raw bytes, at most 15; the process's name when the thread has none of its own. */
const char *target_thread_name(struct target *t, uint32_t tid, char out[16]);

/* Executable memory was mapped at `time`; what lay there before is gone. */
void target_map(struct target *t, const struct map_entry *entry, const char *path, int64_t time);
/* Reads the maps again when they are older than `time`, and not too often: for new stacks; `code`: for code too, which replaces what
 * events told of. True: they are new. */
bool target_refresh(struct target *t, int64_t time, bool code);
/* Maps that were read at `now` contradict what events told of the code. */
bool target_maps_are_of_another_image(const struct target *t, const struct maps *maps, int64_t now);
const struct code_range *target_code(const struct target *t, uint64_t pc);

size_t targets_count(void);
void targets_due(int64_t now);  /* asks for those whose time has come (newborn processes that did not exec) */
int64_t targets_next_due(void); /* INT64_MAX: none */

#endif
