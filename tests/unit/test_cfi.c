#include "elf_image.h"
#include "kit/cfi.h"
#include "kit/cfi_parts.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum { CODE = IMAGE_BASE, FUNCTION = 0x100 }; /* functions of the images: 256 bytes each, from CODE on */

static void put32(struct buf *b, uint32_t v)
{
	buf_put(b, &v, 4);
}

static void put64(struct buf *b, uint64_t v)
{
	buf_put(b, &v, 8);
}

static void set32(struct buf *b, size_t at, uint32_t v)
{
	memcpy(b->data + at, &v, 4);
}

/* Entries with absolute 8-byte addresses ("zR", encoding 0), so that they do not depend on where they are. */
static size_t put_cie(struct buf *b, bool debug, const char *augmentation, const uint8_t *data, size_t ndata)
{
	static const uint8_t initial[] = { 1, 0x78 /* -8 */, 16, /* def_cfa rsp+8, offset rip at cfa-8 */ };
	static const uint8_t program[] = { 0x0c, 7, 8, 0x90, 1 };
	size_t start = b->len;
	put32(b, 0);
	put32(b, debug ? UINT32_MAX : 0);
	buf_put_u8(b, debug ? 3 : 1);
	buf_put(b, augmentation, strlen(augmentation) + 1);
	buf_put(b, initial, sizeof(initial));
	if (augmentation[0] == 'z') {
		buf_put_varint(b, ndata);
		buf_put(b, data, ndata);
	}
	buf_put(b, program, sizeof(program));
	set32(b, start, (uint32_t)(b->len - start - 4));
	return start;
}

static size_t put_fde(struct buf *b, bool debug, size_t cie, uint64_t pc, uint64_t size, const void *program, size_t n)
{
	size_t start = b->len;
	put32(b, 0);
	put32(b, debug ? (uint32_t)cie : (uint32_t)(start + 4 - cie));
	put64(b, pc);
	put64(b, size);
	if (!debug)
		buf_put_u8(b, 0); /* no augmentation data */
	buf_put(b, program, n);
	set32(b, start, (uint32_t)(b->len - start - 4));
	return start;
}

/* A file with one table, opened. */
struct fixture {
	struct image image;
	struct elf elf;
	struct cfi *cfi;
};

static int open_table(struct fixture *f, const char *name, struct buf *table)
{
	image_start(&f->image);
	image_section(&f->image, name, SHT_PROGBITS, table->data, table->len);
	struct elf_source source = image_finish(&f->image);
	f->cfi = NULL;
	assert_int_equal(elf_open(&f->elf, source), 0);
	/* The image is small; pretend that its code is large. */
	f->elf.segments[0].memsz = 1 << 30;
	buf_free(table);
	return cfi_open(&f->cfi, &f->elf);
}

static void close_table(struct fixture *f)
{
	cfi_close(f->cfi);
	elf_close(&f->elf);
	buf_free(&f->image.bytes);
}

/* push rbp; mov rbp, rsp; ...; pop rbp; ret; more code that a jump reaches */
static const uint8_t framed[] = { 0x41, 0x0e, 16, 0x86, 2, 0x43, 0x0d, 6, 0x02, 0x60, 0x0a, 0x0c, 7, 8, 0xc6, 0x41,
	0x0b };

static void follows_a_function(void **state)
{
	(void)state;
	struct fixture f;
	struct buf b = { 0 };
	size_t cie = put_cie(&b, false, "zR", (const uint8_t *)"", 1);
	put_fde(&b, false, cie, CODE, FUNCTION, framed, sizeof(framed));
	assert_int_equal(open_table(&f, ".eh_frame", &b), 0);
	struct cfi_row row;
	assert_int_equal(cfi_find(f.cfi, CODE, &row), 0);
	assert_int_equal(row.cfa_reg, REG_SP);
	assert_int_equal(row.cfa_offset, 8);
	assert_int_equal(row.rule[REG_PC].how, CFI_OFFSET);
	assert_int_equal(row.rule[REG_PC].value, -8);
	assert_int_equal(row.rule[REG_FP].how, CFI_SAME);
	assert_false(row.signal_frame);
	assert_int_equal(cfi_find(f.cfi, CODE + 1, &row), 0);
	assert_int_equal(row.cfa_offset, 16);
	assert_int_equal(row.rule[REG_FP].how, CFI_OFFSET);
	assert_int_equal(row.rule[REG_FP].value, -16);
	assert_int_equal(cfi_find(f.cfi, CODE + 4 + 0x5f, &row), 0);
	assert_int_equal(row.cfa_reg, REG_FP);
	assert_int_equal(cfi_find(f.cfi, CODE + 4 + 0x60, &row), 0);
	assert_int_equal(row.cfa_reg, REG_SP);
	assert_int_equal(row.rule[REG_FP].how, CFI_SAME);
	assert_int_equal(cfi_find(f.cfi, CODE + FUNCTION - 1, &row), 0);
	assert_int_equal(row.cfa_reg, REG_FP);
	assert_int_equal(cfi_find(f.cfi, CODE + FUNCTION, &row), -ENOENT);
	assert_int_equal(cfi_find(f.cfi, CODE - 1, &row), -ENOENT);
	assert_int_equal(cfi_find(f.cfi, UINT64_MAX, &row), -ENOENT);
	close_table(&f);
}

static void bad_entry_costs_only_its_function(void **state)
{
	(void)state;
	static const struct {
		const char *what;
		uint8_t program[16];
		size_t n;
	} bad[] = {
		{ "unknown operation", { 0x3f }, 1 },
		{ "operand cut off", { 0x0e }, 1 },
		{ "endless LEB128", { 0x0e, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f }, 12 },
		{ "restore without remember", { 0x0b }, 1 },
		{ "CFA register that does not exist", { 0x0d, 99 }, 2 },
		{ "offset out of range", { 0x0e, 0xff, 0xff, 0xff, 0xff, 0x7f }, 6 },
		{ "expression longer than the entry", { 0x0f, 50, 0x30 }, 3 },
		{ "location that goes back", { 0x41, 0x01, 0, 0, 0, 0, 0, 0, 0, 0 }, 10 },
		{ "remember too deep",
			{ 0x0a, 0x0a, 0x0a, 0x0a, 0x0a, 0x0a, 0x0a, 0x0a, 0x0a, 0x0a, 0x0a, 0x0a, 0x0a, 0x0a, 0x0a,
				0x0a },
			16 },
	};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct fixture f;
		struct buf b = { 0 };
		uint8_t program[17] = { 0x0a }; /* the last case needs one more */
		size_t skip = bad[i].n == 16;
		memcpy(program + skip, bad[i].program, bad[i].n);
		size_t cie = put_cie(&b, false, "zR", (const uint8_t *)"", 1);
		put_fde(&b, false, cie, CODE, FUNCTION, framed, sizeof(framed));
		put_fde(&b, false, cie, CODE + FUNCTION, FUNCTION, program, bad[i].n + skip);
		put_fde(&b, false, cie, CODE + 2 * FUNCTION, FUNCTION, framed, sizeof(framed));
		assert_int_equal(open_table(&f, ".eh_frame", &b), 0);
		struct cfi_row row;
		assert_int_equal(cfi_find(f.cfi, CODE + FUNCTION - 1, &row), 0);
		if (cfi_find(f.cfi, CODE + FUNCTION, &row) != -ENOENT)
			fail_msg("%s: has a row", bad[i].what);
		assert_int_equal(cfi_find(f.cfi, CODE + 2 * FUNCTION - 1, &row), -ENOENT);
		assert_int_equal(cfi_find(f.cfi, CODE + 2 * FUNCTION, &row), 0);
		close_table(&f);
	}
}

static void understands_augmentations(void **state)
{
	(void)state;
	static const uint8_t data[] = { 0 /* P: absolute */, 1, 2, 3, 4, 5, 6, 7, 8, 0 /* L */, 0 /* R */ };
	struct fixture f;
	struct buf b = { 0 };
	size_t cie = put_cie(&b, false, "zPLRSB", data, sizeof(data));
	put_fde(&b, false, cie, CODE, FUNCTION, framed, sizeof(framed));
	cie = put_cie(&b, false, "armcc+", NULL, 0);
	put_fde(&b, false, cie, CODE + FUNCTION, FUNCTION, framed, sizeof(framed));
	assert_int_equal(open_table(&f, ".eh_frame", &b), 0);
	struct cfi_row row;
	assert_int_equal(cfi_find(f.cfi, CODE, &row), 0);
	assert_true(row.signal_frame);
	assert_int_equal(cfi_find(f.cfi, CODE + FUNCTION, &row), -ENOENT);
	close_table(&f);
}

static void reads_debug_frame(void **state)
{
	(void)state;
	struct fixture f;
	struct buf b = { 0 };
	size_t cie = put_cie(&b, true, "", NULL, 0);
	/* Out of order, and one that the linker threw away. */
	put_fde(&b, true, cie, CODE + FUNCTION, FUNCTION, framed, sizeof(framed));
	put_fde(&b, true, cie, 0, FUNCTION, framed, sizeof(framed));
	put_fde(&b, true, cie, CODE, FUNCTION, "\x07\x10", 2); /* undefined rip */
	assert_int_equal(open_table(&f, ".debug_frame", &b), 0);
	struct cfi_row row;
	assert_int_equal(cfi_find(f.cfi, CODE + 5, &row), 0);
	assert_int_equal(row.rule[REG_PC].how, CFI_UNDEFINED);
	assert_true(row.from_debug_frame);
	assert_int_equal(cfi_find(f.cfi, CODE + FUNCTION + 1, &row), 0);
	assert_int_equal(row.cfa_offset, 16);
	assert_int_equal(cfi_find(f.cfi, 5, &row), -ENOENT);
	close_table(&f);
}

static void no_table_is_no_table(void **state)
{
	(void)state;
	struct fixture f;
	struct buf b = { 0 };
	put32(&b, 0);
	assert_int_equal(open_table(&f, ".eh_frame", &b), -ENOENT);
	close_table(&f);
	put64(&b, UINT64_MAX);
	assert_int_equal(open_table(&f, ".debug_frame", &b), -ENOENT);
	close_table(&f);
	assert_int_equal(cfi_memory(), 0);
}

/* A hostile table: each function as long as an entry may be, each instruction a new row. */
static void work_and_memory_are_bounded(void **state)
{
	(void)state;
	enum { PROGRAM = 200 << 10 };
	uint8_t *program = malloc(PROGRAM);
	assert_non_null(program);
	for (size_t i = 0; i + 4 <= PROGRAM; i += 4) {
		program[i] = 0x41;
		program[i + 1] = 0x0e;
		program[i + 2] = (uint8_t)(0x80 | i >> 2);
		program[i + 3] = (uint8_t)(i >> 9 & 0x7f);
	}
	struct fixture f;
	struct buf b = { 0 };
	size_t cie = put_cie(&b, false, "zR", (const uint8_t *)"", 1);
	for (unsigned i = 0; i < CFI_CHUNK_FDES; i++)
		put_fde(&b, false, cie, CODE + (uint64_t)i * PROGRAM, PROGRAM, program, PROGRAM);
	free(program);
	assert_int_equal(open_table(&f, ".eh_frame", &b), 0);
	struct cfi_row row;
	cfi_find(f.cfi, CODE, &row);
	/* The last function did not fit; the one before must not seem to cover it. */
	assert_int_equal(cfi_find(f.cfi, CODE + (CFI_CHUNK_FDES - 1UL) * PROGRAM + 7, &row), -ENOENT);
	assert_true(cfi_memory() < 1 << 20);
	close_table(&f);
}

static struct elf_source open_file(const char *path)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return (struct elf_source) { .fd = -1 };
	return (struct elf_source) { .fd = fd, .size = (uint64_t)st.st_size };
}

static const char libc_path[] = "/lib/x86_64-linux-gnu/libc.so.6";

/* The search table and a scan of all entries are two roads to the same rows. */
static void search_table_agrees_with_scan(void **state)
{
	(void)state;
	struct elf with, without;
	struct elf_source source = open_file(libc_path);
	if (source.fd < 0)
		skip();
	struct cfi *searched, *scanned;
	assert_int_equal(elf_open(&with, source), 0);
	assert_int_equal(elf_open(&without, source), 0);
	for (uint32_t i = 0; i < without.nsegments; i++)
		if (without.segments[i].type == PT_GNU_EH_FRAME)
			without.segments[i].type = PT_NULL;
	for (uint32_t i = 0; i < without.nsections; i++)
		if (!strcmp(without.sections[i].name, ".eh_frame_hdr"))
			without.sections[i].name[0] = 0;
	assert_int_equal(cfi_open(&searched, &with), 0);
	assert_int_equal(cfi_open(&scanned, &without), 0);
	const struct elf_section *text = elf_section(&with, ".text");
	assert_non_null(text);
	unsigned found = 0;
	for (uint64_t at = text->addr; at < text->addr + text->size; at += 7) {
		struct cfi_row a, b;
		memset(&a, 0, sizeof(a));
		memset(&b, 0, sizeof(b));
		int r = cfi_find(searched, at, &a);
		assert_int_equal(r, cfi_find(scanned, at, &b));
		found += !r;
		assert_memory_equal(&a, &b, sizeof(a));
	}
	assert_true(found > 100000);
	cfi_close(searched);
	cfi_close(scanned);
	elf_close(&with);
	elf_close(&without);
	close(source.fd);
	assert_int_equal(cfi_memory(), 0);
}

static void forgets_and_finds_again(void **state)
{
	(void)state;
	struct elf elf;
	struct cfi *cfi;
	struct cfi_row before, after;
	struct elf_source source = open_file(libc_path);
	if (source.fd < 0)
		skip();
	assert_int_equal(elf_open(&elf, source), 0);
	assert_int_equal(cfi_open(&cfi, &elf), 0);
	const struct elf_section *text = elf_section(&elf, ".text");
	size_t empty = cfi_memory();
	for (uint64_t at = text->addr; at < text->addr + text->size; at += 64)
		cfi_find(cfi, at, &before);
	size_t full = cfi_memory();
	assert_true(full > empty);
	int r = cfi_find(cfi, text->addr + 4096, &before); /* now the youngest */
	cfi_shed(full);
	assert_int_equal(cfi_memory(), full);
	cfi_shed((full + empty) / 2);
	assert_true(cfi_memory() <= (full + empty) / 2);
	assert_true(cfi_memory() > empty);
	size_t half = cfi_memory();
	assert_int_equal(cfi_find(cfi, text->addr + 4096, &after), r);
	assert_int_equal(cfi_memory(), half); /* it was kept */
	cfi_shed(0);
	assert_int_equal(cfi_memory(), empty);
	assert_int_equal(cfi_find(cfi, text->addr + 4096, &after), r);
	assert_memory_equal(&before, &after, sizeof(before));
	cfi_close(cfi);
	elf_close(&elf);
	close(source.fd);
	assert_int_equal(cfi_memory(), 0);
}

static void forgets_a_debug_frame_altogether(void **state)
{
	(void)state;
	struct fixture f;
	struct buf b = { 0 };
	struct cfi_row row;
	size_t cie = put_cie(&b, true, "", NULL, 0);
	for (unsigned i = 0; i < 1000; i++)
		put_fde(&b, true, cie, CODE + i * FUNCTION, FUNCTION, framed, sizeof(framed));
	assert_int_equal(open_table(&f, ".debug_frame", &b), 0);
	size_t opened = cfi_memory();
	assert_int_equal(cfi_find(f.cfi, CODE + 900 * FUNCTION, &row), 0);
	size_t used = cfi_memory();
	assert_true(used > opened);
	cfi_shed(0);
	assert_true(cfi_memory() < 1024 && cfi_memory() < opened);
	assert_int_equal(cfi_find(f.cfi, CODE + 900 * FUNCTION, &row), 0);
	assert_int_equal(cfi_memory(), used);
	close_table(&f);
	assert_int_equal(cfi_memory(), 0);
}

static int memory_of_42(void *context, uint64_t address, uint64_t *ret)
{
	(void)context;
	if (address >= 0x10000)
		return -EFAULT;
	*ret = address + 42;
	return 0;
}

static void evaluates_expressions(void **state)
{
	(void)state;
	static const struct {
		uint8_t code[16];
		size_t n;
		int r;
		uint64_t value;
	} cases[] = {
		/* A PLT entry: rsp + 8 + ((rip & 15) >= 11) << 3 */
		{ { 0x77, 8, 0x80, 0, 0x3f, 0x1a, 0x3b, 0x2a, 0x33, 0x24, 0x22 }, 11, 0, 0x1000 + 8 + 8 },
		{ { 0x77, 16, 0x06 }, 3, 0, 0x1000 + 16 + 42 },                /* breg7 16, deref */
		{ { 0 }, 0, 0, 0x2000 },                                       /* the CFA that was pushed */
		{ { 0x23, 0x80, 1 }, 3, 0, 0x2080 },                           /* plus_uconst */
		{ { 0x31, 0x32, 0x33, 0x17, 0x1c }, 5, 0, 1 - 2 + 0ULL },      /* rot: 3 1 2, minus */
		{ { 0x09, 0xff, 0x31, 0x26 }, 4, 0, UINT64_MAX },              /* -1 shra 1 */
		{ { 0x09, 0xff, 0x30, 0x2d }, 4, 0, 1 },                       /* -1 < 0 */
		{ { 0x35, 0x15, 1 }, 3, 0, 0x2000 },                           /* pick 1 */
		{ { 0x31, 0x28, 1, 0, 0x09, 0x37 }, 6, 0, 7 },                 /* bra over one byte */
		{ { 0x94, 1 }, 2, 0, (0x2000 + 42) & 0xff },                   /* deref_size 1 */
		{ { 0x2f, 0xfd, 0xff }, 3, -EINVAL, 0 },                       /* for ever */
		{ { 0x2f, 0xf0, 0xff }, 3, -EINVAL, 0 },                       /* out of the expression */
		{ { 0x13, 0x13 }, 2, -EINVAL, 0 },                             /* underflow */
		{ { 0x12, 0x2f, 0xfc, 0xff }, 4, -EINVAL, 0 },                 /* overflow */
		{ { 0x92, 0x80, 0x80, 0x80, 0x80, 0x10, 0 }, 7, -ENODATA, 0 }, /* bregx of no register */
		{ { 0x70, 0 }, 2, -ENODATA, 0 },                               /* rax is not known */
		{ { 0x0c, 0, 0, 1, 0, 0x06 }, 6, -EFAULT, 0 },                 /* unreadable */
		{ { 0x03, 0, 0, 0, 0, 0, 0, 0, 0 }, 9, -EINVAL, 0 },           /* an operation that does not occur */
		{ { 0x0a, 1 }, 2, -EINVAL, 0 },                                /* cut off */
	};
	struct regs regs = { .known = 1ULL << REG_SP | 1ULL << REG_PC };
	regs.r[REG_SP] = 0x1000;
	regs.r[REG_PC] = 0x40102b;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint64_t value = 0;
		int r = cfi_expr_run(cases[i].code, cases[i].n, &regs, 0x2000, memory_of_42, NULL, &value);
		if (r != cases[i].r || value != cases[i].value)
			fail_msg("case %zu: %d, %lx", i, r, value);
	}
}

static void refuses_handles_that_it_did_not_give(void **state)
{
	(void)state;
	struct fixture f;
	struct buf b = { 0 };
	uint64_t value;
	struct regs regs = { .known = 0 };
	size_t cie = put_cie(&b, false, "zR", (const uint8_t *)"", 1);
	put_fde(&b, false, cie, CODE, FUNCTION, framed, sizeof(framed));
	assert_int_equal(open_table(&f, ".eh_frame", &b), 0);
	assert_int_equal(cfi_expr(f.cfi, -1, &regs, 0, memory_of_42, NULL, &value), -EINVAL);
	assert_int_equal(cfi_expr(f.cfi, INT32_MAX - 1, &regs, 0, memory_of_42, NULL, &value), -EINVAL);
	assert_int_equal(cfi_expr(f.cfi, 1, &regs, 0, memory_of_42, NULL, &value), -EINVAL);
	close_table(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(follows_a_function),
		cmocka_unit_test(bad_entry_costs_only_its_function),
		cmocka_unit_test(understands_augmentations),
		cmocka_unit_test(reads_debug_frame),
		cmocka_unit_test(no_table_is_no_table),
		cmocka_unit_test(work_and_memory_are_bounded),
		cmocka_unit_test(search_table_agrees_with_scan),
		cmocka_unit_test(forgets_and_finds_again),
		cmocka_unit_test(forgets_a_debug_frame_altogether),
		cmocka_unit_test(evaluates_expressions),
		cmocka_unit_test(refuses_handles_that_it_did_not_give),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
