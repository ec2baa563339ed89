/* The privileged half of Bulkhead, at a glance. It starts, lends, watches, kills and restarts, and is on no one's data
 * path. Law 1: it reads, maps and parses no byte that a target can write, and makes no call that a target can block.
 * /proc/WORKER is its own; /proc/TARGET belongs to the opener.
 *
 * One thread, one loop (loop.h), one struct supervisor. Files named priv_*.c are the only ones that use a privilege. */
#ifndef SUPERVISOR_SUPERVISOR_H
#define SUPERVISOR_SUPERVISOR_H

#include "avoid.h"
#include "budget.h"
#include "config.h"
#include "cpulist.h"
#include "ledger.h"
#include "life.h"
#include "loop.h"
#include "output.h"
#include "pressure.h"
#include "priv_cgroup.h"
#include "verify.h"

#include "common/bucket.h"
#include "proto/channel.h"
#include "proto/counters.h"
#include "proto/lane.h"
#include "proto/runtimes.h"
#include "proto/stream.h"

#include <sys/socket.h>
#include <sys/types.h>

/* Linux 6.16, asm-generic/socket.h. Set to 0, the other end cannot send us fds. Unknown before: the channel closes them
 * then. */
#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83
#endif

/* Limits */
enum {
	WORKERS_MAX = 16,   /* rows of workers.def: asserted in workers.c */
	QUARANTINE_MAX = 8, /* unkillable processes beside their replacements; from then on a post stays empty */
	OWNERS = WORKERS_MAX + QUARANTINE_MAX + WORKERS_MAX, /* in the ledger: posts, quarantined processes, heirs */
	OUTPUTS_MAX = 8,                                     /* of one recording */
	FOLLOW_MAX = 1024,         /* pids named on the command line; also pids in one PROCESSES frame */
	FRAMES_PER_TURN = 32,      /* taken from one channel before the others have their turn */
	ORDERS_MAX = 1024,         /* requests of all workers together that wait for the opener */
	ORDERS_IN_FLIGHT = 8,      /* sent to the opener and not answered */
	ORDER_PATIENCE_MS = 10000, /* an order that no opener got to */
	HANGS_MS = 200,            /* a read of a target's memory takes microseconds */
	BLAMED_MAX = 4,            /* targets that one quarantined worker can be hanging in */
	SETTLE_MS = 2000,          /* how long a recording's first sample waits for the leases of what runs already */
	LEASHED_MAX = 3,           /* ends by its real-time leash in a row, before a worker gets a plain priority */
	START_FAILURES_MAX = 2, /* of one worker, before a recording that has not begun gives up: waits are long then */
	RECONCILE_MS = 5000,    /* between two comparisons of the ledger with /proc/WORKER/fd */
	RECONCILE_TOLERANCE = 48, /* fds under way: lent and not yet received, closed and not yet released */
	TICK_MS = 1000,           /* CPUs that come and go, watchdog */
	STATUS_CLIENTS_MAX = 16,
	STATUS_IDLE_MS = 10000,
	STATUS_PART_BYTES = 16 << 10,
	STOP_MS = 1500,   /* from the decision to end to the end, whatever the workers do */
	EOF_MS = 500,     /* between a worker's end of file and its end */
	PERF_PAGES = 128, /* data pages of a CPU's ring: 512 KiB, 0.3 s at 999 Hz */
	PERF_PAGES_CARRY_MORE = 256,
	STACK_BYTES = 1024, /* of the stack in each sample: the proof of stillness */
	STACK_BYTES_CARRY_MORE = 16384,
	LANE_RING_CARRY_MORE = 2 << 20,
};

/* Exit codes; in --help and the manual page */
enum {
	EXIT_OK = 0,
	EXIT_RUNTIME = 1,
	EXIT_USAGE = 2,
	EXIT_PERMISSION = 3,
	EXIT_OUTPUT = 4,
};

enum worker_need { WORKER_PRIVILEGED = 1, WORKER_REALTIME = 2 };

struct worker_row {
	const char *name;
	uint8_t party, needs;
	uint32_t uid, mib, mib_per_cpu;
	int oom_score;
};

struct supervisor;

/* What a client of the status socket wants. */
struct status_request {
	unsigned ask;   /* enum ask; 0: it is an order */
	unsigned order; /* enum operate; 0: it is a question */
	char argument[32];
};

/* PSS, of some seconds ago: a walk through all pages is too long for the turn that answers a question. */
struct weight {
	uint64_t pss_bytes;
	int64_t weighed_ns; /* 0: not yet */
	int64_t ran_ns;     /* of a worker: by its clock, then */
};

/* What enforce.c saw last of a process. */
struct measured {
	struct weight weight;
	int memory_fd;   /* owned: usage_open_memory; -1 */
	clockid_t clock; /* runs while it does; 0: not known */
	timer_t alarm;   /* owned, if it has one: SIGALRM to us when the worker has run for a while */
	bool has_alarm;
	int64_t alarm_ns;                     /* when that is, by its clock */
	int64_t ran_ns;                       /* by that clock, at the last look; -1: not known... */
	int64_t ran_memory_ns, ran_second_ns; /* ...when its memory was read last, and all else */
	uint64_t memory;                      /* anonymous memory in RAM, bytes */
	uint64_t memory_most;                 /* of this incarnation */
	uint32_t threads;
	int64_t cpu_ns;                         /* used in all */
	int64_t cpu_limit_ns;                   /* RLIMIT_CPU; 0: none */
	int64_t window_began_ns, window_cpu_ns; /* of the present CPU window */
	uint32_t cpu_percent;                   /* of one CPU, in the last whole window */
	int64_t lag_since_ns;                   /* 0: its lane is not nearly full */
	int64_t shed_ns;                        /* when it was last asked to */
	int64_t life_ns;                        /* its planned length, with jitter; 0: no limit */
	bool retried;                           /* a successor in real time, of one that is `plain` */
	struct creep creep;
};

/* A post: a row of workers.def and whoever fills it now. */
struct worker {
	struct supervisor *supervisor;
	const struct worker_row *row;
	const struct budget *budget;
	unsigned index; /* in workers.def */
	unsigned owner; /* in the ledger */
	struct life life;
	struct timer timer; /* life.due_ns */
	/* of this incarnation */
	pid_t pid;
	int pidfd; /* owned; -1 */
	struct watch ended, traffic;
	struct timer eof, takeover;
	struct channel channel;
	bool begun;    /* START was sent */
	uint64_t seen; /* ONCE messages, by number */
	struct bucket buckets[MESSAGE_NUMBER_MAX];
	uint64_t channel_inode; /* of the worker's end */
	unsigned namespaces;    /* granted: bits of enum sandbox_namespace */
	struct sandbox sandbox; /* as found in /proc/WORKER */
	uint32_t landlock_abi;
	bool realtime, pinned;
	bool plain; /* not given real-time priority, because of its leash */
	uint64_t latency_p50_us, latency_p99_us, still_p50_us, still_p99_us, reads_per_thousand; /* as STATS says */
	uint64_t requests_open, targets;
	unsigned orders; /* in the broker's queue */
	struct measured measured;
	struct cgroup_leaf leaf;
	/* over all incarnations */
	uint64_t log_lines_dropped, log_lines_held, fd_mismatches; /* held: not yet told about */
	int64_t fd_difference; /* of the last reconciliation: found - booked; tolerated while small */
	enum lane_away away;   /* of a runtime's reader: who has its processes meanwhile */
	bool disabled;         /* by the operator: not started again until enabled */
	unsigned leashed; /* of a post: how often in a row its real-time leash ended it, the last time at leashed_ns */
	int64_t leashed_ns;
	uint64_t sheds; /* how often it was asked to drop its caches */
	int64_t gone_ns,
		recovery_ns;   /* when the last incarnation ended, and how long until the next had all that it needs */
	int64_t heir_wait_ns;  /* of an heir: not tried again before */
	enum cause heir_cause; /* of a post: why a successor was started */
	struct bucket end_lines[CAUSE_MAX]; /* log lines about its ends, by cause */
	uint64_t end_lines_held;
};

/* A process that SIGKILL did not end. */
struct quarantined {
	struct supervisor *supervisor;
	unsigned index;               /* WORKERS_MAX + index: owner in the ledger */
	const struct worker_row *row; /* NULL: the place is free */
	pid_t pid;
	int pidfd; /* owned */
	int64_t since_ns;
	enum cause cause;
	struct cgroup_leaf leaf;
	struct watch ended;
	struct lane_suspect blamed[BLAMED_MAX]; /* whose memory it hangs in */
	unsigned blamed_count;
};

/* The lane and the streams of one LANE worker. */
struct lane_post {
	int memfd, doorbell; /* owned; -1 */
};

/* One worker's part of one snapshot. */
struct part {
	int stream; /* owned; -1 */
	bool closed;
	uint64_t bytes;
	const char *missing; /* why it is not whole, in words; NULL: it is */
	bool cut; /* its worker was late: what waits in its lane up to the mark is counted by merge, and nobody else's */
};

struct snapshot {
	uint64_t id;                        /* 0: none */
	int64_t start_ns, end_ns;           /* CLOCK_MONOTONIC */
	int64_t start_wall_ns, end_wall_ns; /* CLOCK_REALTIME */
	struct part parts[WORKERS_MAX];     /* of LANE workers */
	uint32_t frequency;                 /* Hz */
	uint64_t counters[COUNTER_MAX];
};

enum snapshot_stage {
	SNAPSHOT_WAITING,  /* for the workers */
	SNAPSHOT_SETTLING, /* for leases of what runs already */
	SNAPSHOT_RECORDING,
	SNAPSHOT_OVER, /* no further one: shutting down */
};

enum closing_stage {
	CLOSING_NONE,
	CLOSING_MARKING, /* MARK sent, MARKED awaited */
	CLOSING_PARTS,   /* streams awaited */
	CLOSING_CUT,     /* the end of those who were late awaited: until then they may still write */
	CLOSING_MERGING,
};

/* Streams that are merged: their memory is given back in pieces. */
struct discarded {
	int streams[WORKERS_MAX]; /* owned */
	unsigned count;
	struct timer timer;
};

struct snapshots {
	enum snapshot_stage stage;
	enum closing_stage closing_stage;
	struct snapshot current, closing;
	struct timer timer, closing_timer;
	struct discarded discarded;
	struct output *directory; /* owned; NULL in a recording */
	struct output_set outputs;
	bool outputs_begun;
	bool due;  /* the interval is over while the last one is still closing */
	bool last; /* no further one is wanted */
	bool settled[WORKERS_MAX],
		introduced[WORKERS_MAX]; /* introduced: it was told of a process that it may understand */
	bool unmarked;                   /* the sampler has put no mark behind the closing one */
	bool hurrying;
	unsigned hurried; /* starts of a sampler, for that mark, before its wait was over */
	bool merge_late;  /* merge has missed a deadline of the closing one */
	unsigned rounds;  /* deadlines that the closing one has missed in this stage */
	int64_t carried;  /* samples of an earlier snapshot whose worker was late: they are in the next one */
	/* the last complete one, for status */
	uint64_t last_id, last_processes, last_stacks;
	uint64_t last_counters[COUNTER_MAX];
	int64_t last_unaccounted, last_end_ns;
	int last_errno; /* of writing */
	char last_missing[256];
	uint64_t merged, failed;
};

struct perf_event {
	int fd;     /* owned; -1: not open */
	void *ring; /* mapped here too, so that it outlives a sampler */
};

struct perf_cpu {
	struct perf_event samples, wake;
};

struct perf {
	const char *event; /* "cycles" or "cpu-clock"; NULL: not open */
	uint32_t frequency, stack_bytes, pages;
	uint32_t cpu_limit;    /* size of cpus: possible CPUs */
	struct perf_cpu *cpus; /* owned */
	struct cpu_set_bits wanted;
	bool enabled;
};

/* What --record adds. */
struct recording {
	bool on;
	int64_t duration_ns; /* 0: until SIGTERM or SIGINT */
	struct {
		enum output_format format;
		int fd; /* owned */
	} outputs[OUTPUTS_MAX];
	unsigned outputs_count;
	int32_t follow[FOLLOW_MAX];
	unsigned follow_count;
	int ready_fd; /* owned; -1 */
	pid_t owner;
	int owner_pidfd; /* owned; -1 */
};

struct supervisor {
	struct config config;
	struct recording record;
	const char *libexec; /* where the workers are */
	int exit_code;
	bool stopping;
	bool remembering; /* the timer `remember` runs */
	int64_t started_ns, remembered_ns;
	struct weight weight;
	int runtime_fd, lock_fd;     /* owned: the runtime directory, and its lock */
	struct namespace_id network; /* the machine's, which we have left; none: it was refused */
	gid_t status_gid;            /* (gid_t)-1: root only */
	const char *config_path;     /* NULL: the usual one, if it is there */
	bool check_only;
	struct ledger ledger;
	struct worker workers[WORKERS_MAX];
	struct worker heirs[WORKERS_MAX]; /* successors of workers that still run, by the same index */
	struct life_limits life_limits;
	struct bucket spawns;
	struct pressure pressure;
	struct rate rate;
	unsigned workers_count;
	struct quarantined quarantine[QUARANTINE_MAX];
	uint64_t quarantined_ever;
	struct avoid_table avoided;
	struct lane_post lanes[WORKERS_MAX];
	int routes_fd; /* owned; -1: the sampler's memory of whose samples go where */
	uint32_t lane_cpus, lane_ring;
	unsigned start_flags; /* enum start_flag, fixed when the first snapshot opens */
	struct perf perf;
	struct snapshots snapshots;
	struct timer tick, reconcile, enforce, remember, stop_timer;
	struct watch owner_gone, ready_gone;
};

/* workers.c */
const struct worker_row *worker_rows(unsigned *ret_count);

/* options.c: the command line. -1: go on; else the exit code. */
int options_parse(struct supervisor *s, int argc, char **argv);

/* priv_self.c: what the supervisor itself gives up. Fatal errors are logged; -errno. */
int priv_self_capabilities(void);
int priv_self_filter(void);
void priv_self_oom(void);
void priv_self_nice(void);

/* runtime.c: the runtime directory. 0 or -errno, logged. */
int runtime_open(struct supervisor *s);
void runtime_close(struct supervisor *s);

/* worker.c: from the post to the process and back */
void workers_init(struct supervisor *s);
void workers_start(struct supervisor *s);
void worker_event(struct worker *w, enum life_happening happening, enum cause cause);
/* Kills it for a cause, with a log line. */
__attribute__((format(printf, 3, 4))) void worker_fail(struct worker *w, enum cause cause, const char *format, ...);
bool worker_running(const struct worker *w);                         /* RUNNING and begun */
struct worker *worker_of_party(struct supervisor *s, uint8_t party); /* the first; NULL: none */
bool workers_ended(const struct supervisor *s);
/* The heir's process moves to the post that its predecessor has left. */
void worker_succeed(struct worker *post, struct worker *heir);
struct worker *heir_of(struct worker *post);
struct worker *post_of(const struct worker *w); /* of an heir; of a post itself */
bool is_heir(const struct worker *w);
uint32_t threads_allowed(const struct worker *w);
bool pid_is_ours(const struct supervisor *s, int64_t pid);

/* enforce.c: budgets, measured and acted upon */
void enforce_tick(struct supervisor *s);        /* once a second */
void enforce_begin(struct worker *w);           /* a new process */
void enforce_end(struct worker *w);             /* it has left its post */
void enforce_alarmed(struct supervisor *s);     /* SIGALRM: a worker has had CPU time */
bool enforce_cpu_spent(const struct worker *w); /* of one that ends by SIGXCPU: it was RLIMIT_CPU */

/* handover.c: a planned recycle; the successor is there before the predecessor goes */
void handover_begin(struct worker *w, enum cause cause, const char *why);
void handover_standby(struct worker *heir); /* it is proven */
void handover_gone(struct worker *w);       /* a post's process, or an heir, has ended */

/* remember.c: how often each worker failed, kept in the runtime directory: a restart of ours is no amnesty */
void remember_load(struct supervisor *s);
void remember_save(struct supervisor *s); /* soon */

/* operate.c: what operators may order. The answer is in words, for them; true: done. */
bool operate(struct supervisor *s, const struct status_request *request, const char *who, char *words, size_t size);

/* blame.c: the targets that an unkillable worker hangs in are avoided. Before its leases go to the quarantine. */
void blame(struct quarantined *q, const struct worker *w);
void blame_killed(const struct worker *w); /* those that kept it waiting when it was killed: they would its successor */
void blame_over(struct quarantined *q);

/* lend.c: START and LEND. All book the lease; a worker that does not drain its channel is killed. */
void lend_begin(struct worker *w); /* START, and all that this worker goes on with */
uint64_t lend(struct worker *w, unsigned kind, int fd, uint64_t a,
	uint64_t b); /* lease id; 0: failed, the worker is being killed */
void lend_processes(struct supervisor *s);
int lend_make_lanes(struct supervisor *s);

/* route.c: whose samples go into which runtime's lane */
enum runtime_id worker_runtime(const struct worker *w); /* RUNTIME_NONE: native, and all that read no lane */
void route_found(struct worker *w, const struct frame *f);
void route_take(struct worker *w, const struct frame *f);
void route_worker_changed(struct worker *w); /* its life went on */
void route_begin(struct worker *w);          /* a sampler, or a runtime's reader, begins: what it has to know */

/* targets.c: which processes there are, for operators. status_targets is called when the answer is there. */
int targets_ask(struct supervisor *s); /* 0 or -errno */
void targets_one(struct worker *w, const struct frame *f);
void targets_described(struct worker *w, const struct frame *f);
int targets_answer(struct supervisor *s, char **ret, size_t *ret_size); /* a msgpack map into a new heap block */
void status_targets(struct supervisor *s);

/* dispatch.c: frames from workers */
void dispatch_readable(void *context, short what); /* what: EV_WRITE too while answers wait */
void dispatch_watch(struct worker *w, bool writable);
void dispatch_drain(struct worker *w); /* what a dead worker still had to say */

/* broker.c: OPEN, ORDER, FILLED, OPENED */
void broker_init(struct supervisor *s);
void broker_request(struct worker *w, const struct frame *f);
void broker_filled(struct worker *opener, struct frame *f); /* takes f->fd */
void broker_opener_ready(struct supervisor *s);
void broker_worker_gone(struct worker *w); /* any worker, the opener too */
void broker_writable(struct worker *w);    /* its channel drained: answers that waited */
void broker_tick(void);                    /* orders that no opener got to */
unsigned broker_orders(void);              /* waiting for the opener now */

/* snapshot.c: the clock */
void snapshot_worker_running(struct worker *w);
void snapshot_worker_gone(struct worker *w);
void snapshot_worker_waits(struct worker *w); /* until it is started again */
void snapshot_settled(struct worker *w, uint64_t targets);
void snapshot_settle_lane(struct worker *w); /* its reader is gone for certain */
void snapshot_stop(struct supervisor *s);    /* the current one is the last */
bool snapshot_now(struct supervisor *s);     /* the current one ends before its time; false: it cannot */
/* closing.c: the end of a snapshot */
void closing_begin(struct supervisor *s); /* current becomes closing */
void closing_marked(struct worker *w, uint64_t id);
void closing_closed(struct worker *w, const struct frame *f);
void closing_merged(struct worker *w, const struct frame *f);
void closing_worker_running(struct worker *w);
void closing_worker_waits(struct worker *w); /* until it is started again */
void closing_worker_gone(struct worker *w);
bool closing_holds_lane(const struct worker *w); /* merge still reads it: nobody else may */
void snapshot_closed(struct supervisor *s);      /* snapshot.c: the closing one is off the books */
void snapshot_free(struct supervisor *s, struct snapshot *snapshot);
int snapshot_streams(struct supervisor *s, struct snapshot *snapshot, uint64_t id);

/* priv_perf.c */
int priv_perf_open(struct supervisor *s); /* 0 or -errno, logged */
void priv_perf_enable(struct supervisor *s, bool on);
void priv_perf_frequency(struct supervisor *s, uint32_t hz);
void priv_perf_hotplug(struct supervisor *s); /* lends and enables new CPUs, closes gone ones */
void priv_perf_lend(struct worker *sampler);
void priv_perf_close(struct supervisor *s);

/* reconcile.c */
void reconcile_workers(struct supervisor *s);

/* status.c: the socket; status_answer.c: what it says */
int status_open(struct supervisor *s);
void status_close(struct supervisor *s);
/* status_place.c: which of n places a client of this user gets: a free one, else that of whom it may put out; n: none. */
struct status_place {
	bool taken;
	uid_t uid;
	int64_t heard_ns;
};
unsigned status_place(const struct status_place *places, unsigned n, uid_t uid);
/* One msgpack map into a new heap block. 0 or -errno. */
int status_answer(struct supervisor *s, unsigned ask, char **ret, size_t *ret_size);
/* The answer to an order. */
int status_words(bool done, const char *words, char **ret, size_t *ret_size);
/* status_request.c: 0 and the question or order, or -EBADMSG. */
int status_request_check(const struct frame *f, struct status_request *ret);

/* notify.c: sd_notify(3) by hand */
void notify_init(void); /* takes NOTIFY_SOCKET and WATCHDOG_USEC out of the environment */
__attribute__((format(printf, 1, 2))) void notify_say(const char *format, ...);
bool notify_watchdog(void); /* systemd wants to hear from us */

/* reap.c */
void reap_start(void);
void reap_later(int pidfd); /* of a child that has ended; takes the fd */
void reap_end(void);        /* what is left, and the thread */

/* main.c */
void supervisor_stop(struct supervisor *s, int exit_code); /* ends all workers, then the loop */

#endif
