/* What HotSpot's machine code for x86-64 says of the stack where a thread was interrupted in it: whether the frame is being made,
 * stands, or is gone. Only the few forms of instructions are known that HotSpot begins and ends its code with
 * (src/hotspot/cpu/x86: MachPrologNode and MachEpilogNode in x86_64.ad, C1_MacroAssembler::build_frame, the stubs' enter and leave). */
#ifndef JAVA_X86_H
#define JAVA_X86_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	X86_BEFORE = 64, /* bytes in front of the instruction that are looked at */
	X86_BEHIND = 32,
	X86_PROLOGUE_MAX = 128,  /* bytes of code that a prologue may have */
	X86_SLOW_PATH_MAX = 512, /* bytes of a slow path behind its call */
	X86_CALL_MAX = 13,       /* bytes of a call, with the instruction that loads where it leads */
};

/* Where the return address is. */
enum x86_frame {
	X86_UNKNOWN,
	X86_STANDS, /* the frame is as large as it gets: the return address is in its uppermost word, the caller's rbp below */
	X86_UNSAVED, /* likewise in its uppermost word, but rbp is still the caller's */
	X86_RETURN,  /* at [rsp]; rbp is the caller's */
	X86_PUSHED,  /* at [rsp + 8]; the caller's rbp is at [rsp] */
	X86_POPPED,  /* in rdx: it was popped to be jumped away from; rbp is the caller's */
	X86_RECORD,  /* at [rbp + 8]; the caller's rbp is at [rbp] */
};

/* By the instructions from the entry up to the interrupted one (n bytes). `frame`: bytes of the whole frame, with the return
 * address. */
enum x86_frame x86_prologue(const uint8_t *code, size_t n, uint32_t frame);

/* By the instructions around the interrupted one, at `code`, with X86_BEFORE bytes before and X86_BEHIND from it on: X86_STANDS unless it is in an
 * epilogue. */
enum x86_frame x86_epilogue(const uint8_t *code);

/* Bytes that a slow path behind the code proper has put below the frame, to save registers around a call: sub $n, %rsp; ...; add $n, %rsp;
 * jmp (SaveLiveRegisters in barrierSetAssembler_x86.cpp, up to 20 in those of the collectors). By n bytes of instructions from the
 * interrupted one on; 0: none. */
uint32_t x86_saved_below(const uint8_t *code, size_t n);

/* As x86_epilogue, in a stub that ends by a jump to where its caller handles an exception: add $imm, %rsp; pop %rdx; ...; jmp *%reg. */
enum x86_frame x86_exit(const uint8_t *code);

/* Whether the bytes that end at `end` (X86_CALL_MAX of them), in front of the address `pc`, can be a call; and, where they say it, to where. */
enum x86_call { X86_NO_CALL, X86_CALL, X86_DIRECT_CALL };
enum x86_call x86_call_before(const uint8_t *end, uint64_t pc, uint64_t *ret_target);

#endif
