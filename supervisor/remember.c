/* How often each worker failed of late, and until when it waits, in the runtime directory: a supervisor that is restarted does not take
 * up again at full speed what had just been found to be broken. Lines of text; a file that makes no sense is no reason not to start. */
#include "supervisor.h"

#include "common/cleanup.h"
#include "common/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	FILE_MAX_BYTES = 16 << 10,
	STALE_S = 600,     /* what failed longer ago than this is given a new chance */
	FIRST_WAIT_S = 30, /* less than systemd's patience with a start */
	SAVE_MS =
		200, /* ends that come together are written together: a file may take milliseconds, and ends may be many */
};

static const char name[] = "backoff", fresh[] = ".backoff.new";

static struct worker *find_worker(struct supervisor *s, const char *word)
{
	for (unsigned i = 0; i < s->workers_count; i++)
		if (!strcmp(s->workers[i].row->name, word))
			return &s->workers[i];
	return NULL;
}

static void take_line(struct supervisor *s, const char *line)
{
	char who[32], why[32];
	unsigned times;
	int64_t until_ns;
	struct worker *w = NULL;
	if (sscanf(line, "%31s %31s %u", who, why, &times) == 3)
		w = find_worker(s, who);
	if (w && times <= UINT8_MAX)
		for (enum cause cause = CAUSE_none + 1; cause < CAUSE_MAX; cause++)
			if (!strcmp(cause_name(cause), why))
				w->life.failures[cause] = (uint8_t)times;
	if (sscanf(line, "%31s until %" SCNd64, who, &until_ns) != 2 || !(w = find_worker(s, who)))
		return;
	int64_t left = until_ns - clock_ns(CLOCK_BOOTTIME), most = FIRST_WAIT_S * NS_PER_S;
	if (left > 0)
		life_wait(&w->life, left < most ? left : most);
}

void remember_load(struct supervisor *s)
{
	char text[FILE_MAX_BYTES];
	if (s->record.on)
		return;
	cleanup_close int fd = openat(s->runtime_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	struct stat st;
	ssize_t n = fd < 0 || fstat(fd, &st) ? -1 : read(fd, text, sizeof text - 1);
	if (n <= 0 || clock_ns(CLOCK_REALTIME) / NS_PER_S - st.st_mtime > STALE_S)
		return;
	text[n] = 0;
	for (char *line = text, *rest = NULL; (line = strtok_r(line, "\n", &rest)); line = NULL)
		take_line(s, line);
}

static void save(void *context)
{
	struct supervisor *s = context;
	char text[FILE_MAX_BYTES];
	size_t at = 0;
	s->remembering = false;
	s->remembered_ns = monotonic_ns();
	if (s->stopping)
		return;
	for (unsigned i = 0; i < s->workers_count; i++) {
		const struct worker *w = &s->workers[i];
		for (enum cause cause = CAUSE_none + 1; cause < CAUSE_MAX && at < sizeof text; cause++)
			if (w->life.failures[cause])
				at += (size_t)snprintf(text + at, sizeof text - at, "%s %s %u\n", w->row->name,
					cause_name(cause), w->life.failures[cause]);
		if (w->life.state == LIFE_BACKOFF && w->life.due_ns && at < sizeof text)
			at += (size_t)snprintf(text + at, sizeof text - at, "%s until %" PRId64 "\n", w->row->name,
				clock_ns(CLOCK_BOOTTIME) + w->life.due_ns - monotonic_ns());
	}
	cleanup_close int fd =
		openat(s->runtime_fd, fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0 || at > sizeof text || write(fd, text, at) != (ssize_t)at ||
		renameat(s->runtime_fd, fresh, s->runtime_fd, name))
		log_debug("%s/%s: %s", s->config.runtime_directory, name, strerror(errno));
}

void remember_save(struct supervisor *s)
{
	if (s->record.on || s->stopping || s->remembering)
		return;
	if (monotonic_ns() - s->remembered_ns >= SAVE_MS * NS_PER_MS) {
		save(s);
		return;
	}
	s->remembering = true;
	timer_set(&s->remember, SAVE_MS * NS_PER_MS, save, s);
}
