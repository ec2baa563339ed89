/* Which files carry a runtime: real ones, and tables that lie. */
#include "unit/check.h"

#include "kit/identify.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int open_file(struct elf *elf, const char *path)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st))
		return -ENOENT;
	struct elf_source source = { .fd = fd, .size = (uint64_t)st.st_size };
	return elf_open(elf, source);
}

static void close_file(struct elf *elf)
{
	close(elf->source.fd);
	elf_close(elf);
}

static void python_is_known_by_its_symbol(void **state)
{
	(void)state;
	struct elf elf;
	uint64_t vaddr = 0, size = 0, version, offset;
	uint32_t number;
	if (open_file(&elf, "/usr/bin/python3"))
		skip();
	assert_int_equal(identify(&elf, &vaddr), RUNTIME_python);
	assert_true(vaddr > 0);
	assert_int_equal(identify_function(&elf, "_PyEval_EvalFrameDefault", &vaddr, &size), 0);
	assert_true(size > 1000);
	if (!identify_symbol(&elf, "Py_Version", &version)) { /* 3.11 and later */
		assert_int_equal(elf_offset_of_vaddr(&elf, version, &offset), 0);
		assert_int_equal(elf_read(&elf, &number, sizeof number, offset), 0);
		assert_int_equal(number >> 24, 3);
	}
	assert_int_equal(identify_symbol(&elf, "_PyRuntim", &vaddr), -ENOENT);
	assert_int_equal(identify_symbol(&elf, "malloc", &vaddr), -ENOENT); /* only needed, not defined */
	close_file(&elf);
}

static void a_program_that_is_not_python_is_none(void **state)
{
	(void)state;
	struct elf elf;
	uint64_t vaddr;
	assert_int_equal(open_file(&elf, "/proc/self/exe"), 0);
	assert_int_equal(identify(&elf, &vaddr), RUNTIME_NONE);
	close_file(&elf);
}

/* A .gnu.hash of our own, behind sections of our own. */
static uint8_t image[512];

static struct elf lying(uint32_t buckets, uint32_t first, uint32_t words, uint32_t bucket)
{
	static struct elf_section sections[3];
	const struct {
		uint32_t head[4];
		uint64_t filter;
		uint32_t bucket, chain[4];
	} hash = { { buckets, first, words, 6 }, UINT64_MAX, bucket, { 0, 0, 0, 0 } };
	memset(image, 0, sizeof image);
	memcpy(image, &hash, sizeof hash);
	memset(sections, 0, sizeof sections);
	strcpy(sections[0].name, ".gnu.hash");
	strcpy(sections[1].name, ".dynsym");
	strcpy(sections[2].name, ".dynstr");
	for (size_t i = 0; i < 3; i++) {
		sections[i].type = SHT_PROGBITS;
		sections[i].offset = i * 128;
		sections[i].size = 128;
	}
	return (struct elf) {
		.source = { .fd = -1, .data = image, .size = sizeof image }, .nsections = 3, .sections = sections
	};
}

static void tables_that_lie_find_nothing(void **state)
{
	(void)state;
	static const uint32_t numbers[] = { 0, 1, 2, 0x7fffffff, UINT32_MAX };
	enum { N = sizeof numbers / sizeof *numbers };
	for (size_t i = 0; i < N * N * N * N; i++) {
		struct elf elf =
			lying(numbers[i % N], numbers[i / N % N], numbers[i / N / N % N], numbers[i / N / N / N]);
		uint64_t vaddr;
		assert_int_equal(identify_symbol(&elf, "_PyRuntime", &vaddr), -ENOENT);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(python_is_known_by_its_symbol),
		cmocka_unit_test(a_program_that_is_not_python_is_none),
		cmocka_unit_test(tables_that_lie_find_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
