#include "kit/kallsyms.h"

#include "common/cleanup.h"
#include "kit/lines.h"
#include "kit/symbols_parts.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	/* A kernel with all its modules has 0.2 million text symbols; whoever may load BPF programs can add more. */
	SYMBOLS_MAX = 1 << 20,
	NAMES_MAX = 32 << 20, /* bytes; a kernel needs 1.5 MiB, names of 30 bytes on average */
	REACH_MAX = 1 << 20,  /* bytes past its start that a symbol still answers for: kallsyms tells no sizes */
};

/* Half of the symbols of an x86-64 kernel are "__pfx_NAME", the padding before NAME. It can hold code that works for NAME (call
 * depth tracking): NAME begins there. */
static const char padding_prefix[] = "__pfx_";

/* Symbols are stored as 32-bit distances from the base of their region. The kernel image and the modules are at most 2
 * GiB apart on x86-64: one region. Other machines have a few. */
struct region {
	uint64_t base;
	uint32_t first; /* index of its first symbol */
};

struct kallsyms {
	struct region *regions;
	uint32_t *distances; /* from the region's base, sorted */
	uint32_t *names;     /* offsets in the pool */
	char *pool;          /* names, terminated: "name" or "name\t[module]" */
	size_t nregions, nsymbols, pool_size;
};

struct raw {
	uint64_t address;
	uint32_t name;
	char type;
};

struct loader {
	struct raw *symbols;
	size_t nsymbols, symbols_cap;
	char *pool;
	size_t pool_size, pool_cap;
	uint32_t previous; /* name that was added last */
	bool padding;      /* it was one of a padding */
	bool saw_zero;
};

static void *grown(void *data, size_t *cap, size_t need, size_t max, size_t unit)
{
	if (need <= *cap)
		return data;
	size_t n = *cap ? *cap : 4096;
	while (n < need)
		n *= 2;
	if (n > max)
		n = max;
	void *p = realloc(data, n * unit);
	if (p)
		*cap = n;
	return p;
}

static bool is_previous(const struct loader *l, const char *name, size_t len)
{
	return l->pool && l->pool_size - l->previous == len + 1 && memcmp(l->pool + l->previous, name, len) == 0;
}

static int add_name(struct loader *l, const char *name, size_t len)
{
	char *pool = grown(l->pool, &l->pool_cap, l->pool_size + len + 1, NAMES_MAX, 1);
	if (!pool)
		return -ENOMEM;
	l->pool = pool;
	char *at = pool + l->pool_size;
	memcpy(at, name, len);
	at[len] = '\0';
	l->previous = (uint32_t)l->pool_size;
	l->pool_size += len + 1;
	return 0;
}

/* "ffffffff81000000 T name" or the same with "\t[module]". */
static int add_line(struct loader *l, const struct line *line)
{
	const char *p = line->text, *end = p + line->len;
	uint64_t address;
	if (!lines_hex(&p, end, &address) || end - p < 4 || p[0] != ' ' || p[2] != ' ' || !strchr("tTwW", p[1]))
		return 0;
	char type = p[1];
	p += 3;
	size_t len = strnlen(p, (size_t)(end - p));
	if (!address) {
		l->saw_zero = true;
		return 0;
	}
	bool padding = len >= sizeof(padding_prefix) && memcmp(p, padding_prefix, sizeof(padding_prefix) - 1) == 0;
	if (padding) {
		p += sizeof(padding_prefix) - 1;
		len -= sizeof(padding_prefix) - 1;
	}
	/* What comes after the limits is left out: BPF programs come last. */
	if (!len || l->nsymbols == SYMBOLS_MAX || l->pool_size + len >= NAMES_MAX)
		return 0;
	bool begun = l->padding && !padding && is_previous(l, p, len);
	l->padding = padding;
	if (begun)
		return 0;
	struct raw *symbols = grown(l->symbols, &l->symbols_cap, l->nsymbols + 1, SYMBOLS_MAX, sizeof(*symbols));
	if (!symbols)
		return -ENOMEM;
	l->symbols = symbols;
	int r = add_name(l, p, len);
	if (r)
		return r;
	symbols[l->nsymbols++] = (struct raw) { address, l->previous, type };
	return 0;
}

/* Names that only say where a part of the image begins or ends. */
static bool is_boundary(const char *name)
{
	static const char *const ends[] = { "_text", "_stext", "_sinittext", "_text_start", "_text_end" };
	size_t len = strlen(name);
	for (size_t i = 0; i < sizeof(ends) / sizeof(*ends); i++)
		if (len >= strlen(ends[i]) && strcmp(name + len - strlen(ends[i]), ends[i]) == 0)
			return true;
	return false;
}

static int type_order(char type)
{
	return type == 'T' ? 0 : type == 't' ? 1 : 2;
}

static int compare(const void *a, const void *b, void *pool)
{
	const struct raw *x = a, *y = b;
	if (x->address != y->address)
		return x->address < y->address ? -1 : 1;
	const char *name_x = (char *)pool + x->name, *name_y = (char *)pool + y->name;
	int r = is_boundary(name_x) - is_boundary(name_y);
	if (!r)
		r = (int)strspn(name_x, "_") - (int)strspn(name_y, "_");
	if (!r)
		r = type_order(x->type) - type_order(y->type);
	return r ? r : symbol_alias_compare(name_x, name_y);
}

/* Sorted, and of the aliases of one address only the best. */
static void sort(struct loader *l)
{
	/* The kernel's own symbols come sorted, and where there are no modules nothing else comes. */
	for (size_t i = 1; i < l->nsymbols; i++) {
		if (l->symbols[i - 1].address > l->symbols[i].address) {
			qsort_r(l->symbols, l->nsymbols, sizeof(*l->symbols), compare, l->pool);
			break;
		}
	}
	size_t kept = 0;
	for (size_t i = 0; i < l->nsymbols; i++) {
		if (!kept || l->symbols[i].address != l->symbols[kept - 1].address)
			l->symbols[kept++] = l->symbols[i];
		else if (compare(&l->symbols[i], &l->symbols[kept - 1], l->pool) < 0)
			l->symbols[kept - 1] = l->symbols[i];
	}
	l->nsymbols = kept;
}

static size_t count_regions(const struct loader *l)
{
	size_t n = 0;
	uint64_t base = 0;
	for (size_t i = 0; i < l->nsymbols; i++) {
		if (!n || l->symbols[i].address - base > UINT32_MAX) {
			base = l->symbols[i].address;
			n++;
		}
	}
	return n;
}

static int pack(struct loader *l, struct kallsyms *k)
{
	k->regions = malloc((count_regions(l) + 1) * sizeof(*k->regions));
	k->distances = malloc((l->nsymbols + 1) * sizeof(*k->distances));
	k->names = malloc((l->nsymbols + 1) * sizeof(*k->names));
	if (!k->regions || !k->distances || !k->names)
		return -ENOMEM;
	for (size_t i = 0; i < l->nsymbols; i++) {
		uint64_t address = l->symbols[i].address;
		if (!k->nregions || address - k->regions[k->nregions - 1].base > UINT32_MAX)
			k->regions[k->nregions++] = (struct region) { address, (uint32_t)i };
		k->distances[i] = (uint32_t)(address - k->regions[k->nregions - 1].base);
		k->names[i] = l->symbols[i].name;
	}
	k->nsymbols = l->nsymbols;
	char *fitted = realloc(l->pool, l->pool_size);
	k->pool = fitted ? fitted : l->pool;
	k->pool_size = l->pool_size;
	l->pool = NULL;
	return 0;
}

static int load(struct loader *l, struct kallsyms *k, int fd)
{
	cleanup_free struct lines *lines = lines_open(fd, 0, UINT64_MAX);
	if (!lines)
		return -ENOMEM;
	struct line line;
	int r;
	while ((r = lines_next(lines, &line)) > 0) {
		int added = add_line(l, &line);
		if (added)
			return added;
	}
	if (r)
		return r;
	if (!l->nsymbols)
		return l->saw_zero ? -EPERM : -ENODATA;
	sort(l);
	return pack(l, k);
}

int kallsyms_load(struct kallsyms **ret, int fd)
{
	struct kallsyms *k = calloc(1, sizeof(*k));
	if (!k)
		return -ENOMEM;
	struct loader l = { 0 };
	int r = load(&l, k, fd);
	free(l.symbols);
	free(l.pool);
	if (r) {
		kallsyms_free(k);
		return r;
	}
	*ret = k;
	return 0;
}

void kallsyms_free(struct kallsyms *k)
{
	if (!k)
		return;
	free(k->regions);
	free(k->distances);
	free(k->names);
	free(k->pool);
	free(k);
}

size_t kallsyms_find(const struct kallsyms *k, uint64_t address, char *out, size_t size)
{
	if (!size || address < k->regions[0].base)
		return 0;
	size_t low = 0, high = k->nregions;
	while (high - low > 1) {
		size_t middle = low + (high - low) / 2;
		if (k->regions[middle].base <= address)
			low = middle;
		else
			high = middle;
	}
	const struct region *region = &k->regions[low];
	uint64_t distance = address - region->base;
	size_t first = region->first, end = low + 1 < k->nregions ? region[1].first : k->nsymbols;
	while (end - first > 1) {
		size_t middle = first + (end - first) / 2;
		if (k->distances[middle] <= distance)
			first = middle;
		else
			end = middle;
	}
	if (distance - k->distances[first] > REACH_MAX)
		return 0;
	int n = snprintf(out, size, "%s", k->pool + k->names[first]);
	if (n <= 0)
		return 0;
	size_t len = (size_t)n < size ? (size_t)n : size - 1;
	char *tab = memchr(out, '\t', len);
	if (tab)
		*tab = ' ';
	return len;
}

size_t kallsyms_memory(const struct kallsyms *k)
{
	return sizeof(*k) + k->nregions * sizeof(*k->regions) +
	       k->nsymbols * (sizeof(*k->distances) + sizeof(*k->names)) + k->pool_size;
}
