#include "kit/symbols.h"

#include "common/cleanup.h"
#include "kit/symbols_parts.h"

#include <elf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

enum {
	/* Names of one address that are compared; strtold has three. */
	ALIASES_MAX = 4,
	/* Bytes that an unsized symbol of .dynsym covers at most: the functions after it may be ones that are not in
	   there. */
	DYNAMIC_REACH = 4096,
	/* A file may hold millions of symbols that each cover every query. A real one costs a few updates for each
	   query. */
	UPDATES_MAX = 1 << 24,
};

/* A name is looked at only when the passes are over, so a candidate remembers where it stands. */
struct candidate {
	uint64_t start;
	uint32_t names[ALIASES_MAX]; /* offsets in the string table */
	uint8_t nnames;              /* 0: none */
	uint8_t source;              /* index in passes.sources */
	uint8_t rank;
};

/* What is known about one query. Symbols with a size say what they cover. One without (a "label") covers all up to the
 * next symbol, which is not known before the passes are over: each query keeps the last label, and the last start of
 * any symbol, between the query before it and itself, and settle() carries them on. */
struct answer {
	struct candidate sized;
	struct candidate label;
	uint64_t label_end; /* of its section */
	uint64_t last;      /* highest start of any symbol; 0: none */
};

struct source {
	const struct elf *elf;
	const struct elf_section *strings;
};

enum { SOURCES_MAX = 3 };

struct passes {
	const struct symbol_query *queries;
	const bool *done;
	size_t n;
	struct answer *answers;
	struct source sources[SOURCES_MAX];
	uint8_t nsources;
	size_t updates;      /* left */
	struct elf inner;    /* of .gnu_debugdata, when there is inner_data */
	uint8_t *inner_data; /* owned */
};

struct function {
	uint64_t start, end; /* end: of the symbol, or what a label covers at most */
	uint32_t name;
	uint8_t rank;
	bool is_label;
};

static void offer(struct candidate *c, const struct function *f, uint8_t source)
{
	bool level = c->nnames && c->start == f->start && c->source == source && c->rank == f->rank;
	if (level) {
		if (c->nnames < ALIASES_MAX)
			c->names[c->nnames++] = f->name;
		return;
	}
	/* The nearest start is the innermost function. An earlier source is the better one. */
	if (c->nnames && (f->start < c->start || (f->start == c->start && (c->source < source || c->rank > f->rank))))
		return;
	*c = (struct candidate) {
		.start = f->start, .names = { f->name }, .nnames = 1, .source = source, .rank = f->rank
	};
}

static bool is_function(const struct elf *elf, const Elf64_Sym *symbol, bool dynamic, struct function *ret)
{
	unsigned int type = ELF64_ST_TYPE(symbol->st_info), binding = ELF64_ST_BIND(symbol->st_info);
	if (symbol->st_shndx == SHN_UNDEF || !symbol->st_value || !symbol->st_name ||
		symbol->st_size > UINT64_MAX - symbol->st_value)
		return false;
	bool typed = type == STT_FUNC || type == STT_GNU_IFUNC;
	if (!typed && type != STT_NOTYPE)
		return false;
	/* Local labels without a type are "$x" and "$d" there, which tell code from data. */
	if (!typed && binding == STB_LOCAL && elf->machine != EM_X86_64)
		return false;
	const struct elf_section *section =
		symbol->st_shndx < SHN_LORESERVE ? symbols_section_at(elf, symbol->st_shndx) : NULL;
	if (!typed && (!section || !(section->flags & SHF_EXECINSTR)))
		return false;

	*ret = (struct function) { .start = symbol->st_value, .name = symbol->st_name, .is_label = !symbol->st_size };
	ret->rank = (uint8_t)((typed ? 2 : 0) + (binding != STB_LOCAL));
	ret->end = symbol->st_value + symbol->st_size;
	if (!ret->is_label)
		return true;
	if (!section || ret->start < section->addr || ret->start - section->addr >= section->size)
		return false;
	uint64_t reach = section->size - (ret->start - section->addr);
	if (dynamic && reach > DYNAMIC_REACH)
		reach = DYNAMIC_REACH;
	ret->end = reach <= UINT64_MAX - ret->start ? ret->start + reach : UINT64_MAX;
	return true;
}

/* False when the file asks for too much work. */
static bool consider(struct passes *p, const struct function *f, uint8_t source)
{
	size_t first = symbol_query_at(p->queries, p->n, f->start);
	if (first == p->n)
		return true;
	struct answer *nearest = &p->answers[first];
	if (f->start > nearest->last)
		nearest->last = f->start;
	if (f->is_label) {
		uint64_t before = nearest->label.start;
		offer(&nearest->label, f, source);
		if (nearest->label.start != before)
			nearest->label_end = f->end;
		return true;
	}
	for (size_t i = first; i < p->n && p->queries[i].vaddr < f->end; i++) {
		if (!p->updates)
			return false;
		p->updates--;
		offer(&p->answers[i].sized, f, source);
	}
	return true;
}

static bool is_open(const struct passes *p)
{
	for (size_t i = 0; i < p->n; i++)
		if (!p->done[i] && !p->answers[i].sized.nnames)
			return true;
	return false;
}

/* One table. A file that shrinks under the reader (-EIO) is not to be believed in any part. */
static int pass(struct passes *p, const struct elf *elf, uint32_t type)
{
	const struct elf_section *section = NULL;
	for (uint32_t i = 0; i < elf->nsections && !section; i++)
		if (elf->sections[i].type == type)
			section = &elf->sections[i];
	const struct elf_section *strings = section ? symbols_section_at(elf, section->link) : NULL;
	if (!strings || strings->type != SHT_STRTAB || !is_open(p))
		return 0;

	struct table table;
	int r = table_open(&table, elf, section);
	if (r)
		return r == -ENOMEM ? r : 0;
	uint8_t source = p->nsources++;
	p->sources[source] = (struct source) { elf, strings };
	const void *entry;
	bool more = true;
	while (more && (entry = table_next(&table))) {
		Elf64_Sym symbol;
		struct function function;
		memcpy(&symbol, entry, sizeof(symbol));
		if (is_function(elf, &symbol, type == SHT_DYNSYM, &function))
			more = consider(p, &function, source);
	}
	table_close(&table);
	return table.error;
}

/* The best-known of the candidate's names; its length, 0 when there is none. */
static size_t candidate_name(const struct passes *p, const struct candidate *c, char best[SYMBOL_NAME_MAX + 1])
{
	const struct source *source = &p->sources[c->source];
	char name[SYMBOL_NAME_MAX + 1];
	size_t best_len = 0;
	for (uint8_t i = 0; i < c->nnames; i++) {
		size_t len = symbols_name(source->elf, source->strings, c->names[i], name);
		if (!len || (best_len && symbol_alias_compare(best, name) <= 0))
			continue;
		memcpy(best, name, len + 1);
		best_len = len;
	}
	return best_len;
}

static bool same(const struct candidate *a, const struct candidate *b)
{
	return a->start == b->start && a->source == b->source && a->names[0] == b->names[0];
}

static int settle(const struct passes *p, struct symbol_query *queries)
{
	const struct answer *label = NULL;
	const struct candidate *named = NULL; /* whose name `name` is: neighbours are often of one function */
	char name[SYMBOL_NAME_MAX + 1];
	size_t len = 0;
	uint64_t last = 0;
	for (size_t i = 0; i < p->n; i++) {
		const struct answer *answer = &p->answers[i];
		if (answer->label.nnames)
			label = answer;
		if (answer->last > last)
			last = answer->last;
		if (p->done[i])
			continue;
		const struct candidate *c = &answer->sized;
		if (!c->nnames && label && label->label.start == last && queries[i].vaddr < label->label_end)
			c = &label->label;
		if (!c->nnames)
			continue;
		if (!named || !same(named, c))
			len = candidate_name(p, c, name);
		named = c;
		if (!len)
			continue;
		queries[i].name = strdup(name);
		if (!queries[i].name)
			return -ENOMEM;
		queries[i].start = c->start;
	}
	return 0;
}

static int pass_minidebug(struct passes *p, const struct elf *elf)
{
	if (!is_open(p))
		return 0;
	int r = symbols_minidebug_open(elf, &p->inner, &p->inner_data);
	if (r)
		return r == -ENOMEM ? r : 0;
	return pass(p, &p->inner, SHT_SYMTAB);
}

static int resolve(const struct elf *elf, struct passes *p, struct symbol_query *queries, bool *done)
{
	int r = symbols_plt(elf, queries, p->n, done);
	if (!r)
		r = pass(p, elf, SHT_SYMTAB);
	bool has_symtab = p->nsources > 0;
	if (!r)
		r = pass_minidebug(p, elf);
	if (!r && !has_symtab && is_open(p))
		r = symbols_go(elf, queries, p->n, done);
	if (!r)
		r = pass(p, elf, SHT_DYNSYM);
	return r ? r : settle(p, queries);
}

int symbols_resolve(const struct elf *elf, struct symbol_query *queries, size_t n)
{
	if (!n)
		return 0;
	cleanup_free bool *done = calloc(n, sizeof(*done));
	cleanup_free struct answer *answers = calloc(n, sizeof(*answers));
	if (!done || !answers)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		done[i] = queries[i].name != NULL;
	struct passes p = { .queries = queries, .done = done, .n = n, .answers = answers, .updates = UPDATES_MAX };
	int r = resolve(elf, &p, queries, done);
	if (p.inner_data)
		elf_close(&p.inner);
	free(p.inner_data);
	return r == -ENOMEM ? r : 0;
}

size_t symbols_debug_path(const struct elf *elf, char *out, size_t size)
{
	static const char root[] = ".build-id/", end[] = ".debug";
	size_t id = elf->build_id_len;
	if (id < 2 || id > ELF_BUILD_ID_MAX || size < sizeof(root) + 2 * id + sizeof(end))
		return 0;
	size_t n = (size_t)snprintf(out, size, "%s%02x/", root, elf->build_id[0]);
	for (size_t i = 1; i < id; i++)
		n += (size_t)snprintf(out + n, size - n, "%02x", elf->build_id[i]);
	return n + (size_t)snprintf(out + n, size - n, "%s", end);
}
