#include "ledger.h"

#include <errno.h>
#include <stdlib.h>

enum { INDEX_BITS = 16 };
_Static_assert(LEDGER_MAX_ROWS <= 1 << INDEX_BITS, "an id holds any index");

void ledger_free(struct ledger *l)
{
	free(l->rows);
	*l = (struct ledger) { 0 };
}

static bool grow(struct ledger *l)
{
	uint32_t size = l->size ? l->size * 2 : LEDGER_FIRST_ROWS;
	if (size > LEDGER_MAX_ROWS)
		return false;
	struct ledger_row *rows = realloc(l->rows, size * sizeof *rows);
	if (!rows)
		return false;
	for (uint32_t i = size; i-- > l->size;) {
		rows[i] = (struct ledger_row) { .next = l->free_first };
		l->free_first = i + 1;
	}
	l->rows = rows;
	l->size = size;
	return true;
}

uint64_t ledger_add(struct ledger *l, unsigned owner, uint32_t incarnation, unsigned kind, int pid, int64_t now_ns)
{
	if (owner >= LEDGER_MAX_OWNERS || (!l->free_first && !grow(l)))
		return 0;
	uint32_t index = l->free_first - 1;
	struct ledger_row *row = &l->rows[index];
	l->free_first = row->next;
	*row = (struct ledger_row) {
		.id = ++l->serial << INDEX_BITS | index,
		.birth_ns = now_ns,
		.incarnation = incarnation,
		.pid = pid,
		.owner = (uint8_t)owner,
		.kind = (uint8_t)kind,
	};
	(kind == LEDGER_PROCESS ? l->pids : l->fds)[owner]++;
	return row->id;
}

const struct ledger_row *ledger_find(const struct ledger *l, uint64_t id)
{
	uint32_t index = id & ((1 << INDEX_BITS) - 1);
	return id && index < l->size && l->rows[index].id == id ? &l->rows[index] : NULL;
}

static void erase(struct ledger *l, uint32_t index)
{
	struct ledger_row *row = &l->rows[index];
	(row->kind == LEDGER_PROCESS ? l->pids : l->fds)[row->owner]--;
	*row = (struct ledger_row) { .next = l->free_first };
	l->free_first = index + 1;
}

int ledger_release(struct ledger *l, unsigned owner, uint64_t id)
{
	const struct ledger_row *row = ledger_find(l, id);
	if (!row || row->owner != owner || row->kind == LEDGER_PROCESS)
		return -ENOENT;
	erase(l, (uint32_t)(row - l->rows));
	return 0;
}

uint32_t ledger_drop(struct ledger *l, unsigned owner)
{
	uint32_t dropped = 0;
	for (uint32_t i = 0; i < l->size; i++) {
		if (!l->rows[i].id || l->rows[i].owner != owner)
			continue;
		erase(l, i);
		dropped++;
	}
	return dropped;
}

void ledger_transfer(struct ledger *l, unsigned from, unsigned to)
{
	for (uint32_t i = 0; i < l->size; i++)
		if (l->rows[i].id && l->rows[i].owner == from)
			l->rows[i].owner = (uint8_t)to;
	l->fds[to] += l->fds[from];
	l->pids[to] += l->pids[from];
	l->fds[from] = l->pids[from] = 0;
}

const struct ledger_row *ledger_next(const struct ledger *l, uint32_t *at)
{
	while (*at < l->size) {
		const struct ledger_row *row = &l->rows[(*at)++];
		if (row->id)
			return row;
	}
	return NULL;
}

static uint32_t sum(const uint32_t counts[LEDGER_MAX_OWNERS])
{
	uint32_t total = 0;
	for (unsigned i = 0; i < LEDGER_MAX_OWNERS; i++)
		total += counts[i];
	return total;
}

uint32_t ledger_fds(const struct ledger *l)
{
	return sum(l->fds);
}

uint32_t ledger_pids(const struct ledger *l)
{
	return sum(l->pids);
}
