/* Rows while they are made, and as they are kept: each distinct rule set once, as functions of a library share few. */
#include "kit/cfi_parts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	ROWS_MAX = 1 << 16,     /* in one chunk; the most in LLVM is 2,006, in GCC's cc1 7,491 */
	RULES_MAX = 0xffff * 4, /* bytes of packed rules in one chunk: what a 16-bit index reaches */
	HASH_PROBES = 8,        /* then the rule set is kept twice: costs size, not correctness */
	NO_RULE = 0xffff,       /* in a row: no function here */
};

/* One rule set as it is kept: only registers that have a rule. */
struct packed {
	uint8_t cfa_reg;
	uint8_t flags;
	uint8_t nregs;
	uint8_t unused;
	int32_t cfa_offset;
	struct packed_reg {
		uint8_t reg;
		uint8_t how;
		uint16_t unused;
		int32_t value;
	} regs[REG_COUNT];
};
enum { PACKED_HEAD = 8, PACKED_SIGNAL = 1, PACKED_EXPR = 2 };
_Static_assert(sizeof(struct packed_reg) == 8 && offsetof(struct packed, regs) == PACKED_HEAD, "packed without holes");

static int put(struct cfi_rows *rows, uint64_t pc, uint16_t rule)
{
	if (rows->n && rows->rows[rows->n - 1].pc == pc) {
		rows->rows[rows->n - 1].rule = rule;
		return 0;
	}
	/* There is always room to say where functions end: else the last one would seem to go on. */
	if (rows->n >= ROWS_MAX + (rule == NO_RULE ? 2 * CFI_CHUNK_FDES : 0))
		return -E2BIG;
	if (rows->n == rows->cap) {
		size_t cap = rows->cap ? rows->cap * 2 : 512;
		struct cfi_row_at *bigger = realloc(rows->rows, cap * sizeof(*bigger));
		if (!bigger) {
			rows->no_memory = true;
			return -ENOMEM;
		}
		rows->rows = bigger;
		rows->cap = cap;
	}
	rows->rows[rows->n++] = (struct cfi_row_at) { .pc = (uint32_t)pc, .rule = rule };
	return 0;
}

static size_t pack(const struct cfi_row *row, struct packed *out)
{
	memset(out, 0, PACKED_HEAD);
	out->cfa_reg = row->cfa_reg;
	out->flags = (uint8_t)((row->signal_frame ? PACKED_SIGNAL : 0) | (row->cfa_is_expr ? PACKED_EXPR : 0));
	out->cfa_offset = row->cfa_offset;
	for (unsigned i = 0; i < REG_COUNT; i++) {
		if (row->rule[i].how == CFI_SAME)
			continue;
		out->regs[out->nregs++] = (struct packed_reg) {
			.reg = (uint8_t)i,
			.how = row->rule[i].how,
			.value = row->rule[i].value,
		};
	}
	return PACKED_HEAD + out->nregs * sizeof(struct packed_reg);
}

static uint32_t hash_of(const void *data, size_t n)
{
	uint64_t h = 0x9e3779b97f4a7c15;
	for (size_t i = 0; i < n; i += 8) {
		uint64_t word;
		memcpy(&word, (const uint8_t *)data + i, 8);
		h = (h ^ word) * 0xff51afd7ed558ccd;
		h ^= h >> 32;
	}
	return (uint32_t)h;
}

/* The index of a rule set, added when it is new. */
static int intern(struct cfi_rows *rows, const struct cfi_row *row, uint16_t *ret)
{
	struct packed packed;
	size_t n = pack(row, &packed);
	uint32_t slot = hash_of(&packed, n);
	uint16_t *free_slot = NULL;
	for (unsigned probe = 0; probe < HASH_PROBES; probe++, slot++) {
		uint16_t *entry = &rows->hash[slot % CFI_HASH_SLOTS];
		if (!*entry) {
			free_slot = entry;
			break;
		}
		size_t at = (size_t)(*entry - 1) * 4;
		if (n <= rows->rules.len - at && !memcmp(rows->rules.data + at, &packed, n)) {
			*ret = (uint16_t)(*entry - 1);
			return 0;
		}
	}
	size_t index = rows->rules.len / 4;
	if (rows->rules.len + n > RULES_MAX || index >= NO_RULE - 1)
		return -E2BIG;
	if (!buf_put(&rows->rules, &packed, n)) {
		rows->no_memory = true;
		return -ENOMEM;
	}
	if (free_slot)
		*free_slot = (uint16_t)(index + 1);
	*ret = (uint16_t)index;
	return 0;
}

void cfi_rows_start(struct cfi_rows *rows)
{
	memset(rows, 0, sizeof(*rows));
	rows->rules.limit = RULES_MAX;
}

int cfi_rows_add(struct cfi_rows *rows, uint64_t pc, const struct cfi_row *row)
{
	uint16_t rule;
	int r = intern(rows, row, &rule);
	return r < 0 ? r : put(rows, pc, rule);
}

int cfi_rows_end(struct cfi_rows *rows, uint64_t pc)
{
	return put(rows, pc, NO_RULE);
}

void cfi_rows_undo(struct cfi_rows *rows, size_t n, uint64_t pc)
{
	rows->n = n;
	/* The end of the function before may be at this very pc, and overwritten. */
	if (n && rows->rows[n - 1].pc == pc)
		rows->n--;
	put(rows, pc, NO_RULE);
}

static int pour(const struct cfi_rows *rows, struct cfi_chunk **ret)
{
	size_t pcs = rows->n, indexes = (rows->n + 1) / 2, rules = (rows->rules.len + 3) / 4;
	size_t bytes = sizeof(struct cfi_chunk) + (pcs + indexes + rules) * 4;
	struct cfi_chunk *chunk = malloc(bytes);
	if (!chunk)
		return -ENOMEM;
	*chunk = (struct cfi_chunk) {
		.bytes = (uint32_t)bytes,
		.nrows = (uint32_t)rows->n,
		.rules = (uint32_t)(pcs + indexes),
	};
	uint16_t *index = (uint16_t *)(chunk->data + pcs);
	for (size_t i = 0; i < rows->n; i++) {
		chunk->data[i] = rows->rows[i].pc;
		index[i] = rows->rows[i].rule;
	}
	if (rows->rules.len)
		memcpy(chunk->data + chunk->rules, rows->rules.data, rows->rules.len);
	*ret = chunk;
	return 0;
}

int cfi_rows_finish(struct cfi_rows *rows, struct cfi_chunk **ret)
{
	int r = rows->no_memory ? -ENOMEM : pour(rows, ret);
	free(rows->rows);
	buf_free(&rows->rules);
	return r;
}

int cfi_chunk_find(const struct cfi_chunk *chunk, uint32_t pc, struct cfi_row *ret)
{
	uint32_t low = 0, high = chunk->nrows; /* the last row at or below pc is low - 1 */
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		if (chunk->data[middle] <= pc)
			low = middle + 1;
		else
			high = middle;
	}
	if (!low)
		return -ENOENT;
	uint16_t index = ((const uint16_t *)(chunk->data + chunk->nrows))[low - 1];
	if (index == NO_RULE)
		return -ENOENT;
	const uint8_t *at = (const uint8_t *)(chunk->data + chunk->rules + index);
	struct packed packed;
	memcpy(&packed, at, PACKED_HEAD);
	memset(ret, 0, sizeof(*ret));
	ret->signal_frame = packed.flags & PACKED_SIGNAL;
	ret->cfa_is_expr = packed.flags & PACKED_EXPR;
	ret->cfa_reg = packed.cfa_reg;
	ret->cfa_offset = packed.cfa_offset;
	for (unsigned i = 0; i < packed.nregs; i++) {
		struct packed_reg reg;
		memcpy(&reg, at + PACKED_HEAD + i * sizeof(reg), sizeof(reg));
		ret->rule[reg.reg] = (struct cfi_rule) { .how = reg.how, .value = reg.value };
	}
	return 0;
}
