#include "record.h"

#include "common/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	NOT_STARTED = 127,        /* as shells say it */
	FINISH_PATIENCE_MS = 5000 /* between SIGTERM and going without the command */
};

/* In the child. */
static _Noreturn void run(char **argv, const sigset_t *mask, int go, int failed)
{
	char byte;
	/* end of file: the recording did not come about, or `bulkhead` is dead */
	while (read(go, &byte, 1) != 1)
		if (errno != EINTR)
			_exit(NOT_STARTED);
	signal(SIGPIPE, SIG_DFL);
	sigprocmask(SIG_SETMASK, mask, NULL);
	execvp(argv[0], argv);
	int err = errno;
	if (write(failed, &err, sizeof err) < 0)
		_exit(NOT_STARTED);
	_exit(NOT_STARTED);
}

int command_prepare(struct command *c, char **argv, const sigset_t *mask)
{
	int go[2], failed[2];
	if (pipe2(go, O_CLOEXEC))
		return -errno;
	if (pipe2(failed, O_CLOEXEC)) {
		int err = errno;
		close(go[0]);
		close(go[1]);
		return -err;
	}
	pid_t pid = fork();
	if (!pid) {
		close(go[1]);
		close(failed[0]);
		errno = 0;
		run(argv, mask, go[0], failed[1]);
	}
	int err = errno;
	close(go[0]);
	close(failed[1]);
	if (pid < 0) {
		close(go[1]);
		close(failed[0]);
		return -err;
	}
	*c = (struct command) { .pid = pid, .go = go[1], .failed = failed[0], .pidfd = pidfd_open(pid, 0) };
	return c->pidfd < 0 ? -errno : 0;
}

void command_release(struct command *c)
{
	if (c->go < 0)
		return;
	if (write(c->go, "", 1) < 0)
		ctl_error("the command is gone: %s", strerror(errno));
	close(c->go);
	c->go = -1;
}

int command_exec_error(struct command *c)
{
	int err = 0;
	ssize_t n = read(c->failed, &err, sizeof err);
	close(c->failed);
	c->failed = -1;
	if (n != sizeof err)
		return 0;
	c->not_run = true;
	return err;
}

void command_reap(struct command *c)
{
	siginfo_t info = { 0 };
	if (c->ended || c->pidfd < 0 || waitid(P_PIDFD, (id_t)c->pidfd, &info, WEXITED | WNOHANG) || !info.si_pid)
		return;
	c->ended = true;
	c->code = info.si_code;
	c->status = info.si_status;
}

static void wait_for_end(struct command *c)
{
	int64_t until = monotonic_ns() + FINISH_PATIENCE_MS * NS_PER_MS;
	while (!c->ended) {
		int64_t left = until - monotonic_ns();
		struct pollfd ended = { .fd = c->pidfd, .events = POLLIN };
		if (left <= 0)
			return;
		poll(&ended, 1, (int)(left / NS_PER_MS) + 1);
		command_reap(c);
	}
}

void command_finish(struct command *c, const char *name)
{
	if (!c->pid)
		return;
	bool started = c->go < 0;
	if (!started)
		close(c->go); /* ends a child that still waits */
	c->go = -1;
	command_reap(c);
	bool stopped = !c->ended;
	if (stopped && started && c->pidfd >= 0)
		pidfd_send_signal(c->pidfd, SIGTERM, NULL, 0);
	wait_for_end(c);
	if (!started || c->not_run)
		; /* nothing to tell, or told */
	else if (!c->ended)
		ctl_error("%s (process %d) was asked to end and still runs", name, c->pid);
	else if (stopped)
		ctl_error("%s was stopped at the end of the recording", name);
	else if (c->code != CLD_EXITED)
		ctl_error("%s was ended by signal %d (%s)", name, c->status, strsignal(c->status));
	else if (c->status)
		ctl_error("%s exited with %d", name, c->status);
	if (c->failed >= 0)
		close(c->failed);
	if (c->pidfd >= 0)
		close(c->pidfd);
	*c = (struct command) { .pidfd = -1, .go = -1, .failed = -1 };
}
