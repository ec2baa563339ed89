#include "output_names.h"

#include "output.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

void output_name_format(char out[OUTPUT_NAME_MAX], const struct output_name *name, enum output_format format)
{
	time_t t = (time_t)name->time;
	struct tm tm;
	char when[32], number[16] = "";
	gmtime_r(&t, &tm);
	strftime(when, sizeof when, "%Y%m%dT%H%M%SZ", &tm);
	if (name->number > 1)
		snprintf(number, sizeof number, "-%u", name->number);
	snprintf(out, OUTPUT_NAME_MAX, "profile_%s%s%s", when, number, output_suffix(format));
}

int output_name_parse(const char *file, struct output_name *ret, enum output_format *ret_format)
{
	struct tm tm = { 0 };
	struct output_name name = { .number = 1 };
	int at = 0, format = output_format_of(file);
	if (format < 0 ||
		sscanf(file, "profile_%4d%2d%2dT%2d%2d%2dZ%n", &tm.tm_year, &tm.tm_mon, &tm.tm_mday, &tm.tm_hour,
			&tm.tm_min, &tm.tm_sec, &at) != 6 ||
		!at)
		return -EINVAL;
	if (file[at] == '-')
		sscanf(file + at, "-%4u", &name.number);
	tm.tm_year -= 1900;
	tm.tm_mon--;
	name.time = timegm(&tm);
	/* whatever scanf let pass: only what we would have written ourselves is ours */
	char again[OUTPUT_NAME_MAX];
	output_name_format(again, &name, (enum output_format)format);
	if (strcmp(again, file))
		return -EINVAL;
	*ret = name;
	*ret_format = (enum output_format)format;
	return 0;
}

bool output_is_temporary(const char *file)
{
	size_t n = strlen(file), prefix = strlen(OUTPUT_TEMPORARY_PREFIX), suffix = strlen(OUTPUT_TEMPORARY_SUFFIX);
	return n > prefix + suffix && !strncmp(file, OUTPUT_TEMPORARY_PREFIX, prefix) &&
	       !strcmp(file + n - suffix, OUTPUT_TEMPORARY_SUFFIX);
}
