/* Frames that tables do not have or get wrong: signal trampolines without CFI (musl, Go), and Go's changes of stack. */
#include "kit/unwind_parts.h"

#include <errno.h>
#include <string.h>

#if defined(__x86_64__)

/* mov $15, %rax; syscall: rt_sigreturn as every C library and Go spell it; debuggers know it by these bytes too. */
static const uint8_t sigreturn[] = { 0x48, 0xc7, 0xc0, 0x0f, 0x00, 0x00, 0x00, 0x0f, 0x05 };
enum { SIGRETURN_SYSCALL = 7 }; /* offset of its second instruction */

/* uc_mcontext.gregs of the kernel's ucontext (arch/x86/include/uapi/asm/sigcontext.h), in DWARF registers. */
enum { MCONTEXT = 40 }; /* bytes */
static const uint8_t gregs[] = { DWARF_R8, DWARF_R9, DWARF_R10, DWARF_R11, DWARF_R12, DWARF_R13, DWARF_R14, DWARF_R15,
	DWARF_RDI, DWARF_RSI, REG_FP, DWARF_RBX, DWARF_RDX, DWARF_RAX, DWARF_RCX, REG_SP, REG_PC };

static bool is_sigreturn(const struct step *step, uint64_t pc)
{
	uint8_t bytes[sizeof(sigreturn)];
	return !step->env->read(step->env->context, pc, bytes, sizeof(bytes)) &&
	       !memcmp(bytes, sigreturn, sizeof(bytes));
}

int unwind_signal_frame(struct step *step)
{
	uint64_t pc = step->regs->r[REG_PC], values[sizeof(gregs)];
	if (!regs_known(step->regs, REG_SP))
		return -ENOENT;
	if (!is_sigreturn(step, pc) && !(step->first && is_sigreturn(step, pc - SIGRETURN_SYSCALL)))
		return -ENOENT;
	/* The handler has popped its return address: the stack pointer is at the ucontext. */
	uint64_t at = step->regs->r[REG_SP] + MCONTEXT;
	if (step->env->read(step->env->context, at, values, sizeof(values)) < 0)
		return UNWIND_NO_MEMORY;
	for (size_t i = 0; i < sizeof(gregs); i++)
		regs_set(step->regs, gregs[i], values[i]);
	step->signal = true;
	return STEP_CALLER;
}

/* A C library ends its clone and clone3 wrappers' CFI at the system call, because behind it stands the child too, on its own empty
 * stack. The instructions there say all the same who it is and where the caller is: test %rax, %rax; jl error; jz child; ret. */
int unwind_clone(struct step *step)
{
	static const uint8_t test[] = { 0x48, 0x85, 0xc0, 0x7c }, jz = 0x74, ret = 0xc3;
	uint64_t pc = step->regs->r[REG_PC], sp = step->regs->r[REG_SP], caller;
	uint8_t bytes[8];
	if (!step->exact || !regs_known(step->regs, DWARF_RAX) ||
		step->env->read(step->env->context, pc, bytes, sizeof(bytes)) < 0 ||
		memcmp(bytes, test, sizeof(test)) || bytes[5] != jz || bytes[7] != ret)
		return -ENOENT;
	if (!step->regs->r[DWARF_RAX])
		return UNWIND_OUTERMOST;
	if (unwind_read((void *)step->env, sp, &caller) < 0)
		return UNWIND_NO_MEMORY;
	regs_set(step->regs, REG_SP, sp + sizeof(caller));
	regs_set(step->regs, REG_PC, caller);
	return STEP_CALLER;
}

enum {
	FRAMELESS = 8,  /* bytes from the stack pointer to the CFA: only the return address */
	RECORD = 16,    /* bytes: saved frame pointer and return address */
	ALIGNMENT = 16, /* of Go's functions, at least */
};

/* Go functions that call others keep their frame record at CFA - 16; the exceptions are assembly. systemstack and
 * asmcgocall run their callee on another stack and leave the frame pointer on the old one, which is where the call came
 * from. Roots (mstart, goexit, mcall) have a frame pointer of 0. See runtime/asm_amd64.s of Go 1.26 and
 * go.dev/issue/63630. */
int unwind_go(struct step *step, uint64_t cfa)
{
	const struct regs *regs = step->regs;
	uint64_t pc = regs->r[REG_PC], fp = regs->r[REG_FP], ra;
	if (step->exact || !regs_known(regs, REG_FP) || !regs_known(regs, REG_SP))
		return -ENOENT;
	/* A handler returns to the first byte of the trampoline, so that pc - 1 found another function's row. */
	if (pc % ALIGNMENT == 0) {
		int r = unwind_signal_frame(step);
		if (r != -ENOENT)
			return r;
	}
	if (fp + RECORD == cfa)
		return -ENOENT;
	if (!fp)
		return UNWIND_OUTERMOST;
	if (cfa - regs->r[REG_SP] <= FRAMELESS)
		return -ENOENT;
	/* A handler's first frame keeps the frame pointer of what it interrupted. */
	if (!unwind_read((void *)step->env, cfa - 8, &ra) && is_sigreturn(step, ra))
		return -ENOENT;
	struct unwind_code code;
	if (fp % 8 || unwind_read((void *)step->env, fp + 8, &ra) < 0 || !ra ||
		step->env->code(step->env->context, ra - 1, &code) < 0)
		return -ENOENT;
	return unwind_by_frame_pointer(step);
}

void unwind_go_frame_pointer(const struct step *step, uint64_t cfa, struct regs *caller)
{
	uint64_t saved;
	if (!regs_known(step->regs, REG_FP) || step->regs->r[REG_FP] + RECORD != cfa)
		return;
	if (unwind_read((void *)step->env, cfa - RECORD, &saved) < 0)
		caller->known &= ~(1ULL << REG_FP);
	else
		regs_set(caller, REG_FP, saved);
}

#else /* AArch64 has CFI for its trampoline in the vDSO; Go there marks its roots in .debug_frame */

int unwind_signal_frame(struct step *step)
{
	(void)step;
	return -ENOENT;
}

int unwind_clone(struct step *step)
{
	(void)step;
	return -ENOENT;
}

int unwind_go(struct step *step, uint64_t cfa)
{
	(void)step;
	(void)cfa;
	return -ENOENT;
}

void unwind_go_frame_pointer(const struct step *step, uint64_t cfa, struct regs *caller)
{
	(void)step;
	(void)cfa;
	(void)caller;
}

#endif
