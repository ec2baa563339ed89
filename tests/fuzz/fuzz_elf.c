/* Any bytes as a file: headers, notes, sections, address translation, symbols by hash. */
#include "kit/elf.h"
#include "kit/identify.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct elf elf;
	struct elf_source source = { .fd = -1, .data = data, .size = size };
	if (elf_open(&elf, source) < 0)
		return 0;
	for (uint32_t i = 0; i < elf.nsections; i++) {
		uint8_t *bytes;
		size_t n;
		if (!elf_section_data(&elf, &elf.sections[i], 1 << 20, &bytes, &n))
			free(bytes);
	}
	for (uint32_t i = 0; i < elf.nsegments; i++) {
		uint64_t answer;
		elf_vaddr_of_offset(&elf, elf.segments[i].offset, &answer);
		elf_offset_of_vaddr(&elf, elf.segments[i].vaddr + elf.segments[i].filesz - 1, &answer);
	}
	uint64_t vaddr;
	(void)identify(&elf, &vaddr);
	elf_close(&elf);
	return 0;
}
