#include "common/clock.h"
#include "config_parser.h"
#include "output.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

struct unit {
	const char *name;
	uint64_t size;
};

static const struct unit durations[] = { { "ms", NS_PER_MS }, { "s", NS_PER_S }, { "m", 60 * NS_PER_S },
	{ "h", 3600 * NS_PER_S }, { "d", 86400 * NS_PER_S }, { 0 } };
static const struct unit sizes[] = { { "", 1 }, { "K", 1 << 10 }, { "M", 1 << 20 }, { "G", 1 << 30 },
	{ "T", 1ULL << 40 }, { 0 } };

void value_format(char *out, size_t size, enum type type, uint64_t v)
{
	const struct unit *units = type == DURATION ? durations : type == SIZE ? sizes : NULL, *unit = NULL;
	for (const struct unit *u = units; u && u->name; u++)
		if (v % u->size == 0)
			unit = u;
	if (!unit || !v)
		snprintf(out, size, "%llu", (unsigned long long)v);
	else
		snprintf(out, size, "%llu%s", (unsigned long long)(v / unit->size), unit->name);
}

/* Digits and, where `units` are given, one of them. -ERANGE: larger than any number. */
static int parse_amount(const char *value, const struct unit *units, uint64_t *ret)
{
	if (!isdigit((unsigned char)*value))
		return -EINVAL;
	char *end;
	errno = 0;
	unsigned long long n = strtoull(value, &end, 10);
	if (errno)
		return -ERANGE;
	uint64_t scale = 1;
	if (units && (n || *end)) {
		const struct unit *u = units;
		while (u->name && strcmp(u->name, end))
			u++;
		if (!u->name)
			return -EINVAL;
		scale = u->size;
	} else if (*end) {
		return -EINVAL;
	}
	if (__builtin_mul_overflow(n, scale, ret))
		return -ERANGE;
	return 0;
}

static const char *amount_words(enum type type)
{
	return type == DURATION ? "a duration such as 500ms, 60s, 10m, 2h or 7d"
	       : type == SIZE   ? "a size in bytes, or with K, M, G or T, such as 512M"
				: "a whole number";
}

static void set_amount(struct parser *p, const struct key *key, const char *value, void *field)
{
	uint64_t v = 0;
	struct shown s;
	const struct unit *units = key->type == DURATION ? durations : key->type == SIZE ? sizes : NULL;
	int err = parse_amount(value, units, &v);
	if (err == -EINVAL) {
		config_complain(p, "%s: '%s' is not %s", key->name, config_show(&s, value), amount_words(key->type));
		return;
	}
	if (err || ((v < key->least || v > key->most) && !(key->zero && !v))) {
		char least[32], most[32];
		value_format(least, sizeof least, key->type, key->least);
		value_format(most, sizeof most, key->type, key->most);
		config_complain(p, "%s: %s is out of range: from %s to %s%s", key->name, config_show(&s, value), least,
			most, key->zero ? ", or 0 for no limit" : "");
		return;
	}
	if (key->size == sizeof(uint32_t)) {
		uint32_t narrow = (uint32_t)v;
		memcpy(field, &narrow, sizeof narrow);
	} else {
		memcpy(field, &v, sizeof v);
	}
}

static void set_yesno(struct parser *p, const struct key *key, const char *value, bool *field)
{
	struct shown s;
	if (!strcmp(value, "yes"))
		*field = true;
	else if (!strcmp(value, "no"))
		*field = false;
	else
		config_complain(p, "%s: '%s' is neither yes nor no", key->name, config_show(&s, value));
}

static void set_text(struct parser *p, char **field, const char *value)
{
	char *copy = strdup(value);
	if (!copy) {
		config_complain(p, "no memory");
		return;
	}
	free(*field);
	*field = copy;
}

static void set_path(struct parser *p, const struct key *key, const char *value, char **field)
{
	struct shown s;
	/* a path that climbs is not what it looks like; workers' and operators' files are found by it */
	bool climbs = strstr(value, "/../") || (strlen(value) >= 3 && !strcmp(value + strlen(value) - 3, "/.."));
	if (*value != '/' || climbs || strlen(value) >= PATH_MAX - NAME_MAX)
		config_complain(p, "%s: '%s' is not an absolute path without '..', such as %s", key->name,
			config_show(&s, value), key->initial);
	else
		set_text(p, field, value);
}

static void set_group(struct parser *p, const struct key *key, const char *value, char **field)
{
	struct shown s;
	if (!*value) {
		free(*field);
		*field = NULL;
	} else if (value[strspn(value, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")] ||
		   *value == '-' || strlen(value) > NEAR_WORD_MAX) {
		config_complain(
			p, "%s: '%s' is not the name of a group, such as adm", key->name, config_show(&s, value));
	} else {
		set_text(p, field, value);
	}
}

static void set_cgroup(struct parser *p, const struct key *key, const char *value, char **field)
{
	static const char root[] = "/sys/fs/cgroup/";
	struct shown s;
	if (strcmp(value, "auto") && strcmp(value, "no") && strncmp(value, root, sizeof root - 1))
		config_complain(p, "%s: '%s' is neither auto nor no nor a path below %s", key->name,
			config_show(&s, value), root);
	else if (*value == '/')
		set_path(p, key, value, field);
	else
		set_text(p, field, value);
}

static void set_formats(struct parser *p, const struct key *key, char *value, bool *field)
{
	bool chosen[OUTPUT_FORMAT_MAX] = { false };
	char *rest = NULL;
	unsigned any = 0, errors = p->count;
	for (char *word = strtok_r(value, ", \t", &rest); word; word = strtok_r(NULL, ", \t", &rest)) {
		int format = output_format_from_name(word);
		any++;
		if (format >= 0 && format != OUTPUT_SUMMARY) {
			chosen[format] = true;
			continue;
		}
		struct shown s;
		const char *near = NULL;
		for (int i = 0; i < OUTPUT_SUMMARY; i++)
			near = config_nearer(near, output_format_name((enum output_format)i), word);
		config_complain(p, "%s: '%s' is not a format: pprof, folded or html%s%s%s", key->name,
			config_show(&s, word), near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
	}
	if (!any)
		config_complain(p, "%s: names no format: one or more of pprof, folded, html", key->name);
	if (p->count == errors)
		memcpy(field, chosen, sizeof chosen);
}

static void set_level(struct parser *p, const struct key *key, const char *value, enum log_level *field)
{
	struct shown s;
	int level = log_level_from_name(value);
	if (level >= 0)
		*field = (enum log_level)level;
	else
		config_complain(
			p, "%s: '%s' is not a level: error, warning, info or debug", key->name, config_show(&s, value));
}

void value_set(struct parser *p, const struct key *key, char *value)
{
	void *field = (char *)p->config + key->offset;
	switch (key->type) {
	case DURATION:
	case SIZE:
	case NUMBER:
		return set_amount(p, key, value, field);
	case YESNO:
		return set_yesno(p, key, value, field);
	case PATH:
		return set_path(p, key, value, field);
	case GROUP:
		return set_group(p, key, value, field);
	case FORMATS:
		return set_formats(p, key, value, field);
	case LEVEL:
		return set_level(p, key, value, field);
	case CGROUP:
		return set_cgroup(p, key, value, field);
	}
}
