#include "python/python.h"

#include "common/clock.h"
#include "kit/collect.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	FIRST_SLOTS = 64,
	TRUSTED_AFTER = 3,   /* looks that found it the same... */
	LOOKS_NS = 50000000, /* ...each so long after the one before */
	GONE = 1,            /* no code's address: a place whose code is no longer there */
};

struct code {
	uint64_t address;
	struct python_code_head head;
	char *name, *file; /* owned */
	uint8_t *lines;    /* owned */
	size_t nlines;
	bool has_lines; /* they were read, or cannot be */
	int64_t validated_ns;
	struct collect_source ids;
};

struct known_code {
	_Atomic uint64_t address; /* 0: free */
	_Atomic uint64_t print;
	_Atomic int64_t seen_ns; /* CLOCK_MONOTONIC: when a look last counted */
	_Atomic uint32_t looks;
};

/* The frozen threads look addresses up in here; the main thread adds to it, and replaces it when it is full. */
struct known {
	uint32_t size; /* a power of two */
	struct known_code codes[];
};

struct python_codes {
	struct known *_Atomic known;
	struct code **slots; /* by the same hash, size of known; owned, each */
	uint32_t count;      /* places of `known` that are taken */
};

static size_t memory;

size_t python_codes_memory(void)
{
	return memory;
}

static uint32_t hash_of(uint64_t address)
{
	return (uint32_t)((address >> 4) * 0x9e3779b97f4a7c15ULL >> 32);
}

static struct known *new_known(uint32_t size)
{
	struct known *known = calloc(1, sizeof *known + size * sizeof *known->codes);
	if (known)
		known->size = size;
	return known;
}

struct python_codes *python_codes_new(void)
{
	struct python_codes *codes = calloc(1, sizeof *codes);
	struct known *known = new_known(FIRST_SLOTS);
	struct code **slots = calloc(FIRST_SLOTS, sizeof *slots);
	if (!codes || !known || !slots) {
		free(codes);
		free(known);
		free(slots);
		return NULL;
	}
	atomic_init(&codes->known, known);
	codes->slots = slots;
	return codes;
}

static size_t size_of(const struct code *code)
{
	return sizeof *code + strlen(code->name) + strlen(code->file) + 2 + code->nlines;
}

static void free_code(struct code *code)
{
	memory -= size_of(code);
	free(code->name);
	free(code->file);
	free(code->lines);
	free(code);
}

void python_codes_free(struct python_codes *codes)
{
	if (!codes)
		return;
	struct known *known = atomic_load(&codes->known);
	for (uint32_t i = 0; i < known->size; i++)
		if (codes->slots[i])
			free_code(codes->slots[i]);
	free(known);
	free(codes->slots);
	free(codes);
}

/* Where the address is, or would be. */
static uint32_t place_of(const struct known *known, uint64_t address)
{
	uint32_t i = hash_of(address) & (known->size - 1);
	for (uint64_t there;
		(there = atomic_load_explicit(&known->codes[i].address, memory_order_relaxed)) && there != address;)
		i = (i + 1) & (known->size - 1);
	return i;
}

enum python_known python_codes_known(const struct python_codes *codes, uint64_t address)
{
	const struct known *known = atomic_load(&codes->known);
	const struct known_code *code = &known->codes[place_of(known, address)];
	if (atomic_load(&code->address) != address || address == GONE)
		return PYTHON_CODE_NEW;
	return atomic_load(&code->looks) < TRUSTED_AFTER ? PYTHON_CODE_YOUNG : PYTHON_CODE_TRUSTED;
}

bool python_codes_same(struct python_codes *codes, uint64_t address, uint64_t print, int64_t now_ns)
{
	struct known *known = atomic_load(&codes->known);
	struct known_code *code = &known->codes[place_of(known, address)];
	if (atomic_load(&code->address) != address || atomic_load(&code->print) != print)
		return false;
	if (now_ns - atomic_load(&code->seen_ns) > LOOKS_NS) {
		atomic_store(&code->seen_ns, now_ns);
		atomic_fetch_add(&code->looks, 1);
	}
	return true;
}

static bool grow(struct python_codes *codes)
{
	struct known *old = atomic_load(&codes->known), *fresh = new_known(old->size * 2);
	struct code **slots = calloc(old->size * 2, sizeof *slots);
	if (!fresh || !slots) {
		free(fresh);
		free(slots);
		return false;
	}
	codes->count = 0;
	for (uint32_t i = 0; i < old->size; i++) {
		if (!codes->slots[i])
			continue;
		codes->count++;
		uint32_t at = place_of(fresh, codes->slots[i]->address);
		struct known_code *to = &fresh->codes[at];
		atomic_store(&to->print, atomic_load(&old->codes[i].print));
		atomic_store(&to->seen_ns, atomic_load(&old->codes[i].seen_ns));
		atomic_store(&to->looks, atomic_load(&old->codes[i].looks));
		atomic_store(&to->address, codes->slots[i]->address);
		slots[at] = codes->slots[i];
	}
	free(codes->slots);
	codes->slots = slots;
	atomic_store(&codes->known, fresh);
	window_retire(old, free);
	return true;
}

/* Two memories, one after the other. */
struct both {
	const struct python_memory *first, *second;
};

static int read_both(void *context, uint64_t address, void *buf, size_t n)
{
	const struct both *both = context;
	int r = both->first->read(both->first->context, address, buf, n);
	return r ? both->second->read(both->second->context, address, buf, n) : 0;
}

static int make(
	const struct python_layout *layout, const struct python_memory *from, uint64_t address, struct code **ret)
{
	char name[PYTHON_NAME_BYTES], file[PYTHON_NAME_BYTES];
	struct python_code_head head;
	int r = python_code_head(layout, from, address, &head);
	r = r ? r : python_text(layout, from, head.name, name, sizeof name);
	r = r < 0 ? r : python_text(layout, from, head.file, file, sizeof file);
	if (r < 0)
		return r;
	struct code *code = calloc(1, sizeof *code);
	if (!code)
		return -ENOMEM;
	*code = (struct code) { .address = address, .head = head, .validated_ns = monotonic_ns() };
	code->name = strdup(name);
	code->file = strdup(file);
	if (!code->name || !code->file) {
		free(code->name);
		free(code->file);
		free(code);
		return -ENOMEM;
	}
	memory += size_of(code);
	*ret = code;
	return 0;
}

static bool same_head(const struct python_code_head *a, const struct python_code_head *b)
{
	return a->type == b->type && a->file == b->file && a->name == b->name && a->lines == b->lines &&
	       a->begin == b->begin && a->end == b->end && a->first_line == b->first_line;
}

static int read_again(const struct python_layout *layout, const struct python_memory *live, struct code *code)
{
	struct python_code_head head;
	int r = python_code_head(layout, live, code->address, &head);
	code->validated_ns = monotonic_ns();
	if (!r && (!head.live || !same_head(&head, &code->head)))
		r = -ESTALE;
	return r == -EINVAL ? -ESTALE : r;
}

/* From the window, where it copied them together with the code. A long table is read later than that, from the live process: only when the
 * code is still there, and the same, behind the reading. */
static void read_lines(const struct python_layout *layout, const struct python_memory *captured,
	const struct python_memory *live, struct code *code)
{
	uint8_t *lines = NULL;
	size_t n = 0;
	if (code->has_lines)
		return;
	code->has_lines = true;
	int r = python_bytes(layout, captured, code->head.lines, PYTHON_LINES_BYTES, &lines, &n);
	if (r == -EFAULT) {
		r = python_bytes(layout, live, code->head.lines, PYTHON_LINES_BYTES, &lines, &n);
		if (!r && read_again(layout, live, code) < 0) {
			free(lines);
			return;
		}
	}
	if (r < 0)
		return;
	code->lines = lines;
	code->nlines = n;
	memory += n;
}

static void drop(struct python_codes *codes, struct code *code)
{
	struct known *known = atomic_load(&codes->known);
	uint32_t at = place_of(known, code->address);
	codes->slots[at] = NULL;
	atomic_store(&known->codes[at].address, GONE);
	free_code(code);
}

/* Its print, where the window copied it because it is new or has been replaced; 0: it was not copied. */
static uint64_t print_in(const struct python_layout *layout, const struct python_memory *captured, uint64_t address)
{
	uint8_t bytes[PYTHON_CODE_MAX];
	return captured->read(captured->context, address, bytes, layout->code_bytes) ? 0
										     : python_code_print(layout, bytes);
}

static int find(struct python_codes *codes, const struct python_layout *layout, const struct python_memory *captured,
	const struct python_memory *live, uint64_t address, struct code **ret)
{
	struct both both = { captured, live };
	const struct python_memory from = { &both, read_both };
	struct known *known = atomic_load(&codes->known);
	uint32_t at = place_of(known, address);
	uint64_t print = print_in(layout, captured, address);
	if (codes->slots[at] && print && print != atomic_load(&known->codes[at].print)) {
		drop(codes, codes->slots[at]);
		at = place_of(known, address);
	}
	if (codes->slots[at]) {
		*ret = codes->slots[at];
		return 0;
	}
	if (codes->count * 2 >= known->size) {
		if (!grow(codes))
			return -ENOMEM;
		known = atomic_load(&codes->known);
		at = place_of(known, address);
	}
	int r = make(layout, print ? captured : &from, address, ret);
	if (r == -EFAULT && print) /* a long name, of which the beginning was copied */
		r = make(layout, &from, address, ret);
	if (r)
		return r;
	codes->slots[at] = *ret;
	codes->count++;
	struct known_code *code = &known->codes[at];
	if (!print) {
		uint8_t bytes[PYTHON_CODE_MAX];
		print = live->read(live->context, address, bytes, layout->code_bytes)
				? 0
				: python_code_print(layout, bytes);
	}
	atomic_store(&code->print, print);
	atomic_store(&code->looks, 0);
	atomic_store(&code->seen_ns, monotonic_ns());
	atomic_store(&code->address, address);
	return 0;
}

int python_codes_frame(struct python_codes *codes, const struct python_layout *layout,
	const struct python_memory *captured, const struct python_memory *live, const struct python_frame *frame,
	uint32_t *ret_id)
{
	struct code *code = NULL;
	int64_t offset;
	int r = find(codes, layout, captured, live, frame->code, &code);
	if (r)
		return r;
	if (monotonic_ns() - code->validated_ns > PYTHON_REVALIDATE_MS * NS_PER_MS &&
		read_again(layout, live, code) == -ESTALE)
		r = -ESTALE;
	if (!r && !python_instruction(layout, &code->head, frame->instruction, &offset))
		r = -EINVAL;
	if (r) {
		drop(codes, code);
		return r;
	}
	read_lines(layout, captured, live, code);
	uint32_t line = offset < 0
				? code->head.first_line
				: python_line(layout->minor, code->lines, code->nlines, code->head.first_line, offset);
	*ret_id = collect_source_frame(FRAME_PYTHON, &code->ids, code->name, code->file, line, code->head.first_line);
	return 0;
}
