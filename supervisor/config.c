#include "config.h"

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/escape.h"
#include "config_parser.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CONFIG_MAX_BYTES = 256 << 10 /* of the file; one with every key has 2 KiB */ };

/* ZERO(n) sets the top bit beside the least value. */
#define ZERO(n) ((uint64_t)(n) | ZERO_BIT)
#define ZERO_BIT (1ULL << 63)

static const struct key keys[] = {
#define KEY(section, name, type, field, initial, least, most, words)                                                   \
	{ #section, #name, type, offsetof(struct config, field), sizeof(((struct config *)0)->field), initial,         \
		(uint64_t)(least) & ~ZERO_BIT, (uint64_t)(most), ((uint64_t)(least)&ZERO_BIT) != 0, words },
#include "config.def"
#undef KEY
};

/* Every worker has a section with a key for each column of its budget. */
static const struct {
	const char *name;
	enum type type;
	size_t offset, size; /* of the field in struct budget */
	uint64_t least, most;
	const char *words;
} columns[] = {
#define COLUMN(name, type, field, least, most, words)                                                                  \
	{ #name, type, offsetof(struct budget, field), sizeof(((struct budget *)0)->field), (uint64_t)(least),         \
		(uint64_t)(most), words },
#include "budgets.def"
};

enum { COLUMNS = sizeof columns / sizeof *columns };

static const struct {
	const char *section, *worker;
	const char *initial[COLUMNS];
} budgets[] = {
#define BUDGET(worker, ...) { "worker " #worker, #worker, { __VA_ARGS__ } },
#include "budgets.def"
};

enum {
	BUDGETS = sizeof budgets / sizeof *budgets,
	KEYS_PLAIN = sizeof keys / sizeof *keys,
	KEYS = KEYS_PLAIN + BUDGETS * COLUMNS,
};

_Static_assert((int)KEYS <= (int)CONFIG_KEYS_MAX, "more keys than the parser remembers");
_Static_assert((int)BUDGETS <= (int)CONFIG_WORKERS_MAX, "more budgets than struct config has");

/* The i-th of all keys: those of config.def, then each worker's. */
static struct key key_of(size_t i)
{
	if (i < KEYS_PLAIN)
		return keys[i];
	size_t worker = (i - KEYS_PLAIN) / COLUMNS, column = (i - KEYS_PLAIN) % COLUMNS;
	return (struct key) {
		.section = budgets[worker].section,
		.name = columns[column].name,
		.type = columns[column].type,
		.offset = offsetof(struct config, budgets) + worker * sizeof(struct budget) + columns[column].offset,
		.size = columns[column].size,
		.initial = budgets[worker].initial[column],
		.least = columns[column].least & ~ZERO_BIT,
		.most = columns[column].most,
		.zero = (columns[column].least & ZERO_BIT) != 0,
		.words = columns[column].words,
	};
}

const struct budget *config_budget(const struct config *c, const char *worker)
{
	for (size_t i = 0; i < BUDGETS; i++)
		if (!strcmp(budgets[i].worker, worker))
			return &c->budgets[i];
	return NULL;
}

void config_complain(struct parser *p, const char *format, ...)
{
	va_list args;
	p->count++;
	if (p->line)
		fprintf(p->errors, "%s:%u: ", p->path, p->line);
	else
		fprintf(p->errors, "%s: ", p->path);
	va_start(args, format);
	vfprintf(p->errors, format, args);
	va_end(args);
	fputc('\n', p->errors);
}

/* A word of the file, fit for a terminal. */
const char *config_show(struct shown *s, const char *word)
{
	escape_text(s->text, sizeof s->text, word, strlen(word));
	return s->text;
}

/* Edits (insert, delete, replace) that turn a into b. */
static unsigned distance(const char *a, const char *b)
{
	size_t n = strlen(b);
	if (strlen(a) > NEAR_WORD_MAX || n > NEAR_WORD_MAX)
		return UINT_MAX;
	unsigned row[NEAR_WORD_MAX + 1];
	for (unsigned j = 0; j <= n; j++)
		row[j] = j;
	for (unsigned i = 1; a[i - 1]; i++) {
		unsigned diagonal = row[0];
		row[0] = i;
		for (size_t j = 1; j <= n; j++) {
			unsigned replace = diagonal + (tolower((unsigned char)a[i - 1]) != b[j - 1]);
			diagonal = row[j];
			unsigned edit = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;
			row[j] = replace < edit ? replace : edit;
		}
	}
	return row[n];
}

/* The nearest of the names, or NULL when none is near: at most NEAR_ENOUGH edits, and fewer than half the word. */
const char *config_nearer(const char *best, const char *candidate, const char *word)
{
	unsigned d = distance(word, candidate);
	if (d > NEAR_ENOUGH || 2 * d > strlen(candidate))
		return best;
	return best && distance(word, best) <= d ? best : candidate;
}

static char *strip(char *s)
{
	while (isspace((unsigned char)*s))
		s++;
	size_t n = strlen(s);
	while (n && isspace((unsigned char)s[n - 1]))
		s[--n] = 0;
	return s;
}

/* A comment is a whole line, or follows white space. */
static void cut_comment(char *s)
{
	for (char *at = s; *at; at++)
		if ((*at == '#' || *at == ';') && (at == s || isspace((unsigned char)at[-1]))) {
			*at = 0;
			return;
		}
}

static void parse_section(struct parser *p, char *line)
{
	struct shown s;
	const char *near = NULL;
	size_t n = strlen(line);
	p->section = NULL;
	p->section_bad = true;
	if (line[n - 1] != ']') {
		config_complain(p, "'%s' is not a section: it needs a ']' at its end", config_show(&s, line));
		return;
	}
	line[n - 1] = 0;
	char *name = strip(line + 1);
	for (size_t i = 0; i < KEYS; i++) {
		struct key key = key_of(i);
		if (!strcmp(key.section, name)) {
			p->section = key.section;
			p->section_bad = false;
			return;
		}
		near = config_nearer(near, key.section, name);
	}
	if (near)
		config_complain(p, "there is no section [%s]; did you mean [%s]?", config_show(&s, name), near);
	else
		config_complain(p,
			"there is no section [%s]: there are [snapshot], [sampler], [output], [supervisor] and [worker "
			"NAME]",
			config_show(&s, name));
}

static void unknown_key(struct parser *p, const char *name)
{
	struct shown s;
	const char *near = NULL, *elsewhere = NULL;
	for (size_t i = 0; i < KEYS; i++) {
		struct key key = key_of(i);
		if (!strcmp(key.section, p->section))
			near = config_nearer(near, key.name, name);
		else if (!strcmp(key.name, name))
			elsewhere = i < KEYS_PLAIN ? key.section : "worker NAME";
	}
	if (elsewhere) {
		config_complain(
			p, "%s belongs into section [%s], not [%s]", config_show(&s, name), elsewhere, p->section);
	} else if (near) {
		config_complain(
			p, "there is no key '%s' in [%s]; did you mean %s?", config_show(&s, name), p->section, near);
	} else {
		char valid[512] = "";
		for (size_t i = 0, at = 0; i < KEYS; i++) {
			struct key key = key_of(i);
			if (!strcmp(key.section, p->section))
				at += (size_t)snprintf(valid + at, sizeof valid - at, "%s%s", at ? ", " : "", key.name);
		}
		config_complain(
			p, "there is no key '%s' in [%s]: there are %s", config_show(&s, name), p->section, valid);
	}
}

static void parse_line(struct parser *p, char *line)
{
	struct shown s;
	cut_comment(line);
	line = strip(line);
	if (!*line)
		return;
	if (*line == '[') {
		parse_section(p, line);
		return;
	}
	char *equals = strchr(line, '=');
	if (!equals || equals == line) {
		config_complain(
			p, "'%s' is neither a [section] nor a line of the form key = value", config_show(&s, line));
		return;
	}
	*equals = 0;
	const char *name = strip(line);
	if (p->section_bad)
		return;
	if (!p->section) {
		config_complain(p, "%s stands before the first section: put it below a line such as [snapshot]",
			config_show(&s, name));
		return;
	}
	for (size_t i = 0; i < KEYS; i++) {
		struct key key = key_of(i);
		if (strcmp(key.section, p->section) || strcmp(key.name, name))
			continue;
		if (p->set_at[i]) {
			config_complain(
				p, "%s is set twice: line %u has it already; keep one of them", name, p->set_at[i]);
			return;
		}
		p->set_at[i] = p->line;
		value_set(p, &key, strip(equals + 1));
		return;
	}
	unknown_key(p, name);
}

/* Where the field was set; 0: nowhere. */
static unsigned line_of(const struct parser *p, size_t offset)
{
	for (size_t i = 0; i < KEYS; i++)
		if (key_of(i).offset == offset)
			return p->set_at[i];
	return 0;
}

/* The steps of a ladder stand above each other. */
static void check_ladders(struct parser *p)
{
	for (size_t i = 0; i < BUDGETS; i++) {
		const struct budget *b = &p->config->budgets[i];
		if (b->memory_shed <= b->memory_recycle && b->memory_recycle <= b->memory)
			continue;
		size_t at = offsetof(struct config, budgets) + i * sizeof *b;
		unsigned lines[] = { line_of(p, at + offsetof(struct budget, memory_shed)),
			line_of(p, at + offsetof(struct budget, memory_recycle)),
			line_of(p, at + offsetof(struct budget, memory)) };
		p->line = 0;
		for (size_t n = 0; n < sizeof lines / sizeof *lines; n++)
			p->line = lines[n] > p->line ? lines[n] : p->line;
		char shed[32], recycle[32], memory[32];
		value_format(shed, sizeof shed, SIZE, b->memory_shed);
		value_format(recycle, sizeof recycle, SIZE, b->memory_recycle);
		value_format(memory, sizeof memory, SIZE, b->memory);
		config_complain(p,
			"[%s]: memory_shed (%s) must not be above memory_recycle (%s), nor that above memory (%s)",
			budgets[i].section, shed, recycle, memory);
	}
}

/* What the file alone does not tell. */
static void check_group(struct parser *p)
{
	const char *group = p->config->status_group;
	if (!group || getgrnam(group))
		return;
	p->line = line_of(p, offsetof(struct config, status_group));
	config_complain(p, "status_group: there is no group '%s': groupadd --system %s", group, group);
}

void config_free(struct config *c)
{
	free(c->directory);
	free(c->runtime_directory);
	free(c->status_group);
	free(c->cgroup);
	*c = (struct config) { 0 };
}

void config_defaults(struct config *c)
{
	*c = (struct config) { 0 };
	struct parser p = { .config = c, .path = "config.def", .errors = stderr };
	for (size_t i = 0; i < KEYS; i++) {
		struct key key = key_of(i);
		char value[64];
		snprintf(value, sizeof value, "%s", key.initial);
		value_set(&p, &key, value);
	}
	/* a default that is not legal, or no memory for two short strings at start */
	if (p.count)
		abort();
}

static int parse(struct parser *p, const char *text, size_t n)
{
	for (const char *at = text, *end = text + n; at < end;) {
		const char *newline = memchr(at, '\n', (size_t)(end - at));
		size_t len = (size_t)((newline ? newline : end) - at);
		p->line++;
		cleanup_free char *line = strndup(at, len);
		if (!line) {
			config_complain(p, "no memory");
			break;
		}
		if (strlen(line) != len)
			config_complain(p, "holds a byte 0: this is not a text file");
		else
			parse_line(p, line);
		at += len + 1;
	}
	check_ladders(p);
	return p->count ? -EINVAL : 0;
}

int config_parse(struct config *c, const char *path, const char *text, size_t n, FILE *errors)
{
	struct parser p = { .config = c, .path = path, .errors = errors };
	return parse(&p, text, n);
}

/* Whoever can write the file chooses where root writes and as whom workers run. */
static int check_file(const char *path, const struct stat *st, FILE *errors)
{
	if (!S_ISREG(st->st_mode)) {
		fprintf(errors, "%s: is not a regular file\n", path);
		return -EINVAL;
	}
	if (geteuid())
		return 0;
	if (st->st_uid) {
		fprintf(errors, "%s: belongs to uid %u, who could change it: chown root %s\n", path, st->st_uid, path);
		return -EPERM;
	}
	if (st->st_mode & (S_IWGRP | S_IWOTH)) {
		fprintf(errors, "%s: mode %03o lets others change it: chmod go-w %s\n", path, st->st_mode & 0777, path);
		return -EPERM;
	}
	return 0;
}

int config_load(struct config *c, const char *path, FILE *errors)
{
	/* non-blocking: a FIFO in its place must not hold up the start */
	cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st;
	if (fd < 0 || fstat(fd, &st)) {
		int err = errno;
		fprintf(errors, "%s: %s\n", path, strerror(err));
		return -err;
	}
	int err = check_file(path, &st, errors);
	if (err)
		return err;
	cleanup_free char *text = malloc(CONFIG_MAX_BYTES + 1);
	if (!text) {
		fprintf(errors, "%s: no memory\n", path);
		return -ENOMEM;
	}
	size_t n = 0;
	while (n <= CONFIG_MAX_BYTES) {
		ssize_t got = read(fd, text + n, CONFIG_MAX_BYTES + 1 - n);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0) {
			err = errno;
			fprintf(errors, "%s: %s\n", path, strerror(err));
			return -err;
		}
		if (!got)
			break;
		n += (size_t)got;
	}
	if (n > CONFIG_MAX_BYTES) {
		fprintf(errors, "%s: is larger than %d KiB\n", path, CONFIG_MAX_BYTES >> 10);
		return -EFBIG;
	}
	struct parser p = { .config = c, .path = path, .errors = errors };
	parse(&p, text, n);
	check_group(&p);
	return p.count ? -EINVAL : 0;
}
