#include "merge/tree.h"

#include "common/cleanup.h"
#include "merge/sort.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* The tree while it grows: ids of nodes are those of `keys`, parents before children, the root is 1. */
struct builder {
	struct tree *t;
	struct intern keys;       /* struct key */
	struct intern cells;      /* struct cell_key */
	struct list cell_counts;  /* uint64_t, by cell */
	struct list frame_names;  /* uint32_t, by frame: tree name, 0: not made yet */
	struct list rank;         /* uint32_t, by name: its place in the alphabet */
	struct list order;        /* uint32_t: nodes in preorder */
	struct list place;        /* uint32_t, by node: its index in preorder */
	struct list first, count; /* uint32_t, by node: its children in `sorted` */
	struct list sorted;       /* uint32_t: all nodes but the root, by parent, then name */
	struct list scratch;
};

struct key {
	uint32_t parent, name;
};

struct cell_key {
	uint32_t process, node;
};

enum { ROOT = 1 };

static uint32_t *numbers(const struct list *list)
{
	return list->items;
}

/* A list of n zeroes. */
static int make_numbers(struct builder *b, struct list *list, uint32_t n)
{
	int error = 0;
	while (list->n < n && !error)
		list_push(list, &b->t->room, sizeof(uint32_t), &error);
	return error;
}

static int name_of_frame(struct builder *b, uint32_t frame_id, uint32_t *ret)
{
	uint32_t *known = &numbers(&b->frame_names)[frame_id - 1];
	if (!*known) {
		struct profile_frame frame = profile_frame(b->t->profile, frame_id);
		struct tree_name name = { .text = frame.display, .kind = frame.kind };
		if (frame.kind == FRAME_NATIVE && strstr(profile_string(b->t->profile, frame.display), "::"))
			name.kind = TREE_SCOPED;
		int r = intern(&b->t->names, &name, sizeof name, known);
		if (r < 0)
			return r;
	}
	*ret = *known;
	return 0;
}

static int step(struct builder *b, uint32_t name, uint32_t *node)
{
	struct key key = { .parent = *node, .name = name };
	return intern(&b->keys, &key, sizeof key, node);
}

static int add_sample(struct builder *b, const struct profile_sample *sample)
{
	struct profile_task task = profile_task(b->t->profile, sample->task);
	struct tree_name comm = { .text = task.comm, .kind = TREE_PROCESS };
	uint32_t name, node = ROOT, cell;
	int r = intern(&b->t->names, &comm, sizeof comm, &name);
	if (!r)
		r = step(b, name, &node);
	size_t n;
	const uint32_t *frames = profile_stack(b->t->profile, sample->stack, &n);
	while (n-- && !r) {
		r = name_of_frame(b, frames[n], &name);
		if (!r)
			r = step(b, name, &node);
	}
	if (r < 0)
		return r;
	struct cell_key key = { .process = task.process, .node = node };
	r = intern(&b->cells, &key, sizeof key, &cell);
	if (!r && cell > b->cell_counts.n)
		list_push(&b->cell_counts, &b->t->room, sizeof(uint64_t), &r);
	if (r < 0)
		return r;
	((uint64_t *)b->cell_counts.items)[cell - 1] += sample->count;
	return 0;
}

static int grow(struct builder *b)
{
	const struct profile *p = b->t->profile;
	int r = make_numbers(b, &b->frame_names, profile_frame_count(p));
	uint32_t root;
	if (!r)
		r = intern(&b->keys, &(struct key) { 0 }, sizeof(struct key), &root);
	for (uint32_t i = 1; i <= profile_sample_count(p) && !r; i++) {
		struct profile_sample sample = profile_sample(p, i);
		r = add_sample(b, &sample);
	}
	return r;
}

static bool name_before(const void *context, uint32_t a, uint32_t b)
{
	const struct tree *t = context;
	int order = strcmp(tree_text(t, a), tree_text(t, b));
	return order ? order < 0 : tree_name(t, a).kind < tree_name(t, b).kind;
}

static const struct key *key_of(const struct builder *b, uint32_t node)
{
	return intern_get(&b->keys, node, NULL);
}

static bool node_before(const void *context, uint32_t x, uint32_t y)
{
	const struct builder *b = context;
	const struct key *kx = key_of(b, x), *ky = key_of(b, y);
	if (kx->parent != ky->parent)
		return kx->parent < ky->parent;
	return numbers(&b->rank)[kx->name - 1] < numbers(&b->rank)[ky->name - 1];
}

static int rank_names(struct builder *b)
{
	uint32_t n = intern_count(&b->t->names);
	int r = make_numbers(b, &b->rank, n);
	if (!r)
		r = make_numbers(b, &b->sorted, n);
	if (!r)
		r = make_numbers(b, &b->scratch, n);
	if (r < 0)
		return r;
	for (uint32_t i = 0; i < n; i++)
		numbers(&b->sorted)[i] = i + 1;
	sort_ids(numbers(&b->sorted), numbers(&b->scratch), n, name_before, b->t);
	for (uint32_t i = 0; i < n; i++)
		numbers(&b->rank)[numbers(&b->sorted)[i] - 1] = i;
	return 0;
}

static int sort_nodes(struct builder *b)
{
	uint32_t n = intern_count(&b->keys);
	struct list *lists[] = { &b->sorted, &b->scratch, &b->first, &b->count, &b->order, &b->place };
	for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
		int r = make_numbers(b, lists[i], n);
		if (r < 0)
			return r;
	}
	uint32_t *sorted = numbers(&b->sorted);
	for (uint32_t i = 0; i + 1 < n; i++)
		sorted[i] = ROOT + 1 + i;
	sort_ids(sorted, numbers(&b->scratch), n - 1, node_before, b);
	for (uint32_t i = n - 1; i-- > 0;) {
		uint32_t parent = key_of(b, sorted[i])->parent;
		numbers(&b->first)[parent - 1] = i;
		numbers(&b->count)[parent - 1]++;
	}
	return 0;
}

/* Fills `order` and `place`. `scratch` is the stack: it never holds more than all nodes. */
static void walk(struct builder *b)
{
	uint32_t *stack = numbers(&b->scratch), *sorted = numbers(&b->sorted);
	uint32_t top = 0, at = 0;
	stack[top++] = ROOT;
	while (top) {
		uint32_t node = stack[--top];
		numbers(&b->place)[node - 1] = at;
		numbers(&b->order)[at++] = node;
		for (uint32_t i = numbers(&b->count)[node - 1]; i-- > 0;)
			stack[top++] = sorted[numbers(&b->first)[node - 1] + i];
	}
}

static int make_nodes(struct builder *b)
{
	struct tree *t = b->t;
	uint32_t n = intern_count(&b->keys);
	int r = 0;
	for (uint32_t i = 0; i < n; i++) {
		const struct key *key = key_of(b, numbers(&b->order)[i]);
		struct tree_node *node = list_push(&t->nodes, &t->room, sizeof *node, &r);
		if (!node)
			return r;
		node->name = key->name;
		node->parent = i ? numbers(&b->place)[key->parent - 1] : 0;
		node->depth = i ? tree_node(t, node->parent)->depth + 1 : 0;
	}
	struct tree_node *nodes = t->nodes.items;
	for (uint32_t i = 1; i <= intern_count(&b->cells); i++) {
		const struct cell_key *key = intern_get(&b->cells, i, NULL);
		struct tree_cell *cell = list_push(&t->cells, &t->room, sizeof *cell, &r);
		if (!cell)
			return r;
		cell->count = ((const uint64_t *)b->cell_counts.items)[i - 1];
		cell->process = key->process;
		cell->node = numbers(&b->place)[key->node - 1];
		nodes[cell->node].self += cell->count;
	}
	for (uint32_t i = n; i-- > 0;) {
		nodes[i].total += nodes[i].self;
		if (i)
			nodes[nodes[i].parent].total += nodes[i].total;
	}
	return 0;
}

int tree_build(struct tree *t, const struct profile *p)
{
	*t = (struct tree) { .profile = p, .room = room_new(TREE_MAX_BYTES) };
	t->names.room = &t->room;
	struct builder b = { .t = t, .keys.room = &t->room, .cells.room = &t->room };
	int r = grow(&b);
	if (!r)
		r = rank_names(&b);
	if (!r)
		r = sort_nodes(&b);
	if (!r) {
		walk(&b);
		r = make_nodes(&b);
	}
	struct list *lists[] = { &b.cell_counts, &b.frame_names, &b.rank, &b.order, &b.place, &b.first, &b.count,
		&b.sorted, &b.scratch };
	for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
		list_free(lists[i], &t->room);
	intern_free(&b.keys);
	intern_free(&b.cells);
	return r;
}

void tree_free(struct tree *t)
{
	intern_free(&t->names);
	list_free(&t->nodes, &t->room);
	list_free(&t->cells, &t->room);
}

const struct tree_node *tree_node(const struct tree *t, uint32_t index)
{
	return (const struct tree_node *)t->nodes.items + index;
}

struct tree_name tree_name(const struct tree *t, uint32_t name)
{
	return *(const struct tree_name *)intern_get(&t->names, name, NULL);
}

const char *tree_text(const struct tree *t, uint32_t name)
{
	uint32_t text = name ? tree_name(t, name).text : 0;
	return text ? profile_string(t->profile, text) : "[unknown]";
}
