#include "record.h"

#include "common/cleanup.h"
#include "common/clock.h"
#include "output.h"
#include "summary.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	TICK_MS = 200,
	START_PATIENCE_MS =
		30000, /* until the first sample: processes started, sandboxes checked, running programs opened */
	END_PATIENCE_MS =
		60000, /* from the end of the recording to written files; the supervisor's own deadline is 5 s */
};

enum ending { RUNNING, TIME_OVER, INTERRUPTED, TARGETS_GONE, COMMAND_ENDED, EXEC_FAILED, START_FAILED };

struct record {
	struct record_options options;
	struct record_file files[RECORD_FILES_MAX];
	unsigned files_count;
	struct family family;
	struct command command;
	struct supervisor_process supervisor;
	struct progress progress;
	sigset_t mask;        /* as it was before */
	int signals, summary; /* owned */
	unsigned signals_seen;
	bool ready;
	enum ending ending;
	int64_t start_ns, end_ns, patience_ns; /* CLOCK_MONOTONIC: first sample, last sample, when patience ends */
};

static void signal_supervisor(struct record *r, int number)
{
	pidfd_send_signal(r->supervisor.pidfd, number, NULL, 0);
}

/* The supervisor is asked to end; what it has, it writes. */
static void end_early(struct record *r, enum ending why)
{
	if (r->ending != RUNNING)
		return;
	r->ending = why;
	r->end_ns = monotonic_ns();
	r->patience_ns = r->end_ns + END_PATIENCE_MS * NS_PER_MS;
	signal_supervisor(r, SIGTERM);
}

/* The first one ends the recording and lets it be written; the second ends everything. */
static void on_signal(struct record *r)
{
	struct signalfd_siginfo info;
	if (read(r->signals, &info, sizeof info) != sizeof info)
		return;
	if (!r->signals_seen++) {
		end_early(r, INTERRUPTED);
		return;
	}
	progress_clear(&r->progress);
	ctl_error("interrupted twice: nothing is written");
	signal_supervisor(r, SIGKILL);
}

static void on_ready(struct record *r)
{
	char byte;
	ssize_t n = read(r->supervisor.ready, &byte, 1);
	if (n < 0)
		return;
	if (!n) {
		/* it says why itself, and its end is noticed */
		r->ready = true;
		end_early(r, START_FAILED);
		return;
	}
	r->ready = true;
	r->start_ns = monotonic_ns();
	r->patience_ns = r->options.duration_ms ? r->start_ns + (r->options.duration_ms + END_PATIENCE_MS) * NS_PER_MS
						: INT64_MAX;
	progress_begin(&r->progress, r->supervisor.directory, r->start_ns, r->options.duration_ms);
	if (r->command.pid)
		command_release(&r->command);
}

static void on_command(struct record *r)
{
	command_reap(&r->command);
	if (r->command.ended)
		end_early(r, COMMAND_ENDED);
}

static void on_exec(struct record *r)
{
	int err = command_exec_error(&r->command);
	if (!err)
		return;
	progress_clear(&r->progress);
	ctl_error("cannot run %s: %s", r->options.command[0], strerror(err));
	end_early(r, EXEC_FAILED);
}

static void on_followed_end(struct record *r, int pidfd)
{
	for (unsigned i = 0; i < r->family.named; i++)
		if (r->family.pidfds[i] == pidfd) {
			close(pidfd);
			r->family.pidfds[i] = -1;
		}
	if (family_ended(&r->family) && !r->command.pid)
		end_early(r, TARGETS_GONE);
}

static void check_time(struct record *r)
{
	int64_t now = monotonic_ns();
	if (r->ready && r->ending == RUNNING && r->options.duration_ms &&
		now > r->start_ns + r->options.duration_ms * NS_PER_MS)
		r->ending = TIME_OVER;
	if (r->ready)
		progress_update(&r->progress, r->ending != RUNNING);
	if (now < r->patience_ns)
		return;
	progress_clear(&r->progress);
	ctl_error("bulkheadd does not %s: killed", r->ready ? "end" : "start");
	signal_supervisor(r, SIGKILL);
	r->patience_ns = INT64_MAX;
}

/* Until the supervisor has ended. */
static void watch(struct record *r)
{
	enum { SUPERVISOR, SIGNALS, READY, COMMAND, EXEC, FOLLOWED };
	for (;;) {
		struct pollfd p[FOLLOWED + RECORD_NAMED_MAX] = {
			[SUPERVISOR] = { .fd = r->supervisor.pidfd },
			[SIGNALS] = { .fd = r->signals },
			[READY] = { .fd = r->ready ? -1 : r->supervisor.ready },
			[COMMAND] = { .fd = r->command.ended ? -1 : r->command.pidfd },
			[EXEC] = { .fd = r->command.failed },
		};
		for (unsigned i = 0; i < r->family.named; i++)
			p[FOLLOWED + i].fd = r->family.pidfds[i];
		for (unsigned i = 0; i < FOLLOWED + r->family.named; i++)
			p[i].events = POLLIN;
		if (poll(p, FOLLOWED + r->family.named, TICK_MS) < 0)
			continue;
		if (p[READY].revents)
			on_ready(r);
		if (p[SIGNALS].revents)
			on_signal(r);
		if (p[EXEC].revents)
			on_exec(r);
		if (p[COMMAND].revents)
			on_command(r);
		for (unsigned i = 0; i < r->family.named; i++)
			if (p[FOLLOWED + i].revents)
				on_followed_end(r, p[FOLLOWED + i].fd);
		if (p[SUPERVISOR].revents)
			return;
		check_time(r);
	}
}

/* What its exit means for ours. */
static int supervisor_result(struct record *r)
{
	siginfo_t info = { 0 };
	if (waitid(P_PIDFD, (id_t)r->supervisor.pidfd, &info, WEXITED))
		return CTL_FAILED;
	progress_clear(&r->progress);
	if (info.si_code != CLD_EXITED) {
		ctl_error("bulkheadd was ended by signal %d (%s)", info.si_status, strsignal(info.si_status));
		return CTL_FAILED;
	}
	if (r->ending == EXEC_FAILED)
		return CTL_FAILED;
	if (!r->start_ns && r->ending == INTERRUPTED) {
		ctl_error("interrupted before the first sample: nothing is written");
		return CTL_FAILED;
	}
	if (!info.si_status && r->start_ns)
		return CTL_OK;
	ctl_error("bulkheadd exited with %d: nothing is written", info.si_status);
	return info.si_status == CTL_PERMISSION || info.si_status == CTL_OUTPUT ? info.si_status : CTL_FAILED;
}

static int commit(struct record *r)
{
	int result = CTL_OK;
	for (unsigned i = 0; i < r->files_count; i++)
		if (record_file_commit(&r->files[i]))
			result = CTL_OUTPUT;
	return result;
}

static void print_summary(struct record *r)
{
	static const char *const kinds[] = {
		[OUTPUT_PPROF] = "pprof", [OUTPUT_FOLDED] = "folded stacks", [OUTPUT_HTML] = "flame graph"
	};
	static const char *const endings[] = { [RUNNING] = "",
		[TIME_OVER] = "",
		[INTERRUPTED] = ", ended early by a signal",
		[TARGETS_GONE] = ", ended early because the processes have ended",
		[COMMAND_ENDED] = ", until the command ended",
		[EXEC_FAILED] = "",
		[START_FAILED] = "" };
	/* standard output is the command's when there is one */
	FILE *out = r->options.command ? stderr : stdout;
	cleanup_free char *text = malloc(SUMMARY_BYTES + 1);
	cleanup_free struct summary *s = calloc(1, sizeof *s);
	ssize_t n = text ? pread(r->summary, text, SUMMARY_BYTES, 0) : -1;
	fprintf(out, "%.1f s at %u Hz%s: ", (double)(r->end_ns - r->start_ns) / NS_PER_S, r->options.frequency,
		endings[r->ending]);
	if (n > 0 && s) {
		text[n] = 0;
		summary_parse(s, text);
		summary_print(s, out);
	} else {
		fprintf(out, "no summary\n");
	}
	fprintf(out, "\nWritten\n");
	for (unsigned i = 0; i < r->files_count; i++) {
		struct human size;
		if (r->files[i].bytes)
			fprintf(out, "%14s  %s (%s)\n", human_bytes(&size, (double)r->files[i].bytes), r->files[i].path,
				kinds[r->files[i].format]);
	}
	fflush(out);
}

static int prepare(struct record *r)
{
	struct record_options *o = &r->options;
	if (!record_permitted())
		return CTL_PERMISSION;
	for (unsigned i = 0; i < o->named_count; i++)
		if (family_add(&r->family, o->named[i]))
			return CTL_FAILED;
	for (; r->files_count < o->files_count; r->files_count++)
		if (record_file_open(&r->files[r->files_count], o->files[r->files_count])) {
			record_file_close(&r->files[r->files_count]);
			return CTL_OUTPUT;
		}
	r->summary = memfd_create("summary", MFD_CLOEXEC);
	if (r->summary < 0) {
		ctl_error("memfd_create: %s", strerror(errno));
		return CTL_FAILED;
	}
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGQUIT);
	struct sigaction hup;
	if (sigaction(SIGHUP, NULL, &hup) || hup.sa_handler != SIG_IGN) /* nohup(1) means it */
		sigaddset(&set, SIGHUP);
	signal(SIGCHLD, SIG_DFL); /* ignored by our caller, the kernel would forget how our children ended */
	sigprocmask(SIG_BLOCK, &set, &r->mask);
	signal(SIGPIPE, SIG_IGN); /* a reader of the summary that goes away must not leave the runtime directory */
	r->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return r->signals < 0 ? CTL_FAILED : CTL_OK;
}

static int run(struct record *r)
{
	int result = prepare(r);
	if (result)
		return result;
	int err = r->options.command ? command_prepare(&r->command, r->options.command, &r->mask) : 0;
	if (err) {
		ctl_error("cannot start a process: %s", strerror(-err));
		return CTL_FAILED;
	}
	/* as late as can be: who is born between here and the first event is not followed */
	if ((r->family.named && family_descendants(&r->family)) ||
		launch(&r->supervisor, &r->options, r->files, &r->family, r->command.pid, r->summary, &r->mask))
		return CTL_FAILED;
	r->patience_ns = monotonic_ns() + START_PATIENCE_MS * NS_PER_MS;
	watch(r);
	result = supervisor_result(r);
	if (result)
		return result;
	result = commit(r);
	if (r->ending == RUNNING || r->ending == TIME_OVER)
		r->end_ns = r->start_ns + r->options.duration_ms * NS_PER_MS;
	print_summary(r);
	return result;
}

int record_main(int argc, char **argv)
{
	int result = CTL_OK;
	cleanup_free struct record *r = calloc(1, sizeof *r);
	if (!r)
		return CTL_FAILED;
	r->signals = r->summary = -1;
	r->command = (struct command) { .pidfd = -1, .go = -1, .failed = -1 };
	r->supervisor = (struct supervisor_process) { .pidfd = -1, .ready = -1 };
	if (record_options_parse(argc, argv, &r->options, &result))
		return result;
	result = run(r);
	launch_clean_up(&r->supervisor);
	for (unsigned i = 0; i < r->files_count; i++)
		record_file_close(&r->files[i]);
	if (r->options.command)
		command_finish(&r->command, r->options.command[0]);
	family_free(&r->family);
	if (r->signals >= 0)
		close(r->signals);
	if (r->summary >= 0)
		close(r->summary);
	return result;
}
