/* A program that passes for a Java virtual machine (fake_jvm.h) and lies: liar_java HOW. `honest` is right in all of it; each of the others
 * spoils one thing. Prints "ready" once it spins. Chain: main; rest; the stub; outer; leaf. The code of the last three is in anonymous memory. */
#include "fake_jvm.h"

#include <pthread.h>
#include <stdio.h>
#include <sys/wait.h>

enum {
	MANY = 60000,
	EXEC_AFTER_NS = 5000000,
};

static const char *how;
static char **arguments;

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

static void stride_huge(void)
{
	gHotSpotVMStructEntryArrayStride = 1ULL << 60;
	gHotSpotVMTypeEntryArrayStride = 1ULL << 63;
}

static void stride_zero(void)
{
	gHotSpotVMStructEntryArrayStride = 0;
}

static void stride_odd(void)
{
	gHotSpotVMStructEntryArrayStride = 9;
	gHotSpotVMTypeEntryArrayStride = 255;
}

static void columns_outside(void)
{
	gHotSpotVMStructEntryFieldNameOffset = UINT64_MAX - 3;
	gHotSpotVMStructEntryAddressOffset = 1ULL << 63;
	gHotSpotVMTypeEntrySizeOffset = 4096;
}

static void table_without_end(void)
{
	size_t n = sizeof honest_structs / sizeof *honest_structs - 1;
	struct struct_row *rows = make(MANY * sizeof *rows);
	for (size_t i = 0; i < MANY; i++)
		rows[i] = honest_structs[i % n];
	structs = rows;
}

static void table_up_to_a_closed_page(void)
{
	char *pages = map(PAGE * 2, PROT_READ | PROT_WRITE);
	size_t n = PAGE / sizeof *structs;
	struct struct_row *rows = (void *)(pages + PAGE - n * sizeof *rows);
	for (size_t i = 0; i < n; i++)
		rows[i] = honest_structs[i % (sizeof honest_structs / sizeof *honest_structs - 1)];
	mprotect(pages + PAGE, PAGE, PROT_NONE);
	structs = rows;
}

static void names_without_end(void)
{
	char *text = make(4 << 20);
	memset(text, 'a', 4 << 20);
	for (int i = 0; structs[i].type; i++)
		structs[i].type = structs[i].field = structs[i].string = text + i * 64;
}

static void names_wild(void)
{
	for (int i = 0; structs[i].type; i++)
		structs[i].field = (void *)(uintptr_t)(random_word() >> random_word() % 40);
}

static void offsets_huge(void)
{
	for (int i = 0; structs[i].type; i++)
		structs[i].offset = structs[i].is_static ? 0 : UINT64_MAX - 7;
}

/* Small enough to be offsets, and too far to be read. */
static void offsets_far(void)
{
	for (int i = 0; structs[i].type; i++)
		structs[i].offset = structs[i].is_static ? 0 : 60000;
}

static void offsets_random(void)
{
	for (int i = 0; structs[i].type; i++)
		structs[i].offset = random_word() % 500;
}

static void sizes_huge(void)
{
	for (int i = 0; types[i].name; i++)
		types[i].size = 1ULL << 63;
}

static void sizes_zero(void)
{
	for (int i = 0; types[i].name; i++)
		types[i].size = 0;
}

static void constants_wild(void)
{
	for (int i = 0; constants[i].name; i++)
		constants[i].value = INT32_MIN;
}

static void statics_wild(void)
{
	for (int i = 0; structs[i].type; i++)
		if (structs[i].is_static)
			structs[i].address = (void *)(uintptr_t)(UINT64_MAX - 7);
}

static void version_old(void)
{
	major = 10;
}

static void version_spoils_lines(void)
{
	char *text = make(8192);
	memset(text, '9', 8191);
	memcpy(text, "17;\n\x1b[2J\xff\xfe", 11);
	release = text;
}

static void heaps_many(void)
{
	char **data = make((size_t)MANY * 8);
	for (int i = 0; i < MANY; i++)
		data[i] = heap;
	set(heaps, ARRAY_data, address(data));
	set4(heaps, ARRAY_len, MANY);
}

static void heaps_negative(void)
{
	set4(heaps, ARRAY_len, UINT32_MAX);
}

static void heaps_loop(void)
{
	set(heaps, ARRAY_data, address(heaps));
	set4(heaps, ARRAY_len, 8);
	set(heaps, 0, address(heaps));
}

static void heap_backwards(void)
{
	set(heap, HEAP_memory + SPACE_low, address(code + CODE));
	set(heap, HEAP_memory + SPACE_high, address(code));
}

static void heap_is_everything(void)
{
	set(heap, HEAP_memory + SPACE_low, 0);
	set(heap, HEAP_memory + SPACE_high, UINT64_MAX);
}

static void heap_shift_wild(void)
{
	set4(heap, HEAP_shift, 200);
}

static void heap_shift_zero(void)
{
	set4(heap, HEAP_shift, 0);
}

static void segmap_garbage(void)
{
	for (int i = 0; i < CODE >> SEGMENT_SHIFT; i++)
		segmap[i] = (char)random_word();
}

/* From each segment one back, for ever. */
static void segmap_without_begin(void)
{
	memset(segmap, 1, CODE >> SEGMENT_SHIFT);
}

static void segmap_free(void)
{
	memset(segmap, 0xff, CODE >> SEGMENT_SHIFT);
}

static void segmap_short(void)
{
	set(heap, HEAP_segmap + SPACE_high, address(segmap + 1));
}

static void segmap_closed(void)
{
	mprotect(segmap, PAGE, PROT_NONE);
}

static void blob_huge(void)
{
	set4(leaf, BLOB_size, INT32_MAX);
	set(leaf, BLOB_code_begin, 0);
	set(leaf, BLOB_code_end, UINT64_MAX);
	set4(leaf, BLOB_code_offset, 0);
	set4(leaf, BLOB_data_offset, INT32_MAX);
}

static void blob_negative(void)
{
	set4(leaf, BLOB_size, UINT32_MAX);
	set4(leaf, BLOB_frame_complete, UINT32_MAX);
	set4(leaf, BLOB_code_offset, 1U << 31);
}

static void blob_name_wild(void)
{
	set(leaf, BLOB_name, 1ULL << 62);
	set(outer, BLOB_name, 3);
}

static void blob_name_spoils_lines(void)
{
	set(stub, BLOB_name, address("a;b\nc\x1b[2J\t(d:1)_[j] 7\n\xff\xfe"));
	char *text = make(PAGE * 2);
	memset(text, 'b', PAGE * 2 - 1);
	set(leaf, BLOB_name, address(text));
}

static void frame_of_no_size(void)
{
	set4(leaf, BLOB_frame_size, 0);
	set4(outer, BLOB_frame_size, 0);
}

static void frame_of_negative_size(void)
{
	set4(leaf, BLOB_frame_size, UINT32_MAX - 3);
}

static void frame_huge(void)
{
	set4(leaf, BLOB_frame_size, INT32_MAX);
}

/* The caller's frame is the same one again: the return address that is found is one of the leaf itself. */
static void frames_loop(void)
{
	set4(leaf, BLOB_frame_size, 1);
	uint64_t here = address(leaf + CODE_AT + 5);
	/* 1: push $here, 64 times; jmp 1b: with the stack as it was */
	uint8_t *at = (uint8_t *)leaf + CODE_AT;
	const uint8_t begin[] = { 0x55, 0x48, 0x83, 0xec, 0x10, 0x48, 0xb8 };
	memcpy(at, begin, sizeof begin);
	set(at, 7, here);
	for (int i = 0; i < 64; i++)
		at[15 + i] = 0x50;
	at[79] = 0xeb;
	at[80] = 0xfe;
	set4(leaf, BLOB_frame_complete, 5);
}

static void pcs_huge(void)
{
	set4(leaf, NM_dependencies_offset, INT32_MAX);
	set4(leaf, NM_pcs_offset, VERSION == 17 ? 0 : 8);
	set4(leaf, NM_immutable_size, INT32_MAX);
}

static void pcs_backwards(void)
{
	set4(leaf, NM_pcs_offset, UINT32_MAX - 15);
}

static char *scopes(void)
{
	if (VERSION == 17)
		return leaf + SCOPES_AT;
	char *immutable;
	memcpy(&immutable, leaf + NM_immutable, 8);
	return immutable + IMMUTABLE_SCOPES;
}

static char *pcs(void)
{
	return VERSION == 17 ? leaf + PCS_AT : scopes() - PCS_BYTES;
}

static void pcs_of_noise(void)
{
	for (int i = 0; i < PCS_BYTES; i += 8)
		set(pcs(), i, random_word());
}

static void scope_far(void)
{
	set4(pcs(), PC_bytes + PC_scope, INT32_MAX);
}

static void scope_negative(void)
{
	set4(pcs(), PC_bytes + PC_scope, UINT32_MAX - 100);
}

/* Its caller is itself. */
static void scopes_loop(void)
{
	number(scopes() + 1, 1);
}

static void scopes_loop_of_two(void)
{
	char *at = number(scopes() + 1, 20);
	(void)at;
	at = number(scopes() + 20, 1);
	at = number(at, 1);
	number(at, 1);
}

/* Each byte of a number says that there is another one. */
static void numbers_without_end(void)
{
	memset(scopes() + 1, 0xff, PCS_AT - SCOPES_AT - 1);
}

static void scopes_of_noise(void)
{
	for (int i = 1; i < PCS_AT - SCOPES_AT - 8; i++)
		scopes()[i] = (char)random_word();
}

static void metadata_wild(void)
{
	char *at = number(scopes() + 1, 0);
	number(at, 180); /* of one method */
}

static void method_wild(void)
{
	set(leaf, METADATA_AT, 0x123456789abcdef8);
	set(leaf, NM_method, 0x123456789abcdef8);
	set(leaf, BLOB_mutable, 0x123456789abcdef8);
}

static void level_unknown(void)
{
	set4(leaf, NM_level, UINT32_MAX);
}

/* Where a frame's return address is the deoptimisation handler, the true one is in the frame: here it is the handler again. */
static void deoptimised_for_ever(void)
{
	set(outer, NM_deopt, address(outer + CODE_AT + 17));
	set(outer, NM_deopt_mh, address(outer + CODE_AT + 17));
	set4(outer, NM_deopt_offset, CODE_AT + 17);
	set4(outer, NM_original_pc, 24);
	set(leaf, NM_deopt, address(leaf + CODE_AT));
	set4(leaf, NM_original_pc, INT32_MAX);
}

static void const_wild(void)
{
	set(leaf_method, METHOD_const, address(arena + ARENA - 8));
}

static void code_size_huge(void)
{
	set2(leaf_const, CONST_code_size, UINT16_MAX);
}

static void name_index_outside(void)
{
	set2(leaf_const, CONST_name, UINT16_MAX);
	set2(leaf_const, CONST_signature, UINT16_MAX);
	set2(leaf_pool, POOL_source, UINT16_MAX);
}

static void pool_huge(void)
{
	name_index_outside();
	set4(leaf_pool, POOL_length, INT32_MAX);
}

static void pool_loops(void)
{
	set(leaf_pool, POOL_holder, address(leaf_pool));
	set(leaf_const, CONST_pool, address(leaf_const));
}

static void symbol_long(void)
{
	char *symbol = make(1 << 17);
	memset(symbol, 'x', 1 << 17);
	set2(symbol, SYMBOL_length, UINT16_MAX);
	set(leaf_pool, POOL_bytes + 8, address(symbol));
}

static void symbol_spoils_lines(void)
{
	set(leaf_pool, POOL_bytes + 8, address(make_symbol("a;b\nc\x1b[2J\t(d:1)_[j] 7\n\xff\xfe\xc0\x80")));
	set(leaf_klass, KLASS_name, address(make_symbol("a/;b/(\n/)_[1]\xed\xa0\x80/\x7f")));
}

static void symbol_closed(void)
{
	char *page = map(PAGE * 2, PROT_READ | PROT_WRITE);
	mprotect(page + PAGE, PAGE, PROT_NONE);
	set2(page, PAGE - 4, 500);
	set(leaf_pool, POOL_bytes + 8, address(page + PAGE - 4));
	set(leaf_pool, POOL_bytes + 24, address(page + PAGE));
}

static void symbol_empty(void)
{
	set2(leaf_name, SYMBOL_length, 0);
}

/* A table of lines that is not closed, in front of much that is not zero. */
static void lines_without_end(void)
{
	char *constant = make(4 << 20);
	memcpy(constant, leaf_const, CONST_bytes);
	memset(constant + CONST_bytes, 0xff, (4 << 20) - CONST_bytes);
	set(leaf_method, METHOD_const, address(constant));
}

static void lines_of_noise(void)
{
	char *constant = make(1 << 20);
	memcpy(constant, leaf_const, CONST_bytes);
	for (int i = CONST_bytes; i < (1 << 20) - 8; i += 8)
		set(constant, i, random_word() | 0x0101010101010101);
	set(leaf_method, METHOD_const, address(constant));
}

/* A frame of the interpreter whose every word is the same pointer. */
static void make_interpreted(uint64_t word)
{
	/* push %rbp; mov %rsp, %rbp; mov $word, %rax; push %rax 24 times; 1: jmp 1b */
	uint8_t bytes[15 + 24 + 2] = { 0x55, 0x48, 0x89, 0xe5, 0x48, 0xb8 };
	set(bytes, 6, word);
	memset(bytes + 14, 0x50, 25);
	memcpy(bytes + 39, "\xeb\xfe", 2);
	char *blob = make_blob("Interpreter", bytes, sizeof bytes, 0, -1);
	set(outer + CODE_AT, 7, address(blob + CODE_AT));
}

static void interpreter_of_nothing(void)
{
	make_interpreted(0);
}

static void interpreter_of_one_method(void)
{
	make_interpreted(address(leaf_method));
}

static void interpreter_in_circles(void)
{
	make_interpreted(address(outer + CODE_AT + 17));
}

static void interpreter_wild(void)
{
	make_interpreted(UINT64_MAX - 7);
}

/* Every frame's caller is this one: rbp points to itself. */
static void base_pointers_loop(void)
{
	/* push %rbp; mov %rsp, %rbp; mov %rbp, (%rbp); mov $here, %rax; mov %rax, 8(%rbp); here: jmp here */
	uint8_t bytes[] = { 0x55, 0x48, 0x89, 0xe5, 0x48, 0x89, 0x6d, 0, 0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0x48, 0x89,
		0x45, 8, 0xeb, 0xfe };
	char *blob = make_blob("Interpreter", bytes, sizeof bytes, 0, -1);
	set(blob + CODE_AT, 10, address(blob + CODE_AT + 22));
	set(outer + CODE_AT, 7, address(blob + CODE_AT));
}

static void wild_pointers(void)
{
	const uint64_t wild[] = { 1, 0xffffffffff600000, 0x8000000000000000, UINT64_MAX - 7, 0x7ffffffff000,
		address(arena + ARENA - 4) };
	set(leaf, BLOB_name, wild[random_word() % 6]);
	set(leaf, NM_method, wild[random_word() % 6]);
	set(leaf, NM_scopes, wild[random_word() % 6]);
	set(leaf, NM_immutable, wild[random_word() % 6]);
	set(outer, BLOB_code_begin, wild[random_word() % 6]);
	set(leaf_pool, POOL_holder, wild[random_word() % 6]);
}

static void closed_pages(void)
{
	char *page = map(PAGE * 2, PROT_NONE);
	set(leaf_method, METHOD_const, address(page + PAGE - 8));
	set(leaf_pool, POOL_holder, address(page));
}

static void *rewrite(void *unused)
{
	static char other[PAGE * 2];
	char *begin = leaf;
	for (;;) {
		memcpy(other, begin, BLOB_BYTES);
		for (int i = 0; i < 64; i++) {
			/* not the code itself: it runs */
			int at = (int)(random_word() % (BLOB_BYTES - 24));
			if (at + 8 <= CODE_AT || at >= CODE_AT + 16)
				set(begin, at, random_word() >> random_word() % 64);
		}
		memcpy(begin, other, CODE_AT);
		memcpy(begin + CODE_AT + 16, other + CODE_AT + 16, BLOB_BYTES - CODE_AT - 40);
	}
	return unused;
}

static void *turn_pages(void *unused)
{
	char *begin = (char *)((uintptr_t)leaf_method & -(uintptr_t)PAGE);
	for (;;) {
		mprotect(begin, PAGE, PROT_NONE);
		mprotect(begin, PAGE, PROT_READ | PROT_WRITE);
	}
	return unused;
}

static void *count_up(void *unused)
{
	for (uint32_t i = 0;; i++) {
		set4(leaf, NM_compile_id, i);
		set4(outer, NM_compile_id, i);
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

static void compiled_anew(void)
{
	spawn(count_up);
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

static void end(int signal)
{
	_exit(signal);
}

/* Children that end while they are read, one after the other; the parent sleeps. */
static void exiting(void)
{
	for (;;) {
		pid_t child = fork();
		if (!child) {
			workload_timer(SIGRTMIN, end, 0, EXEC_AFTER_NS, 0);
			return;
		}
		waitpid(child, NULL, 0);
	}
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
	LIE(stride_huge),
	LIE(stride_zero),
	LIE(stride_odd),
	LIE(columns_outside),
	LIE(table_without_end),
	LIE(table_up_to_a_closed_page),
	LIE(names_without_end),
	LIE(names_wild),
	LIE(offsets_huge),
	LIE(offsets_far),
	LIE(offsets_random),
	LIE(sizes_huge),
	LIE(sizes_zero),
	LIE(constants_wild),
	LIE(statics_wild),
	LIE(version_old),
	LIE(version_spoils_lines),
	LIE(heaps_many),
	LIE(heaps_negative),
	LIE(heaps_loop),
	LIE(heap_backwards),
	LIE(heap_is_everything),
	LIE(heap_shift_wild),
	LIE(heap_shift_zero),
	LIE(segmap_garbage),
	LIE(segmap_without_begin),
	LIE(segmap_free),
	LIE(segmap_short),
	LIE(segmap_closed),
	LIE(blob_huge),
	LIE(blob_negative),
	LIE(blob_name_wild),
	LIE(blob_name_spoils_lines),
	LIE(frame_of_no_size),
	LIE(frame_of_negative_size),
	LIE(frame_huge),
	LIE(frames_loop),
	LIE(pcs_huge),
	LIE(pcs_backwards),
	LIE(pcs_of_noise),
	LIE(scope_far),
	LIE(scope_negative),
	LIE(scopes_loop),
	LIE(scopes_loop_of_two),
	LIE(numbers_without_end),
	LIE(scopes_of_noise),
	LIE(metadata_wild),
	LIE(method_wild),
	LIE(level_unknown),
	LIE(deoptimised_for_ever),
	LIE(const_wild),
	LIE(code_size_huge),
	LIE(name_index_outside),
	LIE(pool_huge),
	LIE(pool_loops),
	LIE(symbol_long),
	LIE(symbol_spoils_lines),
	LIE(symbol_closed),
	LIE(symbol_empty),
	LIE(lines_without_end),
	LIE(lines_of_noise),
	LIE(interpreter_of_nothing),
	LIE(interpreter_of_one_method),
	LIE(interpreter_in_circles),
	LIE(interpreter_wild),
	LIE(base_pointers_loop),
	LIE(wild_pointers),
	LIE(closed_pages),
	LIE(rewriting),
	LIE(turning_pages),
	LIE(compiled_anew),
	LIE(executing),
	LIE(exiting),
#undef LIE
};

static NOINLINE void rest(void (*run)(void))
{
	run();
	STAYS_ON_THE_STACK();
}

int main(int argc, char **argv)
{
	how = argc > 1 ? argv[1] : "honest";
	arguments = argv;
	build();
	for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
		if (strcmp(lies[i].name, how))
			continue;
		lies[i].spoil();
		/* not before: who looks is to see the lie and nothing else */
		gHotSpotVMTypes = types;
		gHotSpotVMIntConstants = constants;
		gHotSpotVMLongConstants = (void *)make(64);
		gHotSpotVMStructs = structs;
		puts("ready");
		fflush(stdout);
		rest((void (*)(void))(uintptr_t)(stub + CODE_AT));
	}
	fprintf(stderr, "there is no lie '%s'\n", how);
	return 2;
}
