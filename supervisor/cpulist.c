#include "cpulist.h"

#include "common/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

enum { LIST_MAX_BYTES = 4096 /* sysfs gives at most a page */ };

static const char *parse_number(const char *p, uint32_t *ret)
{
	uint32_t value = 0;
	const char *start = p;
	for (; *p >= '0' && *p <= '9' && p - start < 6; p++)
		value = value * 10 + (uint32_t)(*p - '0');
	*ret = value;
	return p == start ? NULL : p;
}

int cpulist_parse(const char *text, struct cpu_set_bits *ret)
{
	struct cpu_set_bits set = { 0 };
	const char *p = text;
	while (*p && *p != '\n') {
		uint32_t first, last;
		p = parse_number(p, &first);
		if (!p)
			return -EINVAL;
		last = first;
		if (*p == '-') {
			p = parse_number(p + 1, &last);
			if (!p || last < first)
				return -EINVAL;
		}
		for (uint32_t cpu = first; cpu <= last && cpu < LANE_MAX_CPUS; cpu++)
			set.word[cpu / 64] |= 1ULL << (cpu % 64);
		if (*p != ',')
			break;
		p++;
		if (!*p || *p == '\n')
			return -EINVAL;
	}
	if (*p && strcmp(p, "\n"))
		return -EINVAL;
	*ret = set;
	return 0;
}

int cpulist_read(const char *path, struct cpu_set_bits *ret)
{
	char text[LIST_MAX_BYTES];
	cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ssize_t n = read(fd, text, sizeof text - 1);
	if (n < 0)
		return -errno;
	text[n] = 0;
	return cpulist_parse(text, ret);
}

uint32_t cpulist_limit(const struct cpu_set_bits *set)
{
	for (uint32_t i = LANE_MAX_CPUS / 64; i-- > 0;)
		if (set->word[i])
			return i * 64 + 64 - (uint32_t)__builtin_clzll(set->word[i]);
	return 0;
}
