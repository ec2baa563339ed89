/* The walk over a virtual machine's code, and the names of what it found, in a process whose whole memory is the fuzzer's: code heap, its map,
 * code, methods, stack, and the objects in which a virtual thread's frames are. The first byte chooses the release, the next ones the registers. */
#include "../unit/java_image.h"
#include "java/java.h"
#include "kit/regs.h"
#include "proto/stream.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
	BASE = 0x10000,
	MOST = 64 << 10,
	HEAP = BASE + 0x1000, /* in front of it: the map of segments */
	HEAP_END = BASE + MOST,
	STACK = BASE + 0x400,
	SHIFT = 7,
};

static struct target target = { .pid = 1234, .mem = -1, .maps_fd = -1, .perf_map = -1 };

static int read_stack(void *context, uint64_t address, void *buf, size_t n)
{
	return java_image_read(context, address, buf, n);
}

static int find_code(void *context, uint64_t pc, struct unwind_code *ret)
{
	(void)context;
	*ret = (struct unwind_code) { .vaddr = pc, .made = java_made(&target, pc) };
	return 0;
}

static uint8_t captured[JAVA_CAPTURE_BYTES + JAVA_CHUNKS_BYTES];
static size_t ncaptured;

static int step(const struct unwind_env *env, struct unwind_made *made)
{
	made->captured = captured;
	made->captured_bytes = ncaptured;
	return java_step_made(&target, env, made);
}

static void look(struct java_image *image, const uint8_t *data, size_t size)
{
	static struct unwind_frame frames[UNWIND_MAX_FRAMES];
	static uint32_t ids[STREAM_MAX_FRAMES];
	struct regs regs = { .known = (1ULL << REG_COUNT) - 1 };
	const struct unwind_env env = { image, read_stack, find_code, step };
	enum unwind_end end;
	memcpy(regs.r, data, size < sizeof regs.r ? size : sizeof regs.r);
	for (size_t i = 0; i < REG_COUNT; i++)
		regs.r[i] = BASE + (regs.r[i] & (MOST - 1));
	regs.r[REG_SP] = STACK + (regs.r[REG_SP] & 0x1f8);
	const struct java_process *p = atomic_load(&target.runtime);
	uint64_t sp = regs.r[REG_SP];
	ncaptured = JAVA_CAPTURE_BYTES + java_chunk_copy(&p->vm.chunks, &p->vm.memory, sp, image->bytes + (sp - BASE),
						 BASE + MOST - sp, captured + JAVA_CAPTURE_BYTES, JAVA_CHUNKS_BYTES);
	size_t n = unwind(&env, &regs, frames, UNWIND_MAX_FRAMES, &end);
	if (!n || n > UNWIND_MAX_FRAMES)
		abort();
	struct native_stack whole = { &target, frames, n, end == UNWIND_OUTERMOST,
		end == UNWIND_OUTERMOST ? NULL : "[ending]" };
	struct mixed out = { ids, 0, STREAM_MAX_FRAMES, COUNTER_complete };
	const char *words = NULL;
	/* Taken in front of all that is read, so that collections count, or behind it. */
	static const uint8_t none[JAVA_CAPTURE_BYTES];
	target.taken_ns = n & 1 ? 0 : INT64_MAX;
	if (java_mix(&whole, none, sizeof none, &out, &words) != COUNTER_complete || !out.n ||
		out.n > JAVA_FRAMES_MAX + 1)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t bytes[MOST];
	static struct java_process p;
	if (size < 16 || size > MOST)
		return 0;
	struct java_image image = { BASE, bytes, sizeof bytes };
	memset(bytes, 0, sizeof bytes);
	memcpy(bytes, data + 1, size - 1);
	memset(&p, 0, sizeof p);
	p.ready = true;
	p.vm.layout = java_layout_as((const unsigned[]) { 17, 25, 8 }[data[0] % 3]);
	p.vm.memory = java_image_memory(&image);
	p.vm.heaps = (struct java_heaps) { 1, { { HEAP, HEAP_END, BASE, SHIFT } } };
	p.vm.call_stub_return = HEAP + 0x100;
	atomic_store(&p.collections, BASE + 64);
	if (data[0] & 2) /* else it is learned, if the walk meets a barrier */
		p.vm.chunks = (struct java_chunks) { .barrier = HEAP + 0x200,
			.klass = 8,
			.tail = 12,
			.parent = 28,
			.sp = 16,
			.size = 20,
			.bottom = 24,
			.frames = 32,
			.arguments = data[0] & 4,
			.oop_base = BASE,
			.oop_shift = 3,
			.oop_bytes = data[0] & 8 ? 8 : 4 };
	atomic_store(&p.vm.knows_chunks, data[0] & 2);
	static const enum java_field variables[] = { JAVA_class_base, JAVA_class_shift, JAVA_oop_base, JAVA_oop_shift };
	for (size_t i = 0; i < sizeof variables / sizeof *variables; i++)
		p.vm.layout.of[variables[i]] = (struct java_value) { true, i & 1 ? 4 : 8, BASE + 0x80 + i * 8 };
	atomic_store(&target.runtime, &p);
	look(&image, data + 1, size - 1);
	bytes[size / 2]++; /* a process that goes on */
	p.vm.heaps.heap[0].shift = SHIFT - 1;
	look(&image, data + size / 2, size - size / 2);
	java_vm_forget(&p.vm);
	return 0;
}
