/* The memory of a Java virtual machine as liar_java.c has it before it lies: what a HotSpot exports, tables that say where its structures are, a
 * heap of code, and compiled methods that run. The frames are those of fake.Outer.outer, which calls fake.Leaf.leaf.
 *
 * VERSION (when built): 17 has pointers in its code, 25 offsets. */
#ifndef FAKE_JVM_H
#define FAKE_JVM_H

#include "../workloads/workload.h"

#include <stddef.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef VERSION
#define VERSION 17
#endif
#define EXPORTED __attribute__((visibility("default"), used))

enum {
	ARENA = 8 << 20,
	CODE = 1 << 20,
	PAGE = 4096,
	SEGMENT_SHIFT = 7,
	SEGMENT = 1 << SEGMENT_SHIFT,
	/* of a blob: its parts, from its beginning */
	CODE_AT = 256,
	METADATA_AT = 512,
	SCOPES_AT = 640,
	PCS_AT = 1024,
	PCS_BYTES = 4 * 16,
	IMMUTABLE_PCS = 16,
	IMMUTABLE_SCOPES = IMMUTABLE_PCS + PCS_BYTES,
	BLOB_BYTES = 2048,
	FRAME_WORDS = 4,
	LEAF_LINE = 7,
	OUTER_LINE = 3,
	LEVEL_C2 = 4,
	ACC_LINES = 1,
};

/* The structures, where we like to have them: the tables say so. */
/* clang-format off */
enum {
	ARRAY_len = 0, ARRAY_data = 8,
	HEAP_memory = 8, HEAP_segmap = 72, HEAP_shift = 136, HEAP_bytes = 192,
	SPACE_low = 8, SPACE_high = 16,
	BLOB_name = 8, BLOB_size = 16, BLOB_frame_size = 20, BLOB_frame_complete = 24, BLOB_code_begin = 32, BLOB_code_end = 40,
	BLOB_code_offset = 48, BLOB_data_offset = 52, BLOB_mutable = 56, BLOB_mutable_size = 64, BLOB_relocation_size = 68,
	NM_method = 72, NM_compile_id = 80, NM_level = 84, NM_original_pc = 88, NM_entry = 96, NM_deopt = 104, NM_deopt_mh = 112,
	NM_scopes = 120, NM_metadata_offset = 128, NM_scopes_offset = 132, NM_pcs_offset = 136, NM_dependencies_offset = 140,
	NM_immutable = 144, NM_immutable_size = 152, NM_entry_offset = 156, NM_deopt_offset = 160, NM_deopt_mh_offset = 164,
	NM_bytes = 192,
	METHOD_const = 8, METHOD_bytes = 64,
	CONST_pool = 8, CONST_flags = 16, CONST_code_size = 20, CONST_name = 22, CONST_signature = 24, CONST_bytes = 32,
	POOL_holder = 8, POOL_length = 16, POOL_source = 20, POOL_bytes = 32,
	KLASS_name = 8, KLASS_bytes = 64,
	SYMBOL_length = 0, SYMBOL_body = 2,
	PC_offset = 0, PC_scope = 4, PC_bytes = 16,
	HEAP_BLOCK_bytes = 16,
};
/* clang-format on */

struct struct_row {
	const char *type, *field, *string;
	int32_t is_static;
	uint64_t offset;
	void *address;
};
struct type_row {
	const char *name, *super;
	int32_t oop, integer, is_unsigned;
	uint64_t size;
};
struct constant_row {
	const char *name;
	int32_t value;
};

static char *arena, *next, *code, *code_next, *segmap;
static char *heaps, *heap, *leaf, *outer, *stub, *leaf_method, *leaf_const, *leaf_pool, *leaf_klass, *leaf_name;
static void *heaps_static, *call_stub_return;
static const char *release = VERSION == 17 ? "17.0.99+1-fake" : "25.0.99+1-fake";
static int32_t major = VERSION;
static struct struct_row *structs;
static struct type_row *types;
static struct constant_row *constants;

/* What debuggers look up in a libjvm. */
EXPORTED struct struct_row *gHotSpotVMStructs;
EXPORTED uint64_t gHotSpotVMStructEntryTypeNameOffset = offsetof(struct struct_row, type);
EXPORTED uint64_t gHotSpotVMStructEntryFieldNameOffset = offsetof(struct struct_row, field);
EXPORTED uint64_t gHotSpotVMStructEntryTypeStringOffset = offsetof(struct struct_row, string);
EXPORTED uint64_t gHotSpotVMStructEntryIsStaticOffset = offsetof(struct struct_row, is_static);
EXPORTED uint64_t gHotSpotVMStructEntryOffsetOffset = offsetof(struct struct_row, offset);
EXPORTED uint64_t gHotSpotVMStructEntryAddressOffset = offsetof(struct struct_row, address);
EXPORTED uint64_t gHotSpotVMStructEntryArrayStride = sizeof(struct struct_row);
EXPORTED struct type_row *gHotSpotVMTypes;
EXPORTED uint64_t gHotSpotVMTypeEntryTypeNameOffset = offsetof(struct type_row, name);
EXPORTED uint64_t gHotSpotVMTypeEntrySuperclassNameOffset = offsetof(struct type_row, super);
EXPORTED uint64_t gHotSpotVMTypeEntryIsOopTypeOffset = offsetof(struct type_row, oop);
EXPORTED uint64_t gHotSpotVMTypeEntryIsIntegerTypeOffset = offsetof(struct type_row, integer);
EXPORTED uint64_t gHotSpotVMTypeEntryIsUnsignedOffset = offsetof(struct type_row, is_unsigned);
EXPORTED uint64_t gHotSpotVMTypeEntrySizeOffset = offsetof(struct type_row, size);
EXPORTED uint64_t gHotSpotVMTypeEntryArrayStride = sizeof(struct type_row);
EXPORTED struct constant_row *gHotSpotVMIntConstants;
EXPORTED uint64_t gHotSpotVMIntConstantEntryNameOffset = offsetof(struct constant_row, name);
EXPORTED uint64_t gHotSpotVMIntConstantEntryValueOffset = offsetof(struct constant_row, value);
EXPORTED uint64_t gHotSpotVMIntConstantEntryArrayStride = sizeof(struct constant_row);
EXPORTED struct constant_row *gHotSpotVMLongConstants;
EXPORTED uint64_t gHotSpotVMLongConstantEntryNameOffset = offsetof(struct constant_row, name);
EXPORTED uint64_t gHotSpotVMLongConstantEntryValueOffset = offsetof(struct constant_row, value);
EXPORTED uint64_t gHotSpotVMLongConstantEntryArrayStride = sizeof(struct constant_row);
EXPORTED int JNI_CreateJavaVM(void **vm, void **environment, void *arguments_of_it);
int JNI_CreateJavaVM(void **vm, void **environment, void *arguments_of_it)
{
	(void)vm, (void)environment, (void)arguments_of_it;
	return -1;
}

static const struct struct_row honest_structs[] = {
#define AT(type, field, string, offset)                                                                                \
	{                                                                                                              \
		type, field, string, 0, offset, NULL                                                                   \
	}
#define STATIC(type, field, string, address)                                                                           \
	{                                                                                                              \
		type, field, string, 1, 0, address                                                                     \
	}
	STATIC("CodeCache", "_heaps", "GrowableArray<CodeHeap*>*", &heaps_static),
	STATIC("StubRoutines", "_call_stub_return_address", "address", &call_stub_return),
	STATIC("Abstract_VM_Version", "_s_vm_release", "const char*", &release),
	STATIC("Abstract_VM_Version", "_vm_major_version", "int", &major),
	AT("GrowableArrayBase", "_len", "int", ARRAY_len),
	AT("GrowableArray<int>", "_data", "int*", ARRAY_data),
	AT("CodeHeap", "_memory", "VirtualSpace", HEAP_memory),
	AT("CodeHeap", "_segmap", "VirtualSpace", HEAP_segmap),
	AT("CodeHeap", "_log2_segment_size", "int", HEAP_shift),
	AT("VirtualSpace", "_low_boundary", "char*", SPACE_low),
	AT("VirtualSpace", "_high_boundary", "char*", SPACE_high),
	AT("CodeBlob", "_name", "const char*", BLOB_name),
	AT("CodeBlob", "_size", "int", BLOB_size),
	AT("CodeBlob", "_frame_size", "int", BLOB_frame_size),
	AT("CodeBlob", "_frame_complete_offset", "int", BLOB_frame_complete),
#if VERSION == 17
	AT("CodeBlob", "_code_begin", "address", BLOB_code_begin),
	AT("CodeBlob", "_code_end", "address", BLOB_code_end),
	AT("CompiledMethod", "_method", "Method*", NM_method),
	AT("nmethod", "_verified_entry_point", "address", NM_entry),
	AT("CompiledMethod", "_deopt_handler_begin", "address", NM_deopt),
	AT("CompiledMethod", "_deopt_mh_handler_begin", "address", NM_deopt_mh),
	AT("CompiledMethod", "_scopes_data_begin", "address", NM_scopes),
	AT("nmethod", "_metadata_offset", "int", NM_metadata_offset),
#else
	AT("CodeBlob", "_code_offset", "int", BLOB_code_offset),
	AT("CodeBlob", "_data_offset", "int", BLOB_data_offset),
	AT("CodeBlob", "_mutable_data", "address", BLOB_mutable),
	AT("CodeBlob", "_mutable_data_size", "int", BLOB_mutable_size),
	AT("CodeBlob", "_relocation_size", "int", BLOB_relocation_size),
	AT("nmethod", "_method", "Method*", NM_method),
	AT("nmethod", "_verified_entry_offset", "int", NM_entry_offset),
	AT("nmethod", "_deopt_handler_offset", "int", NM_deopt_offset),
	AT("nmethod", "_deopt_mh_handler_offset", "int", NM_deopt_mh_offset),
	AT("nmethod", "_scopes_data_offset", "int", NM_scopes_offset),
	AT("nmethod", "_immutable_data", "address", NM_immutable),
	AT("nmethod", "_immutable_data_size", "int", NM_immutable_size),
#endif
	AT("nmethod", "_compile_id", "int", NM_compile_id),
	AT("nmethod", "_comp_level", "int", NM_level),
	AT("nmethod", "_orig_pc_offset", "int", NM_original_pc),
	AT("nmethod", "_scopes_pcs_offset", "int", NM_pcs_offset),
	AT("nmethod", "_dependencies_offset", "int", NM_dependencies_offset),
	AT("PcDesc", "_pc_offset", "int", PC_offset),
	AT("PcDesc", "_scope_decode_offset", "int", PC_scope),
	AT("Method", "_constMethod", "ConstMethod*", METHOD_const),
	AT("ConstMethod", "_constants", "ConstantPool*", CONST_pool),
	AT("ConstMethod", VERSION == 17 ? "_flags" : "_flags._flags", VERSION == 17 ? "u2" : "u4", CONST_flags),
	AT("ConstMethod", "_code_size", "u2", CONST_code_size),
	AT("ConstMethod", "_name_index", "u2", CONST_name),
	AT("ConstMethod", "_signature_index", "u2", CONST_signature),
	AT("ConstantPool", "_pool_holder", "InstanceKlass*", POOL_holder),
	AT("ConstantPool", "_length", "int", POOL_length),
	AT("ConstantPool", "_source_file_name_index", "u2", POOL_source),
	AT("Klass", "_name", "Symbol*", KLASS_name),
	AT("Symbol", "_length", "u2", SYMBOL_length),
	AT("Symbol", "_body[0]", "u1", SYMBOL_body),
	AT("Symbol", "_body", "u1", SYMBOL_body),
	{ NULL, NULL, NULL, 0, 0, NULL },
};

static const struct type_row honest_types[] = {
	{ "HeapBlock", NULL, 0, 0, 0, HEAP_BLOCK_bytes },
	{ "CodeBlob", NULL, 0, 0, 0, BLOB_relocation_size + 4 },
	{ "nmethod", "CodeBlob", 0, 0, 0, NM_bytes },
	{ "PcDesc", NULL, 0, 0, 0, PC_bytes },
	{ "ConstantPool", NULL, 0, 0, 0, POOL_bytes },
	{ "ConstMethod", NULL, 0, 0, 0, CONST_bytes },
	{ NULL, NULL, 0, 0, 0, 0 },
};

static const struct constant_row honest_constants[] = {
	{ "frame::entry_frame_call_wrapper_offset", -6 },
	{ "ConstMethod::_has_linenumber_table", ACC_LINES },
	{ "ConstMethodFlags::_misc_has_linenumber_table", ACC_LINES },
	{ NULL, 0 },
};

static void *make(size_t n)
{
	char *made = next;
	next += (n + 63) & ~63UL;
	if (next > arena + ARENA)
		abort();
	return made;
}

static void *make_copy(const void *what, size_t n)
{
	return memcpy(make(n), what, n);
}

static void set(void *object, int offset, uint64_t value)
{
	memcpy((char *)object + offset, &value, sizeof value);
}

static void set4(void *object, int offset, uint32_t value)
{
	memcpy((char *)object + offset, &value, sizeof value);
}

static void set2(void *object, int offset, uint16_t value)
{
	memcpy((char *)object + offset, &value, sizeof value);
}

static uint64_t address(const void *object)
{
	return (uint64_t)(uintptr_t)object;
}

static void *map(size_t n, int protection)
{
	void *made = mmap(NULL, n, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (made == MAP_FAILED)
		abort();
	return made;
}

static char *make_symbol(const char *words)
{
	char *symbol = make(strlen(words) + 16);
	set2(symbol, SYMBOL_length, (uint16_t)strlen(words));
	memcpy(symbol + SYMBOL_body, words, strlen(words));
	return symbol;
}

/* A class of one method: constants 1 to 4 are its name, its signature, the file, the class. Returns the method. */
static char *make_method(const char *owner, const char *name, const char *file, int line)
{
	char *klass = make(KLASS_bytes), *pool = make(POOL_bytes + 5 * 8), *constant = make(CONST_bytes + 64),
	     *method = make(METHOD_bytes);
	set(klass, KLASS_name, address(make_symbol(owner)));
	set(pool, POOL_holder, address(klass));
	set4(pool, POOL_length, 5);
	set2(pool, POOL_source, 3);
	set(pool, POOL_bytes + 8, address(make_symbol(name)));
	set(pool, POOL_bytes + 16, address(make_symbol("()V")));
	set(pool, POOL_bytes + 24, address(make_symbol(file)));
	set(constant, CONST_pool, address(pool));
	set4(constant, CONST_flags, ACC_LINES);
	set2(constant, CONST_code_size, 8);
	set2(constant, CONST_name, 1);
	set2(constant, CONST_signature, 2);
	/* behind 8 bytes of code: at 0 this line, by steps of a byte: the lower 3 bits are its lines, the others bytes of code */
	constant[CONST_bytes + 8] = (char)line;
	set(method, METHOD_const, address(constant));
	return method;
}

/* UNSIGNED5 of small numbers: a byte each, from 20 on without 0. */
static char *number(char *to, unsigned value)
{
	*to = (char)(value + (VERSION >= 20));
	return to + 1;
}

/* One block of the heap, with its segments marked. */
static char *make_blob(const char *name, const void *machine_code, size_t n, int frame_words, int complete)
{
	char *block = code_next, *blob = block + HEAP_BLOCK_bytes;
	size_t first = (size_t)(block - code) >> SEGMENT_SHIFT, segments = BLOB_BYTES >> SEGMENT_SHIFT;
	for (size_t i = 0; i < segments; i++)
		segmap[first + i] = (char)i;
	code_next += BLOB_BYTES;
	set(block, 0, segments);
	block[8] = 1; /* used */
	set(blob, BLOB_name, address(make_copy(name, strlen(name) + 1)));
	set4(blob, BLOB_size, BLOB_BYTES - HEAP_BLOCK_bytes);
	set4(blob, BLOB_frame_size, (uint32_t)frame_words);
	set4(blob, BLOB_frame_complete, (uint32_t)complete);
	set(blob, BLOB_code_begin, address(blob + CODE_AT));
	set(blob, BLOB_code_end, address(blob + METADATA_AT));
	set4(blob, BLOB_code_offset, CODE_AT);
	set4(blob, BLOB_data_offset, METADATA_AT);
	memcpy(blob + CODE_AT, machine_code, n);
	return blob;
}

/* A compiled method that has one scope, at one place of its code. */
static char *make_compiled(char *method, const void *machine_code, size_t n, int pc)
{
	static uint32_t compile_id = 40;
	char *blob = make_blob("nmethod", machine_code, n, FRAME_WORDS, 5);
	char *at = blob + SCOPES_AT + 1;
	at = number(at, 0); /* no caller inside of this one */
	at = number(at, 1); /* the first of its methods */
	at = number(at, 1); /* byte 0 of its code */
	memset(at, VERSION >= 20, 8);
	set(blob, METADATA_AT, address(method));
	const uint32_t pcs[4][4] = { { UINT32_MAX, 0, 0, 0 }, { (uint32_t)pc, 1, 0, 0 }, { 1 << 20, 0, 0, 0 } };
	memcpy(blob + PCS_AT, pcs, sizeof pcs);
	set(blob, NM_method, address(method));
	set4(blob, NM_compile_id, ++compile_id);
	set4(blob, NM_level, LEVEL_C2);
	set4(blob, NM_original_pc, 8);
	set(blob, NM_entry, address(blob + CODE_AT));
	set(blob, NM_deopt, address(blob + METADATA_AT - 16));
	set(blob, NM_deopt_mh, address(blob + METADATA_AT - 8));
	set4(blob, NM_deopt_offset, METADATA_AT - 16);
	set4(blob, NM_deopt_mh_offset, METADATA_AT - 8);
#if VERSION == 17
	set(blob, NM_scopes, address(blob + SCOPES_AT));
	set4(blob, NM_metadata_offset, METADATA_AT);
	set4(blob, NM_pcs_offset, PCS_AT);
	set4(blob, NM_dependencies_offset, PCS_AT + 3 * PC_bytes);
#else
	/* places and scopes in memory of their own, likewise the methods */
	char *immutable = make(BLOB_BYTES), *mutable = make(64);
	memcpy(immutable + IMMUTABLE_PCS, blob + PCS_AT, sizeof pcs);
	memcpy(immutable + IMMUTABLE_SCOPES, blob + SCOPES_AT, PCS_AT - SCOPES_AT);
	set(mutable, 16, address(method));
	set(blob, BLOB_mutable, address(mutable));
	set4(blob, BLOB_mutable_size, 24);
	set4(blob, BLOB_relocation_size, 16);
	set(blob, NM_immutable, address(immutable));
	set4(blob, NM_immutable_size, IMMUTABLE_SCOPES + PCS_AT - SCOPES_AT);
	set4(blob, NM_pcs_offset, IMMUTABLE_PCS);
	set4(blob, NM_scopes_offset, IMMUTABLE_SCOPES);
#endif
	return blob;
}

static void build(void)
{
	arena = next = map(ARENA, PROT_READ | PROT_WRITE);
	code = map(CODE, PROT_READ | PROT_WRITE | PROT_EXEC);
	segmap = map(CODE >> SEGMENT_SHIFT, PROT_READ | PROT_WRITE);
	memset(segmap, 0xff, CODE >> SEGMENT_SHIFT);
	make(PAGE);
	code_next = code + PAGE;
	structs = make_copy(honest_structs, sizeof honest_structs);
	types = make_copy(honest_types, sizeof honest_types);
	constants = make_copy(honest_constants, sizeof honest_constants);
	heaps = make(64);
	heap = make(HEAP_bytes);
	char **data = make(64);
	*data = heap;
	set4(heaps, ARRAY_len, 1);
	set(heaps, ARRAY_data, address(data));
	set(heap, HEAP_memory + SPACE_low, address(code));
	set(heap, HEAP_memory + SPACE_high, address(code + CODE));
	set(heap, HEAP_segmap + SPACE_low, address(segmap));
	set(heap, HEAP_segmap + SPACE_high, address(segmap + (CODE >> SEGMENT_SHIFT)));
	set4(heap, HEAP_shift, SEGMENT_SHIFT);
	heaps_static = heaps;

	/* push %rbp; sub $16, %rsp; 1: inc %rax; jmp 1b */
	const uint8_t leaf_code[] = { 0x55, 0x48, 0x83, 0xec, 0x10, 0x48, 0xff, 0xc0, 0xeb, 0xfb };
	leaf_method = make_method("fake/Leaf", "leaf", "Leaf.java", LEAF_LINE);
	leaf = make_compiled(leaf_method, leaf_code, sizeof leaf_code, sizeof leaf_code);
	/* push %rbp; sub $16, %rsp; mov $leaf, %rax; call *%rax */
	uint8_t outer_code[] = { 0x55, 0x48, 0x83, 0xec, 0x10, 0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xd0, 0xcc };
	set(outer_code, 7, address(leaf + CODE_AT));
	outer = make_compiled(
		make_method("fake/Outer", "outer", "Outer.java", OUTER_LINE), outer_code, sizeof outer_code, 17);
	/* push %rbp; mov %rsp, %rbp; sub $0x60, %rsp; mov $outer, %rax; call *%rax */
	uint8_t stub_code[] = { 0x55, 0x48, 0x89, 0xe5, 0x48, 0x83, 0xec, 0x60, 0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0,
		0xff, 0xd0, 0xcc };
	set(stub_code, 10, address(outer + CODE_AT));
	stub = make_blob("StubRoutines (1)", stub_code, sizeof stub_code, 0, -1);
	call_stub_return = stub + CODE_AT + 20;
	memcpy(&leaf_const, leaf_method + METHOD_const, 8);
	memcpy(&leaf_pool, leaf_const + CONST_pool, 8);
	memcpy(&leaf_klass, leaf_pool + POOL_holder, 8);
	memcpy(&leaf_name, leaf_pool + POOL_bytes + 8, 8);
}

#endif
