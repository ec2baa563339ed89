#include "kit/lines.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct lines *lines_open(int fd, uint64_t offset, uint64_t limit)
{
	struct lines *lines = malloc(sizeof(*lines));
	if (!lines)
		return NULL;
	lines->fd = fd;
	lines->offset = offset;
	lines->left = limit;
	lines->pos = 0;
	lines->len = 0;
	lines->ended = false;
	lines->skipping = false;
	return lines;
}

static int fill(struct lines *lines)
{
	lines->len -= lines->pos;
	memmove(lines->buf, lines->buf + lines->pos, lines->len);
	lines->offset += lines->pos;
	lines->pos = 0;

	size_t room = sizeof(lines->buf) - lines->len;
	if (room > lines->left)
		room = (size_t)lines->left;
	if (!room) {
		lines->ended = true;
		return 0;
	}
	ssize_t n;
	do {
		n = pread(lines->fd, lines->buf + lines->len, room, (off_t)(lines->offset + lines->len));
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	if (n == 0)
		lines->ended = true;
	lines->len += (size_t)n;
	lines->left -= (size_t)n;
	return 0;
}

static int give(const struct lines *lines, size_t at, size_t len, struct line *ret)
{
	ret->text = lines->buf + at;
	ret->len = len < LINES_MAX_LINE ? len : LINES_MAX_LINE;
	ret->offset = lines->offset + at;
	return 1;
}

int lines_next(struct lines *lines, struct line *ret)
{
	for (;;) {
		size_t at = lines->pos;
		size_t unread = lines->len - at;
		const char *newline = memchr(lines->buf + at, '\n', unread);
		if (newline) {
			size_t len = (size_t)(newline - (lines->buf + at));
			lines->pos += len + 1;
			if (!lines->skipping)
				return give(lines, at, len, ret);
			lines->skipping = false;
			continue;
		}
		if (lines->skipping) {
			lines->pos = lines->len;
		} else if (unread >= LINES_MAX_LINE || (lines->ended && unread)) {
			lines->pos = lines->len;
			lines->skipping = true;
			return give(lines, at, unread, ret);
		}
		if (lines->ended)
			return 0;
		int r = fill(lines);
		if (r)
			return r;
	}
}

static int digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

bool lines_hex(const char **at, const char *end, uint64_t *ret)
{
	const char *p = *at;
	if (end - p > 2 && p[0] == '0' && (p[1] == 'x' || p[1] == 'X'))
		p += 2;
	const char *first = p;
	uint64_t value = 0;
	for (int d; p < end && (d = digit(*p)) >= 0; p++) {
		if (value >> 60)
			return false;
		value = value << 4 | (uint64_t)d;
	}
	if (p == first)
		return false;
	*at = p;
	*ret = value;
	return true;
}
