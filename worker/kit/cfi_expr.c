/* DWARF expressions as they occur in unwind tables: DWARF 4 section 2.5. Whatever else a table holds is an error. */
#include "kit/cfi_parts.h"

#include <errno.h>

enum {
	STACK_MAX = 32,   /* values */
	STEPS_MAX = 1024, /* operations: ends the loops that DW_OP_skip and DW_OP_bra allow */
};

enum {
	OP_DEREF = 0x06,
	OP_CONST1U = 0x08,
	OP_CONST1S = 0x09,
	OP_CONST2U = 0x0a,
	OP_CONST2S = 0x0b,
	OP_CONST4U = 0x0c,
	OP_CONST4S = 0x0d,
	OP_CONST8U = 0x0e,
	OP_CONST8S = 0x0f,
	OP_CONSTU = 0x10,
	OP_CONSTS = 0x11,
	OP_DUP = 0x12,
	OP_DROP = 0x13,
	OP_OVER = 0x14,
	OP_PICK = 0x15,
	OP_SWAP = 0x16,
	OP_ROT = 0x17,
	OP_AND = 0x1a,
	OP_MINUS = 0x1c,
	OP_MUL = 0x1e,
	OP_NEG = 0x1f,
	OP_NOT = 0x20,
	OP_OR = 0x21,
	OP_PLUS = 0x22,
	OP_PLUS_UCONST = 0x23,
	OP_SHL = 0x24,
	OP_SHR = 0x25,
	OP_SHRA = 0x26,
	OP_XOR = 0x27,
	OP_BRA = 0x28,
	OP_EQ = 0x29,
	OP_GE = 0x2a,
	OP_GT = 0x2b,
	OP_LE = 0x2c,
	OP_LT = 0x2d,
	OP_NE = 0x2e,
	OP_SKIP = 0x2f,
	OP_LIT0 = 0x30,
	OP_LIT31 = 0x4f,
	OP_BREG0 = 0x70,
	OP_BREG31 = 0x8f,
	OP_BREGX = 0x92,
	OP_DEREF_SIZE = 0x94,
	OP_NOP = 0x96,
};

struct machine {
	struct cursor c;
	const uint8_t *start;
	uint64_t stack[STACK_MAX];
	size_t depth;
	bool failed; /* stack under- or overflow */
	const struct regs *regs;
	cfi_read_fn *read;
	void *context;
};

static void push(struct machine *m, uint64_t v)
{
	if (m->depth == STACK_MAX) {
		m->failed = true;
		return;
	}
	m->stack[m->depth++] = v;
}

static uint64_t pop(struct machine *m)
{
	if (!m->depth) {
		m->failed = true;
		return 0;
	}
	return m->stack[--m->depth];
}

static uint64_t pick(struct machine *m, size_t from_top)
{
	if (from_top >= m->depth) {
		m->failed = true;
		return 0;
	}
	return m->stack[m->depth - 1 - from_top];
}

static int base(struct machine *m, uint64_t reg)
{
	int64_t offset = cursor_svarint(&m->c);
	if (reg >= REG_COUNT || !(m->regs->known >> reg & 1))
		return -ENODATA;
	push(m, m->regs->r[reg] + (uint64_t)offset);
	return 0;
}

static int dereference(struct machine *m, uint64_t size)
{
	uint64_t address = pop(m), v;
	if (m->failed || !size || size > 8)
		return -EINVAL;
	/* The callback reads 8 bytes: keep a smaller value from reaching into the next page. */
	uint64_t within = address & 7;
	if (within + size > 8)
		within = 0;
	int r = m->read(m->context, address - within, &v);
	if (r < 0)
		return r;
	v >>= within * 8;
	push(m, size == 8 ? v : v & ((1ULL << size * 8) - 1));
	return 0;
}

static int jump(struct machine *m, int16_t distance)
{
	if (distance < m->start - m->c.p || distance > m->c.end - m->c.p)
		return -EINVAL;
	m->c.p += distance;
	return 0;
}

static uint64_t binary(uint8_t op, uint64_t a, uint64_t b)
{
	int64_t sa = (int64_t)a, sb = (int64_t)b; /* comparisons are signed */
	switch (op) {
	case OP_AND:
		return a & b;
	case OP_MINUS:
		return a - b;
	case OP_MUL:
		return a * b;
	case OP_OR:
		return a | b;
	case OP_PLUS:
		return a + b;
	case OP_SHL:
		return b < 64 ? a << b : 0;
	case OP_SHR:
		return b < 64 ? a >> b : 0;
	case OP_SHRA:
		return sa < 0 ? ~(b < 64 ? ~a >> b : 0) : b < 64 ? a >> b : 0;
	case OP_XOR:
		return a ^ b;
	case OP_EQ:
		return sa == sb;
	case OP_GE:
		return sa >= sb;
	case OP_GT:
		return sa > sb;
	case OP_LE:
		return sa <= sb;
	case OP_LT:
		return sa < sb;
	default:
		return sa != sb;
	}
}

/* Constants and registers: 1 when the operation was one of them. */
static int literal(struct machine *m, uint8_t op)
{
	int r = 0;
	if (op >= OP_LIT0 && op <= OP_LIT31)
		push(m, op - OP_LIT0);
	else if (op >= OP_BREG0 && op <= OP_BREG31)
		r = base(m, op - OP_BREG0);
	else if (op == OP_BREGX)
		r = base(m, cursor_varint(&m->c));
	else if (op == OP_CONST1U)
		push(m, cursor_u8(&m->c));
	else if (op == OP_CONST1S)
		push(m, (uint64_t)(int64_t)(int8_t)cursor_u8(&m->c));
	else if (op == OP_CONST2U)
		push(m, cfi_fixed(&m->c, 2));
	else if (op == OP_CONST2S)
		push(m, (uint64_t)(int64_t)(int16_t)cfi_fixed(&m->c, 2));
	else if (op == OP_CONST4U)
		push(m, cfi_fixed(&m->c, 4));
	else if (op == OP_CONST4S)
		push(m, (uint64_t)(int64_t)(int32_t)cfi_fixed(&m->c, 4));
	else if (op == OP_CONST8U || op == OP_CONST8S)
		push(m, cfi_fixed(&m->c, 8));
	else if (op == OP_CONSTU)
		push(m, cursor_varint(&m->c));
	else if (op == OP_CONSTS)
		push(m, (uint64_t)cursor_svarint(&m->c));
	else
		return 0;
	return r < 0 ? r : 1;
}

static int operate(struct machine *m, uint8_t op)
{
	uint64_t a, b, c;
	int16_t distance;
	switch (op) {
	case OP_NOP:
		return 0;
	case OP_DEREF:
		return dereference(m, 8);
	case OP_DEREF_SIZE:
		return dereference(m, cursor_u8(&m->c));
	case OP_DUP:
		push(m, pick(m, 0));
		return 0;
	case OP_DROP:
		pop(m);
		return 0;
	case OP_OVER:
		push(m, pick(m, 1));
		return 0;
	case OP_PICK:
		push(m, pick(m, cursor_u8(&m->c)));
		return 0;
	case OP_SWAP:
		b = pop(m), a = pop(m);
		push(m, b);
		push(m, a);
		return 0;
	case OP_ROT: /* the top becomes the third */
		c = pop(m), b = pop(m), a = pop(m);
		push(m, c);
		push(m, a);
		push(m, b);
		return 0;
	case OP_NEG:
		push(m, 0 - pop(m));
		return 0;
	case OP_NOT:
		push(m, ~pop(m));
		return 0;
	case OP_PLUS_UCONST:
		push(m, pop(m) + cursor_varint(&m->c));
		return 0;
	case OP_SKIP:
		distance = (int16_t)cfi_fixed(&m->c, 2);
		return m->c.failed ? -EINVAL : jump(m, distance);
	case OP_BRA:
		distance = (int16_t)cfi_fixed(&m->c, 2);
		a = pop(m);
		return m->c.failed ? -EINVAL : a ? jump(m, distance) : 0;
	case OP_AND:
	case OP_MINUS:
	case OP_MUL:
	case OP_OR:
	case OP_PLUS:
	case OP_SHL:
	case OP_SHR:
	case OP_SHRA:
	case OP_XOR:
	case OP_EQ:
	case OP_GE:
	case OP_GT:
	case OP_LE:
	case OP_LT:
	case OP_NE:
		b = pop(m), a = pop(m);
		push(m, binary(op, a, b));
		return 0;
	default:
		return -EINVAL;
	}
}

int cfi_expr_run(const uint8_t *code, size_t size, const struct regs *regs, uint64_t cfa, cfi_read_fn *read,
	void *context, uint64_t *ret)
{
	struct machine m = {
		.c = { .p = code, .end = code + size },
		.start = code,
		.regs = regs,
		.read = read,
		.context = context,
	};
	push(&m, cfa);
	for (unsigned steps = 0; m.c.p < m.c.end; steps++) {
		if (steps == STEPS_MAX)
			return -EINVAL;
		uint8_t op = cursor_u8(&m.c);
		int r = literal(&m, op);
		if (!r)
			r = operate(&m, op);
		if (r < 0)
			return r;
		if (m.failed || m.c.failed)
			return -EINVAL;
	}
	uint64_t v = pop(&m);
	if (m.failed)
		return -EINVAL;
	*ret = v;
	return 0;
}
