/* Lines of a lent text file (/proc/kallsyms, a perf map) in one pass through a fixed buffer. Read with pread, so that
 * two passes over one fd do not disturb each other. A line may hold any bytes; one over LINES_MAX_LINE is cut, never
 * joined. */
#ifndef KIT_LINES_H
#define KIT_LINES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	LINES_BUFFER = 64 << 10, /* bytes of one read */
	LINES_MAX_LINE = 4096,   /* bytes kept of one line */
};

struct lines {
	int fd;          /* borrowed */
	uint64_t offset; /* file offset of buf[0] */
	uint64_t left;   /* bytes that may still be read from the file */
	size_t pos, len; /* what is unread in buf */
	bool ended;      /* nothing more comes from the file */
	bool skipping;   /* inside the rest of a line that was cut */
	char buf[LINES_BUFFER];
};

struct line {
	const char *text; /* valid until the next call; not terminated */
	size_t len;
	uint64_t offset; /* of its first byte in the file */
};

/* At most `limit` bytes from `offset` on. Release with free(). NULL: no memory. */
struct lines *lines_open(int fd, uint64_t offset, uint64_t limit);
/* 1: *ret is the next line, without its newline; 0: no more; -errno of the read. */
int lines_next(struct lines *lines, struct line *ret);

/* A hexadecimal number of at most 64 bits, "0x" or not, at *at; moves *at past it. False when there is none. */
bool lines_hex(const char **at, const char *end, uint64_t *ret);

#endif
