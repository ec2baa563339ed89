#include "record.h"

#include "common/cleanup.h"
#include "output.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <unistd.h>

enum { EXEC_FAILED = 127, ARGUMENTS_MAX = 32 + 2 * RECORD_FILES_MAX + 2 * RECORD_FOLLOW_MAX };

/* bulkheadd: beside our own executable (a build tree), or where it was installed. */
static int find_supervisor(char path[PATH_MAX])
{
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
	if (n > 0) {
		self[n] = 0;
		static const char *const beside[] = { "bulkheadd", "../sbin/bulkheadd" };
		char *slash = strrchr(self, '/');
		*slash = 0;
		for (size_t i = 0; i < sizeof beside / sizeof *beside; i++)
			if (snprintf(path, PATH_MAX, "%s/%s", self, beside[i]) < PATH_MAX && !access(path, X_OK))
				return 0;
	}
	snprintf(path, PATH_MAX, "%s/bulkheadd", BULKHEAD_SBINDIR);
	if (!access(path, X_OK))
		return 0;
	ctl_error("cannot find bulkheadd, neither beside this program nor as %s", path);
	return -ENOENT;
}

struct arguments {
	char *argv[ARGUMENTS_MAX + 1];
	unsigned count;
	bool failed;
};

__attribute__((format(printf, 2, 3))) static void add(struct arguments *a, const char *format, ...)
{
	va_list args;
	char *text = NULL;
	va_start(args, format);
	if (a->count == ARGUMENTS_MAX || vasprintf(&text, format, args) < 0)
		a->failed = true;
	else
		a->argv[a->count++] = text;
	va_end(args);
}

static void build(struct arguments *a, const struct supervisor_process *s, const struct record_options *o,
	const struct record_file *files, const struct family *family, pid_t command, int summary, int ready)
{
	add(a, "bulkheadd");
	add(a, "--record");
	add(a, "--runtime-directory");
	add(a, "%s", s->directory);
	add(a, "--frequency");
	add(a, "%u", o->frequency);
	add(a, "--duration-ms");
	add(a, "%lld", (long long)o->duration_ms);
	for (unsigned i = 0; i < o->files_count; i++) {
		add(a, "--output");
		add(a, "%s:%d", output_format_name(files[i].format), files[i].fd);
	}
	add(a, "--output");
	add(a, "%s:%d", output_format_name(OUTPUT_SUMMARY), summary);
	for (unsigned i = 0; i < family->count; i++) {
		add(a, "--follow");
		add(a, "%d", family->pids[i]);
	}
	if (command) {
		add(a, "--follow");
		add(a, "%d", command);
	}
	add(a, "--ready-fd");
	add(a, "%d", ready);
	add(a, "--owner-pid");
	add(a, "%d", getpid());
	add(a, "--log-level");
	add(a, "%s", o->log_level);
	if (o->no_realtime)
		add(a, "--no-realtime");
	if (o->no_pin)
		add(a, "--no-pin");
}

static void inherit(int fd)
{
	fcntl(fd, F_SETFD, 0);
}

/* In the child: nothing of ours but the files, the summary and the pipe goes along. */
static _Noreturn void become_supervisor(const char *path, struct arguments *a, const struct record_options *o,
	const struct record_file *files, int summary, int ready, const sigset_t *mask)
{
	setsid(); /* Ctrl-C comes through us, once; and its share of the CPUs is its own (priv_self_nice) */
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	dup2(null, STDIN_FILENO);
	dup2(null, STDOUT_FILENO);
	close_range(STDERR_FILENO + 1, UINT_MAX, CLOSE_RANGE_CLOEXEC);
	for (unsigned i = 0; i < o->files_count; i++)
		inherit(files[i].fd);
	inherit(summary);
	inherit(ready);
	signal(SIGPIPE, SIG_DFL);
	sigprocmask(SIG_SETMASK, mask, NULL);
	execv(path, a->argv);
	ctl_error("cannot start %s: %s", path, strerror(errno));
	_exit(EXEC_FAILED);
}

int launch(struct supervisor_process *s, const struct record_options *o, const struct record_file *files,
	const struct family *family, pid_t command, int summary, const sigset_t *mask)
{
	char path[PATH_MAX], directory[] = "/run/bulkhead-record.XXXXXX";
	int ready[2];
	int err = find_supervisor(path);
	if (err)
		return err;
	if (!mkdtemp(directory)) {
		err = errno;
		ctl_error("cannot create a runtime directory in /run: %s", strerror(err));
		return -err;
	}
	memcpy(s->directory, directory, sizeof directory);
	if (pipe2(ready, O_CLOEXEC))
		return -errno;
	cleanup_free struct arguments *a = calloc(1, sizeof *a);
	if (a)
		build(a, s, o, files, family, command, summary, ready[1]);
	pid_t pid = -1;
	err = -ENOMEM;
	if (a && !a->failed) {
		fflush(NULL);
		pid = fork();
		if (!pid)
			become_supervisor(path, a, o, files, summary, ready[1], mask);
		err = pid < 0 ? -errno : 0;
	}
	for (unsigned i = 0; a && i < a->count; i++)
		free(a->argv[i]);
	close(ready[1]);
	if (err) {
		close(ready[0]);
		ctl_error("cannot start bulkheadd: %s", strerror(-err));
		return err;
	}
	s->pid = pid;
	s->ready = ready[0];
	s->pidfd = pidfd_open(pid, 0);
	return s->pidfd < 0 ? -errno : 0;
}

void launch_clean_up(struct supervisor_process *s)
{
	if (s->pidfd >= 0)
		close(s->pidfd);
	if (s->ready >= 0)
		close(s->ready);
	s->pidfd = s->ready = -1;
	if (!s->directory[0])
		return;
	DIR *d = opendir(s->directory);
	for (struct dirent *e; d && (e = readdir(d));)
		if (strcmp(e->d_name, ".") && strcmp(e->d_name, ".."))
			unlinkat(dirfd(d), e->d_name, 0);
	if (d)
		closedir(d);
	if (rmdir(s->directory) && errno != ENOENT)
		ctl_error("cannot remove %s: %s", s->directory, strerror(errno));
	s->directory[0] = 0;
}
