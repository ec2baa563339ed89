#include "record.h"

#include "ask.h"
#include "common/clock.h"
#include "pack.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
	REFRESH_MS = 200,
	PROGRESS_PATIENCE_MS = 100, /* a late answer costs a line of progress, nothing else */
};

void progress_begin(struct progress *p, const char *directory, int64_t start_ns, int64_t duration_ms)
{
	*p = (struct progress) { .terminal = isatty(STDERR_FILENO), .start_ns = start_ns, .next_ns = start_ns };
	p->end_ns = duration_ms ? start_ns + duration_ms * NS_PER_MS : 0;
	snprintf(p->socket, sizeof p->socket, "%s/status.sock", directory);
}

/* ", 1,234 samples, 56 processes", or nothing when there is no answer. */
static void describe(const struct progress *p, char *out, size_t size)
{
	struct buf answer = { .limit = PACK_MAX_BYTES };
	msgpack_unpacked tree;
	out[0] = 0;
	if (!ask(p->socket, ASK_STATUS, PROGRESS_PATIENCE_MS, &answer) &&
		!pack_unpack(answer.data, answer.len, &tree)) {
		struct human samples, targets;
		const pack *snapshot = pack_get(&tree.data, "snapshot");
		snprintf(out, size, ", %s samples, %s processes",
			human_count(&samples, pack_u64(pack_get(snapshot, "so_far"), "taken", 0)),
			human_count(&targets, pack_u64(&tree.data, "targets", pack_u64(snapshot, "targets", 0))));
		msgpack_unpacked_destroy(&tree);
	}
	buf_free(&answer);
}

void progress_update(struct progress *p, bool ending)
{
	int64_t now = monotonic_ns();
	if (!p->terminal || now < p->next_ns)
		return;
	p->next_ns = now + REFRESH_MS * NS_PER_MS;
	p->shown = true;
	if (ending || (p->end_ns && now >= p->end_ns)) {
		fprintf(stderr, "\r\033[Kwriting ...");
		return;
	}
	char found[96];
	describe(p, found, sizeof found);
	if (p->end_ns)
		fprintf(stderr, "\r\033[K%.1f s left%s", (double)(p->end_ns - now) / NS_PER_S, found);
	else
		fprintf(stderr, "\r\033[K%.1f s%s", (double)(now - p->start_ns) / NS_PER_S, found);
}

void progress_clear(struct progress *p)
{
	if (p->shown)
		fprintf(stderr, "\r\033[K");
	p->shown = false;
}
