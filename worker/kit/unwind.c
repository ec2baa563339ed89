#include "kit/unwind.h"

#include "kit/unwind_parts.h"

#include <errno.h>

enum {
	FRAME_MAX = 1 << 20, /* bytes: a frame pointer farther from the stack pointer is a number, not a frame */
	SWITCHES_MAX = 16,   /* changes of stack that are not signals: Go makes one or two */
	ALIGNMENT = 8,       /* bytes, of frame pointers */
};

/* Registers that a callee must preserve: without a rule they are the caller's. All others are lost in a call.
 * x86-64: System V ABI 3.2.1; AArch64: AAPCS64 6.1.1, x19-x29. */
#if defined(__x86_64__)
static const uint64_t preserved = 1U << DWARF_RBX | 1U << REG_FP | 0xfU << DWARF_R12;
#else
static const uint64_t preserved = 0x3ff80000;
#endif

/* Code addresses as they are stored; AArch64 may have signed them in the bits above the address (untested). */
static uint64_t code_address(uint64_t stored)
{
#if defined(__aarch64__)
	return stored & 0x0000ffffffffffff;
#else
	return stored;
#endif
}

int unwind_read(void *context, uint64_t address, uint64_t *ret)
{
	const struct unwind_env *env = context;
	uint64_t value;
	int r = env->read(env->context, address, &value, sizeof(value));
	if (r < 0)
		return r == -EINVAL || r == -ENODATA ? -EIO : r; /* those two are cfi_expr's own */
	*ret = value;
	return 0;
}

/* An expression failed: because it makes no sense, or because memory was not there. */
static int end_of(int error)
{
	return error == -EINVAL || error == -ENODATA ? UNWIND_NO_RULE : UNWIND_NO_MEMORY;
}

/* The caller's value of a register that has a rule. */
static int recover(const struct step *step, const struct cfi_rule *rule, uint64_t cfa, uint64_t *ret)
{
	const struct regs *regs = step->regs;
	uint64_t value;
	int r = 0;
	switch (rule->how) {
	case CFI_OFFSET:
		return unwind_read((void *)step->env, cfa + (uint64_t)(int64_t)rule->value, ret);
	case CFI_VAL_OFFSET:
		*ret = cfa + (uint64_t)(int64_t)rule->value;
		return 0;
	case CFI_REGISTER:
		if (!regs_known(regs, (unsigned)rule->value))
			return -ENODATA;
		*ret = regs->r[rule->value];
		return 0;
	case CFI_EXPR:
	case CFI_VAL_EXPR:
		r = cfi_expr(step->code.cfi, rule->value, regs, cfa, unwind_read, (void *)step->env, &value);
		if (r < 0)
			return r;
		if (rule->how == CFI_EXPR)
			return unwind_read((void *)step->env, value, ret);
		*ret = value;
		return 0;
	default:
		return -ENODATA;
	}
}

static int frame_address(const struct step *step, const struct cfi_row *row, uint64_t *ret)
{
	const struct regs *regs = step->regs;
	if (row->cfa_is_expr)
		return cfi_expr(step->code.cfi, row->cfa_offset, regs, 0, unwind_read, (void *)step->env, ret);
	if (!regs_known(regs, row->cfa_reg))
		return -ENODATA;
	*ret = regs->r[row->cfa_reg] + (uint64_t)(int64_t)row->cfa_offset;
	return 0;
}

/* In an epilogue, tables leave a register's rule as it was when the register has been popped already: its slot is below the stack pointer
 * then, and the register has the caller's value again. */
static bool is_popped(const struct step *step, unsigned reg, const struct cfi_rule *rule, uint64_t cfa)
{
	const struct regs *regs = step->regs;
	return rule->how == CFI_OFFSET && step->exact && preserved >> reg & 1 && regs_known(regs, reg) &&
	       regs_known(regs, REG_SP) && cfa + (uint64_t)(int64_t)rule->value < regs->r[REG_SP];
}

static int by_row(struct step *step, const struct cfi_row *row)
{
	const struct cfi_rule *ra = &row->rule[REG_PC];
	if (ra->how == CFI_UNDEFINED)
		return UNWIND_OUTERMOST;
	uint64_t cfa, pc;
	int r = frame_address(step, row, &cfa);
	if (r < 0)
		return end_of(r);
	bool go = step->code.is_go && row->from_debug_frame;
	if (go) {
		r = unwind_go(step, cfa);
		if (r != -ENOENT)
			return r;
	}
	r = recover(step, ra, cfa, &pc);
	if (r < 0)
		return end_of(r);

	struct regs caller = { .known = 0 };
	for (unsigned i = 0; i < REG_COUNT; i++) {
		const struct cfi_rule *rule = &row->rule[i];
		uint64_t value;
		if (i == REG_PC)
			continue;
		if (rule->how == CFI_SAME) {
			bool kept = row->signal_frame || (preserved >> i & 1);
			if (kept && regs_known(step->regs, i))
				regs_set(&caller, i, step->regs->r[i]);
		} else if (is_popped(step, i, rule, cfa)) {
			regs_set(&caller, i, step->regs->r[i]);
		} else if (!recover(step, rule, cfa, &value)) {
			regs_set(&caller, i, value);
		}
	}
	if (row->rule[REG_SP].how == CFI_SAME)
		regs_set(&caller, REG_SP, cfa);
	if (go)
		unwind_go_frame_pointer(step, cfa, &caller);
	regs_set(&caller, REG_PC, code_address(pc));
	*step->regs = caller;
	step->signal = row->signal_frame;
	return regs_known(&caller, REG_SP) ? STEP_CALLER : UNWIND_NO_MEMORY;
}

int unwind_by_frame_pointer(struct step *step)
{
	const struct regs *regs = step->regs;
	if (!regs_known(regs, REG_FP) || !regs_known(regs, REG_SP))
		return UNWIND_NO_RULE;
	uint64_t fp = regs->r[REG_FP], sp = regs->r[REG_SP], record[2];
	if (!fp) /* start-up code clears it; a leaf may have any value in it */
		return step->first && !step->code.is_go ? UNWIND_NO_RULE : UNWIND_OUTERMOST;
	bool near = fp >= sp && fp - sp <= FRAME_MAX;
	if (fp % ALIGNMENT || (!near && !step->code.is_go))
		return UNWIND_NO_RULE;
	if (step->env->read(step->env->context, fp, record, sizeof(record)) < 0)
		return UNWIND_NO_MEMORY;
	struct regs caller = { .known = 0 };
	regs_set(&caller, REG_FP, record[0]);
	regs_set(&caller, REG_SP, fp + sizeof(record));
	regs_set(&caller, REG_PC, code_address(record[1]));
	*step->regs = caller;
	step->switched = !near;
	return STEP_CALLER;
}

static int step_out(struct step *step)
{
	struct cfi_row row;
	if (step->code.made) {
		struct unwind_made made = { .regs = step->regs, .index = step->index, .exact = step->exact };
		int r = step->env->step(step->env, &made);
		step->switched = made.switched;
		return r;
	}
	if (step->code.cfi && !cfi_find(step->code.cfi, step->code.vaddr, &row))
		return by_row(step, &row);
	int r = unwind_signal_frame(step);
	if (r == -ENOENT)
		r = unwind_clone(step);
	return r == -ENOENT ? unwind_by_frame_pointer(step) : r;
}

size_t unwind(const struct unwind_env *env, struct regs *regs, struct unwind_frame *frames, size_t max,
	enum unwind_end *ret_end)
{
	size_t n = 0;
	unsigned switches = 0;
	int end;
	bool exact = true;
	if (max > UNWIND_MAX_FRAMES)
		max = UNWIND_MAX_FRAMES;
	for (;;) {
		struct step step = { .env = env, .regs = regs, .index = n, .exact = exact, .first = !n };
		uint64_t pc = regs->r[REG_PC], sp = regs->r[REG_SP];
		/* A call may be a function's last instruction: its return address belongs to whatever follows. */
		bool code = pc && !env->code(env->context, exact ? pc : pc - 1, &step.code);
		if (n && !pc) {
			end = UNWIND_OUTERMOST;
			break;
		}
		if (n && !code) {
			end = UNWIND_NO_CODE;
			break;
		}
		if (n == max) {
			end = UNWIND_TOO_DEEP;
			break;
		}
		frames[n++] = (struct unwind_frame) { .pc = pc, .sp = sp, .exact = exact, .made = step.code.made };
		if (!code) {
			end = UNWIND_NO_CODE;
			break;
		}
		end = step_out(&step);
		if (end != STEP_CALLER)
			break;
		if (step.signal) { /* a trampoline is returned to at its first byte */
			frames[n - 1].exact = exact = true;
			continue;
		}
		/* AArch64 leaves have frames of no size; everywhere else an unmoved stack pointer is a loop. */
		bool outwards = regs->r[REG_SP] > sp || (exact && regs->r[REG_SP] == sp);
		if (step.switched ? ++switches > SWITCHES_MAX : !outwards) {
			end = UNWIND_LOOP;
			break;
		}
		exact = false;
	}
	*ret_end = (enum unwind_end)end;
	return n;
}
