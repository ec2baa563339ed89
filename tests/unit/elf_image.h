/* Small ELF images in memory for tests: one executable segment that holds the whole file at a fixed address. */
#ifndef TESTS_ELF_IMAGE_H
#define TESTS_ELF_IMAGE_H

#include "common/buf.h"
#include "kit/elf.h"

#include <elf.h>
#include <string.h>

enum { IMAGE_BASE = 0x400000, IMAGE_SECTIONS = 8 };

struct image {
	struct buf bytes;
	Elf64_Shdr sections[IMAGE_SECTIONS];
	const char *names[IMAGE_SECTIONS];
	size_t nsections;
	uint64_t hdr_offset, hdr_size; /* PT_GNU_EH_FRAME, when not 0 */
};

static void image_start(struct image *image)
{
	static const uint8_t room[sizeof(Elf64_Ehdr) + 2 * sizeof(Elf64_Phdr)];
	memset(image, 0, sizeof(*image));
	image->nsections = 1;
	buf_put(&image->bytes, room, sizeof(room));
}

static uint64_t image_here(struct image *image)
{
	while (image->bytes.len % 16)
		buf_put_u8(&image->bytes, 0);
	return image->bytes.len;
}

/* Adds a section with content, returns its header for changes. */
static Elf64_Shdr *image_section(struct image *image, const char *name, uint32_t type, const void *data, size_t n)
{
	Elf64_Shdr *s = &image->sections[image->nsections];
	image->names[image->nsections++] = name;
	*s = (Elf64_Shdr) { .sh_type = type, .sh_offset = image_here(image), .sh_size = n };
	s->sh_addr = IMAGE_BASE + s->sh_offset;
	buf_put(&image->bytes, data, n);
	return s;
}

static struct elf_source image_finish(struct image *image)
{
	struct buf names = { 0 };
	buf_put_u8(&names, 0);
	image_section(image, ".shstrtab", SHT_STRTAB, "", 0);
	for (size_t i = 1; i < image->nsections; i++) {
		image->sections[i].sh_name = (uint32_t)names.len;
		buf_put(&names, image->names[i], strlen(image->names[i]) + 1);
	}
	Elf64_Shdr *strings = &image->sections[image->nsections - 1];
	strings->sh_offset = image_here(image);
	strings->sh_size = names.len;
	buf_put(&image->bytes, names.data, names.len);
	buf_free(&names);
	Elf64_Ehdr header = {
		.e_ident = { ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT },
		.e_type = ET_EXEC,
		.e_machine = EM_X86_64,
		.e_version = EV_CURRENT,
		.e_entry = IMAGE_BASE,
		.e_ehsize = sizeof(header),
		.e_phoff = sizeof(header),
		.e_phentsize = sizeof(Elf64_Phdr),
		.e_phnum = 2,
		.e_shoff = image_here(image),
		.e_shentsize = sizeof(Elf64_Shdr),
		.e_shnum = (uint16_t)image->nsections,
		.e_shstrndx = (uint16_t)(image->nsections - 1),
	};
	buf_put(&image->bytes, image->sections, image->nsections * sizeof(image->sections[0]));
	Elf64_Phdr segments[2] = {
		{ .p_type = PT_LOAD, .p_flags = PF_R | PF_X, .p_vaddr = IMAGE_BASE, .p_filesz = image->bytes.len },
		{ .p_type = image->hdr_size ? PT_GNU_EH_FRAME : PT_NULL,
			.p_offset = image->hdr_offset,
			.p_vaddr = IMAGE_BASE + image->hdr_offset,
			.p_filesz = image->hdr_size },
	};
	segments[0].p_memsz = segments[0].p_filesz;
	memcpy(image->bytes.data, &header, sizeof(header));
	memcpy(image->bytes.data + sizeof(header), segments, sizeof(segments));
	return (struct elf_source) { .fd = -1, .data = image->bytes.data, .size = image->bytes.len };
}

#endif
