#include "output.h"

#include <errno.h>
#include <string.h>

/* Names as in bulkhead.conf and on command lines; suffixes as files have them. */
static const struct {
	const char *name, *suffix;
} formats[OUTPUT_FORMAT_MAX] = {
	[OUTPUT_PPROF] = { "pprof", ".pb.gz" },
	[OUTPUT_FOLDED] = { "folded", ".folded" },
	[OUTPUT_HTML] = { "html", ".html" },
	[OUTPUT_SUMMARY] = { "summary", ".summary" },
};

const char *output_suffix(enum output_format format)
{
	return formats[format].suffix;
}

const char *output_format_name(enum output_format format)
{
	return formats[format].name;
}

int output_format_from_name(const char *name)
{
	for (int i = 0; i < OUTPUT_FORMAT_MAX; i++)
		if (!strcmp(formats[i].name, name))
			return i;
	return -EINVAL;
}

int output_format_of(const char *path)
{
	size_t n = strlen(path);
	for (int i = 0; i < OUTPUT_SUMMARY; i++) {
		size_t suffix = strlen(formats[i].suffix);
		if (n > suffix && path[n - suffix - 1] != '/' && !strcmp(path + n - suffix, formats[i].suffix))
			return i;
	}
	return -EINVAL;
}
