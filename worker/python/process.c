/* One process: where its interpreter is, of which version, and whether its samples are asked for. Main thread. */
#include "python/python.h"

#include "kit/identify.h"

#include <elf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	STACK_FIRST = 256 << 10,    /* bytes of stack that are read until it is known how deep the stacks are */
	CODES_BYTES_MAX = 48 << 20, /* names and lines of all processes */
	PTHREAD_TID_GLIBC = 720,    /* offset of struct pthread's tid (nptl/descr.h), glibc 2.4 to 2.41 on x86-64 */
};

static const char no_interpreter[] = "no interpreter was found in it";

int python_read_live(void *target, uint64_t address, void *buf, size_t n)
{
	return target_read_memory(target, address, buf, n);
}

static void release(void *process)
{
	struct python_process *p = process;
	python_codes_free(p->codes);
	free(atomic_load(&p->threads));
	free(p);
}

void python_forget(struct target *t)
{
	struct python_process *p = atomic_exchange(&t->runtime, NULL);
	if (p)
		window_retire(p, release);
}

static struct python_process *process_of(struct target *t)
{
	struct python_process *p = atomic_load(&t->runtime);
	if (p)
		return p;
	p = calloc(1, sizeof *p);
	struct python_threads *threads = python_threads_new(PYTHON_THREAD_SLOTS);
	struct python_codes *codes = python_codes_new();
	if (!p || !threads || !codes) {
		free(p);
		free(threads);
		python_codes_free(codes);
		return NULL;
	}
	atomic_init(&p->threads, threads);
	p->codes = codes;
	retry_begin(&p->retry);
	atomic_store(&t->runtime, p);
	return p;
}

static const struct code_range *range_with(const struct target *t, enum runtime_id runtime)
{
	for (size_t i = 0; i < t->ncode; i++) {
		const struct module *m = t->code[i].module;
		if (m && m->state == MODULE_READY && m->runtime == runtime)
			return &t->code[i];
	}
	return NULL;
}

/* Where a file's address is in the process; 0: nowhere. */
static uint64_t address_in(const struct code_range *range, uint64_t vaddr)
{
	uint64_t there;
	if (elf_vaddr_of_offset(&range->module->elf, range->offset, &there) < 0)
		return 0;
	return range->start - there + vaddr;
}

static bool has(const struct elf *elf, const char *symbol)
{
	uint64_t vaddr;
	return !identify_symbol(elf, symbol, &vaddr);
}

/* By what the file exports: Py_Version is a constant (3.11 and later); before that, functions that came with a version. 0: not known. */
static unsigned minor_of(const struct elf *elf)
{
	uint64_t vaddr, offset;
	uint32_t version;
	if (!identify_symbol(elf, "Py_Version", &vaddr) && !elf_offset_of_vaddr(elf, vaddr, &offset) &&
		!elf_read(elf, &version, sizeof version, offset) && version >> 24 == 3)
		return version >> 16 & 0xff;
	if (has(elf, "PyModule_AddObjectRef"))
		return 10;
	if (has(elf, "PyObject_CallNoArgs"))
		return 9;
	return has(elf, "PyCode_NewWithPosOnlyArgs") ? 8 : 0;
}

/* NULL, or why not. */
static const char *find_layout(struct target *t, struct python_process *p, const struct elf *elf)
{
	uint8_t head[PYTHON_OFFSETS_BYTES];
	const char *why = "its interpreter is of an unknown version";
	unsigned minor = minor_of(elf);
	const struct python_layout *table = minor < PYTHON_MINOR_OFFSETS ? python_layout_of(minor) : NULL;
	if (table) {
		p->layout = *table;
		return NULL;
	}
	if (minor && minor < PYTHON_MINOR_MIN)
		return "its interpreter is older than 3.8: not supported";
	if (target_read_memory(t, p->runtime, head, sizeof head) < 0)
		return "the memory of its interpreter cannot be read";
	int r = python_layout_read(&p->layout, head, sizeof head, &why);
	return !r ? NULL : r == -EAGAIN ? "its interpreter is not initialised" : why;
}

/* The C library tells debuggers where its thread descriptor has the number (libthread_db): { bits, elements, offset }. */
static uint16_t pthread_tid_of(const struct target *t)
{
	for (size_t i = 0; i < t->ncode; i++) {
		const struct module *m = t->code[i].module;
		uint64_t vaddr, offset;
		uint32_t descriptor[3];
		if (m && m->state == MODULE_READY && !identify_symbol(&m->elf, "_thread_db_pthread_tid", &vaddr) &&
			!elf_offset_of_vaddr(&m->elf, vaddr, &offset) &&
			!elf_read(&m->elf, descriptor, sizeof descriptor, offset) && descriptor[0] == 32 &&
			descriptor[2] < UINT16_MAX)
			return (uint16_t)descriptor[2];
	}
	return PTHREAD_TID_GLIBC;
}

/* The loop saves registers, links its frame, and jumps through a table to the first instruction's code: jmp *reg, ff e0 to ff e7 (on other
 * architectures than x86-64 all that is looked at counts). Everything behind that jump is entered with the frame in its place. */
static uint32_t length_of_beginning(const struct elf *elf, uint64_t vaddr)
{
	uint8_t code[PYTHON_BEGINNING_MAX];
	uint64_t offset;
	if (elf_offset_of_vaddr(elf, vaddr, &offset) < 0 || elf_read(elf, code, sizeof code, offset) < 0)
		return 0;
	for (uint32_t i = 0; i + 1 < sizeof code; i++)
		if (elf->machine == EM_X86_64 && code[i] == 0xff && (code[i + 1] & 0xf8) == 0xe0)
			return i + 2;
	return PYTHON_BEGINNING_MAX;
}

static void find_loop(struct python_process *p, const struct code_range *range)
{
	uint64_t vaddr, size;
	struct cfi *cfi = module_cfi(range->module);
	if (identify_function(&range->module->elf, "_PyEval_EvalFrameDefault", &vaddr, &size) < 0)
		return;
	p->loop_begin = address_in(range, vaddr);
	p->loop_end = p->loop_begin + size;
	p->beginning = 0;
	if (p->layout.cframe_frame == PYTHON_NONE || !cfi)
		return;
	uint32_t n = length_of_beginning(&range->module->elf, vaddr);
	for (uint32_t i = 0; i < n; i++) {
		struct cfi_row row;
		bool known = !cfi_find(cfi, vaddr + i, &row) && !row.cfa_is_expr && row.cfa_reg == REG_SP &&
			     row.cfa_offset > 0;
		p->cframe_room[i] = known && row.cfa_offset < UINT16_MAX ? (uint16_t)row.cfa_offset : 0;
	}
	p->beginning = n;
}

/* NULL, or what is missing. */
static const char *look(struct target *t, struct python_process *p, bool *ret_again)
{
	const struct code_range *range = range_with(t, RUNTIME_python);
	*ret_again = true;
	if (!range)
		return no_interpreter;
	p->runtime = address_in(range, range->module->runtime_vaddr);
	const char *why = find_layout(t, p, &range->module->elf);
	if (why) {
		*ret_again = !strcmp(why, "its interpreter is not initialised") ||
			     !strcmp(why, "the memory of its interpreter cannot be read");
		return why;
	}
	if (!(t->answered & PART_ABOUT)) {
		target_ask(t, PART_ABOUT);
		return "it is being looked at";
	}
	p->tid = t->pid;
	p->ntid = t->nspid ? t->nspid : t->pid;
	p->pthread_tid = p->layout.native_thread_id == PYTHON_NONE ? pthread_tid_of(t) : 0;
	find_loop(p, range);
	p->learned_ns = 0; /* the first time counts */
	return python_threads_learn(t, p) > 0 ? NULL : "its interpreter is not initialised";
}

void python_prepare(struct target *t)
{
	struct python_process *p = t->introduced_ns || t->taken || range_with(t, RUNTIME_python) ? process_of(t) : NULL;
	bool again;
	if (!p || atomic_load(&p->ready) || t->mem < 0)
		return;
	p->why = look(t, p, &again);
	retry_never(&p->retry);
	if (!p->why) {
		python_threads_look(t, p); /* how many interpreters: the first sample wants to know */
		atomic_store(&p->ready, true);
		if (p->layout.datastack_chunk == PYTHON_NONE) /* each Python frame has one on the C stack */
			atomic_store(&t->want, STACK_FIRST);
		target_take(t, true);
		return;
	}
	if (again)
		retry_later(&p->retry);
}

/* A child of one of ours that has become another program may have come here before that was known. */
bool python_wants(struct target *t)
{
	python_prepare(t);
	const struct python_process *p = atomic_load(&t->runtime);
	return !p || !p->why || (p->retry.again_ns && p->why != no_interpreter) || retry_is_young(&p->retry);
}

static void look_again(struct target *t)
{
	const struct python_process *p = atomic_load(&t->runtime);
	if (!p || !retry_is_due(&p->retry) || python_wants(t))
		return;
	if (p->why == no_interpreter)
		target_let_go(t);
	else
		target_take(t, false);
}

static void drop_codes(struct target *t)
{
	const struct python_process *p = atomic_load(&t->runtime);
	if (!p || !atomic_load(&p->ready))
		return;
	python_forget(t);
	python_prepare(t);
}

void python_shed(void)
{
	targets_each(drop_codes);
}

void python_turn(void)
{
	if (python_codes_memory() > CODES_BYTES_MAX)
		python_shed();
	if (retry_turn())
		targets_each(look_again);
}

void python_describe(struct target *t, struct description *d)
{
	static char version[16];
	const struct python_process *p = atomic_load(&t->runtime);
	d->runtime = RUNTIME_python;
	if (!p)
		return;
	if (p->layout.minor)
		snprintf(version, sizeof version, "3.%u", p->layout.minor);
	else
		*version = 0;
	d->version = version;
	d->why = p->why ? p->why : "";
}
