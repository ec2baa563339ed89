#include "kit/maps.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CHUNK = 32 << 10 };

/* Hexadecimal or decimal digits at *p, then the character `end`. */
static bool number(const char **p, const char *limit, unsigned base, char end, uint64_t *ret)
{
	uint64_t v = 0;
	const char *at = *p;
	for (; at < limit && *at != end; at++) {
		unsigned digit = *at >= '0' && *at <= '9'   ? (unsigned)(*at - '0')
				 : *at >= 'a' && *at <= 'f' ? (unsigned)(*at - 'a') + 10
							    : 99;
		if (digit >= base || v > (UINT64_MAX - 15) / base)
			return false;
		v = v * base + digit;
	}
	if (at == *p || at == limit)
		return false;
	*p = at + 1;
	*ret = v;
	return true;
}

static uint32_t add_path(struct maps *m, const char *path, size_t n)
{
	if (m->paths_len + n + 2 > m->paths_cap) {
		size_t cap = (m->paths_cap ? m->paths_cap * 2 : 1024) + n + 2;
		char *paths = realloc(m->paths, cap);
		if (!paths)
			return 0;
		m->paths = paths;
		m->paths_cap = cap;
		if (!m->paths_len)
			m->paths[m->paths_len++] = 0;
	}
	uint32_t at = (uint32_t)m->paths_len;
	memcpy(m->paths + at, path, n);
	m->paths[at + n] = 0;
	m->paths_len += n + 1;
	return at;
}

static bool is(const char *path, size_t n, const char *name)
{
	return n == strlen(name) && !memcmp(path, name, n);
}

static int parse_line(struct maps *m, const char *p, const char *end)
{
	struct map_entry e = { 0 };
	uint64_t major, minor;
	if (!number(&p, end, 16, '-', &e.start) || !number(&p, end, 16, ' ', &e.end) || end - p < 5 || e.start >= e.end)
		return 0;
	e.flags = (p[0] == 'r' ? MAP_IS_READ : 0) | (p[1] == 'w' ? MAP_IS_WRITE : 0) | (p[2] == 'x' ? MAP_IS_EXEC : 0) |
		  (p[3] == 's' ? MAP_IS_SHARED_ : 0);
	p += 5;
	if (!number(&p, end, 16, ' ', &e.offset) || !number(&p, end, 16, ':', &major) ||
		!number(&p, end, 16, ' ', &minor))
		return 0;
	const char *digits = p;
	while (p < end && *p >= '0' && *p <= '9')
		p++;
	for (const char *d = digits; d < p && d - digits < 20; d++)
		e.inode = e.inode * 10 + (uint64_t)(*d - '0');
	e.device = major << 32 | (minor & 0xffffffff);
	while (p < end && *p == ' ')
		p++;
	size_t n = (size_t)(end - p);
	if (e.inode)
		e.flags |= MAP_IS_FILE;
	else if (is(p, n, "[vdso]"))
		e.flags |= MAP_IS_VDSO;
	else if (is(p, n, "[vsyscall]"))
		e.flags |= MAP_IS_VSYSCALL;
	else if (is(p, n, "[stack]"))
		e.flags |= MAP_IS_STACK;
	if (m->n && e.start < m->entries[m->n - 1].end)
		return 0; /* the list changed while it was read: the first line holds */
	if (m->n == m->cap) {
		size_t cap = m->cap ? m->cap * 2 : 32;
		struct map_entry *entries = m->n < MAPS_MAX_ENTRIES ? realloc(m->entries, cap * sizeof *entries) : NULL;
		if (!entries)
			return -ENOMEM;
		m->entries = entries;
		m->cap = cap;
	}
	/* Only code is named after its file; a thousand data mappings need no thousand paths. */
	if (n && e.flags & MAP_IS_EXEC)
		e.path = add_path(m, p, n);
	m->entries[m->n++] = e;
	return 0;
}

int maps_parse(struct maps *ret, const char *text, size_t n)
{
	*ret = (struct maps) { 0 };
	const char *end = text + n;
	while (text < end) {
		const char *line_end = memchr(text, '\n', (size_t)(end - text));
		int r = parse_line(ret, text, line_end ? line_end : end);
		if (r < 0) {
			maps_free(ret);
			return r;
		}
		text = line_end ? line_end + 1 : end;
	}
	return 0;
}

int maps_read(struct maps *ret, int fd)
{
	char *text = NULL;
	size_t n = 0, cap = 0;
	int r = 0;
	for (;;) {
		if (n + CHUNK > cap) {
			cap = cap ? cap * 2 : CHUNK;
			char *larger = cap <= MAPS_MAX_BYTES ? realloc(text, cap) : NULL;
			if (!larger) {
				r = -ENOMEM;
				break;
			}
			text = larger;
		}
		ssize_t got = pread(fd, text + n, cap - n, (off_t)n);
		if (got <= 0) {
			r = got < 0 ? -errno : n ? maps_parse(ret, text, n) : -ESRCH;
			break;
		}
		n += (size_t)got;
	}
	free(text);
	return r;
}

void maps_free(struct maps *m)
{
	free(m->entries);
	free(m->paths);
	*m = (struct maps) { 0 };
}

const struct map_entry *maps_find(const struct maps *m, uint64_t address)
{
	size_t low = 0, high = m->n;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (address >= m->entries[middle].end)
			low = middle + 1;
		else
			high = middle;
	}
	return low < m->n && address >= m->entries[low].start ? &m->entries[low] : NULL;
}
