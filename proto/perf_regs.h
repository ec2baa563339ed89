/* User registers as perf samples carry them (linux/arch/ARCH/include/uapi/asm/perf_regs.h): the mask for the event, and
 * for each value, in the order that the kernel writes them (ascending perf index), the DWARF number
 * (worker/kit/regs.h). */
#ifndef PROTO_PERF_REGS_H
#define PROTO_PERF_REGS_H

#include <stdint.h>

#if defined(__x86_64__)
/* perf: AX 0, BX 1, CX 2, DX 3, SI 4, DI 5, BP 6, SP 7, IP 8, (FLAGS 9, segments 10-15), R8 16 ... R15 23 */
#define PERF_REGS_MASK 0xff01ffULL
enum { PERF_REGS_COUNT = 17, PERF_REGS_SP = 7 /* place of SP and IP among the values */, PERF_REGS_IP = 8 };
static const uint8_t perf_regs_dwarf[PERF_REGS_COUNT] = { 0, 3, 2, 1, 4, 5, 6, 7, 16, 8, 9, 10, 11, 12, 13, 14, 15 };
#elif defined(__aarch64__) /* untested: x0-x30 are 0-30, sp 31, pc 32 in both numberings */
#define PERF_REGS_MASK 0x1ffffffffULL
enum { PERF_REGS_COUNT = 33, PERF_REGS_SP = 31, PERF_REGS_IP = 32 };
static const uint8_t perf_regs_dwarf[PERF_REGS_COUNT] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17,
	18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32 };
#else
#error "no register table for this architecture"
#endif

#endif
