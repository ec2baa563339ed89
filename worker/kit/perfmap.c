#include "kit/perfmap.h"

#include "common/cleanup.h"
#include "kit/lines.h"
#include "kit/symbols.h"
#include "kit/symbols_parts.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>

/* A target may write a million lines that each cover every query. A real map costs about one update for each query. */
enum { UPDATES_MAX = 1 << 24 };

/* Where the line that won a query begins. Its name is read at the end, so that memory does not grow with the file. */
struct win {
	uint64_t offset;
	uint64_t start, size;
	bool won;
};

struct entry {
	uint64_t start, size;
	const char *name; /* inside the line */
	size_t name_len;
};

static const char *skip_blanks(const char *p, const char *end)
{
	while (p < end && (*p == ' ' || *p == '\t'))
		p++;
	return p;
}

static bool parse(const char *text, size_t len, struct entry *ret)
{
	const char *end = text + len;
	const char *p = skip_blanks(text, end);
	if (!lines_hex(&p, end, &ret->start) || skip_blanks(p, end) == p)
		return false;
	p = skip_blanks(p, end);
	if (!lines_hex(&p, end, &ret->size) || skip_blanks(p, end) == p)
		return false;
	ret->name = skip_blanks(p, end);
	ret->name_len = strnlen(ret->name, (size_t)(end - ret->name));
	if (ret->name_len > SYMBOL_NAME_MAX)
		ret->name_len = SYMBOL_NAME_MAX;
	return ret->name_len && ret->size && ret->start <= UINT64_MAX - ret->size;
}

static int collect(struct lines *lines, const struct symbol_query *queries, size_t n, struct win *wins)
{
	size_t updates = UPDATES_MAX;
	struct line line;
	int r;
	while ((r = lines_next(lines, &line)) > 0) {
		struct entry entry;
		if (!parse(line.text, line.len, &entry))
			continue;
		uint64_t end = entry.start + entry.size;
		for (size_t i = symbol_query_at(queries, n, entry.start); i < n && queries[i].vaddr < end; i++) {
			if (!updates--)
				return -E2BIG;
			wins[i] = (struct win) { line.offset, entry.start, entry.size, true };
		}
	}
	return r;
}

/* The target may have changed the file since: then the line no longer says the same range, and there is no name. */
static int name_of(int fd, const struct win *win, char **ret)
{
	char text[LINES_MAX_LINE];
	ssize_t n = pread(fd, text, sizeof(text), (off_t)win->offset);
	if (n <= 0)
		return 0;
	const char *newline = memchr(text, '\n', (size_t)n);
	struct entry entry;
	if (!parse(text, newline ? (size_t)(newline - text) : (size_t)n, &entry) || entry.start != win->start ||
		entry.size != win->size)
		return 0;
	*ret = strndup(entry.name, entry.name_len);
	return *ret ? 0 : -ENOMEM;
}

int perfmap_resolve(int fd, struct symbol_query *queries, size_t n)
{
	struct stat st;
	if (fstat(fd, &st))
		return -errno;
	if (!n)
		return 0;
	/* JITs append: of a file that is too large the end is what holds now, and its head would name code long gone.
	 */
	uint64_t skip = st.st_size > PERFMAP_MAX_BYTES ? (uint64_t)st.st_size - PERFMAP_MAX_BYTES : 0;

	cleanup_free struct lines *lines = lines_open(fd, skip, PERFMAP_MAX_BYTES);
	cleanup_free struct win *wins = calloc(n, sizeof(*wins));
	if (!lines || !wins)
		return -ENOMEM;
	lines->skipping = skip > 0;
	int r = collect(lines, queries, n, wins);
	for (size_t i = 0; i < n && !r; i++) {
		if (!wins[i].won || queries[i].name)
			continue;
		r = name_of(fd, &wins[i], &queries[i].name);
		if (queries[i].name)
			queries[i].start = wins[i].start;
	}
	return r;
}
