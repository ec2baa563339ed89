#include "summary.h"

#include "common/escape.h"
#include "ctl.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { FIELDS_MAX = 4 };

static bool number(const char *text, uint64_t *ret)
{
	char *end;
	errno = 0;
	unsigned long long v = strtoull(text, &end, 10);
	if (errno || end == text || *end || *text == '-')
		return false;
	*ret = v;
	return true;
}

static void copy(char out[SUMMARY_NAME], const char *text)
{
	escape_text(out, SUMMARY_NAME, text, strlen(text));
}

static void add_row(struct summary_row rows[SUMMARY_ROWS], unsigned *count, char **field)
{
	struct summary_row row;
	if (*count == SUMMARY_ROWS || !number(field[1], &row.a) || !number(field[2], &row.b))
		return;
	copy(row.name, field[3]);
	rows[(*count)++] = row;
}

static void add_counter(struct summary *s, const char *name, const char *value)
{
	for (int i = 0; i < COUNTER_MAX; i++)
		if (!strcmp(counter_name((enum counter)i), name))
			number(value, &s->counters[i]);
}

static void parse_line(struct summary *s, char *line)
{
	char *field[FIELDS_MAX] = { line };
	unsigned n = 1;
	/* the last field may hold anything */
	for (char *tab; n < FIELDS_MAX && (tab = strchr(field[n - 1], '\t')); n++) {
		*tab = 0;
		field[n] = tab + 1;
	}
	struct {
		const char *name;
		uint64_t *value;
	} totals[] = { { "samples", &s->samples }, { "processes", &s->processes }, { "stacks", &s->stacks } };
	for (size_t i = 0; n == 2 && i < sizeof totals / sizeof *totals; i++)
		if (!strcmp(line, totals[i].name))
			number(field[1], totals[i].value);
	if (n == 2 && !strcmp(line, "missing") && s->missing_count < SUMMARY_MISSING)
		copy(s->missing[s->missing_count++], field[1]);
	else if (n == 3 && !strcmp(line, "counter"))
		add_counter(s, field[1], field[2]);
	else if (n == 4 && !strcmp(line, "process"))
		add_row(s->process, &s->process_count, field);
	else if (n == 4 && !strcmp(line, "function"))
		add_row(s->function, &s->function_count, field);
}

void summary_parse(struct summary *s, char *text)
{
	*s = (struct summary) { 0 };
	char *rest = NULL;
	for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
		parse_line(s, line);
}

static double share(uint64_t part, uint64_t whole)
{
	return whole ? 100.0 * (double)part / (double)whole : 0;
}

static void print_counters(const struct summary *s, FILE *out)
{
	struct human n;
	uint64_t stacks = 0;
	bool any = s->missing_count > 0;
	for (int i = 0; i < COUNTER_MAX; i++) {
		any |= s->counters[i] != 0;
		stacks += counter_source((enum counter)i) == COUNTER_SOURCE_OUTCOME ? s->counters[i] : 0;
	}
	if (any)
		fprintf(out, "\nWhat became of the samples\n");
	for (int i = 0; i < COUNTER_MAX; i++) {
		if (!s->counters[i])
			continue;
		fprintf(out, "%14s  %s", human_count(&n, s->counters[i]), counter_words((enum counter)i));
		if (counter_source((enum counter)i) == COUNTER_SOURCE_OUTCOME)
			fprintf(out, " (%.1f %%)", share(s->counters[i], stacks));
		fputc('\n', out);
	}
	int64_t lost = counters_unaccounted(s->counters);
	if (lost)
		fprintf(out, "%14lld  samples unaccounted for: this is a bug in Bulkhead, please report it\n",
			(long long)lost);
	for (unsigned i = 0; i < s->missing_count; i++)
		fprintf(out, "       missing  the part of %s\n", s->missing[i]);
}

void summary_print(const struct summary *s, FILE *out)
{
	struct human samples, processes, stacks;
	fprintf(out, "%s samples of %s processes, %s different stacks\n", human_count(&samples, s->samples),
		human_count(&processes, s->processes), human_count(&stacks, s->stacks));
	if (s->process_count)
		fprintf(out, "\nHottest processes\n   share   samples      pid  name\n");
	for (unsigned i = 0; i < s->process_count; i++)
		fprintf(out, "%6.1f %%%10s%9llu  %s\n", share(s->process[i].a, s->samples),
			human_count(&samples, s->process[i].a), (unsigned long long)s->process[i].b,
			s->process[i].name);
	if (s->function_count)
		fprintf(out, "\nHottest functions\n    self    total   samples  name\n");
	for (unsigned i = 0; i < s->function_count; i++)
		fprintf(out, "%6.1f %% %6.1f %%%10s  %s\n", share(s->function[i].a, s->samples),
			share(s->function[i].b, s->samples), human_count(&samples, s->function[i].a),
			s->function[i].name);
	print_counters(s, out);
}
