/* Names for addresses: real files against nm and objdump, and small files made here, some of them malformed. */
#include "kit/symbols.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "common/cleanup.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <link.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

enum { SELF_MAX = 4096, SAMPLES = 400, FILE_MAX = 32 << 10 };

/* ---- files made here ---- */

enum { S_NULL, S_TEXT, S_DATA, S_SYMTAB, S_STRTAB, S_DYNSYM, S_DYNSTR, S_GO, S_NAMES, S_COUNT };
enum { TEXT = 0x1000, TEXT_SIZE = 0x8000, DATA = 0x10000 };

struct file {
	uint8_t bytes[FILE_MAX];
	size_t size, section_header;
};

struct symbol {
	const char *name;
	uint64_t value, size;
	unsigned char info;
	uint16_t section;
};

#define FUNC(binding) ELF64_ST_INFO(STB_##binding, STT_FUNC)
#define LABEL(binding) ELF64_ST_INFO(STB_##binding, STT_NOTYPE)

static size_t put(struct file *f, const void *data, size_t n)
{
	size_t at = f->size;
	assert_true(at + n <= sizeof(f->bytes));
	if (data)
		memcpy(f->bytes + at, data, n);
	f->size += n;
	return at;
}

static Elf64_Shdr *section(struct file *f, int index)
{
	return (Elf64_Shdr *)(void *)(f->bytes + f->section_header) + index;
}

static void put_table(struct file *f, int index, const struct symbol *symbols, size_t n)
{
	char strings[4096] = "";
	size_t nstrings = 1;
	Elf64_Sym raw = { 0 };
	Elf64_Shdr *table = section(f, index), *names = section(f, index + 1);
	table->sh_offset = put(f, &raw, sizeof(raw));
	for (size_t i = 0; i < n; i++) {
		raw = (Elf64_Sym) { (Elf64_Word)nstrings, symbols[i].info, 0, symbols[i].section, symbols[i].value,
			symbols[i].size };
		put(f, &raw, sizeof(raw));
		nstrings += (size_t)sprintf(strings + nstrings, "%s", symbols[i].name) + 1;
	}
	table->sh_type = index == S_SYMTAB ? SHT_SYMTAB : SHT_DYNSYM;
	table->sh_size = (n + 1) * sizeof(raw);
	table->sh_entsize = sizeof(raw);
	table->sh_link = (Elf64_Word)index + 1;
	names->sh_type = SHT_STRTAB;
	names->sh_offset = put(f, strings, nstrings);
	names->sh_size = nstrings;
}

static void make(struct file *f)
{
	static const char names[] = "\0.text\0.data\0.symtab\0.strtab\0.dynsym\0.dynstr\0.gopclntab\0.shstrtab";
	memset(f, 0, sizeof(*f));
	Elf64_Ehdr header = {
		.e_ident = { ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT },
		.e_type = ET_EXEC,
		.e_machine = EM_X86_64,
		.e_version = EV_CURRENT,
		.e_ehsize = sizeof(header),
		.e_phentsize = sizeof(Elf64_Phdr),
		.e_shentsize = sizeof(Elf64_Shdr),
		.e_shnum = S_COUNT,
		.e_shstrndx = S_NAMES,
	};
	put(f, &header, sizeof(header));
	f->section_header = put(f, NULL, S_COUNT * sizeof(Elf64_Shdr));
	((Elf64_Ehdr *)(void *)f->bytes)->e_shoff = f->section_header;
	const char *name = names + 1;
	for (int i = 1; i < S_COUNT; i++, name += strlen(name) + 1) {
		*section(f, i) = (Elf64_Shdr) { .sh_type = SHT_PROGBITS, .sh_name = (Elf64_Word)(name - names) };
		section(f, i)->sh_offset = f->size;
	}
	section(f, S_TEXT)->sh_type = SHT_NOBITS;
	section(f, S_TEXT)->sh_flags = SHF_ALLOC | SHF_EXECINSTR;
	section(f, S_TEXT)->sh_addr = TEXT;
	section(f, S_TEXT)->sh_size = TEXT_SIZE;
	section(f, S_DATA)->sh_type = SHT_NOBITS;
	section(f, S_DATA)->sh_flags = SHF_ALLOC | SHF_WRITE;
	section(f, S_DATA)->sh_addr = DATA;
	section(f, S_DATA)->sh_size = 0x1000;
	section(f, S_NAMES)->sh_type = SHT_STRTAB;
	section(f, S_NAMES)->sh_offset = put(f, names, sizeof(names));
	section(f, S_NAMES)->sh_size = sizeof(names);
}

static void open_file(struct elf *ret, const struct file *f)
{
	assert_int_equal(elf_open(ret, (struct elf_source) { .fd = -1, .data = f->bytes, .size = f->size }), 0);
}

/* Resolves one address after another, and all of them at once: the answers must be the same. */
static void expect(const struct file *f, const uint64_t *addresses, const char *const *names)
{
	struct elf elf;
	struct symbol_query queries[16] = { 0 };
	size_t n = 0;
	open_file(&elf, f);
	for (; addresses[n]; n++) {
		struct symbol_query one = { .vaddr = addresses[n] };
		queries[n].vaddr = addresses[n];
		assert_int_equal(symbols_resolve(&elf, &one, 1), 0);
		assert_string_equal(one.name ? one.name : "", names[n]);
		free(one.name);
	}
	assert_int_equal(symbols_resolve(&elf, queries, n), 0);
	for (size_t i = 0; i < n; i++) {
		assert_string_equal(queries[i].name ? queries[i].name : "", names[i]);
		free(queries[i].name);
	}
	elf_close(&elf);
}

#define EXPECT(f, addresses, ...) expect(f, (const uint64_t[])addresses, (const char *const[]) { __VA_ARGS__ })
/* clang-format off */
#define AT(...) { __VA_ARGS__, 0 }
/* clang-format on */
#define COUNT(a) (sizeof(a) / sizeof(*(a)))

static void a_symbol_covers_its_size(void **state)
{
	(void)state;
	struct file f;
	make(&f);
	static const struct symbol symbols[] = {
		{ "second", 0x1100, 0x10, FUNC(LOCAL), S_TEXT },
		{ "outer", 0x1200, 0x100, FUNC(GLOBAL), S_TEXT },
		{ "inner", 0x1220, 0x10, FUNC(LOCAL), S_TEXT },
		{ "first", 0x1000, 0x100, FUNC(GLOBAL), S_TEXT },
		{ "data", 0x1300, 0x10, ELF64_ST_INFO(STB_GLOBAL, STT_OBJECT), S_TEXT },
		{ "undefined", 0x1400, 0x10, FUNC(GLOBAL), SHN_UNDEF },
		{ "ifunc", 0x1500, 0x10, ELF64_ST_INFO(STB_GLOBAL, STT_GNU_IFUNC), S_TEXT },
		{ "versioned@@V1.2", 0x1600, 0x10, FUNC(GLOBAL), S_TEXT },
	};
	put_table(&f, S_SYMTAB, symbols, COUNT(symbols));
	EXPECT(&f,
		AT(0xfff, 0x1000, 0x10ff, 0x1100, 0x110f, 0x1110, 0x121f, 0x1220, 0x122f, 0x1230, 0x1300, 0x1400,
			0x1500, 0x1600),
		"", "first", "first", "second", "second", "", "outer", "inner", "inner", "outer", "", "", "ifunc",
		"versioned");
}

static void a_label_covers_up_to_the_next_symbol(void **state)
{
	(void)state;
	struct file f;
	make(&f);
	static const struct symbol symbols[] = {
		{ "sized", 0x1100, 0x10, FUNC(GLOBAL), S_TEXT },
		{ "label", 0x1020, 0, LABEL(LOCAL), S_TEXT },
		{ "inside", 0x1104, 0, LABEL(LOCAL), S_TEXT },
		{ "last", 0x8000, 0, FUNC(GLOBAL), S_TEXT },
		{ "in_data", DATA, 0, LABEL(GLOBAL), S_DATA },
		{ "at_the_end", TEXT + TEXT_SIZE, 0, LABEL(GLOBAL), S_TEXT },
		{ "absolute", 0x1800, 0, LABEL(GLOBAL), SHN_ABS },
	};
	put_table(&f, S_SYMTAB, symbols, COUNT(symbols));
	EXPECT(&f, AT(0x101f, 0x1020, 0x10ff, 0x1100, 0x1108, 0x8000, 0x8fff, 0x9000, DATA + 4), "", "label", "label",
		"sized", "sized", "last", "last", "", "");
}

static void the_known_alias_is_shown(void **state)
{
	(void)state;
	struct file f;
	make(&f);
	static const struct symbol symbols[] = {
		{ "__GI_write", 0x1000, 0x10, FUNC(LOCAL), S_TEXT },
		{ "__libc_write", 0x1000, 0x10, FUNC(GLOBAL), S_TEXT },
		{ "write", 0x1000, 0x10, FUNC(WEAK), S_TEXT },
		{ "__write", 0x1000, 0x10, FUNC(GLOBAL), S_TEXT },
		{ "a", 0x1100, 0x10, LABEL(GLOBAL), S_TEXT },
		{ "typed", 0x1100, 0x10, FUNC(LOCAL), S_TEXT },
		{ "b", 0x1200, 0, FUNC(GLOBAL), S_TEXT },
		{ "with_a_size", 0x1200, 0x10, FUNC(LOCAL), S_TEXT },
		{ "_ZN1aC2Ev", 0x1300, 0x10, FUNC(WEAK), S_TEXT },
		{ "_ZN1aC1Ev", 0x1300, 0x10, FUNC(WEAK), S_TEXT },
	};
	put_table(&f, S_SYMTAB, symbols, COUNT(symbols));
	EXPECT(&f, AT(0x1004, 0x1104, 0x1204, 0x1304), "write", "typed", "with_a_size", "_ZN1aC1Ev");
}

static void dynamic_symbols_fill_the_gaps(void **state)
{
	(void)state;
	struct file f;
	make(&f);
	static const struct symbol full[] = { { "full", 0x1000, 0x100, FUNC(LOCAL), S_TEXT } };
	static const struct symbol dynamic[] = {
		{ "same_place", 0x1000, 0x100, FUNC(GLOBAL), S_TEXT },
		{ "other", 0x1100, 0x100, FUNC(GLOBAL), S_TEXT },
		{ "label", 0x3000, 0, LABEL(GLOBAL), S_TEXT },
	};
	put_table(&f, S_SYMTAB, full, COUNT(full));
	put_table(&f, S_DYNSYM, dynamic, COUNT(dynamic));
	EXPECT(&f, AT(0x1050, 0x1150, 0x3fff, 0x4000), "full", "other", "label", "");
}

static void open_queries_only(void **state)
{
	(void)state;
	struct file f;
	struct elf elf;
	make(&f);
	static const struct symbol symbols[] = { { "full", 0x1000, 0x100, FUNC(LOCAL), S_TEXT } };
	put_table(&f, S_SYMTAB, symbols, COUNT(symbols));
	open_file(&elf, &f);
	char known[] = "known";
	struct symbol_query queries[] = { { .vaddr = 0x1000, .start = 1, .name = known }, { .vaddr = 0x1000 } };
	assert_int_equal(symbols_resolve(&elf, queries, 2), 0);
	assert_ptr_equal(queries[0].name, known);
	assert_int_equal(queries[0].start, 1);
	assert_string_equal(queries[1].name, "full");
	assert_int_equal(queries[1].start, 0x1000);
	free(queries[1].name);
	assert_int_equal(symbols_resolve(&elf, NULL, 0), 0);
	elf_close(&elf);
}

static void malformed_tables_answer_nothing(void **state)
{
	(void)state;
	static const struct symbol symbols[] = {
		{ "wraps", 0x1000, UINT64_MAX, FUNC(GLOBAL), S_TEXT },
		{ "no_section", 0x1000, 0, FUNC(GLOBAL), 0xfe00 },
		{ "", 0x1000, 0x10, FUNC(GLOBAL), S_TEXT },
	};
	for (int kind = 0; kind < 9; kind++) {
		struct file f;
		make(&f);
		static const struct symbol good[] = { { "good", 0x1000, 0x100, FUNC(LOCAL), S_TEXT } };
		put_table(&f, S_SYMTAB, kind ? good : symbols, kind ? COUNT(good) : COUNT(symbols));
		Elf64_Shdr *table = section(&f, S_SYMTAB), *names = section(&f, S_STRTAB);
		switch (kind) {
		case 1:
			table->sh_offset = UINT64_MAX - 8;
			break;
		case 2:
			table->sh_size = UINT64_MAX / 24 * 24;
			break;
		case 3:
			table->sh_entsize = 0;
			break;
		case 4:
			table->sh_link = 0xffffffff;
			break;
		case 5:
			table->sh_link = S_TEXT;
			break;
		case 6:
			names->sh_offset = UINT64_MAX;
			break;
		case 7:
			names->sh_size = 1;
			break;
		case 8:
			table->sh_flags = SHF_COMPRESSED;
			break;
		}
		EXPECT(&f, AT(0x1004), "");
	}
}

/* 400 symbols that each cover 100,000 queries: the work ends, the answers so far stand. */
static void symbols_that_cover_all_are_bounded(void **state)
{
	(void)state;
	enum { SYMBOLS = 400, QUERIES = 100000 };
	struct file f;
	struct elf elf;
	make(&f);
	static struct symbol symbols[SYMBOLS];
	for (size_t i = 0; i < SYMBOLS; i++)
		symbols[i] = (struct symbol) { "a", 0x1000 + i, UINT64_MAX / 2, FUNC(GLOBAL), S_TEXT };
	put_table(&f, S_SYMTAB, symbols, SYMBOLS);
	open_file(&elf, &f);
	cleanup_free struct symbol_query *queries = calloc(QUERIES, sizeof(*queries));
	for (size_t i = 0; i < QUERIES; i++)
		queries[i].vaddr = 0x2000 + i;
	assert_int_equal(symbols_resolve(&elf, queries, QUERIES), 0);
	assert_int_equal(queries[0].start, 0x1000 + (1 << 24) / QUERIES);
	for (size_t i = 0; i < QUERIES; i++)
		free(queries[i].name);
	elf_close(&elf);
}

static void a_file_that_shrinks_answers_nothing(void **state)
{
	(void)state;
	struct file f;
	struct elf elf;
	make(&f);
	static const struct symbol symbols[] = { { "full", 0x1000, 0x100, FUNC(LOCAL), S_TEXT } };
	put_table(&f, S_SYMTAB, symbols, COUNT(symbols));
	cleanup_close int fd = memfd_create("elf", MFD_CLOEXEC);
	assert_int_equal(write(fd, f.bytes, f.size), f.size);
	assert_int_equal(elf_open(&elf, (struct elf_source) { .fd = fd, .size = f.size }), 0);
	assert_int_equal(ftruncate(fd, (off_t)section(&f, S_SYMTAB)->sh_offset + 24), 0);
	struct symbol_query query = { .vaddr = 0x1004 };
	assert_int_equal(symbols_resolve(&elf, &query, 1), 0);
	assert_null(query.name);
	elf_close(&elf);
}

/* pcHeader, two functions, their names. `text`: textStart. */
static void put_go(struct file *f, uint32_t magic, uint64_t text, uint64_t nfunc)
{
	struct {
		uint32_t magic;
		uint8_t pads[2], quantum, pointer;
		uint64_t words[8]; /* nfunc, nfiles, textStart, names, cu, files, pc, functab */
		char names[64];
		uint32_t functab[6], funcs[4];
	} go = { magic, { 0, 0 }, 1, 8, { nfunc, 0, text, 72, 0, 0, 0, 136 }, "main.main\0_rt0_amd64_linux",
		{ 0, 24, 0x40, 32, 0x60, 0 }, { 0, 0, 0x40, 10 } };
	section(f, S_GO)->sh_offset = put(f, &go, sizeof(go));
	section(f, S_GO)->sh_size = sizeof(go);
}

static void go_functions_without_symbols(void **state)
{
	(void)state;
	struct file f;
	for (uint32_t magic = 0xfffffff0; magic <= 0xfffffff1; magic++) {
		make(&f);
		put_go(&f, magic, TEXT, 2);
		EXPECT(&f, AT(0xfff, 0x1000, 0x103f, 0x1040, 0x105f, 0x1060), "", "main.main", "main.main",
			"_rt0_amd64_linux", "_rt0_amd64_linux", "");
	}
	make(&f);
	put_go(&f, 0xfffffff2, TEXT, 2);
	EXPECT(&f, AT(0x1000), "");
	make(&f);
	put_go(&f, 0xfffffff1, TEXT, UINT64_MAX);
	EXPECT(&f, AT(0x1000), "");
	make(&f);
	put_go(&f, 0xfffffff1, UINT64_MAX - 4, 2);
	EXPECT(&f, AT(0x1000, UINT64_MAX), "", "main.main");
}

static void the_start_of_go_text_is_guessed_only_with_proof(void **state)
{
	(void)state;
	struct file f;
	make(&f);
	put_go(&f, 0xfffffff1, 0, 2);
	EXPECT(&f, AT(0x1000), "");
	((Elf64_Ehdr *)(void *)f.bytes)->e_entry = 0x1040;
	section(&f, S_TEXT)->sh_type = SHT_PROGBITS;
	EXPECT(&f, AT(0x1000), "main.main");
}

static void debug_files_are_found_by_build_id(void **state)
{
	(void)state;
	struct elf elf = { .build_id = { 0x93, 0xac, 0x61, 0x0e }, .build_id_len = 4 };
	char path[64];
	assert_int_equal(symbols_debug_path(&elf, path, sizeof(path)), strlen(".build-id/93/ac610e.debug"));
	assert_string_equal(path, ".build-id/93/ac610e.debug");
	assert_int_equal(symbols_debug_path(&elf, path, 20), 0);
	elf.build_id_len = 0;
	assert_int_equal(symbols_debug_path(&elf, path, sizeof(path)), 0);
}

/* ---- real files ---- */

struct real {
	struct elf elf;
	int fd;
};

static bool open_real(struct real *ret, const char *path)
{
	struct stat st;
	ret->fd = open(path, O_RDONLY | O_CLOEXEC);
	if (ret->fd < 0)
		return false;
	assert_int_equal(fstat(ret->fd, &st), 0);
	assert_int_equal(elf_open(&ret->elf, (struct elf_source) { .fd = ret->fd, .size = (uint64_t)st.st_size }), 0);
	return true;
}

static void close_real(struct real *real)
{
	elf_close(&real->elf);
	close(real->fd);
}

static int by_address(const void *a, const void *b)
{
	uint64_t x = ((const struct symbol_query *)a)->vaddr, y = ((const struct symbol_query *)b)->vaddr;
	return x < y ? -1 : x > y;
}

struct known {
	uint64_t start, size;
	char name[512];
};

static size_t run_nm(const char *options, const char *path, struct known **ret)
{
	char command[SELF_MAX + 64], line[2048];
	snprintf(command, sizeof(command), "nm -S --defined-only %s '%s' 2>/dev/null", options, path);
	cleanup_free struct known *known = NULL;
	size_t n = 0;
	FILE *f = popen(command, "re");
	while (fgets(line, sizeof(line), f)) {
		struct known one;
		char type;
		if (sscanf(line, "%" SCNx64 " %" SCNx64 " %c %511s", &one.start, &one.size, &type, one.name) != 4 ||
			!strchr("tTwWi", type))
			continue;
		one.name[1 + strcspn(one.name + 1, "@")] = '\0';
		if (n % 1024 == 0)
			known = realloc(known, (n + 1024) * sizeof(*known));
		known[n++] = one;
	}
	pclose(f);
	*ret = known;
	known = NULL;
	return n;
}

/* Addresses chosen at random in .text: we must name one of the innermost symbols that nm knows, or none when it knows
 * none. */
static size_t compare_with_nm(const char *path, const char *options)
{
	struct real real;
	struct known *all = NULL;
	size_t n = run_nm(options, path, &all), named = 0;
	cleanup_free struct known *known = all;
	if (!n || !open_real(&real, path))
		return 0;
	struct symbol_query queries[SAMPLES] = { 0 };
	const struct elf_section *text = elf_section(&real.elf, ".text");
	srand(42);
	for (size_t i = 0; i < SAMPLES; i++)
		queries[i].vaddr =
			i % 2 ? text->addr + (uint64_t)rand() % text->size : known[(size_t)rand() % n].start + i % 8;
	qsort(queries, SAMPLES, sizeof(*queries), by_address);
	assert_int_equal(symbols_resolve(&real.elf, queries, SAMPLES), 0);
	for (size_t i = 0; i < SAMPLES; i++) {
		uint64_t at = queries[i].vaddr, start = 0;
		bool match = false;
		for (size_t j = 0; j < n; j++)
			if (known[j].start <= at && at - known[j].start < known[j].size && known[j].start > start)
				start = known[j].start;
		for (size_t j = 0; j < n && start; j++)
			match |= known[j].start == start && queries[i].name &&
				 strcmp(known[j].name, queries[i].name) == 0;
		if (start && !match)
			fail_msg("%s: %" PRIx64 " is %s, nm has another at %" PRIx64, path, at, queries[i].name, start);
		if (start)
			assert_int_equal(queries[i].start, start);
		named += start != 0;
		free(queries[i].name);
	}
	close_real(&real);
	print_message("%s: %zu of %d addresses named as by nm\n", path, named, SAMPLES);
	return named;
}

static const char *self(void)
{
	static char path[SELF_MAX];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);
	assert_true(n > 0);
	path[n] = '\0';
	return path;
}

static void real_files_agree_with_nm(void **state)
{
	(void)state;
	static const char *const libraries[] = { "/lib/x86_64-linux-gnu/libc.so.6", "/usr/lib64/libc.so.6",
		"/usr/lib/x86_64-linux-gnu/libstdc++.so.6", "/usr/lib64/libstdc++.so.6" };
	if (system("nm --version >/dev/null 2>&1"))
		skip();
	assert_true(compare_with_nm(self(), "") > SAMPLES / 2);
	for (size_t i = 0; i < COUNT(libraries); i++)
		if (access(libraries[i], R_OK) == 0)
			assert_true(compare_with_nm(libraries[i], "-D") > SAMPLES / 4);
}

static int of_program(struct dl_phdr_info *info, size_t size, void *ret)
{
	(void)size;
	*(uint64_t *)ret = info->dlpi_addr;
	return 1; /* the first is the program */
}

static void own_functions_are_found(void **state)
{
	(void)state;
	struct real real;
	uint64_t bias = 0;
	dl_iterate_phdr(of_program, &bias);
	struct symbol_query query = { .vaddr = (uint64_t)(uintptr_t)own_functions_are_found - bias + 3 };
	assert_true(open_real(&real, self()));
	assert_int_equal(symbols_resolve(&real.elf, &query, 1), 0);
	assert_string_equal(query.name, "own_functions_are_found");
	free(query.name);
	close_real(&real);
}

/* objdump names stubs by its own reading of relocations. */
static size_t compare_stubs(const char *path)
{
	char command[SELF_MAX + 128], line[2048];
	snprintf(command, sizeof(command),
		"objdump -d --no-show-raw-insn -j .plt -j .plt.sec -j .plt.got '%s' 2>/dev/null", path);
	struct real real;
	size_t compared = 0;
	if (!open_real(&real, path))
		return 0;
	FILE *f = popen(command, "re");
	while (fgets(line, sizeof(line), f)) {
		uint64_t address;
		char name[512];
		if (sscanf(line, "%" SCNx64 " <%511[^>]>:", &address, name) != 2 || !strstr(name, "@plt") ||
			strstr(name, "plt-") || name[0] == '*')
			continue;
		/* objdump: "free@GLIBC_2.2.5@plt" in some versions, "free@plt" in others */
		strcpy(name + strcspn(name, "@"), "@plt");
		struct symbol_query query = { .vaddr = address + 5 };
		assert_int_equal(symbols_resolve(&real.elf, &query, 1), 0);
		if (!query.name)
			fail_msg("%s: no name for %s at %" PRIx64, path, name, address);
		assert_string_equal(query.name, name);
		assert_int_equal(query.start, address);
		free(query.name);
		compared++;
	}
	pclose(f);
	close_real(&real);
	print_message("%s: %zu stubs named as by objdump\n", path, compared);
	return compared;
}

static void stubs_agree_with_objdump(void **state)
{
	(void)state;
	if (system("objdump --version >/dev/null 2>&1"))
		skip();
	compare_stubs(self());
	compare_stubs("/usr/lib/x86_64-linux-gnu/libstdc++.so.6");
	compare_stubs("/usr/bin/bash");
	/* With and without .plt.sec, and one that calls through .plt.got. */
	static const char *const flags[] = { "-fcf-protection=full -Wl,-z,ibtplt", "-fcf-protection=none -no-pie",
		"-fcf-protection=none -Wl,-z,lazy" };
	for (size_t i = 0; i < COUNT(flags); i++) {
		char command[1024], dir[] = "/tmp/test_symbols.XXXXXX", path[64];
		assert_non_null(mkdtemp(dir));
		snprintf(command, sizeof(command),
			"cd %s && printf '#include <stdio.h>\\n#include <stdlib.h>\\nint main(void) { void (*volatile "
			"p)(void *) = free; "
			"puts(\"\"); p(malloc(1)); free(0); return getchar(); }' >a.c && cc -O1 %s -o a a.c "
			"2>/dev/null",
			dir, flags[i]);
		int built = system(command);
		snprintf(path, sizeof(path), "%s/a", dir);
		if (built == 0)
			assert_true(compare_stubs(path) >= 3);
		snprintf(command, sizeof(command), "rm -r %s", dir);
		assert_int_equal(system(command), 0);
	}
}

/* Runs a shell script in a new folder, with $1 as given; the caller removes the folder. */
static bool prepare(char dir[static 32], const char *script, const char *arg)
{
	char command[SELF_MAX + 2048];
	strcpy(dir, "/tmp/test_symbols.XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(command, sizeof(command), "cd %s && set -- '%s' && exec 2>/dev/null && { %s; }", dir, arg, script);
	return system(command) == 0;
}

static void discard(const char *dir)
{
	char command[128];
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	assert_int_equal(system(command), 0);
}

/* The names of the same addresses in two files, of which the second was stripped. Returns how many names were compared.
 */
static size_t compare_files(const char *dir, const char *full, const char *stripped)
{
	char path[64];
	struct real a, b;
	struct symbol_query queries_a[SAMPLES] = { 0 }, queries_b[SAMPLES] = { 0 };
	snprintf(path, sizeof(path), "%s/%s", dir, full);
	assert_true(open_real(&a, path));
	snprintf(path, sizeof(path), "%s/%s", dir, stripped);
	assert_true(open_real(&b, path));
	const struct elf_section *text = elf_section(&a.elf, ".text");
	srand(43);
	for (size_t i = 0; i < SAMPLES; i++)
		queries_a[i].vaddr = text->addr + (uint64_t)rand() % text->size;
	qsort(queries_a, SAMPLES, sizeof(*queries_a), by_address);
	memcpy(queries_b, queries_a, sizeof(queries_b));
	assert_int_equal(symbols_resolve(&a.elf, queries_a, SAMPLES), 0);
	assert_int_equal(symbols_resolve(&b.elf, queries_b, SAMPLES), 0);
	size_t same = 0;
	for (size_t i = 0; i < SAMPLES; i++) {
		const char *x = queries_a[i].name, *y = queries_b[i].name;
		/* The table covers padding, elides type arguments, and has no ".abi0". */
		if (x && y) {
			assert_int_equal(queries_a[i].start, queries_b[i].start);
			size_t n = strcspn(y, "[");
			if (strncmp(x, y, n) != 0)
				fail_msg("%" PRIx64 ": %s and %s", queries_a[i].vaddr, x, y);
			same++;
		} else if (x) {
			fail_msg("%" PRIx64 ": %s lost its name", queries_a[i].vaddr, x);
		}
		free(queries_a[i].name);
		free(queries_b[i].name);
	}
	close_real(&a);
	close_real(&b);
	return same;
}

static void go_programs_keep_their_names(void **state)
{
	(void)state;
	static const char *const modes[] = { "", "-buildmode=pie" };
	if (system("PATH=$PATH:/usr/local/go/bin go version >/dev/null 2>&1"))
		skip();
	for (size_t i = 0; i < COUNT(modes); i++) {
		char dir[32];
		bool built = prepare(dir,
			"export PATH=$PATH:/usr/local/go/bin GOTOOLCHAIN=local GOFLAGS=-mod=mod GO111MODULE=off; "
			"printf 'package main\\nimport \"fmt\"\\nfunc main() { fmt.Println(1) }\\n' >a.go && "
			"go build $1 -o full a.go && go build $1 -ldflags='-s -w' -o stripped a.go",
			modes[i]);
		if (built)
			assert_true(compare_files(dir, "full", "stripped") > SAMPLES / 2);
		discard(dir);
		if (!built)
			skip();
	}
}

/* Made as the GDB manual says that distributions do. */
static void minidebug_names_what_was_stripped(void **state)
{
	(void)state;
	char dir[32];
	if (system("xz --version >/dev/null 2>&1 && objcopy --version >/dev/null 2>&1"))
		skip();
	bool made = prepare(dir,
		"cp \"$1\" full && nm -D full --format=posix --defined-only | awk '{print $1}' | sort >dynamic && "
		"nm full --format=posix --defined-only | awk '{if ($2 == \"T\" || $2 == \"t\" || $2 == \"D\") print "
		"$1}' | sort >all && "
		"comm -13 dynamic all >keep && objcopy --only-keep-debug full debug && "
		"objcopy -S --remove-section .gdb_index --remove-section .comment --keep-symbols=keep debug mini && "
		"xz mini && strip --strip-all -R .comment -o stripped full && "
		"objcopy --add-section .gnu_debugdata=mini.xz stripped && "
		"cp stripped broken && objcopy --update-section .gnu_debugdata=all broken",
		self());
	if (made) {
		assert_true(compare_files(dir, "full", "stripped") > SAMPLES / 2);
		struct real real;
		char path[64];
		snprintf(path, sizeof(path), "%s/broken", dir);
		assert_true(open_real(&real, path));
		struct symbol_query query = { .vaddr = elf_section(&real.elf, ".text")->addr + 0x1000 };
		assert_int_equal(symbols_resolve(&real.elf, &query, 1), 0);
		free(query.name);
		close_real(&real);
	}
	discard(dir);
	assert_true(made);
}

static void rust_programs_have_readable_names(void **state)
{
	(void)state;
	static const char *const manglings[] = { "legacy", "v0" };
	if (system("PATH=$PATH:$HOME/.cargo/bin rustc --version >/dev/null 2>&1"))
		skip();
	size_t programs = 0;
	for (size_t i = 0; i < COUNT(manglings); i++) { /* a compiler may have but one of them */
		char dir[32], path[64];
		bool built = prepare(dir,
			"export PATH=$PATH:$HOME/.cargo/bin; printf 'mod deep { pub struct S; impl S { "
			"#[inline(never)] "
			"pub fn work(&self, x: u64) -> u64 { std::hint::black_box(x * 3) } } } fn main() { "
			"println!(\"{}\", deep::S.work(4)); }' >prog.rs && rustc -C symbol-mangling-version=$1 -O "
			"prog.rs -o prog",
			manglings[i]);
		snprintf(path, sizeof(path), "%s/prog", dir);
		struct known *all = NULL;
		size_t n = built ? run_nm("", path, &all) : 0;
		cleanup_free struct known *known = all;
		bool found = false;
		for (size_t j = 0; j < n && !found; j++) {
			struct real real;
			struct symbol_query query = { .vaddr = known[j].start };
			if (!strstr(known[j].name, "work"))
				continue;
			assert_true(open_real(&real, path));
			assert_int_equal(symbols_resolve(&real.elf, &query, 1), 0);
			cleanup_free char *readable = symbols_demangle(query.name);
			found = readable && strstr(readable, "prog::deep::S") && strstr(readable, "::work");
			assert_true(!readable || !strstr(readable, "17h"));
			free(query.name);
			close_real(&real);
		}
		discard(dir);
		assert_true(found || !built);
		programs += built;
	}
	if (!programs)
		skip();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_symbol_covers_its_size),
		cmocka_unit_test(a_label_covers_up_to_the_next_symbol),
		cmocka_unit_test(the_known_alias_is_shown),
		cmocka_unit_test(dynamic_symbols_fill_the_gaps),
		cmocka_unit_test(open_queries_only),
		cmocka_unit_test(malformed_tables_answer_nothing),
		cmocka_unit_test(symbols_that_cover_all_are_bounded),
		cmocka_unit_test(a_file_that_shrinks_answers_nothing),
		cmocka_unit_test(go_functions_without_symbols),
		cmocka_unit_test(the_start_of_go_text_is_guessed_only_with_proof),
		cmocka_unit_test(debug_files_are_found_by_build_id),
		cmocka_unit_test(own_functions_are_found),
		cmocka_unit_test(real_files_agree_with_nm),
		cmocka_unit_test(stubs_agree_with_objdump),
		cmocka_unit_test(minidebug_names_what_was_stripped),
		cmocka_unit_test(go_programs_keep_their_names),
		cmocka_unit_test(rust_programs_have_readable_names),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
