#include "java/method.h"

#include <errno.h>
#include <stdlib.h>

enum {
	PART = 512, /* bytes of a name; a class's, and a method's */
	LINES_FIRST = 256,
	POOL_TAGS = 1, /* the lowest bit of a slot: the class is not resolved yet */
};

static uint64_t slot_of(const struct java_layout *l, uint64_t pool, uint16_t index)
{
	return pool + l->of[JAVA_sizeof_pool].value + index * 8ULL;
}

/* Without the count of its users (oops/symbol.hpp): of 16 bits, behind the length of as many (up to 12), or in front of the hash. */
static int read_stamp(const struct java_layout *l, const struct java_memory *memory, uint64_t symbol, uint64_t *ret)
{
	enum { COUNT_BITS = 16, COUNT = (1 << COUNT_BITS) - 1 };
	int r = java_read_word(memory, symbol, ret);
	if (r)
		*ret = 0;
	else if (l->of[JAVA_symbol_length].value == 0)
		*ret &= ~((uint64_t)COUNT << COUNT_BITS);
	else
		*ret >>= COUNT_BITS;
	return r;
}

/* Whose it is, and which of it: where the two names are. */
static int find_symbols(struct java_method *m, const struct java_layout *l, const struct java_memory *memory)
{
	uint8_t pool[JAVA_STRUCTURE_MAX];
	uint64_t slot;
	int r = java_read(memory, m->pool, pool, l->pool_bytes);
	if (r)
		return r;
	uint64_t holder = java_get(l, JAVA_pool_holder, pool);
	if (!holder || holder % 8 || !m->name_index || m->name_index >= (uint32_t)java_get(l, JAVA_pool_length, pool))
		return -EINVAL;
	r = java_get_at(l, memory, JAVA_klass_name, holder, &m->class_symbol);
	r = r ? r : java_read_word(memory, slot_of(l, m->pool, m->name_index), &slot);
	if (r)
		return r;
	m->name_symbol = slot & ~(uint64_t)POOL_TAGS;
	r = read_stamp(l, memory, m->class_symbol, &m->class_stamp);
	return r ? r : read_stamp(l, memory, m->name_symbol, &m->name_stamp);
}

int java_method_head(
	struct java_method *ret, const struct java_layout *l, const struct java_memory *memory, uint64_t address)
{
	uint8_t bytes[JAVA_STRUCTURE_MAX];
	struct java_method m = { .address = address };
	int r = address % 8 ? -EINVAL : java_read(memory, address, bytes, l->method_bytes);
	if (r)
		return r;
	m.constant = java_get(l, JAVA_method_const, bytes);
	r = !m.constant || m.constant % 8 ? -EINVAL : java_read(memory, m.constant, bytes, l->const_bytes);
	if (r)
		return r;
	m.pool = java_get(l, JAVA_const_constants, bytes);
	m.code_size = (uint32_t)java_get(l, JAVA_const_code_size, bytes) & 0xffff;
	m.name_index = (uint16_t)java_get(l, JAVA_const_name, bytes);
	m.codes = m.constant + l->of[JAVA_sizeof_const_method].value;
	r = !m.pool || m.pool % 8 ? -EINVAL : find_symbols(&m, l, memory);
	if (!r)
		*ret = m;
	return r;
}

int java_symbol(const struct java_layout *l, const struct java_memory *memory, uint64_t symbol, char *out, size_t size)
{
	uint8_t head[64];
	uint64_t body = l->of[JAVA_symbol_body].value;
	int r = java_read(memory, symbol, head, sizeof(uint64_t));
	if (r)
		return r;
	size_t n = java_get(l, JAVA_symbol_length, head) & 0xffff;
	n = n < size ? n : size;
	r = n ? java_read(memory, symbol + body, out, n) : 0;
	return r ? r : (int)n;
}

int java_pool_symbol(const struct java_layout *l, const struct java_memory *memory, uint64_t pool, uint32_t index,
	char *out, size_t size)
{
	uint64_t slot, length;
	int r = java_get_at(l, memory, JAVA_pool_length, pool, &length);
	if (r || !index || index >= (uint32_t)length || index > UINT16_MAX)
		return r ? r : -EINVAL;
	r = java_read_word(memory, slot_of(l, pool, (uint16_t)index), &slot);
	return r ? r : java_symbol(l, memory, slot & ~(uint64_t)POOL_TAGS, out, size);
}

void java_class_name(char *out, size_t size, const char *internal, size_t n)
{
	static const char hidden[] = "+0x";
	size_t at = 0;
	for (size_t i = 0; i < n && at + 1 < size; i++) {
		if (n - i > sizeof hidden - 1 && !memcmp(internal + i, hidden, sizeof hidden - 1)) {
			i += sizeof hidden - 2;
			while (i + 1 < n && strchr("0123456789abcdef", internal[i + 1]) && internal[i + 1])
				i++;
			continue;
		}
		out[at++] = (char)(internal[i] == '/' ? '.' : internal[i]);
	}
	out[at] = 0;
}

static int read_lines(struct java_method *m, const struct java_layout *l, const struct java_memory *memory)
{
	/* How long it is only its end says: it is read in larger and larger pieces, which may not reach beyond what can be read. */
	for (size_t n = LINES_FIRST; n <= JAVA_LINES_BYTES; n *= 4) {
		uint8_t *bytes = malloc(n);
		if (!bytes)
			return -ENOMEM;
		size_t got = n;
		while (got >= 16 && java_read(memory, m->codes + m->code_size, bytes, got) < 0)
			got /= 2;
		size_t length = got >= 16 ? java_lines_length(bytes, got, l->excluded) : 0;
		uint8_t *fitted = length ? realloc(bytes, length) : NULL;
		if (fitted) {
			m->lines = fitted;
			m->nlines = length;
			return 0;
		}
		free(bytes);
		if (got < n)
			return 0;
	}
	return 0;
}

/* UTF-8 that is cut in the middle of a character ends before it. */
static void cut(char *text, size_t n)
{
	while (n && ((uint8_t)text[n - 1] & 0xc0) == 0x80)
		n--;
	if (n && (uint8_t)text[n - 1] >= 0xc0)
		n--;
	text[n] = 0;
}

static int read_names(struct java_method *m, const struct java_layout *l, const struct java_memory *memory)
{
	uint8_t pool[JAVA_STRUCTURE_MAX], klass[JAVA_STRUCTURE_MAX];
	char type[PART], dotted[PART], method[PART], file[PART], name[JAVA_NAME_BYTES];
	int r = java_read(memory, m->pool, pool, l->pool_bytes);
	uint64_t holder = r ? 0 : java_get(l, JAVA_pool_holder, pool);
	r = r ? r : !holder || holder % 8 ? -EINVAL : java_read(memory, holder, klass, l->klass_bytes);
	if (r)
		return r;
	int ntype = java_symbol(l, memory, m->class_symbol, type, sizeof type);
	int nmethod = ntype < 0 ? ntype : java_symbol(l, memory, m->name_symbol, method, sizeof method);
	if (nmethod <= 0)
		return nmethod ? nmethod : -EINVAL;
	uint16_t source = (uint16_t)(java_has(l, JAVA_pool_source) ? java_get(l, JAVA_pool_source, pool)
								   : java_get(l, JAVA_klass_source, klass));
	int nfile = source ? java_pool_symbol(l, memory, m->pool, source, file, sizeof file - 1) : 0;
	if (nfile < 0)
		nfile = 0;
	java_class_name(dotted, sizeof dotted, type, (size_t)ntype);
	size_t n = strlen(dotted);
	memcpy(name, dotted, n);
	name[n++] = '.';
	size_t room = sizeof name - 1 - n;
	bool whole = (size_t)nmethod <= room;
	memcpy(name + n, method, whole ? (size_t)nmethod : room);
	n += whole ? (size_t)nmethod : room;
	name[n] = 0;
	if (!whole || nmethod == PART)
		cut(name, n);
	file[nfile] = 0;
	m->name = strdup(name);
	m->file = strdup(file);
	return m->name && m->file ? 0 : -ENOMEM;
}

int java_method_read(struct java_method *m, const struct java_layout *l, const struct java_memory *memory)
{
	uint64_t flags = 0;
	int r = read_names(m, l, memory);
	r = r ? r : java_get_at(l, memory, JAVA_const_flags, m->constant, &flags);
	if (!r && java_has(l, JAVA_constant_has_lines) && flags & l->of[JAVA_constant_has_lines].value)
		r = read_lines(m, l, memory);
	if (r) {
		java_method_free(m);
		return r;
	}
	if (m->lines)
		(void)java_line(m->lines, m->nlines, l->excluded, -1, &m->first_line);
	return 0;
}

void java_method_free(struct java_method *m)
{
	free(m->name);
	free(m->file);
	free(m->lines);
	m->name = m->file = NULL;
	m->lines = NULL;
}
