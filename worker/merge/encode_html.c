/* The page's data as JSON inside a script element: no '<' of a name may leave here, or "</script>" would end it. */
#include "common/escape.h"
#include "merge/encode.h"
#include "merge/meta.h"
#include "merge/tree.h"
#include "merge/writer.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define NS_PER_MS UINT64_C(1000000)

/* `text` is valid UTF-8. */
static void put_string(struct writer *w, const char *text)
{
	writer_put(w, "\"", 1);
	const char *plain = text;
	for (const char *p = text; *p; p++) {
		unsigned char c = (unsigned char)*p;
		if (c >= 0x20 && !strchr("\"\\<>&", c))
			continue;
		writer_put(w, plain, (size_t)(p - plain));
		writer_printf(w, "\\u%04x", c);
		plain = p + 1;
	}
	writer_text(w, plain);
	writer_put(w, "\"", 1);
}

static void put_field_text(struct writer *w, const char *key, const char *hostile)
{
	char text[ESCAPE_MAX];
	escape_text(text, sizeof text, hostile ? hostile : "", hostile ? strlen(hostile) : 0);
	writer_printf(w, ",\"%s\":", key);
	put_string(w, text);
}

static void put_meta(struct writer *w, const struct profile *p, const struct profile_meta *meta)
{
	writer_printf(w, "\"snapshot\":%" PRIu64 ",\"start\":%" PRIu64 ",\"duration\":%" PRIu64 ",\"hz\":%" PRIu64,
		meta->snapshot, meta->start_ns / NS_PER_MS, meta->duration_ns / NS_PER_MS, meta->frequency_hz);
	put_field_text(w, "host", meta->hostname);
	put_field_text(w, "event", meta->event);
	writer_printf(w,
		",\"samples\":%" PRIu64 ",\"dropped\":%" PRIu64 ",\"processes\":%" PRIu32 ",\"stacks\":%" PRIu32,
		profile_total(p), profile_dropped(p), profile_process_count(p), profile_stack_count(p));
	writer_printf(w, ",\"unaccounted\":%" PRId64 ",\"counters\":[", counters_unaccounted(meta->counters));
	const char *comma = "";
	for (int i = 0; i < COUNTER_MAX; i++) {
		if (!meta->counters[i])
			continue;
		writer_printf(w, "%s[\"%s\",", comma, counter_name((enum counter)i));
		put_string(w, counter_words((enum counter)i));
		writer_printf(w, ",%" PRIu64 "]", meta->counters[i]);
		comma = ",";
	}
	writer_text(w, "],\"missing\":[");
	char line[ESCAPE_MAX];
	const char *at = meta->missing;
	for (comma = ""; meta_missing_line(&at, line); comma = ",") {
		writer_text(w, comma);
		put_string(w, line);
	}
	writer_text(w, "]");
}

static void put_names(struct writer *w, const struct tree *t)
{
	uint32_t n = intern_count(&t->names);
	writer_text(w, ",\n\"names\":[\"all\"");
	for (uint32_t i = 1; i <= n; i++) {
		writer_put(w, ",", 1);
		put_string(w, tree_text(t, i));
	}
	writer_printf(w, "],\n\"kinds\":[%d", TREE_PROCESS);
	for (uint32_t i = 1; i <= n; i++)
		writer_printf(w, ",%" PRIu32, tree_name(t, i).kind);
	writer_text(w, "]");
}

static void put_nodes(struct writer *w, const struct tree *t)
{
	writer_text(w, ",\n\"depth\":[0");
	for (uint32_t i = 1; i < t->nodes.n; i++)
		writer_printf(w, ",%" PRIu32, tree_node(t, i)->depth);
	writer_text(w, "],\n\"name\":[0");
	for (uint32_t i = 1; i < t->nodes.n; i++)
		writer_printf(w, ",%" PRIu32, tree_node(t, i)->name);
	writer_text(w, "]");
}

static void put_processes(struct writer *w, const struct profile *p, const struct tree *t)
{
	const struct tree_cell *cells = t->cells.items;
	uint64_t unknown = 0;
	for (uint32_t i = 0; i < t->cells.n; i++)
		unknown += cells[i].process ? 0 : cells[i].count;
	writer_printf(w, ",\n\"process\":[[0,\"[unknown]\",%" PRIu64 "]", unknown);
	for (uint32_t i = 1; i <= profile_process_count(p); i++) {
		struct profile_process process = profile_process(p, i);
		writer_printf(w, ",[%" PRIu32 ",", process.pid);
		put_string(w, process.comm ? profile_string(p, process.comm) : "[unknown]");
		writer_printf(w, ",%" PRIu64 "]", process.samples);
	}
	writer_text(w, "],\n\"cells\":[");
	for (uint32_t i = 0; i < t->cells.n; i++) {
		writer_printf(w, "%s%" PRIu32 ",%" PRIu32 ",%" PRIu64, i ? "," : "", cells[i].process, cells[i].node,
			cells[i].count);
	}
	writer_text(w, "]");
}

int encode_html(const struct profile *p, const struct profile_meta *meta, int fd)
{
	const char *mark = memmem(flamegraph_page, flamegraph_page_size, FLAMEGRAPH_MARK, strlen(FLAMEGRAPH_MARK));
	if (!mark)
		return -EINVAL;
	struct tree tree;
	int r = tree_build(&tree, p);
	if (r < 0) {
		tree_free(&tree);
		return r;
	}
	struct writer w;
	writer_open(&w, fd, false);
	size_t before = (size_t)(mark - (const char *)flamegraph_page);
	writer_put(&w, flamegraph_page, before);
	writer_text(&w, "{");
	put_meta(&w, p, meta);
	put_names(&w, &tree);
	put_nodes(&w, &tree);
	put_processes(&w, p, &tree);
	writer_text(&w, "}");
	const char *after = mark + strlen(FLAMEGRAPH_MARK);
	writer_put(&w, after, flamegraph_page_size - before - strlen(FLAMEGRAPH_MARK));
	tree_free(&tree);
	return writer_close(&w);
}
