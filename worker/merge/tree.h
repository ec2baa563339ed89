/* The call tree of a profile by the names that people see: under the root one node for each comm, then the frames from
 * the outermost to the leaf; siblings sorted by name. What folded stacks, the flame graph and the summary are made
 * from. */
#ifndef MERGE_TREE_H
#define MERGE_TREE_H

#include "merge/intern.h"
#include "merge/profile.h"

enum {
	/* A node takes about 120 bytes while the tree is made: 2 million nodes, some 200,000 distinct stacks. */
	TREE_MAX_BYTES = 256 << 20,
	/* The root, the comm, the frames. */
	TREE_MAX_DEPTH = STREAM_MAX_FRAMES + 2,
};

/* enum frame_kind goes on. */
enum tree_kind {
	TREE_SCOPED = FRAME_KIND_MAX, /* native, with "::" in its name: C++ or Rust */
	TREE_PROCESS,
	TREE_KIND_MAX,
};

struct tree_name {
	uint32_t text; /* profile's string; 0: unknown */
	uint32_t kind; /* enum frame_kind or tree_kind */
};

struct tree_node {
	uint64_t self, total; /* samples */
	uint32_t parent;      /* index; the root's is 0 */
	uint32_t depth;       /* 0: the root */
	uint32_t name;        /* 0: the root */
};

/* Samples of one process in one node. */
struct tree_cell {
	uint64_t count;
	uint32_t process; /* 0: not known */
	uint32_t node;
};

struct tree {
	const struct profile *profile; /* borrowed */
	struct room room;
	struct intern names; /* struct tree_name, sorted by nothing */
	struct list nodes;   /* struct tree_node, in preorder */
	struct list cells;   /* struct tree_cell */
};

/* 0, -E2BIG or -ENOMEM; tree_free() in any case. */
int tree_build(struct tree *t, const struct profile *p);
void tree_free(struct tree *t);

const struct tree_node *tree_node(const struct tree *t, uint32_t index);
struct tree_name tree_name(const struct tree *t, uint32_t name);
const char *tree_text(const struct tree *t, uint32_t name);

#endif
