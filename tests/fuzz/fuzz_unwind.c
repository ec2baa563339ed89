/* A stack and registers from the fuzzer, over a fixed set of code: some with a table, some without, some Go. The bytes:
 * a byte of options, registers, then what memory holds from STACK on, over and over. */
#include "../unit/elf_image.h"
#include "kit/unwind.h"

#include <errno.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { STACK = 0x10000, STACK_SIZE = 1 << 16, CODE_SIZE = 0x1000, GO_CODE = 0x800000, BARE_CODE = 0x900000 };

struct target {
	const uint8_t *memory;
	size_t size;
	struct cfi *cfi;
	bool is_go;
};

static int read_memory(void *context, uint64_t address, void *buf, size_t n)
{
	const struct target *t = context;
	if (address < STACK || address - STACK > STACK_SIZE - n || !t->size)
		return -EFAULT;
	for (size_t i = 0; i < n; i++)
		((uint8_t *)buf)[i] = t->memory[(address - STACK + i) % t->size];
	return 0;
}

static int code(void *context, uint64_t pc, struct unwind_code *ret)
{
	const struct target *t = context;
	if (pc >= STACK && pc < STACK + STACK_SIZE) { /* generated code */
		*ret = (struct unwind_code) { .vaddr = pc };
		return 0;
	}
	if (pc >= IMAGE_BASE && pc < IMAGE_BASE + CODE_SIZE) {
		*ret = (struct unwind_code) { .cfi = t->cfi, .vaddr = pc, .is_go = t->is_go };
		return 0;
	}
	if (pc >= GO_CODE && pc < GO_CODE + CODE_SIZE) {
		*ret = (struct unwind_code) { .vaddr = pc, .is_go = true };
		return 0;
	}
	if (pc >= BARE_CODE && pc < BARE_CODE + CODE_SIZE) {
		*ret = (struct unwind_code) { .vaddr = pc };
		return 0;
	}
	return -ENOENT;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct unwind_frame frames[UNWIND_MAX_FRAMES];
	struct target t = { 0 };
	struct regs regs = { .known = (1ULL << REG_COUNT) - 1 };
	uint16_t table_size;
	if (size < 3 + sizeof(regs.r))
		return 0;
	uint8_t options = data[0];
	memcpy(&table_size, data + 1, 2);
	memcpy(regs.r, data + 3, sizeof(regs.r));
	data += 3 + sizeof(regs.r);
	size -= 3 + sizeof(regs.r);
	if (table_size > size)
		table_size = (uint16_t)size;
	t.is_go = options & 1;
	t.memory = data + table_size;
	t.size = size - table_size;

	struct image image;
	struct elf elf;
	image_start(&image);
	image_section(&image, options & 2 ? ".debug_frame" : ".eh_frame", SHT_PROGBITS, data, table_size);
	if (!elf_open(&elf, image_finish(&image))) {
		const struct unwind_env env = { .context = &t, .read = read_memory, .code = code };
		enum unwind_end end = UNWIND_END_MAX;
		if (cfi_open(&t.cfi, &elf) < 0)
			t.cfi = NULL;
		size_t n = unwind(&env, &regs, frames, UNWIND_MAX_FRAMES, &end);
		if (!n || n > UNWIND_MAX_FRAMES || end >= UNWIND_END_MAX)
			abort();
		cfi_close(t.cfi);
		elf_close(&elf);
	}
	buf_free(&image.bytes);
	return 0;
}
