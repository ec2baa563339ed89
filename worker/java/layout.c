#include "java/layout.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum {
	ROWS_MAX = 1 << 14, /* of one table; the largest there is has 3,000 */
	STRIDE_MIN = 8,     /* bytes */
	STRIDE_MAX = 256,
	NAME_MAX_BYTES = 64, /* no name that we look for is longer */
	CHUNK = 16 << 10,    /* bytes of a table read at once */
	PAGE = 4096,
	PAGES = 16, /* of names that are remembered */
	SIZE_LIMIT = 64 << 10,
};

static const struct row {
	const char *type, *field; /* field NULL: the size of the type */
	enum java_field id;
} rows[] = {
#define FIELD(name, type, field) { type, field, JAVA_##name },
#define ALSO(name, type, field) { type, field, JAVA_##name },
#define SIZE(name, type) { type, NULL, JAVA_sizeof_##name },
#define CONSTANT(name, constant)
#define ALSO_CONSTANT(name, constant)
#include "java/layout.def"
#undef FIELD
#undef ALSO
#undef SIZE
#undef CONSTANT
#undef ALSO_CONSTANT
};

static const struct {
	const char *name;
	enum java_field id;
} constants[] = {
#define FIELD(name, type, field)
#define ALSO(name, type, field)
#define SIZE(name, type)
#define CONSTANT(name, constant) { constant, JAVA_constant_##name },
#define ALSO_CONSTANT(name, constant) { constant, JAVA_constant_##name },
#include "java/layout.def"
#undef FIELD
#undef ALSO
#undef SIZE
#undef CONSTANT
#undef ALSO_CONSTANT
};

/* Names stand close together: some thousand of them are read with a few dozen reads. */
struct names {
	const struct java_memory *memory;
	uint64_t page[PAGES];
	uint8_t bytes[PAGES][PAGE];
	size_t next;
};

static const uint8_t *page_of(struct names *names, uint64_t page)
{
	for (size_t i = 0; i < PAGES; i++)
		if (names->page[i] == page)
			return names->bytes[i];
	size_t at = names->next++ % PAGES;
	names->page[at] = 0;
	if (!page || java_read(names->memory, page, names->bytes[at], PAGE) < 0)
		return NULL;
	names->page[at] = page;
	return names->bytes[at];
}

/* At most NAME_MAX_BYTES - 1 bytes; a longer one is cut, and then no name of ours. False: not readable. */
static bool read_name(struct names *names, uint64_t address, char out[NAME_MAX_BYTES])
{
	for (size_t n = 0; n < NAME_MAX_BYTES; n++, address++) {
		const uint8_t *page = page_of(names, address & ~(uint64_t)(PAGE - 1));
		if (!page)
			return false;
		out[n] = (char)page[address % PAGE];
		if (!out[n])
			return true;
	}
	out[NAME_MAX_BYTES - 1] = 0;
	return true;
}

struct table {
	uint64_t base, stride;
	uint64_t column[6]; /* offsets of 8 bytes each within a row */
	size_t ncolumns;
};

/* The variables hold where the table is, how long its rows are, and where in a row each column is. */
static int open_table(struct table *t, const struct java_memory *memory, uint64_t base, uint64_t stride,
	const uint64_t *columns, size_t n)
{
	int r = java_read_word(memory, base, &t->base);
	r = r ? r : java_read_word(memory, stride, &t->stride);
	t->ncolumns = n;
	for (size_t i = 0; i < n && !r; i++)
		r = java_read_word(memory, columns[i], &t->column[i]);
	if (r)
		return r;
	if (!t->base || !t->stride)
		return -EAGAIN; /* they are set by libjvm's constructors */
	bool bad = t->stride < STRIDE_MIN || t->stride > STRIDE_MAX || t->base % 8 || t->base > UINT64_MAX - SIZE_LIMIT;
	for (size_t i = 0; i < n; i++)
		bad |= t->column[i] > t->stride - 4;
	return bad ? -EINVAL : 0;
}

typedef void take_row(struct java_layout *l, struct names *names, const struct table *t, const uint8_t *row);

/* Rows up to the one whose first column, a name, is NULL. */
static int each_row(struct java_layout *l, struct names *names, const struct table *t, take_row *take)
{
	uint8_t chunk[CHUNK];
	size_t each = CHUNK / t->stride;
	for (size_t i = 0; i < ROWS_MAX;) {
		size_t n = each;
		/* The table may end close to the end of what can be read. */
		while (n && java_read(names->memory, t->base + i * t->stride, chunk, n * t->stride) < 0)
			n /= 2;
		if (!n)
			return -EFAULT;
		for (size_t k = 0; k < n; k++) {
			const uint8_t *row = chunk + k * t->stride;
			if (t->column[0] + 8 > t->stride || !java_word(row, t->column[0]))
				return 0;
			take(l, names, t, row);
		}
		i += n;
	}
	return -EINVAL;
}

static void set(struct java_layout *l, enum java_field id, uint64_t value, uint8_t width)
{
	if (!l->of[id].known)
		l->of[id] = (struct java_value) { true, width, value };
}

/* How many bytes a field has, by what libjvm says of its type. */
static uint8_t width_of(const char *type)
{
	static const struct {
		const char *type;
		uint8_t width;
	} widths[] = { { "int", 4 }, { "u4", 4 }, { "unsigned int", 4 }, { "juint", 4 }, { "jint", 4 }, { "u2", 2 },
		{ "int16_t", 2 }, { "uint16_t", 2 }, { "u1", 1 }, { "CompLevel", 1 }, { "signed char", 1 } };
	for (size_t i = 0; i < sizeof widths / sizeof *widths; i++)
		if (!strcmp(widths[i].type, type))
			return widths[i].width;
	return 8;
}

static void take_routine(struct java_layout *l, const char *field, uint64_t variable)
{
	if (l->nroutines == JAVA_ROUTINES_MAX || field[0] != '_' || !field[1])
		return;
	struct java_routine *r = &l->routines[l->nroutines++];
	r->variable = variable;
	snprintf(r->name, sizeof r->name, "%.*s", JAVA_ROUTINE_NAME - 1, field + 1);
	for (char *c = r->name; *c; c++)
		if (*c < ' ' || *c > '~')
			*c = '?';
}

enum { STRUCT_TYPE, STRUCT_FIELD, STRUCT_STRING, STRUCT_STATIC, STRUCT_OFFSET, STRUCT_ADDRESS };

static void take_struct(struct java_layout *l, struct names *names, const struct table *t, const uint8_t *row)
{
	char type[NAME_MAX_BYTES], field[NAME_MAX_BYTES], string[NAME_MAX_BYTES];
	if (!read_name(names, java_word(row, t->column[STRUCT_TYPE]), type) ||
		!read_name(names, java_word(row, t->column[STRUCT_FIELD]), field))
		return;
	if (!strcmp(type, "StubRoutines") && java_half(row, t->column[STRUCT_STATIC]))
		take_routine(l, field, java_word(row, t->column[STRUCT_ADDRESS]));
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		if (!rows[i].field || strcmp(rows[i].type, type) || strcmp(rows[i].field, field))
			continue;
		if (!read_name(names, java_word(row, t->column[STRUCT_STRING]), string))
			*string = 0;
		bool is_static = java_half(row, t->column[STRUCT_STATIC]);
		uint64_t offset = java_word(row, t->column[STRUCT_OFFSET]);
		if (is_static)
			set(l, rows[i].id, java_word(row, t->column[STRUCT_ADDRESS]), width_of(string));
		else if (offset < SIZE_LIMIT)
			set(l, rows[i].id, offset, width_of(string));
	}
}

enum { TYPE_NAME, TYPE_SIZE };

static void take_type(struct java_layout *l, struct names *names, const struct table *t, const uint8_t *row)
{
	char name[NAME_MAX_BYTES];
	if (!read_name(names, java_word(row, t->column[TYPE_NAME]), name))
		return;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		if (!rows[i].field && !strcmp(rows[i].type, name) && java_word(row, t->column[TYPE_SIZE]) < SIZE_LIMIT)
			set(l, rows[i].id, java_word(row, t->column[TYPE_SIZE]), 8);
}

enum { CONSTANT_NAME, CONSTANT_VALUE };

static void take_constant(struct java_layout *l, struct names *names, const struct table *t, const uint8_t *row)
{
	char name[NAME_MAX_BYTES];
	if (!read_name(names, java_word(row, t->column[CONSTANT_NAME]), name))
		return;
	for (size_t i = 0; i < sizeof constants / sizeof *constants; i++)
		if (!strcmp(constants[i].name, name)) /* an int */
			set(l, constants[i].id, (uint64_t)(int64_t)(int32_t)java_half(row, t->column[CONSTANT_VALUE]),
				4);
}

static int read_tables(struct java_layout *l, struct names *names, const struct java_tables *a)
{
	const struct java_memory *memory = names->memory;
	const uint64_t structs[] = { a->struct_type, a->struct_field, a->struct_type_string, a->struct_static,
		a->struct_offset, a->struct_address };
	const uint64_t types[] = { a->type_name, a->type_size };
	const uint64_t ints[] = { a->constant_name, a->constant_value };
	struct table t;
	int r = open_table(&t, memory, a->structs, a->struct_stride, structs, 6);
	for (size_t i = 0; i < 6 && !r; i++)
		r = i != STRUCT_STATIC && t.column[i] + 8 > t.stride ? -EINVAL : 0;
	r = r ? r : each_row(l, names, &t, take_struct);
	r = r ? r : open_table(&t, memory, a->types, a->type_stride, types, 2);
	r = r ? r : t.column[TYPE_SIZE] + 8 > t.stride ? -EINVAL : 0;
	r = r ? r : each_row(l, names, &t, take_type);
	r = r ? r : open_table(&t, memory, a->constants, a->constant_stride, ints, 2);
	return r ? r : each_row(l, names, &t, take_constant);
}

/* What has to be read of a structure to have all of some fields. 0: one of them is too far. */
static uint32_t span(const struct java_layout *l, const enum java_field *fields, size_t n)
{
	uint64_t end = 8;
	for (size_t i = 0; i < n; i++) {
		if (!java_has(l, fields[i]))
			continue;
		if (l->of[fields[i]].value > JAVA_STRUCTURE_MAX - 8)
			return 0;
		if (l->of[fields[i]].value + 8 > end)
			end = l->of[fields[i]].value + 8;
	}
	return (uint32_t)end;
}

static bool spans(struct java_layout *l)
{
	static const enum java_field nmethod[] = { JAVA_blob_name, JAVA_blob_size, JAVA_blob_frame_size,
		JAVA_blob_frame_complete, JAVA_blob_code_begin, JAVA_blob_code_end, JAVA_blob_code_offset,
		JAVA_blob_data_offset, JAVA_blob_mutable_data, JAVA_blob_mutable_size, JAVA_blob_relocation_size,
		JAVA_nmethod_method, JAVA_nmethod_compile_id, JAVA_nmethod_level, JAVA_nmethod_original_pc,
		JAVA_nmethod_entry, JAVA_nmethod_entry_offset, JAVA_nmethod_deopt, JAVA_nmethod_deopt_offset,
		JAVA_nmethod_deopt_mh, JAVA_nmethod_deopt_mh_offset, JAVA_nmethod_metadata_offset, JAVA_nmethod_scopes,
		JAVA_nmethod_scopes_offset, JAVA_nmethod_pcs_offset, JAVA_nmethod_dependencies_offset,
		JAVA_nmethod_immutable, JAVA_nmethod_immutable_size };
	static const enum java_field method[] = { JAVA_method_const };
	static const enum java_field constant[] = { JAVA_const_constants, JAVA_const_flags, JAVA_const_code_size,
		JAVA_const_name, JAVA_const_signature };
	static const enum java_field pool[] = { JAVA_pool_holder, JAVA_pool_length, JAVA_pool_source };
	static const enum java_field klass[] = { JAVA_klass_name, JAVA_klass_source };
	l->nmethod_bytes = span(l, nmethod, sizeof nmethod / sizeof *nmethod);
	l->method_bytes = span(l, method, sizeof method / sizeof *method);
	l->const_bytes = span(l, constant, sizeof constant / sizeof *constant);
	l->pool_bytes = span(l, pool, sizeof pool / sizeof *pool);
	l->klass_bytes = span(l, klass, sizeof klass / sizeof *klass);
	return l->nmethod_bytes && l->method_bytes && l->const_bytes && l->pool_bytes && l->klass_bytes;
}

static bool has_all(const struct java_layout *l, const enum java_field *fields, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!java_has(l, fields[i]))
			return false;
	return true;
}

/* Without these nothing can be read. */
static bool is_whole(const struct java_layout *l)
{
	static const enum java_field all[] = { JAVA_heap_memory, JAVA_heap_segments, JAVA_heap_shift, JAVA_space_low,
		JAVA_space_high, JAVA_blob_name, JAVA_blob_size, JAVA_blob_frame_size, JAVA_blob_frame_complete,
		JAVA_nmethod_method, JAVA_nmethod_compile_id, JAVA_nmethod_level, JAVA_nmethod_original_pc,
		JAVA_nmethod_pcs_offset, JAVA_pc_offset, JAVA_pc_scope, JAVA_method_const, JAVA_const_constants,
		JAVA_const_flags, JAVA_const_code_size, JAVA_const_name, JAVA_pool_holder, JAVA_pool_length,
		JAVA_klass_name, JAVA_symbol_length, JAVA_symbol_body, JAVA_call_stub_return, JAVA_sizeof_heap_block,
		JAVA_sizeof_pc, JAVA_sizeof_pool, JAVA_sizeof_const_method };
	/* One of two ways to say the same. */
	static const enum java_field either[][2] = { { JAVA_heaps, JAVA_heap },
		{ JAVA_blob_code_begin, JAVA_blob_code_offset }, { JAVA_blob_code_end, JAVA_blob_data_offset },
		{ JAVA_nmethod_entry, JAVA_nmethod_entry_offset }, { JAVA_nmethod_deopt, JAVA_nmethod_deopt_offset },
		{ JAVA_nmethod_scopes, JAVA_nmethod_scopes_offset }, { JAVA_pool_source, JAVA_klass_source } };
	static const enum java_field array[] = { JAVA_array_length, JAVA_array_data };
	static const enum java_field inside[] = { JAVA_nmethod_metadata_offset, JAVA_nmethod_dependencies_offset };
	static const enum java_field outside[] = { JAVA_nmethod_scopes_offset, JAVA_nmethod_immutable_size };
	bool whole = has_all(l, all, sizeof all / sizeof *all);
	for (size_t i = 0; i < sizeof either / sizeof *either; i++)
		whole &= java_has(l, either[i][0]) || java_has(l, either[i][1]);
	whole &= !java_has(l, JAVA_heaps) || has_all(l, array, sizeof array / sizeof *array);
	return whole && (java_has(l, JAVA_nmethod_immutable) ? has_all(l, outside, sizeof outside / sizeof *outside)
							     : has_all(l, inside, sizeof inside / sizeof *inside));
}

/* HotSpot had a number of its own up to 8, whose is 25; and one heap for all code. It has that number only once it is initialised: 0 till then. */
static uint32_t release_of(const struct java_layout *l, uint64_t major)
{
	enum { HOTSPOT_OF_8 = 25, OLDER = 1 };
	if (java_has(l, JAVA_heap) && !java_has(l, JAVA_heaps))
		return major == HOTSPOT_OF_8 ? JAVA_8 : major ? OLDER : 0;
	return major < 1000 ? (uint32_t)major : 0;
}

static void read_version(struct java_layout *l, struct names *names)
{
	uint64_t text = 0, major = 0;
	char name[NAME_MAX_BYTES];
	uint8_t bytes[8] = { 0 };
	if (java_has(l, JAVA_version_major) &&
		!java_read(names->memory, l->of[JAVA_version_major].value, bytes, sizeof(uint32_t)))
		major = java_half(bytes, 0);
	l->major = release_of(l, major);
	if (java_has(l, JAVA_version_text) && !java_read_word(names->memory, l->of[JAVA_version_text].value, &text) &&
		read_name(names, text, name))
		snprintf(l->version, sizeof l->version, l->major == JAVA_8 ? "8 (HotSpot %.30s)" : "%.47s", name);
}

int java_layout_read(struct java_layout *ret, const struct java_memory *memory, const struct java_tables *tables,
	const char **ret_why)
{
	static struct names names; /* 64 KiB; one thread */
	memset(&names, 0, sizeof names);
	names.memory = memory;
	memset(ret, 0, sizeof *ret);
	int r = read_tables(ret, &names, tables);
	if (r == -EINVAL)
		*ret_why = "its virtual machine's tables make no sense";
	if (r)
		return r == -EINVAL ? r : -EAGAIN;
	read_version(ret, &names);
	if (!ret->major && java_has(ret, JAVA_heap))
		return -EAGAIN;
	ret->excluded = ret->major >= 20;
	ret->bytecode_at = ret->major == JAVA_8 ? 7 : 8;
	*ret_why = "its virtual machine does not say where its structures are";
	bool supported = ret->major == JAVA_8 || ret->major >= JAVA_MAJOR_MIN;
	if (ret->major && !supported)
		*ret_why = "its virtual machine is older than 11, and not 8: not supported";
	bool sane = ret->of[JAVA_sizeof_pc].value >= 8 && ret->of[JAVA_sizeof_pc].value <= 64 &&
		    ret->of[JAVA_sizeof_heap_block].value <= 64 && ret->of[JAVA_sizeof_pool].value <= 512 &&
		    ret->of[JAVA_sizeof_const_method].value <= 512 && ret->of[JAVA_symbol_length].value <= 6 &&
		    ret->of[JAVA_symbol_body].value <= 32 &&
		    ret->of[JAVA_pc_offset].value <= ret->of[JAVA_sizeof_pc].value - 4 &&
		    ret->of[JAVA_pc_scope].value <= ret->of[JAVA_sizeof_pc].value - 4;
	if (supported && is_whole(ret) && sane && spans(ret))
		return 0;
	ret->major = 0;
	return -EINVAL;
}

uint64_t java_get(const struct java_layout *l, enum java_field field, const uint8_t *bytes)
{
	uint64_t value = 0;
	memcpy(&value, bytes + l->of[field].value, l->of[field].width);
	return value;
}

int java_get_at(const struct java_layout *l, const struct java_memory *memory, enum java_field field, uint64_t address,
	uint64_t *ret)
{
	uint8_t bytes[8] = { 0 };
	int r = java_read(memory, address + l->of[field].value, bytes, l->of[field].width);
	if (!r)
		memcpy(ret, bytes, sizeof bytes);
	return r;
}
