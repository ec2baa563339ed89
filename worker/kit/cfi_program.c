/* CFA programs to rows: DWARF 4 section 6.4.2 and 7.23, GNU and AArch64 extensions as in LSB Core 10.6 and the DWARF
 * supplements. */
#include "kit/cfi_parts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	FDE_VIEW = 8 << 10,  /* bytes read at once: a chunk of FDEs is about 4 KiB */
	CIE_VIEW = 512,      /* bytes read at once */
	STEPS_MAX = 1 << 18, /* operations in one chunk: milliseconds; GCC's cc1 has 7,491 rows in its largest */
	REMEMBER_MAX = 16,   /* depth of DW_CFA_remember_state; compilers use 1 or 2 */
	NO_REG = 0xff,       /* no CFA defined yet */
};

enum {
	CFA_NOP = 0x00,
	CFA_SET_LOC = 0x01,
	CFA_ADVANCE_LOC1 = 0x02,
	CFA_ADVANCE_LOC2 = 0x03,
	CFA_ADVANCE_LOC4 = 0x04,
	CFA_OFFSET_EXTENDED = 0x05,
	CFA_RESTORE_EXTENDED = 0x06,
	CFA_UNDEFINED = 0x07,
	CFA_SAME_VALUE = 0x08,
	CFA_REGISTER = 0x09,
	CFA_REMEMBER_STATE = 0x0a,
	CFA_RESTORE_STATE = 0x0b,
	CFA_DEF_CFA = 0x0c,
	CFA_DEF_CFA_REGISTER = 0x0d,
	CFA_DEF_CFA_OFFSET = 0x0e,
	CFA_DEF_CFA_EXPRESSION = 0x0f,
	CFA_EXPRESSION = 0x10,
	CFA_OFFSET_EXTENDED_SF = 0x11,
	CFA_DEF_CFA_SF = 0x12,
	CFA_DEF_CFA_OFFSET_SF = 0x13,
	CFA_VAL_OFFSET = 0x14,
	CFA_VAL_OFFSET_SF = 0x15,
	CFA_VAL_EXPRESSION = 0x16,
	CFA_AARCH64_NEGATE_RA_STATE = 0x2d,
	CFA_GNU_ARGS_SIZE = 0x2e,
	CFA_GNU_NEGATIVE_OFFSET_EXTENDED = 0x2f,
	/* The operand is in the low six bits. */
	CFA_PRIMARY = 0xc0,
	CFA_ADVANCE_LOC = 0x40,
	CFA_OFFSET = 0x80,
	CFA_RESTORE = 0xc0,
};

struct known_cie {
	struct cfi_cie cie;
	struct cfi_row initial;
	bool valid;
};

struct compiler {
	const struct cfi_space *space;
	uint64_t base;
	struct cfi_view fdes, cies;
	struct known_cie known[CFI_CIES_CACHED];
	unsigned next_known;
	unsigned steps;
	struct cfi_rows rows;
	struct cfi_row remembered[REMEMBER_MAX];
};

/* One run over the instructions of a CIE (no `initial`, no rows) or of an FDE. */
struct run {
	struct compiler *compiler;
	const struct cfi_cie *cie;
	const struct cfi_row *initial;
	struct cfi_row state;
	unsigned depth; /* of compiler->remembered */
	struct cursor c;
	const uint8_t *start;
	uint64_t offset;  /* of start, in the space */
	uint64_t pc, end; /* relative to the base */
	uint64_t row_pc;  /* the state holds from here */
};

static int emit(struct run *run)
{
	struct cfi_row row = run->state;
	if (row.cfa_reg == NO_REG && !row.cfa_is_expr)
		return -EINVAL;
	/* AArch64 keeps the return address in column 30; the unwinder asks for the pc. */
	if (run->cie->ra != REG_PC) {
		row.rule[REG_PC] = row.rule[run->cie->ra];
		if (row.rule[REG_PC].how == CFI_SAME)
			row.rule[REG_PC] = (struct cfi_rule) { .how = CFI_REGISTER, .value = (int32_t)run->cie->ra };
	}
	return cfi_rows_add(&run->compiler->rows, run->row_pc, &row);
}

static int advance(struct run *run, uint64_t delta)
{
	if (__builtin_mul_overflow(delta, run->cie->code_align, &delta) || delta > UINT32_MAX)
		return -EINVAL;
	if (!delta || !run->initial) /* a CIE has no pc */
		return 0;
	if (run->pc < run->end) {
		int r = emit(run);
		if (r < 0)
			return r;
	}
	run->pc += delta;
	run->row_pc = run->pc;
	return 0;
}

static int set_location(struct run *run)
{
	uint64_t pc;
	uint64_t vaddr = run->compiler->space->vaddr + run->offset + (uint64_t)(run->c.p - run->start);
	int r = cfi_encoded(&run->c, run->cie->pc_encoding, vaddr, 0, &pc);
	if (r < 0 || (run->cie->pc_encoding & ENC_INDIRECT))
		return -EINVAL;
	pc -= run->compiler->base;
	if (!run->initial || pc < run->pc || pc > UINT32_MAX)
		return -EINVAL;
	if (pc == run->pc)
		return 0;
	if (run->pc < run->end)
		r = emit(run);
	run->pc = run->row_pc = pc;
	return r;
}

/* Registers that we do not follow (vector registers) are read over. */
static void set_rule(struct run *run, uint64_t reg, uint8_t how, int32_t value)
{
	if (reg < REG_COUNT)
		run->state.rule[reg] = (struct cfi_rule) { .how = how, .value = value };
}

static int scaled(const struct run *run, int64_t factored, int32_t *ret)
{
	int64_t v;
	if (__builtin_mul_overflow(factored, run->cie->data_align, &v) || v < INT32_MIN || v > INT32_MAX)
		return -EINVAL;
	*ret = (int32_t)v;
	return 0;
}

static int set_offset(struct run *run, uint64_t reg, uint8_t how, int64_t factored)
{
	int32_t value;
	if (scaled(run, factored, &value) < 0)
		return -EINVAL;
	set_rule(run, reg, how, value);
	return 0;
}

static int set_cfa(struct run *run, uint64_t reg, int64_t offset)
{
	if (reg >= REG_COUNT || offset < INT32_MIN || offset > INT32_MAX)
		return -EINVAL;
	run->state.cfa_is_expr = false;
	run->state.cfa_reg = (uint8_t)reg;
	run->state.cfa_offset = (int32_t)offset;
	return 0;
}

/* A block of DWARF operations becomes its place in the section. */
static int take_expression(struct run *run, int32_t *ret)
{
	uint64_t offset = run->offset + (uint64_t)(run->c.p - run->start);
	uint64_t size = cursor_varint(&run->c);
	if (size > CFI_EXPR_MAX || !cursor_bytes(&run->c, (size_t)size))
		return -EINVAL;
	*ret = (int32_t)(offset << 1 | run->compiler->space->is_debug);
	return 0;
}

static int set_expression(struct run *run, uint64_t reg, uint8_t how)
{
	int32_t handle;
	if (take_expression(run, &handle) < 0)
		return -EINVAL;
	set_rule(run, reg, how, handle);
	return 0;
}

static int restore(struct run *run, uint64_t reg)
{
	if (!run->initial)
		return -EINVAL;
	if (reg < REG_COUNT)
		run->state.rule[reg] = run->initial->rule[reg];
	return 0;
}

static int set_register(struct run *run, uint64_t reg, uint64_t from)
{
	set_rule(run, reg, from < REG_COUNT ? CFI_REGISTER : CFI_UNDEFINED, from < REG_COUNT ? (int32_t)from : 0);
	return 0;
}

static int define_cfa(struct run *run, uint8_t op)
{
	struct cursor *c = &run->c;
	uint64_t reg = run->state.cfa_reg;
	int64_t offset = run->state.cfa_offset;
	int32_t value;
	bool was_expr = run->state.cfa_is_expr;
	switch (op) {
	case CFA_DEF_CFA:
		reg = cursor_varint(c);
		offset = (int64_t)cursor_varint(c);
		return set_cfa(run, reg, offset);
	case CFA_DEF_CFA_SF:
		reg = cursor_varint(c);
		return scaled(run, cursor_svarint(c), &value) < 0 ? -EINVAL : set_cfa(run, reg, value);
	case CFA_DEF_CFA_REGISTER:
		reg = cursor_varint(c);
		return was_expr ? -EINVAL : set_cfa(run, reg, offset);
	case CFA_DEF_CFA_OFFSET:
		offset = (int64_t)cursor_varint(c);
		return was_expr ? -EINVAL : set_cfa(run, reg, offset);
	case CFA_DEF_CFA_OFFSET_SF:
		return scaled(run, cursor_svarint(c), &value) < 0 || was_expr ? -EINVAL : set_cfa(run, reg, value);
	default:
		if (take_expression(run, &value) < 0)
			return -EINVAL;
		run->state.cfa_is_expr = true;
		run->state.cfa_reg = 0;
		run->state.cfa_offset = value;
		return 0;
	}
}

static int extended(struct run *run, uint8_t op)
{
	struct cursor *c = &run->c;
	uint64_t reg;
	switch (op) {
	case CFA_NOP:
	case CFA_AARCH64_NEGATE_RA_STATE: /* the unwinder strips the signature of every return address */
		return 0;
	case CFA_SET_LOC:
		return set_location(run);
	case CFA_ADVANCE_LOC1:
		return advance(run, cfi_fixed(c, 1));
	case CFA_ADVANCE_LOC2:
		return advance(run, cfi_fixed(c, 2));
	case CFA_ADVANCE_LOC4:
		return advance(run, cfi_fixed(c, 4));
	case CFA_REMEMBER_STATE:
		if (run->depth == REMEMBER_MAX)
			return -E2BIG;
		run->compiler->remembered[run->depth++] = run->state;
		return 0;
	case CFA_RESTORE_STATE:
		if (!run->depth)
			return -EINVAL;
		run->state = run->compiler->remembered[--run->depth];
		return 0;
	case CFA_DEF_CFA:
	case CFA_DEF_CFA_SF:
	case CFA_DEF_CFA_REGISTER:
	case CFA_DEF_CFA_OFFSET:
	case CFA_DEF_CFA_OFFSET_SF:
	case CFA_DEF_CFA_EXPRESSION:
		return define_cfa(run, op);
	case CFA_GNU_ARGS_SIZE:
		cursor_varint(c);
		return 0;
	default:
		break;
	}

	reg = cursor_varint(c); /* the first operand of all that follow */
	switch (op) {
	case CFA_OFFSET_EXTENDED:
		return set_offset(run, reg, CFI_OFFSET, (int64_t)cursor_varint(c));
	case CFA_OFFSET_EXTENDED_SF:
		return set_offset(run, reg, CFI_OFFSET, cursor_svarint(c));
	case CFA_GNU_NEGATIVE_OFFSET_EXTENDED:
		return set_offset(run, reg, CFI_OFFSET, (int64_t)(0 - cursor_varint(c)));
	case CFA_VAL_OFFSET:
		return set_offset(run, reg, CFI_VAL_OFFSET, (int64_t)cursor_varint(c));
	case CFA_VAL_OFFSET_SF:
		return set_offset(run, reg, CFI_VAL_OFFSET, cursor_svarint(c));
	case CFA_RESTORE_EXTENDED:
		return restore(run, reg);
	case CFA_UNDEFINED:
		set_rule(run, reg, CFI_UNDEFINED, 0);
		return 0;
	case CFA_SAME_VALUE:
		set_rule(run, reg, CFI_SAME, 0);
		return 0;
	case CFA_REGISTER:
		return set_register(run, reg, cursor_varint(c));
	case CFA_EXPRESSION:
		return set_expression(run, reg, CFI_EXPR);
	case CFA_VAL_EXPRESSION:
		return set_expression(run, reg, CFI_VAL_EXPR);
	default:
		return -EINVAL;
	}
}

static int execute(struct run *run)
{
	while (run->c.p < run->c.end) {
		if (++run->compiler->steps > STEPS_MAX)
			return -E2BIG;
		uint8_t op = cursor_u8(&run->c), operand = op & ~CFA_PRIMARY;
		int r;
		switch (op & CFA_PRIMARY) {
		case CFA_ADVANCE_LOC:
			r = advance(run, operand);
			break;
		case CFA_OFFSET:
			r = set_offset(run, operand, CFI_OFFSET, (int64_t)cursor_varint(&run->c));
			break;
		case CFA_RESTORE:
			r = restore(run, operand);
			break;
		default:
			r = extended(run, op);
		}
		if (r < 0)
			return r;
		if (run->c.failed)
			return -EINVAL;
	}
	if (run->initial && run->pc < run->end)
		return emit(run);
	return 0;
}

static int open_program(struct run *run, struct cfi_view *view, uint64_t offset, uint64_t end)
{
	if (end < offset || end - offset > CFI_ENTRY_MAX)
		return -EINVAL;
	run->start = cfi_view(view, offset, (size_t)(end - offset));
	if (!run->start)
		return -EIO;
	run->offset = offset;
	run->c = (struct cursor) { .p = run->start, .end = run->start + (end - offset) };
	return 0;
}

/* The CIE with the state that its instructions leave; valid until the next call. */
static const struct known_cie *known_cie(struct compiler *k, uint64_t offset)
{
	for (unsigned i = 0; i < CFI_CIES_CACHED; i++)
		if (k->known[i].valid && k->known[i].cie.offset == offset)
			return &k->known[i];
	struct known_cie *known = &k->known[k->next_known++ % CFI_CIES_CACHED];
	known->valid = false;
	if (cfi_cie_read(&k->cies, offset, &known->cie) < 0 || known->cie.ra >= REG_COUNT)
		return NULL;
	struct run run = { .compiler = k, .cie = &known->cie };
	run.state.cfa_reg = NO_REG;
	run.state.signal_frame = known->cie.signal_frame;
	if (open_program(&run, &k->cies, known->cie.instructions, known->cie.next) < 0 || execute(&run) < 0)
		return NULL;
	known->initial = run.state;
	known->valid = true;
	return known;
}

/* Rows for one function; `limit` is where the next one begins. */
static int compile_function(struct compiler *k, const struct cfi_function *function, uint64_t limit)
{
	struct cfi_entry entry;
	if (cfi_entry_head(&k->fdes, function->fde, &entry) < 0 || entry.is_cie || entry.is_end)
		return -EINVAL;
	const struct known_cie *known = known_cie(k, entry.cie);
	if (!known)
		return -EINVAL;
	struct run run = { .compiler = k, .cie = &known->cie, .initial = &known->initial, .state = known->initial };
	if (open_program(&run, &k->fdes, entry.body, entry.next) < 0)
		return -EINVAL;
	uint64_t pc, size;
	if (cfi_fde_range(run.cie, &run.c, k->space->vaddr + entry.body, &pc, &size) < 0)
		return -EINVAL;
	if (run.cie->has_data) {
		uint64_t n = cursor_varint(&run.c);
		if (n > CFI_ENTRY_MAX || !cursor_bytes(&run.c, (size_t)n))
			return -EINVAL;
	}
	if (pc - k->base != function->pc) /* the index and the entry must agree */
		return -EINVAL;
	run.pc = run.row_pc = function->pc;
	run.end = size < limit - run.pc ? run.pc + size : limit;
	int r = execute(&run);
	if (r < 0)
		return r;
	return run.end < limit ? cfi_rows_end(&k->rows, run.end) : 0;
}

int cfi_compile(const struct cfi_space *space, uint64_t base, const struct cfi_function *functions, size_t n,
	struct cfi_chunk **ret)
{
	struct compiler *k = calloc(1, sizeof(*k));
	if (!k)
		return -ENOMEM;
	k->space = space;
	k->base = base;
	k->fdes = (struct cfi_view) { .space = space, .cap = FDE_VIEW };
	k->cies = (struct cfi_view) { .space = space, .cap = CIE_VIEW };
	cfi_rows_start(&k->rows);
	for (size_t i = 0; i < n && !k->rows.no_memory; i++) {
		uint64_t limit = i + 1 < n ? functions[i + 1].pc : UINT32_MAX;
		if (limit <= functions[i].pc)
			continue;
		size_t before = k->rows.n;
		if (compile_function(k, &functions[i], limit) < 0)
			cfi_rows_undo(&k->rows, before, functions[i].pc);
	}
	int r = cfi_rows_finish(&k->rows, ret);
	cfi_view_free(&k->fdes);
	cfi_view_free(&k->cies);
	free(k);
	return r;
}
