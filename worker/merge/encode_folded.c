#include "merge/encode.h"
#include "merge/tree.h"
#include "merge/writer.h"

#include <inttypes.h>

int encode_folded(const struct profile *p, const struct profile_meta *meta, int fd)
{
	(void)meta;
	struct tree tree;
	int r = tree_build(&tree, p);
	if (r < 0) {
		tree_free(&tree);
		return r;
	}
	struct writer w;
	writer_open(&w, fd, false);
	uint32_t path[TREE_MAX_DEPTH];
	for (uint32_t i = 1; i < tree.nodes.n && !w.error; i++) {
		const struct tree_node *node = tree_node(&tree, i);
		path[node->depth] = node->name;
		if (!node->self)
			continue;
		for (uint32_t depth = 1; depth <= node->depth; depth++) {
			writer_text(&w, tree_text(&tree, path[depth]));
			writer_put(&w, depth < node->depth ? ";" : " ", 1);
		}
		writer_printf(&w, "%" PRIu64 "\n", node->self);
	}
	tree_free(&tree);
	return writer_close(&w);
}
