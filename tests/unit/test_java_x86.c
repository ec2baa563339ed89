/* What instructions say of a frame: the forms with which HotSpot 11 to 25 begin and end its code, at each of their instructions. */
#include "java/x86.h"

#include "check.h"

#include <string.h>

#define BYTES(...) (const uint8_t[]) { __VA_ARGS__ }, sizeof((const uint8_t[]) { __VA_ARGS__ })

/* mov %eax, -0x14000(%rsp); push %rbp; sub $0x30, %rsp; then the barrier: cmpl $1, 0x20(%r15) */
#define BANG 0x89, 0x84, 0x24, 0x00, 0xc0, 0xfe, 0xff
#define PUSH 0x55
#define SUB 0x48, 0x83, 0xec, 0x30
#define BARRIER 0x41, 0x81, 0x7f, 0x20, 0x01, 0x00, 0x00, 0x00

static void a_prologue_at_each_instruction(void **state)
{
	(void)state;
	assert_int_equal(x86_prologue(NULL, 0, 64), X86_RETURN);
	assert_int_equal(x86_prologue(BYTES(BANG), 64), X86_RETURN);
	assert_int_equal(x86_prologue(BYTES(BANG, PUSH), 64), X86_PUSHED);
	assert_int_equal(x86_prologue(BYTES(BANG, PUSH, SUB), 64), X86_STANDS);
	assert_int_equal(x86_prologue(BYTES(BANG, PUSH, SUB, BARRIER), 64), X86_STANDS);
	assert_int_equal(x86_prologue(BYTES(BANG, PUSH, 0x48, 0x8b, 0xec), 64), X86_PUSHED);
	assert_int_equal(x86_prologue(BYTES(BANG, PUSH, 0x48, 0x8b, 0xec, SUB), 64), X86_STANDS);
}

/* C2 does not touch the stack in a method that calls none: sub; then mov %rbp, 0x28(%rsp). */
static void a_prologue_that_saves_with_a_move(void **state)
{
	(void)state;
	assert_int_equal(x86_prologue(BYTES(0x48, 0x83, 0xec, 0x38), 64), X86_UNSAVED);
	assert_int_equal(x86_prologue(BYTES(0x48, 0x83, 0xec, 0x38, 0x48, 0x89, 0x6c, 0x24, 0x28), 64), X86_STANDS);
	assert_int_equal(x86_prologue(BYTES(0x48, 0x81, 0xec, 0x38, 0x00, 0x00, 0x00), 64), X86_UNSAVED);
}

/* An instruction that is not known, before the frame is whole, decides nothing. */
static void an_unknown_prologue_is_rejected(void **state)
{
	(void)state;
	assert_int_equal(x86_prologue(BYTES(BANG, BARRIER), 64), X86_UNKNOWN);
	assert_int_equal(x86_prologue(BYTES(BANG, PUSH, BARRIER), 64), X86_UNKNOWN);
	assert_int_equal(x86_prologue(BYTES(0x48, 0x83), 64), X86_UNKNOWN);
	assert_int_equal(x86_prologue(BYTES(0x89, 0x84, 0x24), 64), X86_UNKNOWN);
}

static enum x86_frame at(size_t place, const uint8_t *code, size_t n)
{
	uint8_t around[X86_BEFORE + 64 + X86_BEHIND];
	memset(around, 0xcc, sizeof around);
	memcpy(around + X86_BEFORE, code, n);
	return x86_epilogue(around + X86_BEFORE + place);
}

static void an_epilogue_at_each_instruction(void **state)
{
	/* add $0x30, %rsp; pop %rbp; cmp 0x348(%r15), %rsp; ja slow; ret: from 17 on */
	static const uint8_t late[] = { 0x48, 0x83, 0xc4, 0x30, 0x5d, 0x49, 0x3b, 0xa7, 0x48, 0x03, 0x00, 0x00, 0x0f,
		0x87, 0x10, 0x00, 0x00, 0x00, 0xc3 };
	/* add; pop; mov 0x108(%r15), %r10; test %eax, (%r10); ret: 11 */
	static const uint8_t early[] = { 0x48, 0x83, 0xc4, 0x30, 0x5d, 0x4d, 0x8b, 0x97, 0x08, 0x01, 0x00, 0x00, 0x41,
		0x85, 0x02, 0xc3 };
	/* leave; cmpq $0, 0x8(%r15); jne forward; ret: a native method's */
	static const uint8_t native[] = { 0xc9, 0x49, 0x83, 0x7f, 0x08, 0x00, 0x0f, 0x85, 0x01, 0x00, 0x00, 0x00,
		0xc3 };
	(void)state;
	assert_int_equal(at(0, late, sizeof late), X86_STANDS);
	assert_int_equal(at(4, late, sizeof late), X86_PUSHED);
	assert_int_equal(at(5, late, sizeof late), X86_RETURN);
	assert_int_equal(at(12, late, sizeof late), X86_RETURN);
	assert_int_equal(at(18, late, sizeof late), X86_RETURN);
	assert_int_equal(at(4, early, sizeof early), X86_PUSHED);
	assert_int_equal(at(5, early, sizeof early), X86_RETURN);
	assert_int_equal(at(12, early, sizeof early), X86_RETURN);
	assert_int_equal(at(15, early, sizeof early), X86_RETURN);
	assert_int_equal(at(0, native, sizeof native), X86_STANDS);
	assert_int_equal(at(1, native, sizeof native), X86_RETURN);
	assert_int_equal(at(6, native, sizeof native), X86_RETURN);
}

/* add; pop; jmp: a call that replaces its caller. A jump after anything else is one inside the method. */
static void a_jump_out_is_told_from_a_jump_inside(void **state)
{
	static const uint8_t out[] = { 0x48, 0x83, 0xc4, 0x30, 0x5d, 0xe9, 0x00, 0x10, 0x00, 0x00 },
			     inside[] = { 0x48, 0x8d, 0x41, 0x5d, 0xe9, 0x00, 0x10, 0x00, 0x00 };
	(void)state;
	assert_int_equal(at(4, out, sizeof out), X86_PUSHED);
	assert_int_equal(at(5, out, sizeof out), X86_RETURN);
	assert_int_equal(at(4, inside, sizeof inside), X86_STANDS);
}

static enum x86_call before(const uint8_t *code, size_t n, uint64_t *target)
{
	uint8_t bytes[X86_CALL_MAX] = { 0 };
	memcpy(bytes + sizeof bytes - n, code, n);
	return x86_call_before(bytes + sizeof bytes, 0x1000, target);
}

static void calls_are_known_by_what_stands_before(void **state)
{
	uint64_t target = 0;
	(void)state;
	assert_int_equal(before(BYTES(0xe8, 0xfb, 0xff, 0xff, 0xff), &target), X86_DIRECT_CALL);
	assert_int_equal(target, 0xffb);
	assert_int_equal(
		before(BYTES(0x49, 0xba, 0x00, 0x20, 0, 0, 0, 0, 0, 0, 0x41, 0xff, 0xd2), &target), X86_DIRECT_CALL);
	assert_int_equal(target, 0x2000);
	assert_int_equal(before(BYTES(0xff, 0xd0), &target), X86_CALL);
	assert_int_equal(before(BYTES(0x41, 0xff, 0xd2), &target), X86_CALL);
	assert_int_equal(before(BYTES(0xff, 0x50, 0x40), &target), X86_CALL);
	assert_int_equal(before(BYTES(0xff, 0x93, 0x00, 0x01, 0x00, 0x00), &target), X86_CALL);
	assert_int_equal(before(BYTES(0xff, 0xe0), &target), X86_NO_CALL);
	assert_int_equal(before(BYTES(0x90, 0x90, 0x90), &target), X86_NO_CALL);
}

/* Of a collector's load barrier, behind its call: registers are restored, the stack pointer too, and back it jumps. */
static void a_slow_path_has_registers_below_the_frame(void **state)
{
	static const uint8_t stub[] = { 0x48, 0x8b, 0x44, 0x24, 0x08, /* mov 8(%rsp), %rax */
		0x48, 0x81, 0xc4, 0x40, 0x02, 0x00, 0x00,             /* add $0x240, %rsp */
		0xe9, 0x10, 0xff, 0xff, 0xff, 0x90 },                 /* jmp */
		near_stub[] = { 0x48, 0x83, 0xc4, 0x20, 0xeb, 0x80, 0x90, 0x90 },
			     epilogue[] = { 0x48, 0x83, 0xc4, 0x20, 0x5d, 0xc3, 0x90, 0x90 }, /* add; pop %rbp; ret */
		in_front[] = { 0x48, 0x83, 0xec, 0x20, 0x48, 0x83, 0xc4, 0x20, 0xeb, 0x80, 0x90, 0x90 };
	(void)state;
	assert_int_equal(x86_saved_below(stub, sizeof stub), 0x240);
	assert_int_equal(x86_saved_below(near_stub, sizeof near_stub), 0x20);
	assert_int_equal(x86_saved_below(epilogue, sizeof epilogue), 0);
	assert_int_equal(x86_saved_below(in_front, sizeof in_front), 0);
	for (size_t n = 0; n < sizeof stub - 1; n++)
		assert_int_equal(x86_saved_below(stub, n < 12 ? n : 0), 0); /* cut off */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_prologue_at_each_instruction),
		cmocka_unit_test(a_prologue_that_saves_with_a_move),
		cmocka_unit_test(an_unknown_prologue_is_rejected),
		cmocka_unit_test(an_epilogue_at_each_instruction),
		cmocka_unit_test(a_jump_out_is_told_from_a_jump_inside),
		cmocka_unit_test(calls_are_known_by_what_stands_before),
		cmocka_unit_test(a_slow_path_has_registers_below_the_frame),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
