#include "ctl.h"

#include "common/escape.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { ERROR_MAX = 1024 /* bytes of a message; longer ones are cut */ };

void ctl_error(const char *format, ...)
{
	char text[ERROR_MAX], escaped[2 * ERROR_MAX];
	va_list args;
	va_start(args, format);
	vsnprintf(text, sizeof text, format, args);
	va_end(args);
	escape_text(escaped, sizeof escaped, text, strlen(text));
	fprintf(stderr, "bulkhead: %s\n", escaped);
}

const char *human_bytes(struct human *out, double bytes)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB" };
	size_t unit = 0;
	while (bytes >= 1024 && unit + 1 < sizeof units / sizeof *units) {
		bytes /= 1024;
		unit++;
	}
	snprintf(out->text, sizeof out->text, unit && bytes < 100 ? "%.1f %s" : "%.0f %s", bytes, units[unit]);
	return out->text;
}

const char *human_seconds(struct human *out, double seconds)
{
	unsigned long long s = seconds > 0 ? (unsigned long long)seconds : 0;
	if (s < 60)
		snprintf(out->text, sizeof out->text, "%.1f s", seconds > 0 ? seconds : 0);
	else if (s < 3600)
		snprintf(out->text, sizeof out->text, "%llu min %llu s", s / 60, s % 60);
	else if (s < 86400)
		snprintf(out->text, sizeof out->text, "%llu h %llu min", s / 3600, s / 60 % 60);
	else
		snprintf(out->text, sizeof out->text, "%llu d %llu h", s / 86400, s / 3600 % 24);
	return out->text;
}

const char *human_count(struct human *out, uint64_t n)
{
	char digits[24];
	size_t len = (size_t)snprintf(digits, sizeof digits, "%llu", (unsigned long long)n), at = 0;
	for (size_t i = 0; i < len; i++) {
		if (i && (len - i) % 3 == 0)
			out->text[at++] = ',';
		out->text[at++] = digits[i];
	}
	out->text[at] = 0;
	return out->text;
}
