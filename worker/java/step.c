#include "java/step.h"

#include "java/x86.h"

#include "common/clock.h"

#include <errno.h>
#include <string.h>

enum {
	WORD = 8,
	RECORD_MAX = 1 << 20,      /* bytes: a frame record farther from the stack pointer is none */
	PUSHED_MAX = 6,            /* registers that a stub keeps on the stack */
	ENTRY_MAX = 64 << 10,      /* bytes of arguments that a frame being made has moved */
	INTERPRETER_SENDER_SP = 1, /* words below the frame pointer (src/hotspot/cpu/x86/frame_x86.hpp): */
	INTERPRETER_METHOD = 3,
	INTERPRETER_WORDS_MAX = 8, /* the lowest is the bytecode's (java_layout.bytecode_at) */
	/* An entry frame, below its frame pointer (stubGenerator_x86_64.cpp, call stub): */
	ENTRY_CALL_WRAPPER = 6,
	ENTRY_RBX,
	ENTRY_R12,
	ENTRY_R13,
	ENTRY_R14,
	ENTRY_R15,
};

struct step {
	struct java_vm *vm;
	const struct unwind_env *env;
	struct regs *regs;
	struct java_known *known;
	struct java_note *note;
	enum java_trouble trouble;
	uint64_t pc, sp, fp; /* fp 0: not known */
	bool exact, switched, cut;
	const struct java_fetched *fetched; /* the frame is in this chunk; NULL: on the stack */
};

/* The frames of a chunk, and what is read below the first of them. */
static bool is_fetched(const struct java_fetched *f, uint64_t address, size_t n)
{
	uint64_t from = f->chunk.first - JAVA_CHUNK_RECORD;
	return address >= from && address - from <= f->chunk.bytes && n <= f->chunk.bytes - (address - from);
}

static int read_stack(const struct step *s, uint64_t address, void *buf, size_t n)
{
	const struct java_fetched *f = s->fetched;
	if (!f || !is_fetched(f, address, n))
		return f ? -EFAULT : s->env->read(s->env->context, address, buf, n);
	memcpy(buf, f->bytes + (address - (f->chunk.first - JAVA_CHUNK_RECORD)), n);
	return 0;
}

static int read_code(const struct step *s, uint64_t address, void *buf, size_t n)
{
	return java_read(&s->vm->memory, address, buf, n);
}

static int undecided(struct step *s)
{
	s->trouble = JAVA_TROUBLE_UNDECIDED;
	return UNWIND_NO_RULE;
}

static bool is_interpreter(struct step *s, uint64_t return_address)
{
	struct java_known *known;
	return !java_vm_blob(s->vm, return_address - 1, &known) && known->blob.kind == JAVA_BLOB_INTERPRETER;
}

/* The outermost frame of a chunk returns to the carrier, or to what fetches the next chunk. */
static bool is_last_fetched(const struct step *s, uint64_t pc, uint64_t sp)
{
	return s->fetched && (sp + JAVA_CHUNK_RECORD >= s->fetched->chunk.bottom || pc == s->vm->chunks.barrier);
}

/* In a chunk an interpreted frame's pointer is how many words it is from where it is kept, because chunks move. */
static uint64_t frame_pointer(struct step *s, uint64_t at, const uint64_t *record)
{
	return s->fetched && is_interpreter(s, record[1]) ? at + record[0] * WORD : record[0];
}

static int set_caller(struct step *s, uint64_t pc, uint64_t sp, uint64_t fp)
{
	struct regs caller = { .known = 0 };
	regs_set(&caller, REG_PC, pc);
	regs_set(&caller, REG_SP, sp);
	regs_set(&caller, REG_FP, fp);
	*s->regs = caller;
	return UNWIND_CALLER;
}

/* To the first frame of the next chunk that was copied. False: there is none; or the machine was just changing it. */
static bool open_chunk(struct step *s, struct java_fetched *f)
{
	struct java_chunk chunk;
	uint64_t record[2];
	if (f->rest_bytes < sizeof chunk)
		return false;
	memcpy(&chunk, f->rest, sizeof chunk);
	if (chunk.bytes < JAVA_CHUNK_RECORD || chunk.bytes > f->rest_bytes - sizeof chunk)
		return false;
	memcpy(record, f->rest + sizeof chunk, sizeof record);
	if (record[1] == s->vm->chunks.barrier)
		return false;
	f->chunk = chunk;
	f->bytes = f->rest + sizeof chunk;
	f->rest = f->bytes + chunk.bytes;
	f->rest_bytes -= sizeof chunk + chunk.bytes;
	s->fetched = f;
	s->switched = true;
	set_caller(s, record[1], chunk.first, frame_pointer(s, chunk.first - JAVA_CHUNK_RECORD, record));
	return true;
}

static int to_carrier(struct step *s)
{
	*s->regs = s->vm->fetched.carrier;
	s->switched = true;
	return UNWIND_CALLER;
}

static int to_caller(struct step *s, uint64_t pc, uint64_t sp, uint64_t fp)
{
	struct java_fetched *f = &s->vm->fetched;
	if (!is_last_fetched(s, pc, sp))
		return set_caller(s, pc, sp, fp);
	s->cut = f->chunk.cut;
	if (open_chunk(s, f))
		return UNWIND_CALLER;
	s->cut |= f->rest_bytes > 0;
	return to_carrier(s);
}

/* The caller of a frame whose return address is at `at`. */
static int by_return(struct step *s, uint64_t at, uint64_t fp)
{
	uint64_t pc;
	if (read_stack(s, at, &pc, sizeof pc) < 0)
		return UNWIND_NO_MEMORY;
	return to_caller(s, pc, at + WORD, fp);
}

/* The same, with the caller's frame pointer below the return address. */
static int by_record(struct step *s, uint64_t at)
{
	uint64_t record[2];
	if (read_stack(s, at, record, sizeof record) < 0)
		return UNWIND_NO_MEMORY;
	return to_caller(s, record[1], at + sizeof record, frame_pointer(s, at, record));
}

static bool has_record(const struct step *s)
{
	return s->fp >= s->sp && s->fp - s->sp <= RECORD_MAX && s->fp % WORD == 0;
}

static int by(struct step *s, enum x86_frame frame)
{
	uint32_t bytes = s->known->blob.frame_bytes;
	switch (frame) {
	case X86_STANDS:
		return bytes >= 2 * WORD ? by_record(s, s->sp + bytes - 2 * WORD) : by_return(s, s->sp, s->fp);
	case X86_UNSAVED:
		return by_return(s, s->sp + bytes - WORD, s->fp);
	case X86_RETURN:
		return by_return(s, s->sp, s->fp);
	case X86_PUSHED:
		return by_record(s, s->sp);
	case X86_POPPED:
		return s->exact ? to_caller(s, s->regs->r[DWARF_RDX], s->sp, s->fp) : undecided(s);
	case X86_RECORD:
		return has_record(s) ? by_record(s, s->fp) : undecided(s);
	default:
		return undecided(s);
	}
}

/* What the instructions in front of the interrupted one have made of the stack. */
static enum x86_frame by_prologue(const struct step *s, uint64_t entry)
{
	uint8_t code[X86_PROLOGUE_MAX];
	uint64_t n = s->pc - entry;
	if (n > sizeof code || s->known->blob.frame_bytes < 2 * WORD)
		return n > sizeof code ? X86_STANDS : X86_RETURN;
	return read_code(s, entry, code, n) < 0 ? X86_UNKNOWN : x86_prologue(code, n, s->known->blob.frame_bytes);
}

static enum x86_frame by_end(const struct step *s, enum x86_frame (*end)(const uint8_t *code))
{
	uint8_t code[X86_BEFORE + X86_BEHIND];
	if (read_code(s, s->pc - X86_BEFORE, code, sizeof code) < 0)
		return X86_UNKNOWN;
	return end(code + X86_BEFORE);
}

/* Calls of Java are listed, and stand in the code proper. */
static bool is_listed(struct step *s)
{
	static struct java_scope scopes[JAVA_INLINED_MAX];
	const struct java_blob *b = &s->known->blob;
	return !java_vm_scopes(s->vm, s->known) &&
	       java_scopes_at(&s->vm->layout, &s->known->scopes, (uint32_t)(s->pc - b->code), true, scopes) > 0;
}

/* What the optimising compiler's slow paths have put below the frame. */
static uint32_t saved_below(struct step *s)
{
	enum { OPTIMISED = 4 };
	const struct java_blob *b = &s->known->blob;
	uint8_t code[X86_SLOW_PATH_MAX];
	uint64_t n = b->code_end - s->pc < sizeof code ? b->code_end - s->pc : sizeof code;
	if (b->level != OPTIMISED || s->pc < b->code || s->pc >= b->code_end || (!s->exact && is_listed(s)) ||
		read_code(s, s->pc, code, n) < 0)
		return 0;
	return x86_saved_below(code, n);
}

static int step_compiled(struct step *s)
{
	const struct java_blob *b = &s->known->blob;
	uint64_t original;
	*s->note = (struct java_note) { JAVA_NOTE_COMPILED, s->known, 0, s->pc, s->exact, 0, -1, false };
	/* A caller whose frame is to be interpreted is returned to elsewhere; where it really called is kept in its frame. */
	if (!s->exact && (s->pc == b->deopt || s->pc == b->deopt_mh)) {
		if (read_stack(s, s->sp + b->original_pc, &original, sizeof original) < 0)
			return UNWIND_NO_MEMORY;
		if (original >= b->code && original < b->code_end)
			s->note->pc = original;
	}
	if (!b->frame_bytes)
		return by(s, X86_RETURN);
	enum x86_frame frame = X86_STANDS;
	if (s->exact && s->pc < b->entry)
		frame = X86_RETURN;
	else if (s->exact && s->pc < b->frame_complete)
		frame = by_prologue(s, b->entry);
	else if (s->exact)
		frame = by_end(s, x86_epilogue);
	if (frame == X86_STANDS)
		s->sp += saved_below(s);
	return by(s, frame);
}

/* The bytecode that a pointer is in: its index, or -1. */
static int32_t index_of(const struct java_method *m, uint64_t bytecode)
{
	return bytecode - m->codes < m->code_size ? (int32_t)(bytecode - m->codes) : -1;
}

static bool is_call(const struct step *s, uint64_t pc)
{
	uint8_t code[X86_CALL_MAX];
	uint64_t target;
	return java_heap_of(&s->vm->heaps, pc) && !read_code(s, pc - sizeof code, code, sizeof code) &&
	       x86_call_before(code + sizeof code, pc, &target) != X86_NO_CALL;
}

/* An address at which somebody waits for Java code to return. */
static bool is_return_address(const struct step *s, uint64_t pc)
{
	return pc == s->vm->call_stub_return || is_call(s, pc) ||
	       (java_heap_of(&s->vm->heaps, pc) &&
		       java_heap_of(&s->vm->heaps, pc) == java_heap_of(&s->vm->heaps, s->pc));
}

static void note_interpreted(struct step *s, uint64_t method, int32_t bci)
{
	*s->note = (struct java_note) { JAVA_NOTE_INTERPRETED, s->known, 0, s->pc, s->exact, method, bci, false };
}

/* A frame that stands, at rbp. */
static int step_interpreter_frame(struct step *s, uint64_t bytecode)
{
	uint64_t below[INTERPRETER_WORDS_MAX], n = s->vm->layout.bytecode_at, record[2];
	struct java_named *named;
	if (!has_record(s))
		return undecided(s);
	if (read_stack(s, s->fp - n * WORD, below, n * WORD) < 0 || read_stack(s, s->fp, record, sizeof record) < 0)
		return UNWIND_NO_MEMORY;
	uint64_t method = below[n - INTERPRETER_METHOD], sender = below[n - INTERPRETER_SENDER_SP];
	if (s->fetched) /* likewise */
		sender = s->fp + sender * WORD;
	if (sender <= s->fp || sender - s->fp > RECORD_MAX || java_vm_method(s->vm, method, &named) < 0)
		return undecided(s);
	int32_t bci = bytecode ? index_of(&named->method, bytecode) : -1;
	if (bci < 0)
		bci = index_of(&named->method, below[0]);
	if (bci < 0 && s->vm->layout.major == JAVA_8 && below[0] < named->method.code_size)
		bci = (int32_t)below[0]; /* so it is while all garbage is collected (frame::gc_prologue) */
	if (bci < 0 && named->method.code_size)
		return undecided(s);
	note_interpreted(s, method, bci);
	return to_caller(s, record[1], sender, frame_pointer(s, s->fp, record));
}

/* The end of a return: the frame is gone, and the caller's stack pointer is in rbx, the return address on the stack or in r13
 * (InterpreterMacroAssembler::remove_activation). -ENOENT: it is not there. */
static int step_interpreter_return(struct step *s)
{
	static const uint8_t pop[] = { 0x41, 0x5d, 0x48, 0x8b, 0xe3 }, move[] = { 0x48, 0x8b, 0xe3, 0x41, 0xff, 0xe5 },
			     jump[] = { 0x41, 0xff, 0xe5 };
	uint8_t code[8];
	uint64_t rbx = s->regs->r[DWARF_RBX], r13 = s->regs->r[DWARF_R13], pc = r13;
	if (read_code(s, s->pc, code, sizeof code) < 0)
		return -ENOENT;
	if (!memcmp(code, pop, sizeof pop)) {
		if (read_stack(s, s->sp, &pc, sizeof pc) < 0)
			return UNWIND_NO_MEMORY;
	} else if (!memcmp(code, jump, sizeof jump)) {
		rbx = s->sp;
	} else if (memcmp(code, move, sizeof move)) {
		return -ENOENT;
	}
	if (rbx < s->sp || rbx - s->sp > RECORD_MAX || !is_return_address(s, pc))
		return -ENOENT;
	*s->note = (struct java_note) { JAVA_NOTE_STUB, s->known, 0, s->pc, s->exact, 0, -1, false };
	return to_caller(s, pc, rbx, s->fp);
}

/* The entry of a method: rbx is the method, r13 the caller's stack pointer, and the frame is not there yet. The return address is on the
 * stack, or in rax while the locals are made room for. -ENOENT: it is not that. */
static int step_interpreter_entry(struct step *s)
{
	uint64_t method = s->regs->r[DWARF_RBX], sender = s->regs->r[DWARF_R13], rax = s->regs->r[DWARF_RAX], top,
		 record[2];
	struct java_named *named;
	if (sender <= s->sp || sender - s->sp > ENTRY_MAX || sender % WORD || java_vm_method(s->vm, method, &named) < 0)
		return -ENOENT;
	note_interpreted(s, method, named->method.code_size ? 0 : -1);
	if (s->fp >= s->sp && s->fp < sender) {
		if (read_stack(s, s->fp, record, sizeof record) < 0)
			return UNWIND_NO_MEMORY;
		return is_return_address(s, record[1]) ? to_caller(s, record[1], sender, record[0]) : undecided(s);
	}
	if (read_stack(s, s->sp, &top, sizeof top) < 0)
		return UNWIND_NO_MEMORY;
	if (is_return_address(s, top))
		return to_caller(s, top, sender, s->fp);
	return is_return_address(s, rax) ? to_caller(s, rax, sender, s->fp) : undecided(s);
}

/* A little later in the entry: the record is there, and the caller's stack pointer, but not all that comes below; r13 is at the first
 * bytecode already. -ENOENT: it is not that. */
static int step_interpreter_half(struct step *s)
{
	uint64_t method = s->regs->r[DWARF_RBX], sender, record[2];
	struct java_named *named;
	if (!has_record(s) || s->fp - s->sp >= s->vm->layout.bytecode_at * WORD || s->fp - s->sp < WORD ||
		java_vm_method(s->vm, method, &named) < 0)
		return -ENOENT;
	if (read_stack(s, s->fp - WORD, &sender, sizeof sender) < 0 || read_stack(s, s->fp, record, sizeof record) < 0)
		return UNWIND_NO_MEMORY;
	if (sender <= s->fp || sender - s->fp > RECORD_MAX || !is_return_address(s, record[1]))
		return -ENOENT;
	note_interpreted(s, method, named->method.code_size ? 0 : -1);
	return to_caller(s, record[1], sender, record[0]);
}

static int step_interpreter(struct step *s)
{
	if (!s->exact)
		return step_interpreter_frame(s, 0);
	int r = step_interpreter_return(s);
	if (r == -ENOENT)
		r = step_interpreter_entry(s);
	if (r == -ENOENT)
		r = step_interpreter_half(s);
	return r == -ENOENT ? step_interpreter_frame(s, s->regs->r[DWARF_R13]) : r;
}

/* Whether a stack pointer fits compiled code that was called from there: its own return address is where its frame has it. */
static bool fits_caller(const struct step *s, uint64_t pc, uint64_t sp)
{
	struct java_known *caller;
	uint64_t return_address;
	return !java_vm_blob(s->vm, pc - 1, &caller) && caller->blob.kind == JAVA_BLOB_COMPILED &&
	       caller->blob.frame_bytes >= 2 * WORD &&
	       !read_stack(s, sp + caller->blob.frame_bytes - WORD, &return_address, WORD) &&
	       is_return_address(s, return_address);
}

/* Between two conventions: the return address is on the stack, or in rax while arguments are moved. A c2i adapter keeps the caller's
 * stack pointer in r13, but for its first instructions, when r13 may be that of an older call. */
static int step_adapter(struct step *s)
{
	uint64_t top, rax = s->regs->r[DWARF_RAX], sender = s->regs->r[DWARF_R13];
	if (!s->exact)
		return undecided(s);
	if (read_stack(s, s->sp, &top, sizeof top) < 0)
		return UNWIND_NO_MEMORY;
	uint64_t pc = is_return_address(s, top) ? top : rax;
	if (!is_return_address(s, pc))
		return undecided(s);
	if (pc == top && fits_caller(s, pc, s->sp + WORD))
		return to_caller(s, pc, s->sp + WORD, s->fp);
	bool kept = sender >= s->sp && sender - s->sp <= ENTRY_MAX && sender % WORD == 0;
	return to_caller(s, pc, kept ? sender : s->sp + WORD, s->fp);
}

/* Where a call that returns to `pc` leads, if it leads into this blob; 0: it does not, or that is not known. */
static uint64_t called_by(const struct step *s, uint64_t pc)
{
	uint8_t code[X86_CALL_MAX];
	uint64_t target;
	if (!java_heap_of(&s->vm->heaps, pc) || read_code(s, pc - sizeof code, code, sizeof code) < 0 ||
		x86_call_before(code + sizeof code, pc, &target) != X86_DIRECT_CALL)
		return 0;
	return target >= s->known->blob.code && target < s->known->blob.code_end ? target : 0;
}

/* Native code that calls into a code heap: to flush an instruction cache, say. */
static bool is_native(const struct step *s, uint64_t pc)
{
	struct unwind_code code = { 0 };
	return pc && !s->env->code(s->env->context, pc - 1, &code) && !code.made && code.cfi;
}

/* A routine of a stub blob of which only the code is known. Whoever called it says where it begins, and that says whether it has a frame
 * record. */
static int step_routine(struct step *s)
{
	uint64_t top, record[2] = { 0 };
	uint8_t first = 0;
	enum { PUSH_RBP = 0x55 };
	if (read_stack(s, s->sp, &top, sizeof top) < 0)
		return UNWIND_NO_MEMORY;
	uint64_t entry = s->note->entry = called_by(s, top);
	if (by_end(s, x86_epilogue) == X86_RETURN)
		return by(s, X86_RETURN);
	/* One routine may go on in another's middle, behind where that makes its frame record. */
	if (entry && !read_code(s, entry, &first, 1) && (first != PUSH_RBP || s->pc == entry))
		return by(s, X86_RETURN);
	if (!read_stack(s, s->sp + WORD, record, WORD) && (entry = called_by(s, record[0])) && s->pc == entry + 1) {
		s->note->entry = entry;
		return by(s, X86_PUSHED);
	}
	s->note->entry = 0;
	if (has_record(s) && !read_stack(s, s->fp, record, sizeof record) &&
		((entry = called_by(s, record[1])) || is_return_address(s, record[1]))) {
		s->note->entry = entry;
		return by(s, X86_RECORD);
	}
	if (is_call(s, top) || is_native(s, top))
		return by(s, X86_RETURN);
	/* C1's slow_subtype_check keeps nothing but a few registers on the stack. */
	for (size_t i = 1; i <= PUSHED_MAX; i++) {
		if (read_stack(s, s->sp + i * WORD, &top, sizeof top) < 0)
			return UNWIND_NO_MEMORY;
		if (called_by(s, top) == s->known->blob.code)
			return by_return(s, s->sp + i * WORD, s->fp);
	}
	return undecided(s);
}

/* A routine that has called native code. It has a frame record, or it is one of the few that have nothing but their return address on the
 * stack (forward exception), below which MacroAssembler::call_VM_leaf may have put a word, to be aligned. */
static int step_calling_routine(struct step *s)
{
	static const uint8_t unaligned[] = { 0x48, 0x83, 0xc4, 0x08 }; /* add $8, %rsp */
	uint8_t code[sizeof unaligned];
	uint64_t top[2], record[2];
	if (read_stack(s, s->sp, top, sizeof top) < 0)
		return UNWIND_NO_MEMORY;
	if (is_call(s, top[0]))
		return by(s, X86_RETURN);
	if (is_call(s, top[1]) && !read_code(s, s->pc, code, sizeof code) && !memcmp(code, unaligned, sizeof code))
		return by_return(s, s->sp + WORD, s->fp);
	/* The barrier at a compiled method's entry has put a word of its own between its record and its return address. */
	if (has_record(s) && !read_stack(s, s->fp, record, sizeof record) && record[1] == UINT64_MAX)
		return by_return(s, s->fp + sizeof record, record[0]);
	return by(s, X86_RECORD);
}

/* Native code is called from here, and Java from there: the caller's registers are in fixed places. */
static int step_call_stub(struct step *s)
{
	static const struct {
		uint8_t reg, below;
	} saved[] = { { DWARF_RBX, ENTRY_RBX }, { DWARF_R12, ENTRY_R12 }, { DWARF_R13, ENTRY_R13 },
		{ DWARF_R14, ENTRY_R14 }, { DWARF_R15, ENTRY_R15 } };
	const struct java_layout *l = &s->vm->layout;
	uint64_t words[ENTRY_R15];
	s->note->kind = JAVA_NOTE_CALL_STUB;
	if (!has_record(s))
		return undecided(s);
	bool readable = !read_stack(s, s->fp - sizeof words, words, sizeof words);
	int r = by(s, X86_RECORD);
	if (r != UNWIND_CALLER || !readable || !java_has(l, JAVA_constant_call_wrapper) ||
		(int64_t)l->of[JAVA_constant_call_wrapper].value != -ENTRY_CALL_WRAPPER)
		return r;
	for (size_t i = 0; i < sizeof saved / sizeof *saved; i++)
		regs_set(s->regs, saved[i].reg, words[ENTRY_R15 - saved[i].below]);
	return r;
}

/* Where the fields of the objects are that lead to the heap's part is found out at the first of these. */
static void learn_chunks(struct step *s, uint64_t continuation)
{
	enum { AGAIN_MS = 1000 };
	if (atomic_load(&s->vm->knows_chunks) || s->vm->now_ns - s->vm->chunks_tried_ns < AGAIN_MS * NS_PER_MS)
		return;
	s->vm->chunks_tried_ns = s->vm->now_ns;
	if (!java_chunks_learn(&s->vm->chunks, &s->vm->layout, &s->vm->memory, s->pc, continuation))
		atomic_store(&s->vm->knows_chunks, true);
}

/* The chunks that were copied in the window, if they are of this barrier; then the carrier's frames. An interpreted frame's arguments are between
 * the barrier's address and what was its caller's stack pointer. */
static bool open_chunks(struct step *s, const struct unwind_made *made, uint64_t sp, uint64_t continuation)
{
	enum { ARGUMENTS_MAX = 256 * WORD };
	struct java_fetched *f = &s->vm->fetched;
	struct java_chunk first;
	f->bytes = NULL;
	if (!made->captured || made->captured_bytes < JAVA_CAPTURE_BYTES + sizeof first)
		return false;
	memcpy(&first, made->captured + JAVA_CAPTURE_BYTES, sizeof first);
	if (first.continuation != continuation || first.behind > sp || sp - first.behind > ARGUMENTS_MAX)
		return false;
	*f = (struct java_fetched) { .sample = s->vm->sample,
		.rest = made->captured + JAVA_CAPTURE_BYTES,
		.rest_bytes = made->captured_bytes - JAVA_CAPTURE_BYTES,
		.carrier = *s->regs };
	return open_chunk(s, f);
}

/* A virtual thread's frames are put below the frame in which its carrier entered it: a ContinuationEntry, whose words are of the heap, the
 * stack and small numbers, then the frame pointer and the return address of that frame (gen_continuation_enter in
 * sharedRuntime_x86_64.cpp; how large a ContinuationEntry is, 21 does not say). */
static int step_barrier(struct step *s)
{
	enum { WORDS = 32 };
	uint64_t words[WORDS];
	size_t n = WORDS;
	while (n > 2 && read_stack(s, s->sp, words, n * WORD) < 0)
		n /= 2;
	for (size_t i = 1; i < n; i++)
		if (is_return_address(s, words[i]))
			return to_caller(s, words[i], s->sp + (i + 1) * WORD, words[i - 1]);
	return undecided(s);
}

static int step_continuation(struct step *s, const struct unwind_made *made)
{
	uint64_t words[JAVA_BEHIND_BARRIER], behind = s->sp, continuation;
	if (s->fetched)
		return undecided(s);
	s->note->kind = JAVA_NOTE_BARRIER;
	int r = step_barrier(s);
	if (r != UNWIND_CALLER || read_stack(s, behind, words, sizeof words) < 0 ||
		!java_continuation(words, JAVA_BEHIND_BARRIER, &continuation))
		return r;
	learn_chunks(s, continuation);
	if (open_chunks(s, made, behind, continuation))
		s->note->kind = JAVA_NOTE_FETCHED;
	return r;
}

static int step_stub(struct step *s, const struct unwind_made *made)
{
	static const uint8_t enter[] = { 0x55, 0x48, 0x8b, 0xec };
	const struct java_blob *b = &s->known->blob;
	uint8_t code[sizeof enter];
	*s->note = (struct java_note) { JAVA_NOTE_STUB, s->known, 0, s->pc, s->exact, 0, -1, false };
	if (!s->exact && s->pc == s->vm->call_stub_return)
		return step_call_stub(s);
	/* The outermost frame of a virtual thread that is not in the heap returns to a routine that fetches more of them. */
	if (!s->exact && !b->frame_bytes && strstr(s->known->name, "continuation") && !is_call(s, s->pc))
		return step_continuation(s, made);
	if (b->frame_bytes < 2 * WORD)
		return s->exact ? step_routine(s) : step_calling_routine(s);
	if (!s->exact)
		return by(s, X86_STANDS);
	enum x86_frame frame = by_end(s, x86_exit);
	if (frame != X86_STANDS)
		return by(s, frame);
	/* Whatever is pushed behind it, a frame that begins with a record is found by it. */
	bool enters = !read_code(s, b->code, code, sizeof code) && !memcmp(code, enter, sizeof enter);
	if (enters && s->pc >= b->code + sizeof enter)
		return by(s, has_record(s) ? X86_RECORD : X86_STANDS);
	if (s->pc < b->code + X86_PROLOGUE_MAX)
		frame = by_prologue(s, b->code);
	return by(s, frame == X86_UNKNOWN ? X86_STANDS : frame);
}

int java_step(struct java_vm *vm, const struct unwind_env *env, struct unwind_made *made, struct java_note *note,
	enum java_trouble *ret_trouble)
{
	const struct regs *regs = made->regs;
	struct step s = { .vm = vm,
		.env = env,
		.regs = made->regs,
		.note = note,
		.pc = regs->r[REG_PC],
		.sp = regs->r[REG_SP],
		.fp = regs_known(regs, REG_FP) ? regs->r[REG_FP] : 0,
		.exact = made->exact };
	const struct java_fetched *f = &vm->fetched;
	if (f->bytes && f->sample == vm->sample && s.sp >= f->chunk.first && s.sp < f->chunk.bottom)
		s.fetched = f;
	*note = (struct java_note) { .kind = JAVA_NOTE_NONE };
	/* A return address may be behind the last byte of its caller. */
	int r = java_vm_blob(vm, made->exact ? s.pc : s.pc - 1, &s.known);
	if (r) {
		*ret_trouble =
			r == -ENOENT || r == -ESTALE || r == -EINVAL ? JAVA_TROUBLE_TORN : JAVA_TROUBLE_UNREADABLE;
		return UNWIND_NO_RULE;
	}
	switch (s.known->blob.kind) {
	case JAVA_BLOB_COMPILED:
	case JAVA_BLOB_NATIVE:
		r = step_compiled(&s);
		break;
	case JAVA_BLOB_INTERPRETER:
		*note = (struct java_note) { JAVA_NOTE_STUB, s.known, 0, s.pc, s.exact, 0, -1, false };
		r = step_interpreter(&s);
		break;
	case JAVA_BLOB_ADAPTER:
		*note = (struct java_note) { JAVA_NOTE_STUB, s.known, 0, s.pc, s.exact, 0, -1, false };
		r = step_adapter(&s);
		break;
	case JAVA_BLOB_VTABLE:
		*note = (struct java_note) { JAVA_NOTE_STUB, s.known, 0, s.pc, s.exact, 0, -1, false };
		r = by(&s, X86_RETURN);
		break;
	default:
		r = step_stub(&s, made);
	}
	/* Where not all frames were copied the carrier's are known all the same. */
	if (s.fetched && r != UNWIND_CALLER && s.note->kind != JAVA_NOTE_FETCHED) {
		s.cut = true;
		r = to_carrier(&s);
	}
	note->cut = s.cut;
	made->switched = s.switched;
	*ret_trouble = r == UNWIND_CALLER ? JAVA_TROUBLE_NONE : s.trouble;
	return r;
}
