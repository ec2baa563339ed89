/* What operators are told of a lane's processes ("why are there no Python frames?"), in pieces as the channel takes them. */
#ifndef KIT_DESCRIBE_H
#define KIT_DESCRIBE_H

#include "kit/lane_worker.h"
#include "kit/target.h"

void describe_init(struct kit *kit, const struct runtime *runtime);
/* DESCRIBE came: a new list begins. */
void describe_begin(uint64_t request);
/* Sends what the channel takes. True: there is more. */
bool describe_turn(void);

#endif
