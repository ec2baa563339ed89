#include "kit/unwind.h"
#include "live_target.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/wait.h>

#include <cmocka.h>

/* The program that is unwound. Each function has a section of its own: the linker then tells where it begins and ends.
 */
#define PART(name) __attribute__((noinline, noclone, used, section(name)))
#if defined(__clang__)
#undef PART
#define PART(name) __attribute__((noinline, used, section(name)))
#endif
#define DECLARE(name) extern const char __start_##name[], __stop_##name[]

DECLARE(part_handler);
DECLARE(part_compare);
DECLARE(part_sort);
DECLARE(part_recurse);
DECLARE(part_program);

enum { DEPTH = 200, STEP_DEPTH = 12, STEPS = 30000, ALT_STACK = 64 << 10 };

static volatile sig_atomic_t handled;
static volatile unsigned sink;
static volatile bool stop_in_handler;

PART("part_handler") static void handler(int signal)
{
	handled += signal;
	if (stop_in_handler)
		raise(SIGSTOP); /* through the PLT */
	handled++;
}

PART("part_compare") static int compare(const void *a, const void *b)
{
	if (!handled) {
		raise(SIGUSR1);
		handled++;
	}
	int x = *(const int *)a, y = *(const int *)b;
	return (x > y) - (x < y);
}

PART("part_sort") static unsigned sort(void)
{
	char text[64];
	int numbers[40];
	for (int i = 0; i < 40; i++)
		numbers[i] = i * 7919 % 41;
	qsort(numbers, 40, sizeof(numbers[0]), compare);
	snprintf(text, sizeof(text), "%d %s %f", numbers[3], "text", (double)numbers[4] / 3);
	double back = strtod(text, NULL);
	void *block = malloc((size_t)numbers[20] * 100);
	if (block)
		memset(block, 1, (size_t)numbers[20] * 100);
	free(block);
	return (unsigned)(back + text[1]);
}

PART("part_recurse") static unsigned recurse(unsigned depth)
{
	volatile unsigned here[4] = { depth, sink, 0, 0 };
	unsigned below = depth ? recurse(depth - 1) : sort();
	here[2] += below; /* after the call, so that it is not a jump */
	return here[2] + here[0];
}

PART("part_program") static void program(unsigned depth)
{
	static uint8_t alternate[ALT_STACK];
	stack_t stack = { .ss_sp = alternate, .ss_size = sizeof(alternate) };
	struct sigaction action = { .sa_handler = handler, .sa_flags = SA_ONSTACK };
	sigaltstack(&stack, NULL);
	sigaction(SIGUSR1, &action, NULL);
	sink = recurse(depth);
	sink++;
}

/* A child that runs the program and stops where it is told to. */
static pid_t start(unsigned depth, bool in_handler)
{
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		stop_in_handler = in_handler;
		handled = 0;
		if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0)
			_exit(77);
		if (!in_handler)
			raise(SIGSTOP);
		program(depth);
		_exit(0);
	}
	return pid;
}

static void finish(pid_t pid)
{
	int status;
	kill(pid, SIGKILL);
	while (waitpid(pid, &status, 0) > 0 && !WIFEXITED(status) && !WIFSIGNALED(status))
		;
}

/* Waits for SIGSTOP, passing on what comes before it. False: no ptrace here. */
static bool stopped(pid_t pid)
{
	int status;
	while (waitpid(pid, &status, 0) == pid && WIFSTOPPED(status)) {
		if (WSTOPSIG(status) == SIGSTOP)
			return true;
		ptrace(PTRACE_CONT, pid, NULL, (void *)(long)WSTOPSIG(status));
	}
	return false;
}

static bool within(const struct unwind_frame *frame, const char *first, const char *end)
{
	uint64_t pc = frame->exact ? frame->pc : frame->pc - 1;
	return pc >= (uintptr_t)first && pc < (uintptr_t)end;
}

static size_t skip_to(const struct unwind_frame *frames, size_t n, size_t at, const char *first, const char *end)
{
	while (at < n && !within(&frames[at], first, end))
		at++;
	return at;
}
#define SKIP_TO(name) at = skip_to(frames, n, at, __start_##name, __stop_##name)

static struct live_target target;

static void unwinds_every_frame_of_a_deep_stack(void **state)
{
	(void)state;
	struct regs regs;
	struct unwind_frame frames[UNWIND_MAX_FRAMES];
	enum unwind_end end;
	pid_t pid = start(DEPTH, true);
	if (!stopped(pid))
		skip();
	live_open(&target, pid);
	assert_true(live_regs(pid, &regs));
	size_t n = live_unwind(&target, regs, frames, UNWIND_MAX_FRAMES, &end);
	uint64_t entry = 0;
	for (size_t i = 0; i < target.nfiles; i++)
		if (target.files[i].usable && target.files[i].elf.entry && strstr(target.files[i].path, "test_unwind"))
			entry = target.files[i].elf.entry;
	struct live_map *map = live_map_of(&target, frames[n - 1].pc);
	live_close(&target);
	finish(pid);

	assert_int_equal(end, UNWIND_OUTERMOST);
	assert_true(frames[0].exact);
	size_t at = 1;
	SKIP_TO(part_handler); /* from libc's raise, on the alternate stack */
	assert_true(at < 8);
	assert_false(frames[at].exact);
	/* The trampoline, then libc's raise as it was interrupted. */
	assert_true(frames[at + 1].exact);
	assert_true(frames[at + 2].exact);
	size_t handler_at = at;
	SKIP_TO(part_compare);
	assert_true(at < handler_at + 8);
	size_t compare_at = at;
	SKIP_TO(part_sort); /* through libc's qsort */
	assert_true(at > compare_at + 1 && at < compare_at + 16);
	at++;
	for (unsigned i = 0; i <= DEPTH; i++, at++)
		assert_true(within(&frames[at], __start_part_recurse, __stop_part_recurse));
	assert_true(within(&frames[at], __start_part_program, __stop_part_program));
	/* start, the test, cmocka, main, two of libc, _start */
	assert_true(n > at + 5 && n < at + 20);
	assert_non_null(map);
	assert_true(entry && ((frames[n - 1].pc - entry) & 0xfff) < 64); /* the load address is a multiple of a page */
}

/* At every instruction: prologues, epilogues, PLT, libc's assembly, the signal's delivery and return. */
static void unwinds_at_every_instruction(void **state)
{
	(void)state;
	struct unwind_frame frames[UNWIND_MAX_FRAMES];
	pid_t pid = start(STEP_DEPTH, false);
	if (!stopped(pid))
		skip();
	live_open(&target, pid);
	unsigned steps = 0, incomplete = 0, in_handler = 0, in_compare = 0;
	for (int signal = 0; steps < STEPS; steps++) {
		struct regs regs;
		enum unwind_end end;
		int status;
		if (ptrace(PTRACE_SINGLESTEP, pid, NULL, (void *)(long)signal) < 0 || waitpid(pid, &status, 0) != pid ||
			!WIFSTOPPED(status) || !live_regs(pid, &regs))
			break;
		signal = WSTOPSIG(status) == SIGTRAP ? 0 : WSTOPSIG(status);
		size_t n = live_unwind(&target, regs, frames, UNWIND_MAX_FRAMES, &end);
		if (end != UNWIND_OUTERMOST) {
			incomplete++;
			print_message(
				"end %d after %zu frames, pc %lx, first %lx\n", end, n, frames[n - 1].pc, frames[0].pc);
		}
		/* Whoever is below a function of ours, all of the recursion must be seen. */
		size_t at = 0;
		SKIP_TO(part_handler);
		in_handler += at < n;
		at = 0;
		SKIP_TO(part_compare);
		in_compare += at < n;
		at = 0;
		SKIP_TO(part_sort);
		if (at == n)
			continue;
		for (unsigned i = 0; i <= STEP_DEPTH; i++)
			assert_true(within(&frames[at + 1 + i], __start_part_recurse, __stop_part_recurse));
		assert_true(within(&frames[at + STEP_DEPTH + 2], __start_part_program, __stop_part_program));
	}
	live_close(&target);
	finish(pid);
	print_message("%u instructions, %u incomplete\n", steps, incomplete);
	assert_true(steps > 3000);
	assert_true(in_handler && in_compare);
	assert_int_equal(incomplete, 0);
}

/* A stack in an array, code everywhere between CODE and CODE_END. */
enum { STACK = 0x10000, WORDS = 8192, CODE = 0x400000, CODE_END = 0x500000 };

static uint64_t words[WORDS];
static bool go;

static int fake_read(void *context, uint64_t address, void *buf, size_t n)
{
	(void)context;
	if (address < STACK || address - STACK > sizeof(words) - n)
		return -EFAULT;
	memcpy(buf, (uint8_t *)words + (address - STACK), n);
	return 0;
}

static int fake_code(void *context, uint64_t pc, struct unwind_code *ret)
{
	(void)context;
	if (pc < CODE || pc >= CODE_END)
		return -ENOENT;
	*ret = (struct unwind_code) { .vaddr = pc, .is_go = go };
	return 0;
}

static size_t fake_unwind(uint64_t fp, size_t max, enum unwind_end *ret_end)
{
	static const struct unwind_env env = { .read = fake_read, .code = fake_code };
	static struct unwind_frame frames[UNWIND_MAX_FRAMES];
	struct regs regs = { .known = 1ULL << REG_SP | 1ULL << REG_FP | 1ULL << REG_PC };
	regs.r[REG_SP] = STACK;
	regs.r[REG_FP] = fp;
	regs.r[REG_PC] = CODE + 0x10;
	return unwind(&env, &regs, frames, max, ret_end);
}

static void record(size_t word, uint64_t fp, uint64_t pc)
{
	words[word] = fp;
	words[word + 1] = pc;
}

static void follows_frame_pointers_to_zero(void **state)
{
	(void)state;
	enum unwind_end end;
	memset(words, 0, sizeof(words));
	record(4, STACK + 80, CODE + 0x20);
	record(10, 0, CODE + 0x30);
	assert_int_equal(fake_unwind(STACK + 32, 100, &end), 3);
	assert_int_equal(end, UNWIND_OUTERMOST);
	words[11] = 0; /* or a return address of zero */
	assert_int_equal(fake_unwind(STACK + 32, 100, &end), 2);
	assert_int_equal(end, UNWIND_OUTERMOST);
	assert_int_equal(fake_unwind(STACK + 32, 1, &end), 1);
	assert_int_equal(end, UNWIND_TOO_DEEP);
}

static void says_why_it_ended(void **state)
{
	(void)state;
	enum unwind_end end;
	memset(words, 0, sizeof(words));
	fake_unwind(0, 100, &end);
	assert_int_equal(end, UNWIND_NO_RULE); /* a leaf may have zero in it for other reasons */
	fake_unwind(STACK + 33, 100, &end);
	assert_int_equal(end, UNWIND_NO_RULE);
	fake_unwind(STACK - 8, 100, &end);
	assert_int_equal(end, UNWIND_NO_RULE);
	fake_unwind(STACK + (8 << 20), 100, &end);
	assert_int_equal(end, UNWIND_NO_RULE);
	fake_unwind(STACK + sizeof(words) - 8, 100, &end);
	assert_int_equal(end, UNWIND_NO_MEMORY);
	record(4, STACK + 80, CODE_END + 1);
	assert_int_equal(fake_unwind(STACK + 32, 100, &end), 1);
	assert_int_equal(end, UNWIND_NO_CODE);
	record(4, STACK + 32, CODE + 0x20); /* itself: now below the stack pointer */
	assert_int_equal(fake_unwind(STACK + 32, 100, &end), 2);
	assert_int_equal(end, UNWIND_NO_RULE);
}

static void go_may_change_stacks_but_not_for_ever(void **state)
{
	(void)state;
	enum unwind_end end;
	memset(words, 0, sizeof(words));
	go = true;
	record(20, STACK + 32, CODE + 0x20);
	record(4, 0, CODE + 0x30);
	assert_int_equal(fake_unwind(STACK + 160, 100, &end), 3);
	assert_int_equal(end, UNWIND_OUTERMOST);
	record(4, STACK + 160, CODE + 0x30); /* round and round */
	fake_unwind(STACK + 160, UNWIND_MAX_FRAMES, &end);
	assert_int_equal(end, UNWIND_LOOP);
	go = false;
}

static void a_deep_stack_is_cut(void **state)
{
	(void)state;
	enum unwind_end end;
	for (size_t i = 4; i + 2 < WORDS; i += 2)
		record(i, STACK + (i + 2) * 8, CODE + 0x20);
	assert_int_equal(fake_unwind(STACK + 32, SIZE_MAX, &end), UNWIND_MAX_FRAMES);
	assert_int_equal(end, UNWIND_TOO_DEEP);
}

static int anywhere(void *context, uint64_t pc, struct unwind_code *ret)
{
	(void)context;
	*ret = (struct unwind_code) { .vaddr = pc };
	return 0;
}

/* mov $15, %rax; syscall with a ucontext above, as in musl and Go. */
static void knows_a_trampoline_without_table(void **state)
{
	(void)state;
	static const uint8_t trampoline[] = { 0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05 };
	static const struct unwind_env env = { .read = fake_read, .code = anywhere };
	struct unwind_frame frames[8];
	enum unwind_end end;
	memset(words, 0, sizeof(words));
	memcpy(&words[1000], trampoline, sizeof(trampoline));
	enum { MCONTEXT = 5 };               /* words */
	words[MCONTEXT + 10] = STACK + 2000; /* rbp */
	words[MCONTEXT + 15] = STACK + 1600; /* rsp: another place on the stack */
	words[MCONTEXT + 16] = CODE + 0x100; /* rip */
	record(250, 0, CODE + 0x30);
	struct regs regs = { .known = 1ULL << REG_SP | 1ULL << REG_FP | 1ULL << REG_PC };
	regs.r[REG_SP] = STACK;
	regs.r[REG_PC] = STACK + 8000;
	assert_int_equal(unwind(&env, &regs, frames, 8, &end), 3);
	assert_int_equal(end, UNWIND_OUTERMOST);
	assert_int_equal(frames[1].pc, CODE + 0x100);
	assert_true(frames[1].exact);
	assert_false(frames[2].exact);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(unwinds_every_frame_of_a_deep_stack),
		cmocka_unit_test(unwinds_at_every_instruction),
		cmocka_unit_test(follows_frame_pointers_to_zero),
		cmocka_unit_test(says_why_it_ended),
		cmocka_unit_test(go_may_change_stacks_but_not_for_ever),
		cmocka_unit_test(a_deep_stack_is_cut),
		cmocka_unit_test(knows_a_trampoline_without_table),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
