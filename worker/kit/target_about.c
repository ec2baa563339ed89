/* What the opener says of a process: its name, its container, its threads' names. */
#include "kit/target_parts.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	ABOUT_MAX = 64 << 10, /* bytes of an "about" file that are read */
	CONTAINER_MAX = 64,   /* hex digits of a container id */
};

/* A container id is 64 hex digits somewhere in a cgroup path (Docker, containerd, CRI-O, Podman). */
static void take_cgroup(struct target *t, const char *line, size_t n)
{
	size_t run = 0;
	for (size_t i = 0; i <= n && !t->container; i++) {
		char c = i < n ? line[i] : 0;
		if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f')) {
			run++;
			continue;
		}
		if (run == CONTAINER_MAX)
			t->container = strndup(line + i - run, run);
		run = 0;
	}
}

static void name_thread(struct target *t, uint32_t tid, const char *name, size_t n)
{
	char fixed[16] = { 0 };
	memcpy(fixed, name, n < sizeof fixed - 1 ? n : sizeof fixed - 1);
	uint64_t *at = table_at(&t->threads, &tid, sizeof tid);
	if (!at)
		return;
	/* The name itself lives in two words of the table: no allocation a thread. */
	uint64_t words[2];
	memcpy(words, fixed, sizeof words);
	*at = words[0];
	uint64_t high = (uint64_t)tid << 32 | 1;
	at = table_at(&t->threads, &high, sizeof high);
	if (at)
		*at = words[1];
}

void target_set_thread_name(struct target *t, uint32_t tid, const char name[16])
{
	if (tid == t->pid)
		memcpy(t->comm, name, sizeof t->comm);
	name_thread(t, tid, name, strnlen(name, 16));
}

const char *target_thread_name(struct target *t, uint32_t tid, char out[16])
{
	uint64_t high = (uint64_t)tid << 32 | 1, words[2];
	const uint64_t *first = table_find(&t->threads, &tid, sizeof tid),
		       *second = table_find(&t->threads, &high, sizeof high);
	if (first && second) {
		words[0] = *first;
		words[1] = *second;
		memcpy(out, words, 16);
	} else {
		memcpy(out, t->comm, 16);
	}
	out[15] = 0;
	return out;
}

static int hex_digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The opener's lines have control bytes as \\xHH; back to the raw bytes that events carry, so that a name is one name. */
static void raw_name(char to[16], const char *text, size_t n)
{
	size_t at = 0;
	memset(to, 0, 16);
	for (size_t i = 0; i < n && at < 15; at++) {
		if (n - i >= 4 && text[i] == '\\' && text[i + 1] == 'x' && hex_digit(text[i + 2]) >= 0 &&
			hex_digit(text[i + 3]) >= 0) {
			to[at] = (char)(hex_digit(text[i + 2]) * 16 + hex_digit(text[i + 3]));
			i += 4;
		} else {
			to[at] = text[i++];
		}
	}
}

/* Lines of the opener's: "comm X", "cgroup X", "thread TID X". */
static void take_about(struct target *t, const char *text, size_t n)
{
	const char *end = text + n;
	while (text < end) {
		const char *line_end = memchr(text, '\n', (size_t)(end - text));
		size_t len = (size_t)((line_end ? line_end : end) - text);
		if (len > 5 && !memcmp(text, "comm ", 5) && !t->comm[0]) {
			raw_name(t->comm, text + 5, len - 5);
		} else if (len > 7 && !memcmp(text, "cgroup ", 7)) {
			take_cgroup(t, text + 7, len - 7);
		} else if (len > 6 && !memcmp(text, "nspid ", 6)) {
			t->nspid = (uint32_t)strtoul(text + 6, NULL, 10);
		} else if (len > 7 && !memcmp(text, "thread ", 7)) {
			uint32_t tid = 0;
			size_t i = 7;
			for (; i < len && text[i] >= '0' && text[i] <= '9'; i++)
				tid = tid * 10 + (uint32_t)(text[i] - '0');
			char name[16];
			if (i + 1 < len && !table_find(&t->threads, &tid, sizeof tid)) {
				raw_name(name, text + i + 1, len - i - 1);
				name_thread(t, tid, name, strnlen(name, sizeof name));
			}
		}
		text += len + 1;
	}
}

void target_read_about(struct target *t, int fd)
{
	char *text = malloc(ABOUT_MAX);
	ssize_t n = text ? pread(fd, text, ABOUT_MAX, 0) : -1;
	if (n > 0)
		take_about(t, text, (size_t)n);
	free(text);
}
