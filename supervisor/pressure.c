#include "pressure.h"

#include "verify.h"

#include "common/clock.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { PSI_MAX_BYTES = 512 /* two lines of 70 bytes */ };

/* "some avg10=0.12 avg60=0.00 avg300=0.00 total=123" (Documentation/accounting/psi.rst) */
double pressure_parse(const char *text, const char *kind)
{
	for (const char *line = text; line && *line; line = strchr(line, '\n'), line = line ? line + 1 : NULL) {
		size_t n = strlen(kind);
		double value;
		if (!strncmp(line, kind, n) && sscanf(line + n, " avg10=%lf", &value) == 1 && value >= 0 &&
			value <= 100)
			return value;
	}
	return -1;
}

int pressure_read(struct pressure_reading *ret)
{
	char memory[PSI_MAX_BYTES], cpu[PSI_MAX_BYTES];
	int r = read_small_file("/proc/pressure/memory", memory, sizeof memory);
	r = r < 0 ? r : read_small_file("/proc/pressure/cpu", cpu, sizeof cpu);
	if (r < 0)
		return r;
	const struct pressure_reading now = { .memory_some = pressure_parse(memory, "some"),
		.memory_full = pressure_parse(memory, "full"),
		.cpu_some = pressure_parse(cpu, "some") };
	if (now.memory_some < 0 || now.memory_full < 0 || now.cpu_some < 0)
		return -EBADMSG;
	*ret = now;
	return 0;
}

static unsigned level_of(const struct pressure_reading *r)
{
	return r->memory_full >= PRESSURE_CRITICAL ? 3
	       : r->memory_full >= PRESSURE_FULL   ? 2
	       : r->memory_some >= PRESSURE_SOME   ? 1
						   : 0;
}

bool pressure_note(struct pressure *p, const struct pressure_reading *reading, int64_t now_ns)
{
	struct pressure_reading twice = { 2 * reading->memory_some, 2 * reading->memory_full, 0 };
	unsigned level = level_of(reading);
	p->reading = *reading;
	if (level > p->level) {
		p->level = level;
		p->calm_since_ns = 0;
		return true;
	}
	if (!p->level || level_of(&twice) >= p->level) {
		p->calm_since_ns = 0;
		return false;
	}
	if (!p->calm_since_ns)
		p->calm_since_ns = now_ns;
	if (now_ns - p->calm_since_ns < PRESSURE_CALM_MS * NS_PER_MS)
		return false;
	p->level--;
	p->calm_since_ns = now_ns;
	return true;
}

uint32_t rate_next(struct rate *r, uint32_t asked_hz)
{
	uint32_t parts = r->parts ? r->parts : 1;
	if (r->lagged) {
		r->calm = 0;
		if (parts < RATE_PARTS_MAX)
			parts *= 2;
	} else if (++r->calm >= RATE_CALM_SNAPSHOTS) {
		r->calm = 0;
		parts = parts > 1 ? parts / 2 : 1;
	}
	r->parts = parts;
	r->lagged = false;
	return asked_hz / parts ? asked_hz / parts : 1;
}
