#include "common/bucket.h"

#include "common/clock.h"

bool bucket_take(struct bucket *b, uint32_t per_s, int64_t now_ns)
{
	if (!per_s)
		return true;
	int64_t token_ns = NS_PER_S / per_s;
	int64_t full_ns = b->full_ns > now_ns ? b->full_ns : now_ns;
	if (full_ns + token_ns > now_ns + NS_PER_S)
		return false;
	b->full_ns = full_ns + token_ns;
	return true;
}
