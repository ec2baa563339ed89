/* Between config.c (lines, sections, keys) and config_value.c (what stands behind the '='); nobody else includes it. */
#ifndef SUPERVISOR_CONFIG_PARSER_H
#define SUPERVISOR_CONFIG_PARSER_H

#include "config.h"

#include <stddef.h>

enum {
	CONFIG_KEYS_MAX = 512,
	WORD_SHOWN = 80,    /* bytes of a bad word that an error repeats */
	NEAR_ENOUGH = 3,    /* edits between a mistyped word and the one it is taken for */
	NEAR_WORD_MAX = 32, /* longer words are not compared */
};

enum type { DURATION, SIZE, NUMBER, YESNO, PATH, GROUP, FORMATS, LEVEL, CGROUP };

struct key {
	const char *section, *name;
	enum type type;
	size_t offset, size; /* of the field in struct config */
	const char *initial;
	uint64_t least, most;
	bool zero; /* 0 is legal below `least` */
	const char *words;
};

struct parser {
	struct config *config;
	const char *path;
	FILE *errors;
	unsigned line, count;
	unsigned set_at[CONFIG_KEYS_MAX]; /* line; 0: not set */
	const char *section;              /* of `keys`; NULL: none, or one that does not exist */
	bool section_bad;                 /* its error is printed; its keys get none of their own */
};

/* One error, with file and line. */
__attribute__((format(printf, 2, 3))) void config_complain(struct parser *p, const char *format, ...);

struct shown {
	char text[WORD_SHOWN];
};

/* A word of the file, fit for a terminal. */
const char *config_show(struct shown *s, const char *word);
/* The nearer to `word` of two names; NULL (legal for `best`) when none is near. */
const char *config_nearer(const char *best, const char *candidate, const char *word);

/* Reads the value into its field of p->config, or complains. Changes the text. */
void value_set(struct parser *p, const struct key *key, char *value);
/* As it would stand in the file: "60s", "2G". */
void value_format(char *out, size_t size, enum type type, uint64_t v);

#endif
