/* One process: whether its virtual machine is understood, and whether its samples are asked for. Main thread. */
#include "java/java.h"

#include "kit/identify.h"
#include "kit/window.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	STACK_FIRST = 128 << 10,    /* bytes of stack that are read until it is known how deep the stacks are */
	CACHE_BYTES_MAX = 48 << 20, /* code, names and lines of all processes */
};

static const char no_machine[] = "no virtual machine was found in it";
static const char not_ready[] = "its virtual machine is not initialised";

/* A target whose structures lead from one to the next without end costs its own samples, and not those of others. */
static int read_live(void *process, uint64_t address, void *buf, size_t n)
{
	struct java_process *p = process;
	return ++p->reads > JAVA_READS_MAX ? -EBUSY : target_read_memory(p->target, address, buf, n);
}

static void release(void *process)
{
	struct java_process *p = process;
	java_vm_forget(&p->vm);
	free(p);
}

void java_forget(struct target *t)
{
	struct java_process *p = atomic_exchange(&t->runtime, NULL);
	if (p)
		window_retire(p, release);
}

static struct java_process *process_of(struct target *t)
{
	struct java_process *p = atomic_load(&t->runtime);
	if (p)
		return p;
	p = calloc(1, sizeof *p);
	if (!p)
		return NULL;
	p->target = t;
	p->vm.memory = (struct java_memory) { p, read_live };
	retry_begin(&p->retry);
	atomic_store(&t->runtime, p);
	return p;
}

/* Of several files the one that has the machine: a launcher may have its own JNI_CreateJavaVM. */
static const struct code_range *range_with_machine(const struct target *t)
{
	const struct code_range *found = NULL;
	for (size_t i = 0; i < t->ncode; i++) {
		const struct module *m = t->code[i].module;
		uint64_t vaddr;
		if (!m || m->state != MODULE_READY || m->runtime != RUNTIME_java)
			continue;
		if (!identify_symbol(&m->elf, "gHotSpotVMStructs", &vaddr))
			return &t->code[i];
		found = &t->code[i];
	}
	return found;
}

/* Where a variable of the file is in the process. False: the file has none of that name. */
static bool find(const struct code_range *range, const char *symbol, uint64_t *ret)
{
	uint64_t there, vaddr;
	const struct elf *elf = &range->module->elf;
	if (elf_vaddr_of_offset(elf, range->offset, &there) < 0 || identify_symbol(elf, symbol, &vaddr) < 0)
		return false;
	*ret = range->start - there + vaddr;
	return true;
}

static bool find_tables(const struct code_range *range, struct java_tables *t)
{
	const struct {
		const char *symbol;
		uint64_t *at;
	} all[] = {
		{ "gHotSpotVMStructs", &t->structs },
		{ "gHotSpotVMStructEntryArrayStride", &t->struct_stride },
		{ "gHotSpotVMStructEntryTypeNameOffset", &t->struct_type },
		{ "gHotSpotVMStructEntryFieldNameOffset", &t->struct_field },
		{ "gHotSpotVMStructEntryTypeStringOffset", &t->struct_type_string },
		{ "gHotSpotVMStructEntryIsStaticOffset", &t->struct_static },
		{ "gHotSpotVMStructEntryOffsetOffset", &t->struct_offset },
		{ "gHotSpotVMStructEntryAddressOffset", &t->struct_address },
		{ "gHotSpotVMTypes", &t->types },
		{ "gHotSpotVMTypeEntryArrayStride", &t->type_stride },
		{ "gHotSpotVMTypeEntryTypeNameOffset", &t->type_name },
		{ "gHotSpotVMTypeEntrySizeOffset", &t->type_size },
		{ "gHotSpotVMIntConstants", &t->constants },
		{ "gHotSpotVMIntConstantEntryArrayStride", &t->constant_stride },
		{ "gHotSpotVMIntConstantEntryNameOffset", &t->constant_name },
		{ "gHotSpotVMIntConstantEntryValueOffset", &t->constant_value },
	};
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		if (!find(range, all[i].symbol, all[i].at))
			return false;
	return true;
}

/* What else exports JNI_CreateJavaVM, or is known by its section. */
static const char *another_machine(const struct code_range *range)
{
	const struct module *m = range->module;
	if (elf_section(&m->elf, ".svm_heap"))
		return "it is a native image: its frames are native";
	if (strstr(m->path, "j9"))
		return "its virtual machine is OpenJ9: not supported";
	return "its virtual machine is not HotSpot: not supported";
}

static void read_code_addresses(struct java_vm *vm)
{
	const struct java_layout *l = &vm->layout;
	if (java_read_word(&vm->memory, l->of[JAVA_call_stub_return].value, &vm->call_stub_return))
		vm->call_stub_return = 0;
}

/* The heap is made last. */
static bool find_collections(struct java_process *p)
{
	const struct java_layout *l = &p->vm.layout;
	uint64_t heap;
	if (!java_has(l, JAVA_collected_heap) || !java_has(l, JAVA_collections))
		return true;
	if (java_read_word(&p->vm.memory, l->of[JAVA_collected_heap].value, &heap) || !heap)
		return false;
	atomic_store(&p->collections, heap + l->of[JAVA_collections].value);
	return true;
}

/* NULL, or what is missing. */
static const char *look(struct target *t, struct java_process *p, bool *ret_again)
{
	const struct code_range *range = range_with_machine(t);
	struct java_tables tables;
	struct java_vm *vm = &p->vm;
	const char *why = not_ready;
	*ret_again = true;
	if (!range)
		return no_machine;
	*ret_again = false;
	if (p->refused == range->start)
		return p->why;
	if (!find_tables(range, &tables))
		return another_machine(range);
	int r = vm->layout.major ? 0 : java_layout_read(&vm->layout, &vm->memory, &tables, &why);
	*ret_again = r == -EAGAIN;
	p->refused = r == -EINVAL ? range->start : 0;
	r = r ? r : java_heaps_read(&vm->heaps, &vm->layout, &vm->memory);
	if (!r) {
		read_code_addresses(vm);
		*ret_again = !vm->call_stub_return || !find_collections(p);
		return *ret_again ? not_ready : NULL;
	}
	if (r == -EAGAIN || r == -EFAULT || r == -EIO)
		*ret_again = true;
	return *ret_again ? not_ready : why == not_ready ? "its code heaps make no sense" : why;
}

void java_prepare(struct target *t)
{
	struct java_process *p = t->introduced_ns || t->taken || range_with_machine(t) ? process_of(t) : NULL;
	bool again;
	if (!p || p->ready || t->mem < 0)
		return;
	p->reads = 0;
	p->why = look(t, p, &again);
	retry_never(&p->retry);
	if (!p->why) {
		p->ready = true;
		atomic_store(&t->want, STACK_FIRST);
		target_take(t, true);
		return;
	}
	if (again)
		retry_later(&p->retry);
}

bool java_knows(struct target *t)
{
	const struct java_process *p = atomic_load(&t->runtime);
	return p && p->ready;
}

/* A child of one of ours that has become another program may have come here before that was known. */
bool java_wants(struct target *t)
{
	java_prepare(t);
	const struct java_process *p = atomic_load(&t->runtime);
	return !p || !p->why || (p->retry.again_ns && p->why != no_machine) || retry_is_young(&p->retry);
}

static void look_again(struct target *t)
{
	const struct java_process *p = atomic_load(&t->runtime);
	if (!p || !retry_is_due(&p->retry) || java_wants(t))
		return;
	if (p->why == no_machine)
		target_let_go(t);
	else
		target_take(t, false);
}

static void drop_cache(struct target *t)
{
	struct java_process *p = atomic_load(&t->runtime);
	if (p)
		java_vm_forget(&p->vm);
}

void java_shed(void)
{
	targets_each(drop_cache);
}

void java_turn(void)
{
	if (java_vm_memory() > CACHE_BYTES_MAX)
		java_shed();
	if (retry_turn())
		targets_each(look_again);
}

void java_describe(struct target *t, struct description *d)
{
	const struct java_process *p = atomic_load(&t->runtime);
	d->runtime = RUNTIME_java;
	if (!p)
		return;
	d->version = p->vm.layout.version;
	d->why = p->why ? p->why : "";
}
