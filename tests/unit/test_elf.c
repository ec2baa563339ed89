#include "elf_image.h"
#include "kit/elf.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <cmocka.h>

static struct elf_source self(void)
{
	struct stat st;
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	return (struct elf_source) { .fd = fd, .size = (uint64_t)st.st_size };
}

static void reads_its_own_file(void **state)
{
	(void)state;
	struct elf elf;
	struct elf_source source = self();
	assert_int_equal(elf_open(&elf, source), 0);
	const struct elf_section *text = elf_section(&elf, ".text");
	assert_non_null(text);
	assert_null(elf_section(&elf, ".bss")); /* has no bytes in the file */
	assert_null(elf_section(&elf, ".nothing"));
	assert_false(elf.is_go);
	uint64_t vaddr, offset;
	assert_int_equal(elf_vaddr_of_offset(&elf, text->offset, &vaddr), 0);
	assert_int_equal(vaddr, text->addr);
	assert_int_equal(elf_offset_of_vaddr(&elf, text->addr, &offset), 0);
	assert_int_equal(offset, text->offset);
	assert_int_equal(elf_vaddr_of_offset(&elf, UINT64_MAX, &vaddr), -ENOENT);
	assert_int_equal(elf_offset_of_vaddr(&elf, UINT64_MAX, &offset), -ENOENT);
	elf_close(&elf);
	close(source.fd);
}

static void refuses_what_is_not_elf(void **state)
{
	(void)state;
	struct elf elf;
	uint8_t text[128] = "#!/bin/sh\n";
	struct elf_source source = { .fd = -1, .data = text, .size = sizeof(text) };
	assert_int_equal(elf_open(&elf, source), -ENOEXEC);
	source.size = 3;
	assert_int_equal(elf_open(&elf, source), -ENOEXEC);
	memcpy(text, "\177ELF\1\1\1", 7); /* 32-bit */
	source.size = sizeof(text);
	assert_int_equal(elf_open(&elf, source), -ENOEXEC);
}

static void truncated_file_is_an_error_not_a_signal(void **state)
{
	(void)state;
	struct elf elf = { 0 };
	struct elf_source source = self();
	uint64_t real = source.size;
	source.size += 4096; /* as if it had shrunk after fstat */
	elf.source = source;
	uint8_t bytes[64];
	assert_int_equal(elf_read(&elf, bytes, sizeof(bytes), real - 32), -EIO);
	assert_int_equal(elf_read(&elf, bytes, sizeof(bytes), UINT64_MAX - 10), -EIO);
	assert_int_equal(elf_read(&elf, bytes, sizeof(bytes), source.size), -EIO);
	close(source.fd);
}

static void finds_build_id_and_go(void **state)
{
	(void)state;
	static const uint8_t notes[] = { 4, 0, 0, 0, 3, 0, 0, 0, 3, 0, 0, 0, 'G', 'N', 'U', 0, 1, 2, 3, 0 };
	struct image image;
	struct elf elf;
	image_start(&image);
	image_section(&image, ".note.gnu.build-id", SHT_NOTE, notes, sizeof(notes));
	image_section(&image, ".gopclntab", SHT_PROGBITS, "x", 1);
	assert_int_equal(elf_open(&elf, image_finish(&image)), 0);
	assert_int_equal(elf.build_id_len, 3);
	assert_memory_equal(elf.build_id, "\1\2\3", 3);
	assert_true(elf.is_go);
	elf_close(&elf);
	buf_free(&image.bytes);
}

static void note_sizes_cannot_overflow(void **state)
{
	(void)state;
	static const uint8_t notes[] = { 0xfd, 0xff, 0xff, 0xff, 0xfd, 0xff, 0xff, 0xff, 3, 0, 0, 0, 'G', 'N', 'U', 0 };
	struct image image;
	struct elf elf;
	image_start(&image);
	image_section(&image, ".note.gnu.build-id", SHT_NOTE, notes, sizeof(notes));
	assert_int_equal(elf_open(&elf, image_finish(&image)), 0);
	assert_int_equal(elf.build_id_len, 0);
	elf_close(&elf);
	buf_free(&image.bytes);
}

static int read_compressed(uint64_t claimed, size_t limit, uint32_t type, size_t cut, size_t *ret_size)
{
	uint8_t plain[10000], packed[sizeof(Elf64_Chdr) + 1000];
	uLongf n = sizeof(packed) - sizeof(Elf64_Chdr);
	memset(plain, 'a', sizeof(plain));
	assert_int_equal(compress(packed + sizeof(Elf64_Chdr), &n, plain, sizeof(plain)), Z_OK);
	Elf64_Chdr header = { .ch_type = type, .ch_size = claimed, .ch_addralign = 1 };
	memcpy(packed, &header, sizeof(header));
	struct image image;
	struct elf elf;
	uint8_t *data = NULL;
	image_start(&image);
	image_section(&image, ".debug_frame", SHT_PROGBITS, packed, sizeof(header) + n - cut)->sh_flags =
		SHF_COMPRESSED;
	assert_int_equal(elf_open(&elf, image_finish(&image)), 0);
	int r = elf_section_data(&elf, elf_section(&elf, ".debug_frame"), limit, &data, ret_size);
	if (!r)
		assert_memory_equal(data, plain, *ret_size);
	free(data);
	elf_close(&elf);
	buf_free(&image.bytes);
	return r;
}

static void inflates_exactly_what_is_claimed(void **state)
{
	(void)state;
	size_t size = 0;
	assert_int_equal(read_compressed(10000, 10000, ELFCOMPRESS_ZLIB, 0, &size), 0);
	assert_int_equal(size, 10000);
	assert_int_equal(read_compressed(10000, 9999, ELFCOMPRESS_ZLIB, 0, &size), -E2BIG);
	assert_int_equal(read_compressed(9999, 10000, ELFCOMPRESS_ZLIB, 0, &size), -EINVAL);
	assert_int_equal(read_compressed(10001, 20000, ELFCOMPRESS_ZLIB, 0, &size), -EINVAL);
	assert_int_equal(read_compressed(10000, 10000, ELFCOMPRESS_ZLIB, 8, &size), -EINVAL);
	assert_int_equal(read_compressed(10000, 10000, 2 /* zstd */, 0, &size), -ENOTSUP);
	assert_int_equal(read_compressed(100 << 20, SIZE_MAX, ELFCOMPRESS_ZLIB, 0, &size), -EINVAL);
	assert_int_equal(read_compressed(UINT64_MAX, SIZE_MAX, ELFCOMPRESS_ZLIB, 0, &size), -E2BIG);
}

static void absurd_sections_leave_a_usable_file(void **state)
{
	(void)state;
	struct image image;
	struct elf elf;
	image_start(&image);
	struct elf_source source = image_finish(&image);
	Elf64_Ehdr *header = (Elf64_Ehdr *)image.bytes.data;
	header->e_shoff = source.size - 10;
	assert_int_equal(elf_open(&elf, source), 0);
	assert_int_equal(elf.nsections, 0);
	assert_int_equal(elf.nsegments, 2);
	elf_close(&elf);
	header->e_phoff = source.size - 10;
	assert_int_equal(elf_open(&elf, source), -EINVAL);
	buf_free(&image.bytes);
}

/* Every header byte with every value that has been trouble somewhere. */
static void survives_any_header_byte(void **state)
{
	(void)state;
	static const uint8_t values[] = { 0, 1, 0x7f, 0x80, 0xfe, 0xff };
	struct image image;
	image_start(&image);
	image_section(&image, ".text", SHT_PROGBITS, "abcd", 4);
	image_section(&image, ".note.gnu.build-id", SHT_NOTE, "\4\0\0\0\3\0\0\0\3\0\0\0GNU\0abc", 20);
	struct elf_source source = image_finish(&image);
	for (size_t i = 0; i < source.size; i++) {
		uint8_t before = image.bytes.data[i];
		for (size_t v = 0; v < sizeof(values); v++) {
			struct elf elf;
			image.bytes.data[i] = values[v];
			if (elf_open(&elf, source) < 0)
				continue;
			for (uint32_t s = 0; s < elf.nsections; s++) {
				uint8_t *data;
				size_t n;
				if (!elf_section_data(&elf, &elf.sections[s], 1 << 20, &data, &n))
					free(data);
			}
			elf_close(&elf);
		}
		image.bytes.data[i] = before;
	}
	buf_free(&image.bytes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_its_own_file),
		cmocka_unit_test(refuses_what_is_not_elf),
		cmocka_unit_test(truncated_file_is_an_error_not_a_signal),
		cmocka_unit_test(finds_build_id_and_go),
		cmocka_unit_test(note_sizes_cannot_overflow),
		cmocka_unit_test(inflates_exactly_what_is_claimed),
		cmocka_unit_test(absurd_sections_leave_a_usable_file),
		cmocka_unit_test(survives_any_header_byte),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
