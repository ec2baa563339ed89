#include "java/code.h"

#include <errno.h>

enum {
	SEGMENT_FREE = 0xff,
	SEGMENT_HOPS_MAX = 1 << 14, /* steps back through the map; each is up to 254 segments */
	SEGMENT_READS_MAX = 256,    /* of the map, for one address */
	SEGMENT_CHUNK = 256,
	SHIFT_MIN = 4,
	SHIFT_MAX = 16,
	BLOB_MAX = 64 << 20, /* bytes */
	METADATA_MAX = 1 << 20,
};

static int read_heap(
	struct java_heap *ret, const struct java_layout *l, const struct java_memory *memory, uint64_t heap)
{
	uint64_t shift = 0, memory_at = heap + l->of[JAVA_heap_memory].value,
		 map_at = heap + l->of[JAVA_heap_segments].value;
	int r = java_get_at(l, memory, JAVA_heap_shift, heap, &shift);
	r = r ? r : java_get_at(l, memory, JAVA_space_low, memory_at, &ret->low);
	r = r ? r : java_get_at(l, memory, JAVA_space_high, memory_at, &ret->high);
	r = r ? r : java_get_at(l, memory, JAVA_space_low, map_at, &ret->segments);
	if (r)
		return r;
	if (!ret->low || !ret->high || !ret->segments)
		return -EAGAIN;
	ret->shift = (uint32_t)shift;
	return ret->low < ret->high && shift >= SHIFT_MIN && shift <= SHIFT_MAX ? 0 : -EINVAL;
}

/* Their addresses: of the only one, or of those in an array. */
static int list_heaps(
	uint64_t heaps[JAVA_HEAPS_MAX], uint64_t *ret_n, const struct java_layout *l, const struct java_memory *memory)
{
	uint64_t array, data;
	*ret_n = 1;
	if (!java_has(l, JAVA_heaps))
		return java_read_word(memory, l->of[JAVA_heap].value, heaps);
	int r = java_read_word(memory, l->of[JAVA_heaps].value, &array);
	if (!r && !array)
		return -EAGAIN;
	*ret_n = 0;
	r = r ? r : java_get_at(l, memory, JAVA_array_length, array, ret_n);
	r = r ? r : java_get_at(l, memory, JAVA_array_data, array, &data);
	if (!r && (!*ret_n || !data))
		return -EAGAIN;
	if (!r && *ret_n > JAVA_HEAPS_MAX)
		return -EINVAL;
	return r ? r : java_read(memory, data, heaps, *ret_n * sizeof *heaps);
}

int java_heaps_read(struct java_heaps *ret, const struct java_layout *l, const struct java_memory *memory)
{
	uint64_t n = 0, heaps[JAVA_HEAPS_MAX];
	int r = list_heaps(heaps, &n, l, memory);
	for (size_t i = 0; i < n && !r; i++)
		r = heaps[i] ? read_heap(&ret->heap[i], l, memory, heaps[i]) : -EAGAIN;
	ret->n = r ? 0 : (uint32_t)n;
	return r;
}

const struct java_heap *java_heap_of(const struct java_heaps *heaps, uint64_t address)
{
	for (uint32_t i = 0; i < heaps->n; i++)
		if (address >= heaps->heap[i].low && address < heaps->heap[i].high)
			return &heaps->heap[i];
	return NULL;
}

/* The segment in which the block begins that an address is in. */
static int first_segment(const struct java_memory *memory, const struct java_heap *heap, uint64_t pc, uint64_t *ret)
{
	uint64_t segment = (pc - heap->low) >> heap->shift, from = UINT64_MAX;
	uint8_t bytes[SEGMENT_CHUNK] = { 0 };
	int reads = 0;
	for (int i = 0; i < SEGMENT_HOPS_MAX && reads <= SEGMENT_READS_MAX; i++) {
		if (segment < from || segment - from >= SEGMENT_CHUNK) {
			from = segment >= SEGMENT_CHUNK - 1 ? segment - (SEGMENT_CHUNK - 1) : 0;
			int r = java_read(memory, heap->segments + from, bytes, segment - from + 1);
			reads++;
			if (r)
				return r;
		}
		uint8_t back = bytes[segment - from];
		if (back == SEGMENT_FREE)
			return -ENOENT;
		if (!back) {
			*ret = segment;
			return 0;
		}
		if (back > segment)
			return -EINVAL;
		segment -= back;
	}
	return -EINVAL;
}

static uint64_t get(const struct java_layout *l, enum java_field field, const uint8_t *bytes)
{
	return java_has(l, field) ? java_get(l, field, bytes) : 0;
}

/* A part of a blob, from `at` to `end`: inside it, or nothing. */
static bool is_inside(const struct java_blob *b, uint64_t at, uint64_t end)
{
	return at >= b->address && end >= at && end <= b->end;
}

/* An address that is kept itself, or as an offset. */
static uint64_t pointed(const struct java_layout *l, enum java_field pointer, enum java_field offset, uint64_t base,
	const uint8_t *bytes)
{
	return java_has(l, pointer) ? get(l, pointer, bytes) : base + get(l, offset, bytes);
}

/* Where debug information is, up to 22: behind the code, in this order: metadata, scopes, pcs, dependencies. */
static bool tables_inside(struct java_blob *b, const struct java_layout *l, const uint8_t *bytes)
{
	uint64_t metadata = b->address + get(l, JAVA_nmethod_metadata_offset, bytes),
		 scopes = pointed(l, JAVA_nmethod_scopes, JAVA_nmethod_scopes_offset, b->address, bytes),
		 pcs = b->address + get(l, JAVA_nmethod_pcs_offset, bytes),
		 end = b->address + get(l, JAVA_nmethod_dependencies_offset, bytes);
	if (!is_inside(b, metadata, scopes) || !is_inside(b, scopes, pcs) || !is_inside(b, pcs, end))
		return false;
	b->metadata = metadata;
	b->nmetadata = (scopes - metadata) / 8;
	b->scopes = scopes;
	b->scopes_bytes = pcs - scopes;
	b->pcs = pcs;
	b->npcs = (end - pcs) / l->of[JAVA_sizeof_pc].value;
	return true;
}

/* From 23 on they are in memory of their own: pcs, then scopes, then what is of no use here. Metadata are behind the code (23, 24), or in
 * yet other memory, behind the relocations. */
static bool tables_outside(struct java_blob *b, const struct java_layout *l, const uint8_t *bytes)
{
	uint64_t table = get(l, JAVA_nmethod_immutable, bytes), size = get(l, JAVA_nmethod_immutable_size, bytes),
		 pcs = get(l, JAVA_nmethod_pcs_offset, bytes), scopes = get(l, JAVA_nmethod_scopes_offset, bytes);
	if (size > BLOB_MAX || pcs > scopes || scopes > size || table > UINT64_MAX - BLOB_MAX)
		return false;
	b->pcs = table + pcs;
	b->npcs = (scopes - pcs) / l->of[JAVA_sizeof_pc].value;
	b->scopes = table + scopes;
	b->scopes_bytes = size - scopes;
	if (java_has(l, JAVA_blob_mutable_data)) {
		uint64_t relocations = get(l, JAVA_blob_relocation_size, bytes),
			 all = get(l, JAVA_blob_mutable_size, bytes);
		if (relocations > all || all > BLOB_MAX)
			return false;
		b->metadata = get(l, JAVA_blob_mutable_data, bytes) + relocations;
		b->nmetadata = (all - relocations) / 8;
		return true;
	}
	uint64_t metadata =
		b->address + get(l, JAVA_blob_data_offset, bytes) + get(l, JAVA_nmethod_metadata_offset, bytes);
	if (!is_inside(b, metadata, b->end))
		return false;
	b->metadata = metadata;
	b->nmetadata = (b->end - metadata) / 8;
	return true;
}

static int decode_nmethod(struct java_blob *b, const struct java_layout *l, const uint8_t *bytes)
{
	b->method = get(l, JAVA_nmethod_method, bytes);
	b->compile_id = (uint32_t)get(l, JAVA_nmethod_compile_id, bytes);
	uint64_t level = get(l, JAVA_nmethod_level, bytes);
	b->level = level <= 4 ? (uint8_t)level : 0;
	b->original_pc = (uint32_t)get(l, JAVA_nmethod_original_pc, bytes);
	b->entry = pointed(l, JAVA_nmethod_entry, JAVA_nmethod_entry_offset, b->code, bytes);
	b->deopt = pointed(l, JAVA_nmethod_deopt, JAVA_nmethod_deopt_offset, b->address, bytes);
	b->deopt_mh = pointed(l, JAVA_nmethod_deopt_mh, JAVA_nmethod_deopt_mh_offset, b->address, bytes);
	bool sane = b->entry >= b->code && b->entry < b->code_end && b->original_pc < JAVA_FRAME_BYTES_MAX;
	bool outside = java_has(l, JAVA_nmethod_immutable);
	bool tables = sane && (outside ? tables_outside(b, l, bytes) : tables_inside(b, l, bytes));
	return tables && b->nmetadata * 8 <= METADATA_MAX && b->scopes_bytes <= BLOB_MAX ? 0 : -EINVAL;
}

int java_blob_decode(
	struct java_blob *ret, const struct java_layout *l, const uint8_t *bytes, const struct java_heap *heap)
{
	struct java_blob b = { .address = ret->address, .kind = ret->kind };
	uint64_t size = get(l, JAVA_blob_size, bytes), frame = (uint32_t)get(l, JAVA_blob_frame_size, bytes);
	int64_t complete = l->of[JAVA_blob_frame_complete].width == 2
				   ? (int16_t)get(l, JAVA_blob_frame_complete, bytes)
				   : (int32_t)get(l, JAVA_blob_frame_complete, bytes);
	b.name = get(l, JAVA_blob_name, bytes);
	b.end = b.address + size;
	if (size > BLOB_MAX || b.end > heap->high || b.address < heap->low)
		return -EINVAL;
	b.code = pointed(l, JAVA_blob_code_begin, JAVA_blob_code_offset, b.address, bytes);
	b.code_end = pointed(l, JAVA_blob_code_end, JAVA_blob_data_offset, b.address, bytes);
	if (!is_inside(&b, b.code, b.code_end))
		return -EINVAL;
	if (frame * 8 <= JAVA_FRAME_BYTES_MAX)
		b.frame_bytes = (uint32_t)frame * 8;
	if (complete >= 0 && (uint64_t)complete <= b.code_end - b.code)
		b.frame_complete = b.code + (uint64_t)complete;
	/* A compiled method has a frame, of a return address and a frame pointer at least. Of native methods, those that stand for method
	 * handles have none. */
	if (b.kind == JAVA_BLOB_COMPILED && b.frame_bytes < 16)
		return -EINVAL;
	bool compiled = b.kind == JAVA_BLOB_COMPILED || b.kind == JAVA_BLOB_NATIVE;
	int r = compiled ? decode_nmethod(&b, l, bytes) : 0;
	if (!r)
		*ret = b;
	return r;
}

static enum java_blob_kind kind_of(const char *name)
{
	static const struct {
		const char *name;
		enum java_blob_kind kind;
	} kinds[] = { { "nmethod", JAVA_BLOB_COMPILED }, { "native nmethod", JAVA_BLOB_NATIVE },
		{ "Interpreter", JAVA_BLOB_INTERPRETER }, { "I2C/C2I adapters", JAVA_BLOB_ADAPTER },
		{ "vtable chunks", JAVA_BLOB_VTABLE } };
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
		if (!strcmp(kinds[i].name, name))
			return kinds[i].kind;
	return JAVA_BLOB_STUB;
}

/* A C string that may end close to the end of what can be read. */
static int read_name(const struct java_memory *memory, uint64_t address, char *name)
{
	size_t n = JAVA_BLOB_NAME - 1;
	int r = -EFAULT;
	memset(name, 0, JAVA_BLOB_NAME);
	for (; n && (r = java_read(memory, address, name, n)); n /= 2)
		;
	for (size_t i = 0; name[i]; i++)
		if (name[i] < ' ' || name[i] > '~')
			name[i] = '?';
	return r;
}

int java_blob_find(struct java_blob *ret, char *name, const struct java_layout *l, const struct java_memory *memory,
	const struct java_heap *heap, uint64_t pc)
{
	uint64_t segment = 0;
	uint8_t bytes[JAVA_STRUCTURE_MAX];
	int r = first_segment(memory, heap, pc, &segment);
	if (r)
		return r;
	*ret = (struct java_blob) { .address = heap->low + (segment << heap->shift) +
					       l->of[JAVA_sizeof_heap_block].value };
	r = java_read(memory, ret->address, bytes, l->nmethod_bytes);
	r = r ? r : read_name(memory, get(l, JAVA_blob_name, bytes), name);
	if (r)
		return r;
	ret->kind = kind_of(name);
	r = java_blob_decode(ret, l, bytes, heap);
	return !r && (pc < ret->address || pc >= ret->end) ? -EINVAL : r;
}

bool java_unsigned5(const uint8_t *bytes, size_t n, size_t *at, uint8_t excluded, uint32_t *ret)
{
	enum { BITS = 6, GOES_ON = 192, BYTES_MAX = 5 };
	uint32_t sum = 0;
	for (unsigned i = 0; i < BYTES_MAX; i++) {
		if (*at >= n || bytes[*at] < excluded)
			return false;
		uint8_t byte = bytes[(*at)++];
		sum += (uint32_t)(byte - excluded) << (i * BITS);
		if (byte < GOES_ON)
			break;
	}
	*ret = sum;
	return true;
}

static uint32_t pc_at(const struct java_layout *l, const struct java_scopes *s, size_t i, enum java_field field)
{
	return java_half(s->pcs, i * l->of[JAVA_sizeof_pc].value + l->of[field].value);
}

/* The entries are in ascending order, behind one of -1 and in front of one behind the end. */
static size_t first_not_below(const struct java_layout *l, const struct java_scopes *s, int32_t offset)
{
	size_t low = 0, high = s->npcs;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if ((int32_t)pc_at(l, s, middle, JAVA_pc_offset) < offset)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

int java_scopes_at(const struct java_layout *l, const struct java_scopes *s, uint32_t offset, bool exact,
	struct java_scope ret[JAVA_INLINED_MAX])
{
	size_t i = first_not_below(l, s, (int32_t)offset);
	int n = 0;
	if (i >= s->npcs || (exact && pc_at(l, s, i, JAVA_pc_offset) != offset))
		return 0;
	for (uint32_t scope = pc_at(l, s, i, JAVA_pc_scope), outer; scope; scope = outer) {
		size_t at = scope;
		uint32_t method, bci;
		if (n == JAVA_INLINED_MAX || !java_unsigned5(s->data, s->data_bytes, &at, l->excluded, &outer) ||
			!java_unsigned5(s->data, s->data_bytes, &at, l->excluded, &method) ||
			!java_unsigned5(s->data, s->data_bytes, &at, l->excluded, &bci))
			return -EINVAL;
		if (!method || method > s->nmetadata || outer >= scope)
			return -EINVAL;
		ret[n++] = (struct java_scope) { java_word(s->metadata, (method - 1) * 8), (int32_t)bci - 1 };
	}
	return n;
}
