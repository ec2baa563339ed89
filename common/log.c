#include "common/log.h"

#include "common/escape.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char *const level_names[LOG_LEVEL_MAX] = { "error", "warning", "info", "debug" };
static const char *process = "bulkhead";
static atomic_int max_level = LOG_LEVEL_INFO;
static log_sink *sink;

void log_process(const char *name)
{
	process = name;
}

void log_set_level(enum log_level max)
{
	max_level = max;
}

enum log_level log_get_level(void)
{
	return (enum log_level)max_level;
}

void log_set_sink(log_sink *s)
{
	sink = s;
}

int log_level_from_name(const char *name)
{
	for (int i = 0; i < LOG_LEVEL_MAX; i++)
		if (!strcmp(level_names[i], name))
			return i;
	return -EINVAL;
}

const char *log_level_name(enum log_level level)
{
	return level < LOG_LEVEL_MAX ? level_names[level] : "error";
}

void log_at(enum log_level level, const char *format, ...)
{
	if ((int)level > max_level)
		return;
	int saved = errno;
	char text[LOG_LINE_MAX], line[2 * LOG_LINE_MAX];
	va_list args;
	va_start(args, format);
	int n = vsnprintf(text, sizeof text, format, args);
	va_end(args);
	if (n >= (int)sizeof text)
		n = sizeof text - 1;
	if (n > 0 && sink) {
		sink(level, text);
	} else if (n > 0) {
		int head = snprintf(line, sizeof line, "%s %s: ", log_level_name(level), process);
		size_t len = (size_t)head + escape_text(line + head, sizeof line - (size_t)head - 1, text, (size_t)n);
		line[len++] = '\n';
		while (write(STDERR_FILENO, line, len) < 0 && errno == EINTR)
			;
	}
	errno = saved;
}
