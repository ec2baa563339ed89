/* User registers of a sample, in the DWARF numbering of the architecture (System V ABI AMD64 supplement, figure 3.36).
 */
#ifndef KIT_REGS_H
#define KIT_REGS_H

#include <stdbool.h>
#include <stdint.h>

/* REG_RAX and the like belong to <sys/ucontext.h>, in another order: hence the other prefix. */
#if defined(__x86_64__)
enum {
	DWARF_RAX,
	DWARF_RDX,
	DWARF_RCX,
	DWARF_RBX,
	DWARF_RSI,
	DWARF_RDI,
	REG_FP /* rbp */,
	REG_SP /* rsp */,
	DWARF_R8,
	DWARF_R9,
	DWARF_R10,
	DWARF_R11,
	DWARF_R12,
	DWARF_R13,
	DWARF_R14,
	DWARF_R15,
	REG_PC /* rip: the return address column */,
	REG_COUNT
};
#elif defined(__aarch64__) /* untested: DWARF for the Arm 64-bit architecture, x0-x30, sp, pc kept in column 32 */
enum { REG_FP = 29, REG_LR = 30, REG_SP = 31, REG_PC = 32, REG_COUNT = 33 };
#else
#error "no register table for this architecture"
#endif

struct regs {
	uint64_t r[REG_COUNT];
	uint64_t known; /* bit i: r[i] is known */
};

static inline bool regs_known(const struct regs *regs, unsigned reg)
{
	return regs->known >> reg & 1;
}

static inline void regs_set(struct regs *regs, unsigned reg, uint64_t value)
{
	regs->r[reg] = value;
	regs->known |= 1ULL << reg;
}

#endif
