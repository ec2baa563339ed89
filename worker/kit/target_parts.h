/* What the files of target.h share. */
#ifndef KIT_TARGET_PARTS_H
#define KIT_TARGET_PARTS_H

#include "kit/lane_worker.h"
#include "kit/target.h"

/* target.c */
void target_read_maps(struct target *t, bool code);

/* target_about.c */
void target_read_about(struct target *t, int fd);

/* target_runtime.c */
void target_runtime_init(struct kit *kit, const struct runtime *runtime);
/* What is mapped is known anew. */
void target_code_changed(struct target *t);
/* In native: that it carries a runtime and nobody has taken it, ever more rarely. False: not yet. */
bool target_tell_again(struct target *t, int64_t now);

#endif
