#include "java/vm.h"

#include "common/clock.h"

#include <errno.h>
#include <stdlib.h>

static size_t memory;

size_t java_vm_memory(void)
{
	return memory;
}

static void account(struct java_vm *vm, size_t bytes)
{
	vm->bytes += bytes;
	memory += bytes;
}

static void release(struct java_vm *vm, size_t bytes)
{
	vm->bytes -= bytes;
	memory -= bytes;
}

static size_t tables_bytes(const struct java_vm *vm, const struct java_known *known)
{
	const struct java_scopes *s = &known->scopes;
	return s->nmetadata * 8 + s->npcs * vm->layout.of[JAVA_sizeof_pc].value + s->data_bytes;
}

static size_t method_bytes(const struct java_method *m)
{
	return m->nlines + strlen(m->name) + strlen(m->file);
}

static void drop_tables(struct java_vm *vm, struct java_known *known)
{
	release(vm, tables_bytes(vm, known));
	free(known->tables);
	known->tables = NULL;
	known->tables_tried = false;
	known->scopes = (struct java_scopes) { 0 };
}

void java_vm_forget(struct java_vm *vm)
{
	const void *key;
	size_t n;
	for (size_t i = 0; i < vm->by_address.size; i++) {
		const uint64_t *slot = table_slot(&vm->by_address, i, &key, &n);
		struct java_known *known = slot ? (void *)(uintptr_t)*slot : NULL;
		if (known)
			drop_tables(vm, known);
		free(known);
	}
	for (size_t i = 0; i < vm->methods.size; i++) {
		const uint64_t *slot = table_slot(&vm->methods, i, &key, &n);
		struct java_named *named = slot ? (void *)(uintptr_t)*slot : NULL;
		if (named)
			java_method_free(&named->method);
		free(named);
	}
	table_free(&vm->by_address);
	table_free(&vm->by_segment);
	table_free(&vm->methods);
	memory -= vm->bytes;
	vm->bytes = 0;
}

static bool is_same(const struct java_blob *a, const struct java_blob *b)
{
	return a->name == b->name && a->end == b->end && a->code == b->code && a->frame_bytes == b->frame_bytes &&
	       a->method == b->method && a->compile_id == b->compile_id && a->entry == b->entry && a->pcs == b->pcs &&
	       a->scopes == b->scopes;
}

/* Reads the head again. */
int java_vm_still(struct java_vm *vm, struct java_known *known)
{
	uint8_t bytes[JAVA_STRUCTURE_MAX];
	const struct java_heap *heap = java_heap_of(&vm->heaps, known->blob.address);
	struct java_blob now = { .address = known->blob.address, .kind = known->blob.kind };
	if (!heap || java_read(&vm->memory, known->blob.address, bytes, vm->layout.nmethod_bytes) < 0 ||
		java_blob_decode(&now, &vm->layout, bytes, heap) < 0 || !is_same(&now, &known->blob))
		return -ESTALE;
	known->seen_ns = vm->now_ns;
	return 0;
}

/* Finds it as it is now, and puts that where it was remembered. */
static int find_anew(struct java_vm *vm, uint64_t pc, struct java_known **ret)
{
	const struct java_heap *heap = java_heap_of(&vm->heaps, pc);
	struct java_blob blob;
	char name[JAVA_BLOB_NAME];
	int r = heap ? java_blob_find(&blob, name, &vm->layout, &vm->memory, heap, pc) : -ENOENT;
	if (r)
		return r;
	uint64_t *slot = table_at(&vm->by_address, &blob.address, sizeof blob.address);
	struct java_known *known = slot ? (void *)(uintptr_t)*slot : NULL;
	if (slot && !known) {
		known = calloc(1, sizeof *known);
		*slot = (uintptr_t)known;
		account(vm, sizeof *known + sizeof(uint64_t) * 4);
	}
	if (!known)
		return -ENOMEM;
	if (!is_same(&known->blob, &blob) || known->blob.kind != blob.kind) {
		drop_tables(vm, known);
		known->ids.section = 0;
		known->read_ns = monotonic_ns();
	}
	known->blob = blob;
	memcpy(known->name, name, sizeof known->name);
	known->seen_ns = vm->now_ns;
	*ret = known;
	return 0;
}

int java_vm_blob(struct java_vm *vm, uint64_t pc, struct java_known **ret)
{
	const struct java_heap *heap = java_heap_of(&vm->heaps, pc);
	uint64_t segment = heap ? pc >> heap->shift : 0;
	uint64_t *slot = heap ? table_at(&vm->by_segment, &segment, sizeof segment) : NULL;
	if (!slot)
		return heap ? -ENOMEM : -ENOENT;
	struct java_known *known = (void *)(uintptr_t)*slot;
	bool there = known && pc >= known->blob.address && pc < known->blob.end;
	if (there && vm->now_ns - known->seen_ns <= JAVA_LOOK_AGAIN_MS * NS_PER_MS) {
		*ret = known;
		return 0;
	}
	if (there && !java_vm_still(vm, known)) {
		*ret = known;
		return 0;
	}
	if (!known)
		account(vm, sizeof segment * 6);
	vm->torn += there;
	int r = find_anew(vm, pc, &known);
	/* By_address may have been made larger, by_segment not. */
	*slot = r ? 0 : (uintptr_t)known;
	*ret = known;
	return r;
}

/* Where the copies are in one piece of memory: metadata first, because of its alignment. */
static int copy_tables(struct java_vm *vm, struct java_known *known)
{
	const struct java_blob *b = &known->blob;
	size_t metadata = b->nmetadata * 8, pcs = b->npcs * vm->layout.of[JAVA_sizeof_pc].value,
	       scopes = b->scopes_bytes;
	uint8_t *bytes = metadata + pcs + scopes ? malloc(metadata + pcs + scopes) : NULL;
	if (!bytes)
		return -ENOENT;
	int r = metadata ? java_read(&vm->memory, b->metadata, bytes, metadata) : 0;
	r = r || !pcs ? r : java_read(&vm->memory, b->pcs, bytes + metadata, pcs);
	r = r || !scopes ? r : java_read(&vm->memory, b->scopes, bytes + metadata + pcs, scopes);
	if (r) {
		free(bytes);
		return -ENOENT;
	}
	known->tables = bytes;
	known->scopes = (struct java_scopes) { .pcs = bytes + metadata,
		.data = bytes + metadata + pcs,
		.metadata = bytes,
		.npcs = b->npcs,
		.data_bytes = scopes,
		.nmetadata = b->nmetadata };
	account(vm, tables_bytes(vm, known));
	return 0;
}

int java_vm_scopes(struct java_vm *vm, struct java_known *known)
{
	if (!known->tables_tried) {
		known->tables_tried = true;
		if (!copy_tables(vm, known) && java_vm_still(vm, known)) {
			drop_tables(vm, known);
			return -ESTALE;
		}
	}
	return known->tables ? 0 : -ENOENT;
}

static bool is_same_method(const struct java_method *a, const struct java_method *b)
{
	return a->constant == b->constant && a->pool == b->pool && a->name_index == b->name_index &&
	       a->code_size == b->code_size && a->class_symbol == b->class_symbol && a->class_stamp == b->class_stamp &&
	       a->name_symbol == b->name_symbol && a->name_stamp == b->name_stamp;
}

/* We may wait for a CPU anywhere in it: its names are those of the method that was there before and behind. */
static int read_method(struct java_vm *vm, uint64_t address, struct java_named *named)
{
	struct java_method method, then;
	int r = java_method_head(&method, &vm->layout, &vm->memory, address);
	r = r ? r : java_method_read(&method, &vm->layout, &vm->memory);
	if (r)
		return r;
	r = java_method_head(&then, &vm->layout, &vm->memory, address);
	if (r || !is_same_method(&then, &method)) {
		java_method_free(&method);
		return r ? r : -ESTALE;
	}
	if (named->method.name)
		release(vm, method_bytes(&named->method));
	java_method_free(&named->method);
	*named = (struct java_named) { .method = method,
		.read_ns = monotonic_ns(),
		.seen_ns = vm->now_ns,
		.looked_ns = vm->now_ns,
		.seen_in = vm->sample };
	account(vm, method_bytes(&method));
	return 0;
}

bool java_vm_is_young(const struct java_vm *vm, const struct java_named *named)
{
	return named->looks < JAVA_TRUSTED_AFTER ||
	       (vm->reuses && vm->now_ns - named->read_ns < JAVA_TRUSTED_AGE_S * NS_PER_S);
}

/* Its memory may be another's by now: one that was found the same a few times is looked at now and then, others for each sample. */
static bool is_due(const struct java_vm *vm, const struct java_named *named)
{
	if (java_vm_is_young(vm, named))
		return named->seen_in != vm->sample;
	return vm->now_ns - named->seen_ns > JAVA_METHOD_AGAIN_MS * NS_PER_MS;
}

int java_vm_method(struct java_vm *vm, uint64_t address, struct java_named **ret)
{
	struct java_method now;
	uint64_t *slot = address ? table_find(&vm->methods, &address, sizeof address) : NULL;
	struct java_named *named = slot ? (void *)(uintptr_t)*slot : NULL;
	if (named && is_due(vm, named)) {
		int r = java_method_head(&now, &vm->layout, &vm->memory, address);
		if (r)
			return r;
		if (!is_same_method(&now, &named->method)) {
			vm->torn++;
			vm->reuses = true;
			r = read_method(vm, address, named);
			if (r)
				return r;
		}
		if (vm->now_ns - named->looked_ns > JAVA_LOOK_AGAIN_MS * NS_PER_MS) {
			named->looked_ns = vm->now_ns;
			named->looks++;
		}
		named->seen_ns = vm->now_ns;
		named->seen_in = vm->sample;
	}
	if (named) {
		*ret = named;
		return 0;
	}
	named = calloc(1, sizeof *named);
	if (!named)
		return -ENOMEM;
	int r = read_method(vm, address, named);
	slot = r ? NULL : table_at(&vm->methods, &address, sizeof address);
	if (!slot) {
		if (!r)
			release(vm, method_bytes(&named->method));
		java_method_free(&named->method);
		free(named);
		return r ? r : -ENOMEM;
	}
	account(vm, sizeof *named + sizeof(uint64_t) * 4);
	*slot = (uintptr_t)named;
	*ret = named;
	return 0;
}

static const char *find_routine(const struct java_layout *l, uint64_t entry)
{
	for (uint32_t i = 0; i < l->nroutines; i++)
		if (l->routines[i].code == entry)
			return l->routines[i].name;
	return NULL;
}

const char *java_vm_routine(struct java_vm *vm, uint64_t entry)
{
	struct java_layout *l = &vm->layout;
	const char *name = entry ? find_routine(l, entry) : NULL;
	if (name || !entry || (vm->routines_ns && vm->now_ns - vm->routines_ns < JAVA_ROUTINES_AGAIN_MS * NS_PER_MS))
		return name;
	vm->routines_ns = vm->now_ns;
	for (uint32_t i = 0; i < l->nroutines; i++)
		if (java_read_word(&vm->memory, l->routines[i].variable, &l->routines[i].code))
			l->routines[i].code = 0;
	return find_routine(l, entry);
}
