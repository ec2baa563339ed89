#include "kit/names.h"

#include "common/clock.h"
#include "common/log.h"
#include "kit/kallsyms.h"
#include "kit/leases.h"
#include "kit/perfmap.h"
#include "kit/symbols.h"
#include "kit/table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	KERNEL_NAME_MAX = 256,
	FIRST_PAUSE_MS = 250,  /* between look-ups: doubles up to... */
	LAST_PAUSE_MS = 10000, /* ...this; and at the end of each snapshot */
};

struct key {
	uint64_t address, owner; /* owner: the module's id, or the pid of a JIT */
	uint32_t kind, unused;
};

static struct table index_of; /* struct key -> place in names, from 1 */
static struct name **names;   /* owned, each */
static size_t count, cap;
static uint32_t current;
static int64_t next_look_ns, pause_ns = FIRST_PAUSE_MS * NS_PER_MS;
static size_t open_names;

static struct kallsyms *kernel;
static bool kernel_asked, kernel_answered;

static struct name *intern(const struct key *key)
{
	uint64_t *place = table_at(&index_of, key, sizeof *key);
	if (!place)
		return NULL;
	if (*place) {
		names[*place - 1]->used = current;
		return names[*place - 1];
	}
	if (count == cap) {
		size_t more = cap ? cap * 2 : 256;
		struct name **larger = realloc(names, more * sizeof *names);
		if (!larger)
			return NULL;
		names = larger;
		cap = more;
	}
	struct name *name = calloc(1, sizeof *name);
	if (!name)
		return NULL;
	name->address = key->address;
	name->kind = (uint8_t)key->kind;
	name->used = current;
	names[count++] = name;
	*place = count;
	open_names++;
	return name;
}

struct name *names_user(struct target *t, const struct code_range *code, uint64_t address)
{
	struct key key = { .address = address, .kind = FRAME_JIT };
	struct module *m = code ? code->module : NULL;
	if (m) {
		key.kind = FRAME_NATIVE;
		key.owner = m->id;
		key.address = module_vaddr(m, address - code->start + code->offset);
	} else if (t) {
		key.owner = t->pid;
	}
	struct name *name = intern(&key);
	if (name && m && !name->module) {
		name->module = m;
		m->users++;
	}
	if (name && !m && t && !name->pid) {
		name->pid = t->pid;
		target_ask(t, PART_PERF_MAP);
	}
	return name;
}

static void kallsyms_opened(void *object, enum lease_kind kind, const struct lease_answer *answer)
{
	(void)object, (void)kind;
	kernel_answered = true;
	int r = -answer->error;
	if (!r) {
		r = kallsyms_load(&kernel, answer->fd);
		close(answer->fd);
		leases_release(answer->lease);
	}
	if (r < 0)
		log_warn("kernel frames have no names: /proc/kallsyms: %s", strerror(-r));
}

/* The kernel writes all its symbols anew for each reader, which takes 50 ms: not before there is a frame to name. */
static void ask_kernel(void)
{
	if (kernel_asked)
		return;
	struct lease_request request = { .kind = LEASE_KALLSYMS, .handler = kallsyms_opened };
	kernel_asked = true;
	leases_ask(&request);
}

static void name_kernel(struct name *name)
{
	char text[KERNEL_NAME_MAX];
	if (kernel && kallsyms_find(kernel, name->address, text, sizeof text))
		name->text = strdup(text);
	name->asked = kernel_answered;
}

struct name *names_kernel(uint64_t address)
{
	struct key key = { .address = address, .kind = FRAME_KERNEL };
	struct name *name = intern(&key);
	ask_kernel();
	if (name && !name->asked && !name->frame)
		name_kernel(name); /* later, names_resolve does it, which also tells of it */
	return name;
}

struct name *names_synthetic(const char *text)
{
	struct key key = { .address = (uintptr_t)text, .kind = FRAME_SYNTHETIC };
	struct name *name = intern(&key);
	if (name && !name->text)
		name->text = strdup(text);
	if (name) {
		name->address = 0;
		name->asked = true;
	}
	return name;
}

void names_section(uint32_t section)
{
	size_t kept = 0;
	table_clear(&index_of);
	for (size_t i = 0; i < count; i++) {
		struct name *name = names[i];
		/* A synthetic one is keyed by its literal's address, which is not kept: it is made anew. */
		if (name->used + 1 < section || name->kind == FRAME_SYNTHETIC) {
			if (name->module)
				name->module->users--;
			free(name->text);
			free(name);
			continue;
		}
		struct key key = { .address = name->address,
			.kind = name->kind,
			.owner = name->module ? name->module->id : name->pid };
		uint64_t *place = table_at(&index_of, &key, sizeof key);
		names[kept++] = name;
		if (place)
			*place = kept;
	}
	count = kept;
	current = section;
	pause_ns = FIRST_PAUSE_MS * NS_PER_MS;
}

static int by_owner(const void *a, const void *b)
{
	const struct name *x = *(struct name *const *)a, *y = *(struct name *const *)b;
	if (x->module != y->module)
		return x->module < y->module ? -1 : 1;
	if (x->kind != y->kind)
		return x->kind < y->kind ? -1 : 1;
	if (x->pid != y->pid)
		return x->pid < y->pid ? -1 : 1;
	return x->address < y->address ? -1 : x->address > y->address;
}

/* Answers a run of names of one owner. False: their owner is still awaited. */
static bool look_up(struct name **run, size_t n, void (*found)(struct name *))
{
	struct module *m = run[0]->module;
	struct target *t = m ? NULL : target_find(run[0]->pid);
	if (m && (m->state == MODULE_NEW || m->state == MODULE_ASKED || module_ask_debug(m)))
		return false; /* NEW: an attempt failed, another target may have more luck */
	if (t && t->asked & PART_PERF_MAP && !(t->answered & PART_PERF_MAP))
		return false;
	struct symbol_query *queries = calloc(n, sizeof *queries);
	if (!queries)
		return true;
	for (size_t i = 0; i < n; i++)
		queries[i].vaddr = run[i]->address;
	if (m && m->state == MODULE_READY)
		(void)symbols_resolve(&m->elf, queries, n);
	if (m && m->debug_state == MODULE_READY)
		(void)symbols_resolve(&m->debug, queries, n);
	if (t && t->perf_map >= 0)
		(void)perfmap_resolve(t->perf_map, queries, n);
	for (size_t i = 0; i < n; i++) {
		/* A JIT may still write the line of this one. */
		run[i]->asked = m || !t || t->perf_map < 0 || queries[i].name;
		if (!queries[i].name)
			continue;
		run[i]->text = m ? symbols_demangle(queries[i].name) : NULL;
		if (run[i]->text)
			free(queries[i].name);
		else
			run[i]->text = queries[i].name;
		found(run[i]);
	}
	free(queries);
	return true;
}

static bool kernel_names(struct name **run, size_t n, void (*found)(struct name *))
{
	if (!kernel_answered)
		return false;
	for (size_t i = 0; i < n; i++) {
		name_kernel(run[i]);
		if (run[i]->text)
			found(run[i]);
	}
	return true;
}

bool names_resolve(bool now, void (*found)(struct name *name))
{
	int64_t time = monotonic_ns();
	if (!open_names || (!now && time < next_look_ns))
		return true;
	struct name **todo = malloc(count * sizeof *todo);
	if (!todo)
		return true;
	size_t n = 0;
	for (size_t i = 0; i < count; i++)
		if (!names[i]->asked)
			todo[n++] = names[i];
	qsort(todo, n, sizeof *todo, by_owner);
	bool all = true;
	for (size_t i = 0, end; i < n; i = end) {
		bool is_kernel = todo[i]->kind == FRAME_KERNEL;
		for (end = i + 1; end < n && todo[end]->module == todo[i]->module && todo[end]->pid == todo[i]->pid &&
				  todo[end]->kind == todo[i]->kind;)
			end++;
		all &= is_kernel ? kernel_names(todo + i, end - i, found) : look_up(todo + i, end - i, found);
	}
	open_names = 0;
	for (size_t i = 0; i < n; i++)
		open_names += !todo[i]->asked;
	free(todo);
	next_look_ns = monotonic_ns() + pause_ns;
	pause_ns = pause_ns * 2 < LAST_PAUSE_MS * NS_PER_MS ? pause_ns * 2 : LAST_PAUSE_MS * NS_PER_MS;
	return all;
}
