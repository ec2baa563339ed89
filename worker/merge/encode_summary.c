#include "merge/encode.h"
#include "merge/meta.h"
#include "merge/tree.h"
#include "merge/writer.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { HOTTEST = 10 /* rows of each table: what a terminal shows at a glance */ };

struct function {
	uint64_t self, total; /* samples; a recursive function counts once in a stack */
	uint32_t active;      /* how often it is on the path now */
};

struct hot {
	uint64_t value;
	uint32_t id;
};

/* Keeps the rows with the largest values; the first of equals stays first. */
static void keep_hottest(struct hot rows[HOTTEST], uint32_t id, uint64_t value)
{
	if (value <= rows[HOTTEST - 1].value)
		return;
	size_t i = HOTTEST - 1;
	for (; i && rows[i - 1].value < value; i--)
		rows[i] = rows[i - 1];
	rows[i] = (struct hot) { .value = value, .id = id };
}

static void put_processes(struct writer *w, const struct profile *p)
{
	struct hot rows[HOTTEST] = { 0 };
	for (uint32_t i = 1; i <= profile_process_count(p); i++)
		keep_hottest(rows, i, profile_process(p, i).samples);
	for (size_t i = 0; i < HOTTEST && rows[i].value; i++) {
		struct profile_process process = profile_process(p, rows[i].id);
		const char *comm = process.comm ? profile_string(p, process.comm) : "[unknown]";
		writer_printf(w, "process\t%" PRIu64 "\t%" PRIu32 "\t%s\n", process.samples, process.pid, comm);
	}
}

static void count_functions(const struct tree *t, struct function *functions)
{
	uint32_t path[TREE_MAX_DEPTH] = { 0 }, depth = 0;
	for (uint32_t i = 0; i < t->nodes.n; i++) {
		const struct tree_node *node = tree_node(t, i);
		for (; depth > node->depth; depth--)
			functions[path[depth - 1]].active--;
		path[depth++] = node->name;
		struct function *f = &functions[node->name];
		f->self += node->self;
		if (!f->active++)
			f->total += node->total;
	}
}

static int put_functions(struct writer *w, const struct tree *t)
{
	uint32_t n = intern_count(&t->names);
	struct function *functions = calloc((size_t)n + 1, sizeof *functions);
	if (!functions)
		return -ENOMEM;
	count_functions(t, functions);
	struct hot rows[HOTTEST] = { 0 };
	for (uint32_t i = 1; i <= n; i++) {
		if (tree_name(t, i).kind != TREE_PROCESS)
			keep_hottest(rows, i, functions[i].self);
	}
	for (size_t i = 0; i < HOTTEST && rows[i].value; i++) {
		const struct function *f = &functions[rows[i].id];
		const char *name = tree_text(t, rows[i].id);
		writer_printf(w, "function\t%" PRIu64 "\t%" PRIu64 "\t%s\n", f->self, f->total, name);
	}
	free(functions);
	return 0;
}

static int put_summary(
	struct writer *w, const struct profile *p, const struct profile_meta *meta, const struct tree *tree)
{
	writer_printf(w, "samples\t%" PRIu64 "\n", profile_total(p));
	writer_printf(w, "processes\t%" PRIu32 "\n", profile_process_count(p));
	writer_printf(w, "stacks\t%" PRIu32 "\n", profile_stack_count(p));
	if (profile_dropped(p))
		writer_printf(w, "dropped\t%" PRIu64 "\n", profile_dropped(p));
	for (int i = 0; i < COUNTER_MAX; i++) {
		if (meta->counters[i])
			writer_printf(
				w, "counter\t%s\t%" PRIu64 "\n", counter_name((enum counter)i), meta->counters[i]);
	}
	put_processes(w, p);
	int r = put_functions(w, tree);
	char text[ESCAPE_MAX];
	const char *at = meta->missing;
	while (meta_missing_line(&at, text))
		writer_printf(w, "missing\t%s\n", text);
	return r;
}

int encode_summary(const struct profile *p, const struct profile_meta *meta, int fd)
{
	struct tree tree;
	int r = tree_build(&tree, p);
	if (!r) {
		struct writer w;
		writer_open(&w, fd, false);
		r = put_summary(&w, p, meta, &tree);
		int closed = writer_close(&w);
		if (!r)
			r = closed;
	}
	tree_free(&tree);
	return r;
}
