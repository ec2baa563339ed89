#include "kit/cfi.h"

#include "kit/cfi_parts.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum {
	EXPR_VIEW = 512,   /* bytes: all expressions of one signal trampoline */
	SHED_BUCKETS = 64, /* ages that cfi_shed tells apart */
	RECENT_ROWS = 512, /* 80 KiB: a power of two; programs are seen at the same places over and over */
};

/* Rows found of late, by table and address. A file's rows do not change, so forgetting its chunks leaves them valid. */
struct recent {
	uint64_t table, vaddr;
	struct cfi_row row;
};

struct cfi {
	atomic_ulong id; /* of what its rows refer to; never used again */
	const struct elf *elf;
	pthread_mutex_t lock; /* the owner against cfi_shed */
	struct cfi_table eh, debug;
	bool debug_tried;
	struct cfi_view exprs;
	struct cfi *next, *previous; /* all tables of the process, under tables_lock */
};

static pthread_mutex_t tables_lock = PTHREAD_MUTEX_INITIALIZER;
static struct cfi *tables;
static atomic_size_t memory; /* bytes */
static atomic_uint now;      /* chunks compiled so far: the clock of the chunks' ages */
static atomic_ulong last_id;
static _Thread_local struct recent recent[RECENT_ROWS];

static void charge(size_t bytes)
{
	atomic_fetch_add_explicit(&memory, bytes, memory_order_relaxed);
}

static void discharge(size_t bytes)
{
	atomic_fetch_sub_explicit(&memory, bytes, memory_order_relaxed);
}

static void drop_chunk(struct cfi_table *t, uint32_t slot)
{
	discharge(t->chunks[slot]->bytes);
	free(t->chunks[slot]);
	t->chunks[slot] = NULL;
}

static void table_close(struct cfi_table *t)
{
	for (uint32_t i = 0; t->chunks && i < t->nslots; i++)
		if (t->chunks[i])
			drop_chunk(t, i);
	discharge(cfi_index_bytes(t));
	cfi_index_close(t);
}

/* Rows of before are not found any more. */
static void renew(struct cfi *cfi)
{
	atomic_store(&cfi->id, atomic_fetch_add(&last_id, 1) + 1);
}

int cfi_open(struct cfi **ret, const struct elf *elf)
{
	struct cfi *cfi = calloc(1, sizeof(*cfi));
	if (!cfi)
		return -ENOMEM;
	cfi->elf = elf;
	renew(cfi);
	int r = cfi_index_eh_frame(&cfi->eh, elf);
	if (r == -ENOENT) {
		cfi->debug_tried = true;
		r = cfi_index_debug_frame(&cfi->debug, elf);
	}
	if (r < 0) {
		free(cfi);
		return r;
	}
	pthread_mutex_init(&cfi->lock, NULL);
	cfi->exprs.cap = EXPR_VIEW;
	charge(sizeof(*cfi) + cfi_index_bytes(&cfi->eh) + cfi_index_bytes(&cfi->debug));
	pthread_mutex_lock(&tables_lock);
	cfi->next = tables;
	if (tables)
		tables->previous = cfi;
	tables = cfi;
	pthread_mutex_unlock(&tables_lock);
	*ret = cfi;
	return 0;
}

void cfi_close(struct cfi *cfi)
{
	if (!cfi)
		return;
	pthread_mutex_lock(&tables_lock);
	if (cfi->next)
		cfi->next->previous = cfi->previous;
	if (cfi->previous)
		cfi->previous->next = cfi->next;
	else
		tables = cfi->next;
	pthread_mutex_unlock(&tables_lock);
	table_close(&cfi->eh);
	table_close(&cfi->debug);
	cfi_view_free(&cfi->exprs);
	pthread_mutex_destroy(&cfi->lock);
	discharge(sizeof(*cfi));
	free(cfi);
}

static int table_find(struct cfi_table *t, uint64_t vaddr, struct cfi_row *ret)
{
	uint32_t pc, slot;
	if (cfi_index_slot(t, vaddr, &pc, &slot) < 0)
		return -ENOENT;
	struct cfi_chunk **chunk = &t->chunks[slot];
	if (!*chunk) {
		struct cfi_function functions[CFI_CHUNK_FDES];
		size_t n = cfi_index_functions(t, slot, functions);
		int r = cfi_compile(&t->space, t->base, functions, n, chunk);
		if (r < 0)
			return r;
		charge((*chunk)->bytes);
		atomic_fetch_add_explicit(&now, 1, memory_order_relaxed);
	}
	(*chunk)->stamp = atomic_load_explicit(&now, memory_order_relaxed);
	int r = cfi_chunk_find(*chunk, pc, ret);
	if (!r)
		ret->from_debug_frame = t->space.is_debug;
	return r;
}

static int find(struct cfi *cfi, uint64_t vaddr, struct cfi_row *ret)
{
	pthread_mutex_lock(&cfi->lock);
	int r = table_find(&cfi->eh, vaddr, ret);
	if (r == -ENOENT) {
		if (!cfi->debug_tried && !cfi_index_debug_frame(&cfi->debug, cfi->elf))
			charge(cfi_index_bytes(&cfi->debug));
		cfi->debug_tried = true;
		r = table_find(&cfi->debug, vaddr, ret);
	}
	pthread_mutex_unlock(&cfi->lock);
	return r;
}

int cfi_find(struct cfi *cfi, uint64_t vaddr, struct cfi_row *ret)
{
	uint64_t id = atomic_load(&cfi->id);
	struct recent *r = &recent[(vaddr ^ vaddr >> 9 ^ id * 0x9e37U) % RECENT_ROWS];
	if (r->table != id || r->vaddr != vaddr) {
		r->table = 0;
		int error = find(cfi, vaddr, &r->row);
		if (error < 0)
			return error;
		r->table = id;
		r->vaddr = vaddr;
	}
	*ret = r->row;
	return 0;
}

/* The bytes of an expression, copied to `out`. */
static int fetch_expression(struct cfi *cfi, int32_t handle, uint8_t out[CFI_EXPR_MAX], size_t *ret_size)
{
	const struct cfi_space *space = handle & 1 ? &cfi->debug.space : &cfi->eh.space;
	uint64_t offset = (uint64_t)handle >> 1;
	if (handle < 0 || offset >= space->size)
		return -EINVAL;
	if (cfi->exprs.space != space) {
		cfi->exprs.space = space;
		cfi->exprs.len = 0;
	}
	size_t n = CFI_EXPR_MAX + 2; /* with the length before it */
	if (space->size - offset < n)
		n = (size_t)(space->size - offset);
	const uint8_t *bytes = cfi_view(&cfi->exprs, offset, n);
	if (!bytes)
		return -EINVAL;
	struct cursor c = { .p = bytes, .end = bytes + n };
	uint64_t size = cursor_varint(&c);
	const uint8_t *code = size <= CFI_EXPR_MAX ? cursor_bytes(&c, (size_t)size) : NULL;
	if (!code)
		return -EINVAL;
	memcpy(out, code, (size_t)size);
	*ret_size = (size_t)size;
	return 0;
}

int cfi_expr(struct cfi *cfi, int32_t handle, const struct regs *regs, uint64_t cfa, cfi_read_fn *read, void *context,
	uint64_t *ret)
{
	uint8_t code[CFI_EXPR_MAX];
	size_t size;
	pthread_mutex_lock(&cfi->lock);
	int r = fetch_expression(cfi, handle, code, &size);
	pthread_mutex_unlock(&cfi->lock);
	return r < 0 ? r : cfi_expr_run(code, size, regs, cfa, read, context, ret);
}

size_t cfi_memory(void)
{
	return atomic_load_explicit(&memory, memory_order_relaxed);
}

/* One visit to every chunk: finds the greatest age, or sums bytes by age, or drops from an age on. */
struct shedding {
	enum { SHED_MEASURE, SHED_SUM, SHED_DROP } pass;
	uint32_t newest, span;
	size_t bytes[SHED_BUCKETS];
	unsigned from;
};

static unsigned shed_bucket(const struct shedding *shed, uint32_t age)
{
	uint64_t bucket = shed->span ? (uint64_t)age * SHED_BUCKETS / shed->span : 0;
	return bucket < SHED_BUCKETS ? (unsigned)bucket : SHED_BUCKETS - 1;
}

/* Returns the bucket of the youngest chunk. */
static unsigned shed_chunks(struct cfi_table *t, struct shedding *shed)
{
	unsigned youngest = SHED_BUCKETS - 1;
	for (uint32_t i = 0; i < t->nslots; i++) {
		if (!t->chunks[i])
			continue;
		uint32_t age = shed->newest - t->chunks[i]->stamp;
		if (age > INT32_MAX) /* used since the passes began */
			age = 0;
		unsigned bucket = shed_bucket(shed, age);
		youngest = bucket < youngest ? bucket : youngest;
		if (shed->pass == SHED_MEASURE && age >= shed->span)
			shed->span = age + 1;
		else if (shed->pass == SHED_SUM)
			shed->bytes[bucket] += t->chunks[i]->bytes;
		else if (shed->pass == SHED_DROP && bucket >= shed->from)
			drop_chunk(t, i);
	}
	return youngest;
}

/* A .debug_frame's index and inflated bytes outweigh its chunks: it goes when the last of them goes, and comes back
 * with the next question. */
static void shed_debug(struct cfi *cfi, struct shedding *shed)
{
	unsigned youngest = shed_chunks(&cfi->debug, shed);
	if (!cfi->debug.nslots)
		return;
	if (shed->pass == SHED_SUM)
		shed->bytes[youngest] += cfi_index_bytes(&cfi->debug);
	if (shed->pass != SHED_DROP || youngest < shed->from)
		return;
	table_close(&cfi->debug);
	cfi->debug_tried = false;
	cfi->exprs.len = 0;
	renew(cfi); /* their expressions are gone */
}

static void shed_all(struct shedding *shed)
{
	for (struct cfi *cfi = tables; cfi; cfi = cfi->next) {
		pthread_mutex_lock(&cfi->lock);
		shed_chunks(&cfi->eh, shed);
		shed_debug(cfi, shed);
		pthread_mutex_unlock(&cfi->lock);
	}
}

void cfi_shed(size_t bytes)
{
	struct shedding shed = { .newest = atomic_load_explicit(&now, memory_order_relaxed) };
	pthread_mutex_lock(&tables_lock);
	size_t held = cfi_memory();
	if (held > bytes) {
		shed_all(&shed);
		shed.pass = SHED_SUM;
		shed_all(&shed);
		shed.from = SHED_BUCKETS;
		while (shed.from && held > bytes) {
			shed.from--;
			held -= shed.bytes[shed.from] < held ? shed.bytes[shed.from] : held;
		}
		shed.pass = SHED_DROP;
		shed_all(&shed);
	}
	pthread_mutex_unlock(&tables_lock);
}
