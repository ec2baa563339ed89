/* A worker's life: states by events, each cell a small function. No system call and no libevent in here: what a cell
 *needs done, it asks of the owner through life_ops, so that every cell can be tested.
 *
 *	EMPTY -start-> STARTING -ready-> VERIFYING -proven-> RUNNING -stop-> DRAINING -gone-> EMPTY
 *	any of them -fail or time-> DEAD (SIGKILL is sent) -gone-> BACKOFF -time-> STARTING
 *	DEAD -time-> the process is unkillable: moved off its post (a replacement follows), or QUARANTINED when there is
 *	no room; QUARANTINED -time-> there is room again
 *
 * An heir is the successor of a worker that still runs (handover.c): it lives in this table too, waits in STANDBY instead of
 * RUNNING, and is never started again by itself. When the post is empty of its predecessor, life_inherit moves it there.
 *
 * The owner calls life_event and then sees to it that LIFE_TIME comes at due_ns. */
#ifndef SUPERVISOR_LIFE_H
#define SUPERVISOR_LIFE_H

#include <stdbool.h>
#include <stdint.h>

enum cause {
#define CAUSE(name, backoff_ms, words) CAUSE_##name,
#include "causes.def"
#undef CAUSE
	CAUSE_MAX
};

enum life_state {
	LIFE_EMPTY,
	LIFE_STARTING,
	LIFE_VERIFYING,
	LIFE_STANDBY, /* an heir: proven, and not begun */
	LIFE_RUNNING,
	LIFE_DRAINING,
	LIFE_DEAD,
	LIFE_BACKOFF,
	LIFE_QUARANTINED,
	LIFE_DISABLED,
	LIFE_STATE_MAX
};

enum life_happening {
	LIFE_START, /* it is wanted */
	LIFE_READY, /* it says that it is locked down */
	LIFE_STOP,  /* it is no longer wanted */
	LIFE_FAIL,  /* it did what it must not, or did not what it must: the cause says what */
	LIFE_GONE,  /* its process has ended: the cause says how */
	LIFE_TIME,  /* due_ns has come */
	LIFE_HAPPENING_MAX
};

enum {
	LIFE_START_MS =
		5000, /* from clone to READY: an exec, a sandbox, one frame; a machine under load needs seconds */
	LIFE_DRAIN_MS = 2000,    /* from STOP to SIGTERM */
	LIFE_TERM_MS = 200,      /* from SIGTERM to SIGKILL: a worker has nothing to tidy up that its death would not */
	LIFE_KILL_MS = 1000,     /* from SIGKILL to its end; after that it is unkillable */
	BACKOFF_LEAST_MS = 100,  /* second wait of a cause whose first is 0 */
	BACKOFF_IDLE_FACTOR = 4, /* a worker that never ran waits so much longer */
};

struct life;

struct life_ops {
	int (*spawn)(struct life *life);          /* 0 or -errno */
	bool (*verify)(struct life *life);        /* the sandbox, in /proc/WORKER */
	void (*begin)(struct life *life);         /* it runs: lend it what it needs */
	void (*finish)(struct life *life);        /* ask it to end */
	void (*terminate)(struct life *life);     /* SIGTERM */
	void (*kill)(struct life *life);          /* SIGKILL */
	void (*settle)(struct life *life);        /* its process is gone: nothing of it stays on the books */
	bool (*quarantine)(struct life *life);    /* unkillable: move the process off its post. False: no room */
	int64_t (*spawn_wait)(struct life *life); /* ns until one more process may be started; 0: now */
	int64_t (*now)(void);                     /* ns */
	uint32_t (*random)(void);
};

/* How patient restarts are. */
struct life_limits {
	int64_t backoff_max_ms;    /* 0: no waiting at all */
	int64_t backoff_forget_ms; /* a life of this length is followed by a first ending */
};

struct life {
	const struct life_ops *ops;
	const struct life_limits *limits;
	enum life_state state;
	enum cause cause;            /* of the last ending */
	enum cause sentence;         /* why SIGKILL was sent; none: it was not */
	bool wanted, worked;         /* worked: this incarnation has been RUNNING */
	bool heir;                   /* successor of a worker that still runs */
	bool asked;                  /* DRAINING: SIGTERM was sent too */
	uint32_t incarnation;        /* 1: the first */
	uint32_t restarts, recycles; /* recycles: of the restarts, those with a successor that stood by */
	int64_t born_ns, due_ns;     /* due_ns 0: nothing is due */
	uint8_t failures[CAUSE_MAX]; /* in a row */
};

void life_init(struct life *life, const struct life_ops *ops, const struct life_limits *limits);
void life_event(struct life *life, enum life_happening happening, enum cause cause);
/* Before its first start: what came of its predecessors under another supervisor has it wait. */
void life_wait(struct life *life, int64_t wait_ns);
/* The heir, in STANDBY, becomes the post's worker; the post has no process and is wanted. Then ops->begin. */
void life_inherit(struct life *post, struct life *heir);
/* A process exists that could be talked to or killed. */
bool life_has_process(const struct life *life);

/* Wait after the n-th ending in a row by this cause (n >= 1), without jitter. */
int64_t life_backoff_ms(const struct life_limits *limits, enum cause cause, unsigned n, bool worked);

const char *cause_name(enum cause cause);
const char *cause_words(enum cause cause);
const char *life_state_name(enum life_state state);

#endif
