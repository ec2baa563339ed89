#include "avoid.h"

#include "common/clock.h"
#include "proto/lease.h"

#include <stddef.h>

static struct avoided *find(struct avoid_table *table, int32_t pid, uint64_t start_time, uint8_t kind, int64_t now_ns)
{
	for (unsigned i = 0; i < AVOIDED_MAX; i++) {
		struct avoided *row = &table->rows[i];
		if (row->until_ns > now_ns && row->pid == pid && row->start_time == start_time && row->kind == kind)
			return row;
	}
	return NULL;
}

/* The same one, or a new one in the place of the one that ends first. */
static struct avoided *take(struct avoid_table *table, int32_t pid, uint64_t start_time, uint8_t kind, int64_t now_ns)
{
	struct avoided *row = find(table, pid, start_time, kind, now_ns), *first = &table->rows[0];
	if (row)
		return row;
	for (unsigned i = 1; i < AVOIDED_MAX; i++)
		if (table->rows[i].until_ns < first->until_ns)
			first = &table->rows[i];
	*first = (struct avoided) { .pid = pid, .start_time = start_time, .kind = kind };
	return first;
}

void avoid_add(struct avoid_table *table, int32_t pid, uint64_t start_time, uint8_t kind, int64_t now_ns)
{
	struct avoided *row = take(table, pid, start_time, kind, now_ns);
	if (!row->holders)
		row->until_ns = now_ns + AVOIDED_MS * NS_PER_MS;
}

void avoid_hold(struct avoid_table *table, int32_t pid, uint64_t start_time, int64_t now_ns)
{
	struct avoided *row = take(table, pid, start_time, AVOID_MEMORY, now_ns);
	row->until_ns = INT64_MAX;
	row->holders++;
}

void avoid_let_go(struct avoid_table *table, int32_t pid, uint64_t start_time, int64_t now_ns)
{
	struct avoided *row = find(table, pid, start_time, AVOID_MEMORY, now_ns);
	if (row && row->holders && !--row->holders)
		row->until_ns = now_ns + AVOIDED_MS * NS_PER_MS;
}

/* A read that hangs has the lock on the target's memory. As soon as the target maps something, whoever else wants that
 * lock waits too: readers of maps and of map_files. Its names are behind no lock. */
static bool covers(uint8_t avoided, uint8_t kind)
{
	return avoided == AVOID_MEMORY ? kind == LEASE_MEM || kind == LEASE_MAPS || kind == LEASE_MAPPED_FILE
				       : avoided == kind;
}

bool avoid_is_listed(const struct avoid_table *table, int32_t pid, uint64_t start_time, uint8_t kind, int64_t now_ns)
{
	const struct avoided *row;
	for (unsigned at = 0; pid && (row = avoid_next(table, &at, now_ns));)
		if (row->pid == pid && covers(row->kind, kind) && (!row->start_time || row->start_time == start_time))
			return true;
	return false;
}

const struct avoided *avoid_next(const struct avoid_table *table, unsigned *at, int64_t now_ns)
{
	while (*at < AVOIDED_MAX) {
		const struct avoided *row = &table->rows[(*at)++];
		if (row->until_ns > now_ns)
			return row;
	}
	return NULL;
}
