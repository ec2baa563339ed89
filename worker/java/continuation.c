#include "java/continuation.h"

#include "java/code.h"
#include "java/method.h"

#include <errno.h>

enum {
	WORD = 8,
	SCANNED_BYTES = 64 << 10, /* of the stack */
	BARRIERS_MAX = 4,         /* words that look like one; old ones are in frames, too */
	CHUNKS_MAX = 8,           /* of one continuation; any of them may be empty */
	WORDS_MAX = 1 << 24,      /* of a chunk */
	SUPERS_MAX = 8,
	FIELDS_BYTES = 2048, /* of a class's list of fields */
	FORWARDED = 3,       /* the lowest bits of an object's first word: a collector has moved it */
	LAYOUT_FLAGS = 7,    /* the lowest bits of Klass::_layout_helper; the rest is an instance's size in bytes */
};

/* Flags of a field that one more number each follows for (FieldInfo::FieldFlags): a constant, a generic signature, a group. */
static const uint32_t more_numbers = 1U << 0 | 1U << 2 | 1U << 4;

static uint64_t oop_at(const struct java_chunks *c, const uint8_t *object, uint32_t offset)
{
	if (c->oop_bytes == WORD)
		return java_word(object, offset);
	uint64_t narrow = java_half(object, offset);
	return narrow ? c->oop_base + (narrow << c->oop_shift) : 0;
}

/* What an object says of its class: in a field of its own, or, where headers are compact, in the highest bits of its first word (markWord.hpp). */
static uint32_t class_in(const struct java_chunks *c, const uint8_t *object)
{
	enum { COMPACT_SHIFT = 42 };
	return c->compact ? (uint32_t)(java_word(object, 0) >> COMPACT_SHIFT) : java_half(object, c->klass);
}

/* The first n bytes of an object of this class. */
static int read_object(const struct java_chunks *c, const struct java_memory *memory, uint64_t address, uint32_t class,
	uint8_t *object, uint32_t n)
{
	int r = !address || address % WORD ? -EINVAL : java_read(memory, address, object, n);
	if (r)
		return r;
	return class_in(c, object) != class || (object[0] & FORWARDED) == FORWARDED ? -EINVAL : 0;
}

enum copied { COPIED, EMPTY, FAILED };

/* One chunk's frames, behind its header. */
static enum copied copy_chunk(const struct java_chunks *c, const struct java_memory *memory, uint64_t address,
	const uint8_t *object, struct java_chunk *ret, uint8_t *to, size_t room)
{
	uint64_t sp = java_half(object, c->sp), size = java_half(object, c->size),
		 bottom = java_half(object, c->bottom);
	if (c->arguments)
		bottom = size - bottom;
	if (size > WORDS_MAX || sp > size || bottom > size)
		return FAILED;
	if (sp >= bottom)
		return EMPTY;
	if (sp < JAVA_CHUNK_RECORD / WORD || room < sizeof *ret + JAVA_CHUNK_RECORD)
		return FAILED;
	room = (room - sizeof *ret) & ~(size_t)(WORD - 1);
	ret->first = address + c->frames + sp * WORD;
	ret->bottom = address + c->frames + bottom * WORD;
	ret->bytes = ret->bottom - ret->first + JAVA_CHUNK_RECORD;
	ret->cut = ret->bytes > room;
	if (ret->cut)
		ret->bytes = room;
	return java_read(memory, ret->first - JAVA_CHUNK_RECORD, to + sizeof *ret, ret->bytes) < 0 ? FAILED : COPIED;
}

/* False: it is none. */
static bool copy(const struct java_chunks *c, const struct java_memory *memory, uint64_t continuation, uint64_t behind,
	uint8_t *to, size_t room, size_t *ret)
{
	uint8_t object[JAVA_CHUNK_HEADER_MAX];
	struct java_chunk last = { 0 };
	uint8_t *last_at = NULL;
	size_t n = 0;
	if (read_object(c, memory, continuation, c->continuation_class, object, JAVA_CONTINUATION_BYTES))
		return false;
	uint64_t chunk = oop_at(c, object, c->tail);
	bool failed = false;
	for (unsigned i = 0; chunk && !failed && i < CHUNKS_MAX; i++) {
		struct java_chunk next = { .behind = behind, .continuation = continuation };
		enum copied copied = read_object(c, memory, chunk, c->chunk_class, object, c->frames)
					     ? FAILED
					     : copy_chunk(c, memory, chunk, object, &next, to + n, room - n);
		failed = copied == FAILED || next.cut;
		if (copied == COPIED) {
			last = next;
			last_at = to + n;
			memcpy(last_at, &last, sizeof last);
			n += sizeof last + last.bytes;
		}
		if (!failed)
			chunk = oop_at(c, object, c->parent);
	}
	if (chunk && last_at) {
		last.cut = 1;
		memcpy(last_at, &last, sizeof last);
	}
	*ret = n;
	return true;
}

/* Of a virtual thread, behind arguments and what aligns the frame: its parent, its Continuation, a chunk, and two ints, of which the first is
 * a set of flags, and the second how many words of arguments there are. */
bool java_continuation(const uint64_t *words, size_t n, uint64_t *ret)
{
	enum { PARENT, CONTINUATION, CHUNK, FLAGS, WORDS };
	enum { VIRTUAL_THREAD = 1, ARGUMENTS_MAX = 256 };
	for (size_t i = 0; i + WORDS <= n; i++) {
		const uint64_t *entry = words + i;
		if (entry[CONTINUATION] && entry[CONTINUATION] % WORD == 0 &&
			(uint32_t)entry[FLAGS] == VIRTUAL_THREAD && entry[FLAGS] >> 32 < ARGUMENTS_MAX) {
			*ret = entry[CONTINUATION];
			return true;
		}
	}
	return false;
}

size_t java_chunk_copy(const struct java_chunks *c, const struct java_memory *memory, uint64_t sp, const uint8_t *stack,
	size_t n, uint8_t *to, size_t room)
{
	unsigned met = 0;
	if (room > JAVA_CHUNKS_BYTES)
		room = JAVA_CHUNKS_BYTES;
	if (n > SCANNED_BYTES)
		n = SCANNED_BYTES;
	for (size_t i = 0; i + WORD <= n && met < BARRIERS_MAX; i += WORD) {
		uint64_t words[JAVA_BEHIND_BARRIER];
		if (java_word(stack, i) != c->barrier)
			continue;
		met++;
		size_t behind = (n - i) / WORD - 1;
		behind = behind < JAVA_BEHIND_BARRIER ? behind : JAVA_BEHIND_BARRIER;
		memcpy(words, stack + i + WORD, behind * WORD);
		uint64_t continuation;
		if (!java_continuation(words, behind, &continuation))
			continue;
		size_t copied = 0;
		if (copy(c, memory, continuation, sp + i + WORD, to, room, &copied))
			return copied;
	}
	return 0;
}

static bool is_named(const struct java_layout *l, const struct java_memory *memory, uint64_t class, const char *wanted)
{
	char name[64];
	uint64_t symbol;
	if (class % WORD || java_get_at(l, memory, JAVA_klass_name, class, &symbol))
		return false;
	int n = java_symbol(l, memory, symbol, name, sizeof name);
	return n == (int)strlen(wanted) && !memcmp(name, wanted, (size_t)n);
}

/* Offsets of fields, by name: a list of numbers (FieldInfoStream), how many there are of two kinds, and for each its name and signature in
 * the constant pool, its offset, two sets of flags, and what these ask for. */
static int find_fields(const struct java_layout *l, const struct java_memory *memory, uint64_t class,
	const char *const *wanted, uint32_t *offsets, size_t n)
{
	uint8_t bytes[FIELDS_BYTES];
	uint64_t list, pool;
	uint32_t length, java, injected;
	size_t at = 0;
	int r = java_get_at(l, memory, JAVA_klass_fields, class, &list);
	r = r ? r : java_get_at(l, memory, JAVA_klass_constants, class, &pool);
	r = r ? r : java_read(memory, list, &length, sizeof length);
	r = r ? r : length > sizeof bytes ? -EINVAL : java_read(memory, list + sizeof length, bytes, length);
	if (r)
		return r;
	if (!java_unsigned5(bytes, length, &at, l->excluded, &java) ||
		!java_unsigned5(bytes, length, &at, l->excluded, &injected))
		return -EINVAL;
	for (uint32_t field = 0; field < java; field++) {
		enum { NAME, SIGNATURE, OFFSET, ACCESS, FLAGS, NUMBERS };
		uint32_t number[NUMBERS], skipped;
		char name[32];
		for (size_t i = 0; i < NUMBERS; i++)
			if (!java_unsigned5(bytes, length, &at, l->excluded, &number[i]))
				return -EINVAL;
		for (unsigned more = (unsigned)__builtin_popcount(number[FLAGS] & more_numbers); more; more--)
			if (!java_unsigned5(bytes, length, &at, l->excluded, &skipped))
				return -EINVAL;
		int bytes_of_name = java_pool_symbol(l, memory, pool, number[NAME], name, sizeof name);
		for (size_t i = 0; i < n && bytes_of_name > 0; i++)
			if (strlen(wanted[i]) == (size_t)bytes_of_name &&
				!memcmp(wanted[i], name, (size_t)bytes_of_name))
				offsets[i] = number[OFFSET];
	}
	return 0;
}

static int read_variable(
	const struct java_layout *l, const struct java_memory *memory, enum java_field field, uint64_t *ret)
{
	*ret = 0;
	return java_has(l, field) ? java_read(memory, l->of[field].value, ret, l->of[field].width) : -ENOENT;
}

static bool can_learn(const struct java_layout *l)
{
	static const enum java_field all[] = { JAVA_oop_class, JAVA_klass_super, JAVA_klass_layout, JAVA_klass_fields,
		JAVA_klass_constants, JAVA_oop_base, JAVA_oop_shift };
	bool can = true;
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		can &= java_has(l, all[i]);
	return can && l->of[JAVA_oop_class].value <= 2 * WORD;
}

/* The class of an object: as the object has it, and its address. */
static int class_of(const struct java_chunks *c, const struct java_layout *l, const struct java_memory *memory,
	uint64_t object, uint32_t *ret_narrow, uint64_t *ret)
{
	uint8_t head[3 * WORD];
	uint64_t base, shift;
	int r = !object || object % WORD ? -EINVAL : java_read(memory, object, head, sizeof head);
	r = r ? r : read_variable(l, memory, JAVA_class_base, &base);
	r = r ? r : read_variable(l, memory, JAVA_class_shift, &shift);
	if (r)
		return r;
	*ret_narrow = class_in(c, head);
	*ret = base + ((uint64_t)*ret_narrow << (shift & 31));
	return 0;
}

static int learn_continuation(
	struct java_chunks *c, const struct java_layout *l, const struct java_memory *memory, uint64_t object)
{
	static const char *const fields[] = { "tail" };
	uint64_t class;
	uint32_t offset = 0;
	int r = class_of(c, l, memory, object, &c->continuation_class, &class);
	for (unsigned i = 0; !r && !is_named(l, memory, class, "jdk/internal/vm/Continuation"); i++)
		r = i < SUPERS_MAX ? java_get_at(l, memory, JAVA_klass_super, class, &class) : -EINVAL;
	r = r ? r : find_fields(l, memory, class, fields, &offset, 1);
	if (r || offset < WORD || offset > JAVA_CONTINUATION_BYTES - WORD)
		return r ? r : -EINVAL;
	c->tail = offset;
	return 0;
}

static int learn_chunk(
	struct java_chunks *c, const struct java_layout *l, const struct java_memory *memory, uint64_t object)
{
	enum { PARENT, SP, SIZE, BOTTOM, ARGUMENTS, FIELDS };
	static const char *const fields[] = { "parent", "sp", "size", "bottom", "argsize" };
	uint32_t offsets[FIELDS] = { 0 };
	uint64_t class, layout;
	int r = class_of(c, l, memory, object, &c->chunk_class, &class);
	r = r ? r : is_named(l, memory, class, "jdk/internal/vm/StackChunk") ? 0 : -EINVAL;
	r = r ? r : java_get_at(l, memory, JAVA_klass_layout, class, &layout);
	r = r ? r : find_fields(l, memory, class, fields, offsets, FIELDS);
	if (r)
		return r;
	c->frames = (uint32_t)layout & ~(uint32_t)LAYOUT_FLAGS;
	c->parent = offsets[PARENT];
	c->sp = offsets[SP];
	c->size = offsets[SIZE];
	c->arguments = !offsets[BOTTOM];
	c->bottom = offsets[c->arguments ? ARGUMENTS : BOTTOM];
	const uint32_t all[] = { c->parent, c->sp, c->size, c->bottom };
	bool sane = c->frames >= 3 * WORD && c->frames <= JAVA_CHUNK_HEADER_MAX;
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		sane &= all[i] >= WORD && all[i] <= c->frames - c->oop_bytes;
	return sane ? 0 : -EINVAL;
}

static int learn(
	struct java_chunks *c, const struct java_layout *l, const struct java_memory *memory, uint64_t continuation)
{
	uint8_t oop[WORD] = { 0 };
	int r = learn_continuation(c, l, memory, continuation);
	r = r ? r : java_read(memory, continuation + c->tail, oop, c->oop_bytes);
	return r ? r : learn_chunk(c, l, memory, oop_at(c, oop, 0));
}

/* Whether references are compressed, and headers compact, is not told: read as if they were, the objects are of these classes, or not. */
int java_chunks_learn(struct java_chunks *ret, const struct java_layout *l, const struct java_memory *memory,
	uint64_t barrier, uint64_t continuation)
{
	struct java_chunks known = { .barrier = barrier, .klass = (uint32_t)l->of[JAVA_oop_class].value };
	uint64_t shift;
	int r = can_learn(l) ? read_variable(l, memory, JAVA_oop_base, &known.oop_base) : -ENOENT;
	r = r ? r : read_variable(l, memory, JAVA_oop_shift, &shift);
	if (r)
		return r;
	known.oop_shift = (uint32_t)shift & 31;
	for (unsigned way = 0; way < 4; way++) {
		known.oop_bytes = way & 1 ? WORD : WORD / 2;
		known.compact = way & 2;
		r = learn(&known, l, memory, continuation);
		if (!r) {
			*ret = known;
			return 0;
		}
	}
	return r;
}
