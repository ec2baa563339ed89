/* A program that passes for a Python interpreter and lies: liar HOW [FILE]. It exports what an interpreter is known by, and has in its
 * memory what one has: a runtime, an interpreter, a thread, frames, code. `honest` is right in all of it (its profile says fake_outer and
 * fake_leaf of fake.py); each of the others spoils one thing. Prints "ready" once it spins.
 *
 * VERSION (when built): 9 and 12 have the structures of these CPythons, 13 says itself where its own are. Chain: main; rest;
 * _PyEval_EvalFrameDefault; work. */
#include "../workloads/workload.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef VERSION
#define VERSION 13
#endif
#define EXPORTED __attribute__((visibility("default"), used))

enum {
	ARENA = 8 << 20,
	PAGE = 4096,
	MANY = 60000,
	EXEC_AFTER_NS = 5000000,
	OWNER_LOOP = 3,
	NONE = -1,
	STATE_ASCII = 0x64, /* kind 1, compact, ascii */
};

/* Where this version has its fields: worker/python/layout.def; of 13 our own choice. */
static const struct layout {
	int interpreters, interpreter_next, threads, thread_next, frame, thread_id, native_id, chunk, cframe_frame,
		cframe_previous;
	int frame_previous, frame_code, frame_instruction, owner, code_file, code_name, code_qualname, code_lines,
		first_line, code;
	int text;
} at =
#if VERSION == 9
	{ 32, 0, 8, 8, 24, 176, NONE, NONE, NONE, NONE, 24, 32, 104, NONE, 104, 112, NONE, 120, 40, 48, 48 };
#elif VERSION == 12
	{ 40, 0, 72, 8, 56, 136, 144, 232, 0, 8, 8, 0, 56, 70, 112, 120, 128, 136, 68, 192, 40 };
#else
	{ 632, 0, 72, 8, 72, 136, 144, 232, NONE, NONE, 8, 0, 56, 70, 112, 120, 128, 136, 68, 192, 40 };
#endif

EXPORTED uint64_t _PyRuntime[256];
#if VERSION == 9
EXPORTED void PyObject_CallNoArgs(void); /* by which 3.9 is known: Py_Version came later */
void PyObject_CallNoArgs(void)
{
}
#else
extern const uint32_t Py_Version;
EXPORTED const uint32_t Py_Version = 0x030000f0 | VERSION << 16;
#endif

static char *arena, *next;
static const char *how;
static char **arguments;
static uint64_t *interpreter, *thread, *root_cframe, *leaf, *outer, *leaf_code, *leaf_name, *leaf_lines;

static void *make(size_t n)
{
	char *made = next;
	next += (n + 63) & ~63UL;
	if (next > arena + ARENA)
		abort();
	return made;
}

static void set(void *object, int offset, uint64_t value)
{
	if (offset != NONE)
		memcpy((char *)object + offset, &value, sizeof value);
}

static uint64_t address(const void *object)
{
	return (uint64_t)(uintptr_t)object;
}

static void *make_text(const char *words)
{
	void *text = make(strlen(words) + 128);
	set(text, 16, strlen(words));
	set(text, 32, STATE_ASCII);
	memcpy((char *)text + at.text, words, strlen(words) + 1);
	return text;
}

static void *make_bytes(size_t n)
{
	void *bytes = make(n + 64);
	set(bytes, 16, n);
	return bytes;
}

static void *make_code(const char *name)
{
	void *code = make(512), *text = make_text(name);
	set(code, 16, 64); /* instructions */
	set(code, at.code_file, address(make_text("fake.py")));
	set(code, at.code_name, address(text));
	set(code, at.code_qualname, address(text));
	set(code, at.code_lines, address(make_bytes(64)));
	memcpy((char *)code + at.first_line, &(uint32_t) { 7 }, 4);
	if (VERSION == 9)
		set(code, at.code, address(make_bytes(128)));
	return code;
}

static void *make_frame(void *code, void *previous)
{
	void *frame = make(256);
	set(frame, at.frame_previous, address(previous));
	set(frame, at.frame_code, address(code));
	set(frame, at.frame_instruction, VERSION == 9 ? 4 : address(code) + (uint64_t)at.code + 4);
	return frame;
}

#if VERSION == 13
/* _Py_DebugOffsets of 3.13: pairs of a place in it and what it says. */
static void say_offsets(void)
{
	const uint64_t said[][2] = { { 8, 0x030d00f0 }, { 24, 2048 }, { 40, (uint64_t)at.interpreters }, { 48, 512 },
		{ 64, (uint64_t)at.interpreter_next }, { 72, (uint64_t)at.threads }, { 152, 400 },
		{ 168, (uint64_t)at.thread_next }, { 184, (uint64_t)at.frame }, { 192, (uint64_t)at.thread_id },
		{ 200, (uint64_t)at.native_id }, { 208, (uint64_t)at.chunk }, { 224, 88 },
		{ 232, (uint64_t)at.frame_previous }, { 240, (uint64_t)at.frame_code },
		{ 248, (uint64_t)at.frame_instruction }, { 264, (uint64_t)at.owner }, { 272, 256 },
		{ 280, (uint64_t)at.code_file }, { 288, (uint64_t)at.code_name }, { 296, (uint64_t)at.code_qualname },
		{ 304, (uint64_t)at.code_lines }, { 312, (uint64_t)at.first_line }, { 344, (uint64_t)at.code },
		{ 512, 40 }, { 520, 16 }, { 528, 32 }, { 536, 64 }, { 544, 32 }, { 552, 16 }, { 560, 40 } };
	memcpy(_PyRuntime, "xdebugpy", 8);
	for (size_t i = 0; i < sizeof said / sizeof *said; i++)
		set(_PyRuntime, (int)said[i][0], said[i][1]);
}
#else
static void say_offsets(void)
{
}
#endif

static void build(void)
{
	arena = next = mmap(NULL, ARENA, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (arena == MAP_FAILED)
		abort();
	make(PAGE);
	interpreter = make(1024);
	thread = make(2048);
	leaf_code = make_code("fake_leaf");
	memcpy(&leaf_name, (char *)leaf_code + at.code_name, 8);
	memcpy(&leaf_lines, (char *)leaf_code + at.code_lines, 8);
	outer = make_frame(make_code("fake_outer"), NULL);
	leaf = make_frame(leaf_code, VERSION == 9 ? NULL : outer);
	root_cframe = (uint64_t *)((char *)thread + 800); /* part of the thread state, as it has to be */
	set(thread, at.thread_id, pthread_self());
	set(thread, at.native_id, (uint64_t)gettid());
	set(thread, at.frame, address(leaf));
	set(interpreter, at.threads, address(thread));
	say_offsets();
}

/* -- the lies; each gets the one world, and spoils it */

static uint64_t random_word(void)
{
	static uint64_t state = 88172645463325252;
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

static void honest(void)
{
}

static void offsets_huge(void)
{
	for (int i = 24; i < 760; i += 8)
		set(_PyRuntime, i, 1ULL << 63);
}

static void offsets_random(void)
{
	for (int i = 24; i < 760; i += 8)
		set(_PyRuntime, i, random_word() >> random_word() % 64);
}

static void offsets_at_the_limit(void)
{
	for (int i = 24; i < 600; i += 8)
		set(_PyRuntime, i, i == 24 || i == 48 || i == 152 || i == 224 || i == 272 ? UINT32_MAX : 504);
}

static void interpreters_loop(void)
{
	set(interpreter, at.interpreter_next, address(interpreter));
	set(interpreter, at.threads, 0);
}

static void threads_loop(void)
{
	set(thread, at.thread_id, 1);
	set(thread, at.native_id, 1);
	set(thread, at.thread_next, address(thread));
}

static void threads_many(void)
{
	char *first = make((size_t)MANY * 64 + 1024);
	for (int i = 0; i < MANY; i++) {
		set(first + i * 64, at.thread_next, address(first + (i + 1) * 64));
		set(first + i * 64, at.native_id, 1);
	}
	set(interpreter, at.threads, address(first));
}

static void frames_loop(void)
{
	set(leaf, at.frame_previous, address(leaf));
}

static void frames_loop_of_two(void)
{
	set(leaf, at.frame_previous, address(outer));
	set(outer, at.frame_previous, address(leaf));
}

static void frames_many(void)
{
	uint64_t *last = leaf;
	for (int i = 0; i < MANY / 4; i++) {
		uint64_t *frame = make_frame(leaf_code, NULL);
		set(last, at.frame_previous, address(frame));
		last = frame;
	}
}

/* Each a page or more from the next: no block that was read has two of them. */
static void frames_far_apart(void)
{
	uint64_t *last = leaf;
	for (int i = 0; i < 300; i++) {
		next += 20000;
		uint64_t *frame = make_frame(leaf_code, NULL);
		set(last, at.frame_previous, address(frame));
		last = frame;
	}
}

static void chunks_loop(void)
{
	uint64_t *chunk = make(PAGE);
	set(chunk, 0, address(chunk));
	set(chunk, 8, 1ULL << 63);
	set(chunk, 16, 1ULL << 63);
	set(thread, at.chunk, address(chunk));
	set(thread, at.chunk == NONE ? NONE : at.chunk + 8, UINT64_MAX);
}

static void text_huge(void)
{
	set(leaf_name, 16, 1ULL << 63);
}

static void text_long(void)
{
	set(leaf_name, 16, UINT32_MAX);
}

static void text_of_no_kind(void)
{
	set(leaf_name, 32, UINT64_MAX);
}

static void text_wide_and_wild(void)
{
	void *text = make(PAGE * 4);
	memset(text, 0xee, PAGE * 4);
	set(text, 16, PAGE / 2);
	set(text, 32, 4 << 2 | 1 << 5); /* four bytes a character, none of which is one */
	set(leaf_code, at.code_name, address(text));
	set(leaf_code, at.code_qualname, address(text));
}

static void text_spoils_lines(void)
{
	void *text = make_text("a;b\nc\x1b[2J\t(d:1)_[p] 7\n\xff\xfe");
	set(leaf_code, at.code_name, address(text));
	set(leaf_code, at.code_qualname, address(text));
}

static void lines_huge(void)
{
	set(leaf_lines, 16, 1ULL << 63);
}

static void lines_of_noise(void)
{
	enum { BYTES = 200 << 10 };
	char *bytes = make_bytes(BYTES);
	for (int i = 32; i < BYTES; i += 8)
		set(bytes, i, random_word());
	set(leaf_code, at.code_lines, address(bytes));
	set(leaf_code, 16, 8 << 20);
}

static void code_huge(void)
{
	uint64_t bytes = 0;
	if (VERSION == 9)
		memcpy(&bytes, (char *)leaf_code + at.code, 8);
	set(VERSION == 9 ? (void *)(uintptr_t)bytes : leaf_code, 16, 1ULL << 63);
}

static void instruction_elsewhere(void)
{
	set(leaf, at.frame_instruction, 1ULL << 62 | 1);
}

static void owner_unknown(void)
{
	if (at.owner != NONE)
		memset((char *)leaf + at.owner, 0xff, 1);
}

static void wild_pointers(void)
{
	const uint64_t wild[] = { 1, 0xffffffffff600000, 0x8000000000000000, UINT64_MAX - 7, 0x7ffffffff000,
		address(arena + ARENA - 4) };
	set(leaf, at.frame_previous, wild[random_word() % 6]);
	set(leaf_code, at.code_name, wild[random_word() % 6]);
	set(leaf_code, at.code_lines, wild[random_word() % 6]);
	set(interpreter, at.interpreter_next, wild[random_word() % 6]);
	set(thread, at.chunk, wild[random_word() % 6]);
}

static void closed_pages(void)
{
	char *page = mmap(NULL, PAGE * 2, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	set(leaf, at.frame_previous, address(page));
	set(leaf_code, at.code_file, address(page + PAGE - 8));
}

static void *rewrite(void *unused)
{
	static char other[PAGE * 4];
	char *begin = arena + PAGE;
	size_t n = (size_t)(next - begin) < sizeof other ? (size_t)(next - begin) : sizeof other;
	memcpy(other, begin, n);
	for (;;) {
		for (int i = 0; i < 64; i++)
			set(begin, (int)(random_word() % (n - 8)), random_word() >> random_word() % 64);
		memcpy(begin, other, n); /* right again, for as long */
	}
	return unused;
}

static void *turn_pages(void *unused)
{
	char *begin = (char *)((uintptr_t)interpreter & -(uintptr_t)PAGE);
	for (;;) {
		mprotect(begin, PAGE, PROT_NONE);
		mprotect(begin, PAGE, PROT_READ | PROT_WRITE);
	}
	return unused;
}

static void spawn(void *(*body)(void *))
{
	pthread_t made;
	if (pthread_create(&made, NULL, body, NULL))
		abort();
}

static void rewriting(void)
{
	spawn(rewrite);
}

static void turning_pages(void)
{
	spawn(turn_pages);
}

/* NULL: somewhere where nothing has been before; else over what is there. */
static char *map_file(void *where)
{
	int file = open(arguments[2], O_RDONLY | O_CLOEXEC);
	void *page = mmap(where, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | (where ? MAP_FIXED : 0), file, 0);
	if (file < 0 || page == MAP_FAILED)
		abort();
	return page;
}

/* The caller of the innermost frame is in a page of the file; likewise its code. */
static void file_under_frame(void)
{
	char *page = map_file(NULL);
	set(leaf, at.frame_previous, address(page + 128));
	set(leaf_code, at.code_name, address(page + 512));
}

/* Anonymous memory until the line "now" comes, then the file: who has a list of ranges has an old one. */
static void *swap_page(void *page)
{
	char line[16];
	while (read(STDIN_FILENO, line, sizeof line) > 0) {
		if (!strncmp(line, "now", 3))
			map_file(page);
		else if (mmap(page, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) ==
			 MAP_FAILED)
			abort();
		puts(!strncmp(line, "now", 3) ? "mapped" : "back");
	}
	return NULL;
}

static void file_comes_under_frame(void)
{
	pthread_t made;
	char *page = (char *)(((uintptr_t)next + PAGE) & -(uintptr_t)PAGE);
	next = page + PAGE;
	set(leaf, at.frame_previous, address(page + 128));
	if (pthread_create(&made, NULL, swap_page, page))
		abort();
}

static void again_and_again(int signal)
{
	(void)signal;
	execv("/proc/self/exe", arguments);
	_exit(1);
}

static void executing(void)
{
	sigset_t all;
	sigfillset(&all);
	sigprocmask(SIG_UNBLOCK, &all, NULL);
	workload_timer(SIGRTMIN, again_and_again, 0, EXEC_AFTER_NS, 0);
}

static const struct {
	const char *name;
	void (*spoil)(void);
} lies[] = {
#define LIE(name)                                                                                                      \
	{                                                                                                              \
#name, name                                                                                            \
	}
	LIE(honest),
	LIE(offsets_huge),
	LIE(offsets_random),
	LIE(offsets_at_the_limit),
	LIE(interpreters_loop),
	LIE(threads_loop),
	LIE(threads_many),
	LIE(frames_loop),
	LIE(frames_loop_of_two),
	LIE(frames_many),
	LIE(frames_far_apart),
	LIE(chunks_loop),
	LIE(text_huge),
	LIE(text_long),
	LIE(text_of_no_kind),
	LIE(text_wide_and_wild),
	LIE(text_spoils_lines),
	LIE(lines_huge),
	LIE(lines_of_noise),
	LIE(code_huge),
	LIE(instruction_elsewhere),
	LIE(owner_unknown),
	LIE(wild_pointers),
	LIE(closed_pages),
	LIE(rewriting),
	LIE(turning_pages),
	LIE(file_under_frame),
	LIE(file_comes_under_frame),
	LIE(executing),
#undef LIE
};

/* Not in the loop's own first instructions, where its frame is not yet believed. */
static NOINLINE void work(void)
{
	for (;;)
		SPIN(2000000);
}

/* The call of the loop: its mark is on its own stack, as the interpreter's is. */
EXPORTED NOINLINE void _PyEval_EvalFrameDefault(void (*spoil)(void))
{
	uint64_t entry[16] = { 0 }, cframe[4] = { 0 };
	if (VERSION != 9) {
		memset((char *)entry + at.owner, OWNER_LOOP, 1);
		set(entry, at.frame_code, address(leaf_code));
		set(outer, at.frame_previous, address(entry));
	}
	if (at.cframe_frame != NONE) {
		set(cframe, at.cframe_frame, address(leaf));
		set(cframe, at.cframe_previous, address(root_cframe));
		set(thread, at.frame, address(cframe));
	}
	spoil();
	set(_PyRuntime, at.interpreters,
		address(interpreter)); /* not before: who looks is to see the lie and nothing else */
	puts("ready");
	work();
	STAYS_ON_THE_STACK();
}

static NOINLINE void rest(void (*spoil)(void))
{
	_PyEval_EvalFrameDefault(spoil);
	STAYS_ON_THE_STACK();
}

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	arguments = argv;
	how = argc > 1 ? argv[1] : "";
	if (!strcmp(how, "list")) {
		for (size_t i = 0; i < sizeof lies / sizeof *lies; i++)
			puts(lies[i].name);
		return 0;
	}
	for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
		if (strcmp(lies[i].name, how))
			continue;
		build();
		rest(lies[i].spoil);
	}
	return 2;
}
