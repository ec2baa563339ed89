#include "java/x86.h"

#include <string.h>

struct form {
	uint8_t n; /* bytes that are compared */
	uint8_t bytes[4];
	uint8_t length; /* of the whole instruction */
};

/* What may stand in a prologue beside what makes the frame. */
static const struct form passed_over[] = {
	{ 3, { 0x89, 0x84, 0x24 }, 7 },       /* mov %eax, disp32(%rsp): the stack's end is touched */
	{ 3, { 0x48, 0x8b, 0xec }, 3 },       /* mov %rsp, %rbp */
	{ 3, { 0x48, 0x89, 0xe5 }, 3 },       /* the same, in its other form */
	{ 4, { 0x48, 0x8d, 0x6c, 0x24 }, 5 }, /* lea disp8(%rsp), %rbp */
	{ 4, { 0x48, 0x8d, 0xac, 0x24 }, 8 }, /* lea disp32(%rsp), %rbp */
	{ 3, { 0xc5, 0xf8, 0x77 }, 3 },       /* vzeroupper */
	{ 1, { 0x90 }, 1 },                   /* nop, and its longer forms */
	{ 2, { 0x66, 0x90 }, 2 },
	{ 3, { 0x0f, 0x1f, 0x00 }, 3 },
	{ 3, { 0x0f, 0x1f, 0x40 }, 4 },
	{ 3, { 0x0f, 0x1f, 0x44 }, 5 },
	{ 4, { 0x66, 0x0f, 0x1f, 0x44 }, 6 },
	{ 3, { 0x0f, 0x1f, 0x80 }, 7 },
	{ 3, { 0x0f, 0x1f, 0x84 }, 8 },
	{ 4, { 0x66, 0x66, 0x0f, 0x1f }, 9 },
	{ 4, { 0x66, 0x0f, 0x1f, 0x84 }, 9 },
	{ 4, { 0x66, 0x66, 0x66, 0x90 }, 4 },
	{ 3, { 0x66, 0x66, 0x90 }, 3 },
};

static size_t length_of_passed_over(const uint8_t *code, size_t n)
{
	for (size_t i = 0; i < sizeof passed_over / sizeof *passed_over; i++)
		if (n >= passed_over[i].n && !memcmp(code, passed_over[i].bytes, passed_over[i].n))
			return passed_over[i].length;
	return 0;
}

/* sub $imm, %rsp: its length, or 0. */
static size_t is_sub(const uint8_t *code, size_t n)
{
	if (n < 3 || code[0] != 0x48 || code[2] != 0xec)
		return 0;
	return code[1] == 0x83 ? 4 : code[1] == 0x81 ? 7 : 0;
}

/* mov %rbp, disp(%rsp): its length, or 0. */
static size_t is_save(const uint8_t *code, size_t n)
{
	static const uint8_t near[] = { 0x48, 0x89, 0x6c, 0x24 }, far[] = { 0x48, 0x89, 0xac, 0x24 };
	if (n < sizeof near)
		return 0;
	return !memcmp(code, near, sizeof near) ? 5 : !memcmp(code, far, sizeof far) ? 8 : 0;
}

enum x86_frame x86_prologue(const uint8_t *code, size_t n, uint32_t frame)
{
	enum { PUSH = 0x55 };
	bool pushed = false, saved = false, made = frame <= 8;
	for (size_t at = 0; at < n;) {
		size_t left = n - at, length = 0;
		/* Once the frame is whole, whatever comes leaves it so. */
		if (made && (pushed || saved))
			return X86_STANDS;
		if (code[at] == PUSH && !pushed && !made) {
			pushed = true;
			made = frame == 16;
			length = 1;
		} else if ((length = is_sub(code + at, left))) {
			made = true;
		} else if ((length = is_save(code + at, left))) {
			saved = true;
		} else {
			length = length_of_passed_over(code + at, left);
		}
		if (!length || length > left)
			return X86_UNKNOWN;
		at += length;
	}
	if (made && (pushed || saved))
		return X86_STANDS;
	if (made && frame > 8)
		return X86_UNSAVED;
	return pushed ? X86_PUSHED : X86_RETURN;
}

enum {
	RET = 0xc3,
	RET_N = 0xc2,
	POP_RBP = 0x5d,
	LEAVE = 0xc9,
	JMP = 0xe9,
};

static bool is_return(const uint8_t *code)
{
	return *code == RET || *code == RET_N;
}

/* add $imm, %rsp; pop %rbp, ending at `end`. */
static bool ends_frame(const uint8_t *end)
{
	return end[-1] == POP_RBP && ((end[-5] == 0x48 && end[-4] == 0x83 && end[-3] == 0xc4) ||
					     (end[-8] == 0x48 && end[-7] == 0x81 && end[-6] == 0xc4));
}

/* The safepoint poll between the end of the frame and the return (from 17 on): cmp disp(%r15), %rsp; ja slow. Its length, or 0. */
static size_t is_poll_compare(const uint8_t *code)
{
	if (code[0] != 0x49 || code[1] != 0x3b)
		return 0;
	return code[2] == 0x67 ? 4 : code[2] == 0xa7 ? 7 : 0;
}

static bool is_ja(const uint8_t *code)
{
	return code[0] == 0x0f && code[1] == 0x87 && is_return(code + 6);
}

/* The same up to 16: mov disp(%r15), %r10; test %eax, (%r10), or test %eax, disp(%rip). */
static size_t is_poll_load(const uint8_t *code)
{
	if (code[0] != 0x4d || code[1] != 0x8b)
		return 0;
	return code[2] == 0x57 ? 4 : code[2] == 0x97 ? 7 : 0;
}

static bool is_poll_test(const uint8_t *code)
{
	return (code[0] == 0x41 && code[1] == 0x85 && code[2] == 0x02 && is_return(code + 3)) ||
	       (code[0] == 0x85 && code[1] == 0x05 && is_return(code + 6));
}

/* Whatever may stand between the end of a frame and its return; `code` may be in the middle of it. */
static bool is_before_return(const uint8_t *code)
{
	size_t compare = is_poll_compare(code), load = is_poll_load(code);
	return is_return(code) || (compare && is_ja(code + compare)) || is_ja(code) ||
	       (load && is_poll_test(code + load)) || is_poll_test(code);
}

/* A native method's wrapper looks for a pending exception behind its leave: cmp $0, disp(%r15); jne forward; ret. */
static bool is_exception_check(const uint8_t *code)
{
	bool jne = code[0] == 0x0f && code[1] == 0x85 && is_return(code + 6);
	size_t compare = code[0] == 0x49 && code[1] == 0x83 ? code[2] == 0x7f ? 5 : code[2] == 0xbf ? 8 : 0 : 0;
	return jne || (compare && code[compare] == 0x0f && code[compare + 1] == 0x85 && is_return(code + compare + 6));
}

enum x86_frame x86_epilogue(const uint8_t *code)
{
	if (is_before_return(code))
		return X86_RETURN;
	if (*code == POP_RBP && (is_before_return(code + 1) || code[1] == JMP))
		return X86_PUSHED;
	if (*code == JMP && ends_frame(code))
		return X86_RETURN;
	if (is_exception_check(code) && (code[-1] == LEAVE || code[-9] == LEAVE || code[-6] == LEAVE))
		return X86_RETURN;
	return X86_STANDS;
}

static bool is_jump(const uint8_t *code)
{
	code += *code == 0x41;
	return code[0] == 0xff && (code[1] & 0xf8) == 0xe0;
}

enum x86_frame x86_exit(const uint8_t *code)
{
	enum { POP_RDX = 0x5a };
	if (code[0] == POP_RBP && code[1] == POP_RDX && is_jump(code + 2))
		return X86_PUSHED;
	if (code[0] == POP_RDX && (is_jump(code + 1) || (code[-4] == 0x48 && code[-3] == 0x83 && code[-2] == 0xc4)))
		return X86_RETURN;
	if (is_jump(code) && code[-1] == POP_RDX)
		return X86_POPPED;
	for (const uint8_t *at = code - X86_BEFORE; at + 5 <= code; at++)
		if (at[0] == 0x48 && at[1] == 0x83 && at[2] == 0xc4 && at[4] == POP_RDX)
			return X86_POPPED;
	return x86_epilogue(code);
}

enum x86_call x86_call_before(const uint8_t *end, uint64_t pc, uint64_t *ret_target)
{
	/* ff /2 with each length of its operand, and a prefix in front of it for r8 to r15, which does not matter */
	static const struct {
		uint8_t length, mask, value; /* of the byte that says what the operand is */
	} forms[] = { { 2, 0xf8, 0xd0 }, { 2, 0xf8, 0x10 }, { 3, 0xf8, 0x50 }, { 6, 0xf8, 0x90 }, { 3, 0xff, 0x14 },
		{ 4, 0xff, 0x54 }, { 7, 0xff, 0x94 } };
	/* mov $imm, %r10; call *%r10 */
	static const uint8_t load[] = { 0x49, 0xba }, call[] = { 0x41, 0xff, 0xd2 };
	if (!memcmp(end - X86_CALL_MAX, load, sizeof load) && !memcmp(end - sizeof call, call, sizeof call)) {
		memcpy(ret_target, end - X86_CALL_MAX + sizeof load, sizeof *ret_target);
		return X86_DIRECT_CALL;
	}
	if (end[-5] == 0xe8) {
		int32_t distance;
		memcpy(&distance, end - 4, sizeof distance);
		*ret_target = pc + (uint64_t)(int64_t)distance;
		return X86_DIRECT_CALL;
	}
	for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
		const uint8_t *at = end - forms[i].length;
		if (at[0] == 0xff && (at[1] & forms[i].mask) == forms[i].value)
			return X86_CALL;
	}
	return X86_NO_CALL;
}

uint32_t x86_saved_below(const uint8_t *code, size_t n)
{
	enum {
		REX_W = 0x48,
		BY_BYTE = 0x83,
		BY_WORD = 0x81,
		ADD_RSP = 0xc4,
		SUB_RSP = 0xec,
		JMP_FAR = 0xe9,
		JMP_NEAR = 0xeb
	};
	for (size_t i = 0; i + 8 <= n; i++) {
		if (code[i] != REX_W || (code[i + 1] != BY_BYTE && code[i + 1] != BY_WORD))
			continue;
		if (code[i + 2] == SUB_RSP)
			return 0; /* not there yet */
		if (code[i + 2] != ADD_RSP)
			continue;
		uint32_t bytes = code[i + 3];
		size_t next = i + 4;
		if (code[i + 1] == BY_WORD) {
			memcpy(&bytes, code + i + 3, sizeof bytes);
			next = i + 7;
		}
		bool jumps = code[next] == JMP_FAR || code[next] == JMP_NEAR;
		return jumps && bytes % 8 == 0 && bytes < 0x1000 ? bytes : 0;
	}
	return 0;
}
