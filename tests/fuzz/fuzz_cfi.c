/* Unwind tables. The first byte chooses what the rest is: a whole file, or one table of an otherwise good file, so that
 * the fuzzer gets to CFA programs and expressions without having to find a valid ELF header first. */
#include "../unit/elf_image.h"
#include "kit/cfi.h"

#include <errno.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { WHOLE_FILE, EH_FRAME, DEBUG_FRAME, WITH_HDR, KINDS };

static int read_memory(void *context, uint64_t address, uint64_t *ret)
{
	(void)context;
	if (address % 3 == 0)
		return -EFAULT;
	*ret = address * 0x9e3779b97f4a7c15;
	return 0;
}

static void evaluate(struct cfi *cfi, const struct cfi_row *row)
{
	struct regs regs = { .known = 0x1ffff };
	uint64_t value;
	for (unsigned i = 0; i < REG_COUNT; i++)
		regs.r[i] = 0x7fff0000 + i * 8;
	if (row->cfa_is_expr)
		cfi_expr(cfi, row->cfa_offset, &regs, 0, read_memory, NULL, &value);
	for (unsigned i = 0; i < REG_COUNT; i++)
		if (row->rule[i].how == CFI_EXPR || row->rule[i].how == CFI_VAL_EXPR)
			cfi_expr(cfi, row->rule[i].value, &regs, 0x7fff0100, read_memory, NULL, &value);
		else if (row->rule[i].how == CFI_REGISTER && (uint32_t)row->rule[i].value >= REG_COUNT)
			abort();
	if (!row->cfa_is_expr && row->cfa_reg >= REG_COUNT)
		abort();
}

static void look_up(const struct elf *elf)
{
	struct cfi *cfi;
	if (cfi_open(&cfi, elf) < 0)
		return;
	for (uint32_t i = 0; i < elf->nsegments; i++) {
		uint64_t span = elf->segments[i].memsz < 1 << 16 ? elf->segments[i].memsz : 1 << 16;
		for (uint64_t at = 0; at < span; at += 1 + span / 200) {
			struct cfi_row row;
			if (!cfi_find(cfi, elf->segments[i].vaddr + at, &row))
				evaluate(cfi, &row);
		}
	}
	if (cfi_memory() > 64 << 20)
		abort();
	cfi_shed(0);
	cfi_close(cfi);
	if (cfi_memory())
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct elf elf;
	if (!size)
		return 0;
	unsigned kind = data[0] % KINDS;
	data++;
	size--;
	if (kind == WHOLE_FILE) {
		struct elf_source source = { .fd = -1, .data = data, .size = size };
		if (elf_open(&elf, source) < 0)
			return 0;
		look_up(&elf);
		elf_close(&elf);
		return 0;
	}
	struct image image;
	image_start(&image);
	if (kind == WITH_HDR) {
		image.hdr_offset = image_here(&image);
		image.hdr_size = size < 200 ? size : 200;
	}
	image_section(&image, kind == DEBUG_FRAME ? ".debug_frame" : ".eh_frame", SHT_PROGBITS, data, size);
	if (!elf_open(&elf, image_finish(&image))) {
		look_up(&elf);
		elf_close(&elf);
	}
	buf_free(&image.bytes);
	return 0;
}
