/* `bulkhead record`: one recording without a service. It starts its own supervisor with a private runtime directory,
 * hands it the output files as fds, and leaves nothing behind but finished files. */
#ifndef CTL_RECORD_H
#define CTL_RECORD_H

#include "ctl.h"

#include "proto/lease.h"

#include <signal.h>
#include <sys/types.h>

enum {
	RECORD_FILES_MAX = 7, /* the supervisor takes 8, and the summary is one */
	RECORD_FOLLOW_MAX =
		1024,           /* what the supervisor follows from the start; children that come later do not count */
	RECORD_NAMED_MAX = 256, /* of them named with -p; each holds an fd here */
};

/* record_options.c */
struct record_options {
	int64_t duration_ms; /* 0: until the command ends */
	unsigned frequency;  /* Hz */
	pid_t named[RECORD_NAMED_MAX];
	unsigned named_count;
	const char *files[RECORD_FILES_MAX];
	unsigned files_count;
	char **command; /* borrowed from argv; NULL: none */
	bool no_realtime, no_pin;
	const char *log_level;
};

/* 0; or -1 with the exit code in *ret_exit, having said why. */
int record_options_parse(int argc, char **argv, struct record_options *ret, int *ret_exit);

/* permission.c: whether the supervisor would have what it needs; if not, false, having said what to do. */
bool record_permitted(void);

/* record_files.c: an output is anonymous (or under a temporary name) until it is complete. */
struct record_file {
	const char *path; /* as typed */
	enum output_format format;
	int fd, dir;         /* owned */
	char *name;          /* owned: the last component */
	char temporary[280]; /* in `dir`; "": nothing there has a name yet */
	uint64_t bytes;      /* once committed */
};
/* 0 or -errno, having said why. */
int record_file_open(struct record_file *f, const char *path);
int record_file_commit(struct record_file *f);
void record_file_close(struct record_file *f); /* what was not committed is gone */

/* family.c: the processes named with -p, and their descendants at this moment. */
struct family {
	pid_t pids[RECORD_FOLLOW_MAX];
	unsigned count;
	int pidfds[RECORD_NAMED_MAX]; /* of the named ones, owned; -1: has ended */
	unsigned named;
};
int family_add(struct family *f, pid_t pid); /* 0 or -errno, having said why */
int family_descendants(struct family *f);
bool family_ended(const struct family *f); /* all named ones have */
void family_free(struct family *f);
/* Parent of a process from the text of its /proc/PID/stat; -EINVAL. The name in it may hold anything, also ") S 1". */
pid_t family_parse_parent(const char *stat);

/* command.c: a child that waits before its exec, so that it is followed from its first instruction. */
struct command {
	pid_t pid;             /* 0: none */
	int pidfd, go, failed; /* owned; -1 */
	bool ended, not_run;   /* not_run: its exec failed */
	int code, status;      /* CLD_* and exit code or signal, as in siginfo_t */
};
int command_prepare(struct command *c, char **argv, const sigset_t *mask);
void command_release(struct command *c);
int command_exec_error(struct command *c); /* errno of its exec; 0: it runs */
void command_reap(struct command *c);
/* When the recording ends before the command does: asks it to end, and waits a little. Says how it ended. */
void command_finish(struct command *c, const char *name);

/* launch.c: the supervisor */
struct supervisor_process {
	pid_t pid;
	int pidfd, ready;   /* owned */
	char directory[64]; /* the private runtime directory; "": none */
};
int launch(struct supervisor_process *s, const struct record_options *o, const struct record_file *files,
	const struct family *family, pid_t command, int summary, const sigset_t *mask);
void launch_clean_up(struct supervisor_process *s); /* removes the runtime directory */

/* progress.c */
struct progress {
	bool terminal, shown;
	char socket[96];
	int64_t start_ns, end_ns, next_ns; /* CLOCK_MONOTONIC; end 0: open */
};
void progress_begin(struct progress *p, const char *directory, int64_t start_ns, int64_t duration_ms);
void progress_update(struct progress *p, bool ending);
void progress_clear(struct progress *p);

#endif
