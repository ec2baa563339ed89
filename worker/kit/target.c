#include "kit/target_parts.h"

#include "common/clock.h"
#include "common/log.h"
#include "kit/lane_worker.h"
#include "kit/leases.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	BUCKETS = 4096,
	ENDED_NS = 1000 * 1000 * 1000,  /* how long the name of a process outlives it */
	BORN_WAIT_NS = 3 * 1000 * 1000, /* a forked process mostly execs or ends within this */
	VIEW_AGE_NS = 2 * 1000 * 1000,  /* between two looks for new stacks in one target's maps */
	VIEW_ASKED_MAX = 512, /* questions about memory that is newer than a view; then all maps are read, for less */
	CODE_AGE_NS = 1000 * 1000 * 1000, /* events tell of code; this is for when one was lost */
	SHED_AGE_NS = 1000 * 1000 * 1000, /* not sampled for so long: what was lent of it can go */
	REOPEN_NS = 10 * 1000 * 1000,     /* between two attempts at a target whose image ended */
	AVOIDED_S = 10 * 60,              /* ... at one that hung a reader */
	TOLD_AGAIN_MAX = 32,              /* in one sweep: a runtime's worker looks at each */
	LOOK_S = 5,                       /* between two looks whether one that is not sampled still lives */
};

static struct target *_Atomic buckets[BUCKETS];
static size_t count, lent, due_count;
static struct target *newest, *oldest; /* of those with fds */
static const struct runtime native = { .id = RUNTIME_NONE };
static const struct runtime *runtime = &native;

static struct target *_Atomic *bucket_of(uint32_t pid)
{
	return &buckets[(pid * 0x9e3779b1U) >> 20];
}

struct target *target_find(uint32_t pid)
{
	struct target *t = atomic_load(bucket_of(pid));
	while (t && t->pid != pid)
		t = atomic_load(&t->next);
	return t;
}

size_t targets_count(void)
{
	return count;
}

static void unlink_lent(struct target *t)
{
	if (newest != t && !t->newer)
		return;
	*(t->newer ? &t->newer->older : &newest) = t->older;
	*(t->older ? &t->older->newer : &oldest) = t->newer;
	t->newer = t->older = NULL;
	lent--;
}

static void link_lent(struct target *t)
{
	unlink_lent(t);
	t->older = newest;
	if (newest)
		newest->newer = t;
	newest = t;
	if (!oldest)
		oldest = t;
	lent++;
}

static void give_back(int *fd, uint64_t lease)
{
	if (*fd < 0)
		return;
	close(*fd);
	*fd = -1;
	leases_release(lease);
}

/* A view takes the fds with it when the image changes: a frozen thread may be in the middle of a read. */
struct old_view {
	struct view *view;
	int mem, maps;
	uint64_t mem_lease, maps_lease;
};

static void release_old_view(void *p)
{
	struct old_view *old = p;
	give_back(&old->mem, old->mem_lease);
	give_back(&old->maps, old->maps_lease);
	free(old->view);
	free(old);
}

static void retire_view(struct target *t, bool with_fds)
{
	struct view *view = atomic_exchange(&t->view, NULL);
	struct old_view *old = malloc(sizeof *old);
	if (!old)
		return;
	*old = (struct old_view) { view, -1, -1, t->mem_lease, t->maps_lease };
	if (with_fds) {
		old->mem = t->mem;
		old->maps = t->maps_fd;
		t->mem = t->maps_fd = -1;
	}
	window_retire(old, release_old_view);
}

static void drop_code(struct target *t)
{
	for (size_t i = 0; i < t->ncode; i++)
		if (t->code[i].module)
			t->code[i].module->users--;
	free(t->code);
	t->code = NULL;
	t->ncode = 0;
}

static void drop_data(struct target *t)
{
	for (size_t i = 0; i < t->ndata; i++)
		t->data[i]->users--;
	free(t->data);
	t->data = NULL;
	t->ndata = 0;
}

/* All that was lent of an image goes back. */
static void drop_image(struct target *t)
{
	leases_forget(t);
	if (runtime->forget)
		runtime->forget(t);
	retire_view(t, true);
	give_back(&t->perf_map, t->perf_map_lease);
	drop_code(t);
	drop_data(t);
	unlink_lent(t);
	t->asked = t->answered = 0;
	t->own = t->refused = t->avoided = t->kernel = t->told = false;
	t->found = RUNTIME_NONE;
	t->maps_read_ns = t->view_read_ns = 0;
	if (t->due_ns)
		due_count--;
	t->due_ns = 0;
}

struct target *target_get(uint32_t pid)
{
	struct target *t = target_find(pid);
	if (t)
		return t;
	t = calloc(1, sizeof *t);
	if (!t)
		return NULL;
	t->pid = pid;
	t->mem = t->maps_fd = t->perf_map = -1;
	atomic_store(&t->want, TARGET_STACK_FIRST);
	struct target *_Atomic *at = bucket_of(pid);
	atomic_store(&t->next, atomic_load(at));
	atomic_store(at, t);
	count++;
	return t;
}

static void free_target(void *p)
{
	struct target *t = p;
	free(t->container);
	table_free(&t->threads);
	free(t);
}

void target_gone(uint32_t pid)
{
	struct target *_Atomic *at = bucket_of(pid);
	struct target *t;
	while ((t = atomic_load(at)) && t->pid != pid)
		at = &t->next;
	if (!t)
		return;
	drop_image(t);
	atomic_store(at, atomic_load(&t->next));
	count--;
	window_retire(t, free_target);
}

const struct view_range *view_range_of(const struct view *view, uint64_t sp)
{
	uint32_t low = 0, high = view->n;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		if (sp >= view->range[middle].end)
			low = middle + 1;
		else
			high = middle;
	}
	return low < view->n && sp >= view->range[low].start ? &view->range[low] : NULL;
}

void target_ended(struct target *t, int64_t now)
{
	struct code_range *code = t->code;
	size_t ncode = t->ncode;
	t->code = NULL; /* as its name, its code is still of use */
	t->ncode = 0;
	drop_image(t);
	t->code = code;
	t->ncode = ncode;
	t->refused = true;
	t->ended_ns = now;
}

/* Rings of other CPUs may still tell of what was before, even of its birth: that must not bring it back. */
void target_left(uint32_t pid, int64_t time)
{
	struct target *t = runtime->id == RUNTIME_NONE ? NULL : target_get(pid);
	if (!t) {
		target_gone(pid);
		return;
	}
	int64_t introduced_ns = t->introduced_ns;
	if (introduced_ns > time) { /* as another program, since */
		target_gone(pid);
		t = target_get(pid);
		if (t)
			target_appeared(t, introduced_ns);
		return;
	}
	t->image_ns = time;
	t->introduced_ns = 0;
	t->taken = false;
	target_ended(t, monotonic_ns());
}

/* For good only when all its files are known: on a busy machine they are opened late, or have to be asked for once more. */
void target_let_go(struct target *t)
{
	bool known = t->maps_read_ns;
	for (size_t i = 0; i < t->ncode; i++) {
		const struct module *m = t->code[i].module;
		known &= !m || (m->state != MODULE_NEW && m->state != MODULE_ASKED);
	}
	target_take(t, false);
	if (known)
		target_ended(t, monotonic_ns());
	else
		target_code_changed(t);
}

/* A read at address 0 fails in a process that lives, and finds nothing in one that does not. */
bool target_image_is_gone(const struct target *t)
{
	const struct view *view = atomic_load(&t->view);
	char byte;
	if (!view || atomic_load(&view->gone))
		return view;
	window_main_reads(t->pid, t->start_time);
	ssize_t n = pread(view->mem, &byte, sizeof byte, 0);
	window_main_reads(0, 0);
	return !n;
}

/* The event of an end may be lost, or come before that of a birth, which stands in another CPU's ring. */
static bool has_ended(struct target *t, int64_t now)
{
	const struct view *view = atomic_load(&t->view);
	if (t->ended_ns)
		return false;
	if (view && atomic_load(&view->gone) && runtime->id != RUNTIME_NONE)
		return true; /* what has become of it is native's to say */
	if (now - t->sampled_ns < LOOK_S * NS_PER_S || now - t->looked_ns < LOOK_S * NS_PER_S)
		return false;
	t->looked_ns = now;
	return view ? target_image_is_gone(t) : t->refused && !t->own && !t->avoided;
}

void targets_sweep(int64_t now)
{
	unsigned told = 0;
	for (size_t i = 0; i < BUCKETS; i++) {
		struct target *next;
		for (struct target *t = atomic_load(&buckets[i]); t; t = next) {
			next = atomic_load(&t->next);
			if (has_ended(t, now))
				target_ended(t, now);
			told += told < TOLD_AGAIN_MAX && target_tell_again(t, now);
			if (t->ended_ns && now - t->ended_ns > ENDED_NS)
				target_gone(t->pid);
		}
	}
}

/* The frozen threads read only what is readable, writable, private and anonymous: file mappings could hang them. Of a runtime's own file
 * and of files that are only data its constants are read, too. */
static bool may_be_read(const struct map_entry *e)
{
	if ((e->flags & (MAP_IS_READ | MAP_IS_SHARED_)) != MAP_IS_READ)
		return false;
	bool writable = e->flags & MAP_IS_WRITE;
	if (!(e->flags & MAP_IS_FILE))
		return writable;
	const struct module *m = runtime->id != RUNTIME_NONE ? module_of(e, "") : NULL;
	if (!m)
		return false;
	bool all = runtime->reads_files && (m->state == MODULE_DATA || m->runtime == runtime->id);
	return (writable || all) && (m->state == MODULE_READY || m->state == MODULE_DATA);
}

/* Files whose private mappings a runtime reads, and that are not known by their code, are asked for. */
static void take_data(struct target *t, const struct maps *maps)
{
	struct module **data = runtime->reads_files ? calloc(maps->n + 1, sizeof(*data)) : NULL;
	size_t n = 0;
	if (!data)
		return;
	for (size_t i = 0; i < maps->n; i++) {
		const struct map_entry *e = &maps->entries[i];
		if ((e->flags & (MAP_IS_FILE | MAP_IS_READ | MAP_IS_WRITE | MAP_IS_SHARED_)) !=
			(MAP_IS_FILE | MAP_IS_READ | MAP_IS_WRITE))
			continue;
		struct module *m = module_of(e, e->path ? maps->paths + e->path : "");
		if (!m)
			continue;
		m->users++;
		data[n++] = m;
		module_ask(m, t->pid, t->start_time, e->start, e->end);
	}
	drop_data(t);
	t->data = data;
	t->ndata = n;
}

static void publish_view(struct target *t, const struct maps *maps)
{
	if (t->mem < 0 || t->kernel)
		return;
	uint32_t n = 0;
	struct view *view = malloc(sizeof *view + (maps->n + 1) * sizeof *view->range);
	if (!view)
		return;
	uint64_t before = 0; /* end of the mapping below */
	for (size_t i = 0; i < maps->n; i++) {
		const struct map_entry *e = &maps->entries[i];
		if (may_be_read(e)) {
			struct view_range range = { e->start, e->end };
			if (e->flags & MAP_IS_STACK)
				range.start =
					e->end - before > TARGET_STACK_GROWTH ? e->end - TARGET_STACK_GROWTH : before;
			if (range.start > e->start)
				range.start = e->start;
			if (n && view->range[n - 1].end == range.start)
				view->range[n - 1].end = range.end;
			else
				view->range[n++] = range;
		}
		before = e->end;
	}
	struct view *fitted = realloc(view, sizeof *view + n * sizeof *view->range);
	view = fitted ? fitted : view;
	atomic_init(&view->gone, false);
	atomic_init(&view->asked, 0);
	view->mem = t->mem;
	view->maps = t->maps_fd;
	view->start_time = t->start_time;
	view->n = n;
	retire_view(t, false);
	atomic_store(&t->view, view);
}

static struct module *vdso_module(const struct target *t, const struct map_entry *e)
{
	struct module *known = module_vdso_known();
	size_t n = e->end - e->start;
	if (known || t->mem < 0 || n > 64 << 10)
		return known;
	uint8_t *bytes = malloc(n);
	struct module *m = NULL;
	window_main_reads(t->pid, t->start_time);
	if (bytes && pread(t->mem, bytes, n, (off_t)e->start) == (ssize_t)n)
		m = module_vdso(bytes, n);
	window_main_reads(0, 0);
	free(bytes);
	return m;
}

static void take_code(struct target *t, const struct maps *maps)
{
	struct code_range *old = t->code;
	size_t nold = t->ncode, n = 0;
	for (size_t i = 0; i < maps->n; i++)
		n += !!(maps->entries[i].flags & MAP_IS_EXEC);
	struct code_range *code = calloc(n ? n : 1, sizeof *code);
	if (!code)
		return;
	n = 0;
	for (size_t i = 0; i < maps->n; i++) {
		const struct map_entry *e = &maps->entries[i];
		if (!(e->flags & MAP_IS_EXEC))
			continue;
		struct module *m = NULL;
		if (e->flags & MAP_IS_FILE)
			m = module_of(e, e->path ? maps->paths + e->path : "");
		else if (e->flags & MAP_IS_VDSO)
			m = vdso_module(t, e);
		if (m)
			m->users++;
		code[n++] = (struct code_range) { e->start, e->end, e->flags & MAP_IS_VDSO ? 0 : e->offset, m };
	}
	t->code = code;
	t->ncode = n;
	for (size_t i = 0; i < nold; i++)
		if (old[i].module)
			old[i].module->users--;
	free(old);
}

/* Events tell of images in their order; maps are of whatever has the process id when they are opened, which may be an image that
 * we have not been told of yet. What they say of code is then not of the samples that wait. When no such event has come after
 * a while, one was lost, and maps are right. */
bool target_maps_are_of_another_image(const struct target *t, const struct maps *maps, int64_t now)
{
	if (!t->told || now - t->told_ns > CODE_AGE_NS)
		return false;
	for (size_t i = 0; i < maps->n; i++) {
		const struct map_entry *e = &maps->entries[i];
		const struct code_range *known = target_code(t, e->start);
		const struct module *m = known ? known->module : NULL;
		if (e->flags & MAP_IS_EXEC && e->flags & MAP_IS_FILE && m && m != module_vdso_known() &&
			(m->inode != e->inode || m->device != e->device))
			return true;
	}
	return !t->ncode; /* its own are about to be told */
}

bool target_in_bucket(size_t i, struct target **ret)
{
	*ret = i < BUCKETS ? atomic_load(&buckets[i]) : NULL;
	return i < BUCKETS;
}

void targets_each(void (*call)(struct target *t))
{
	for (size_t i = 0; i < BUCKETS; i++)
		for (struct target *t = atomic_load(&buckets[i]); t; t = atomic_load(&t->next))
			call(t);
}

void targets_init(struct kit *kit, const struct runtime *r)
{
	runtime = r;
	target_runtime_init(kit, r);
}

int target_read_memory(struct target *t, uint64_t address, void *buf, size_t n)
{
	struct view *view = atomic_load(&t->view);
	struct view_range range;
	if (!view || !window_find_range(view, address, &range) || n > range.end - address)
		return -EFAULT;
	window_main_reads(t->pid, t->start_time);
	ssize_t got = pread(view->mem, buf, n, (off_t)address);
	int error = errno;
	window_main_reads(0, 0);
	if (n && !got)
		atomic_store(&view->gone, true);
	return got == (ssize_t)n ? 0 : got < 0 ? -error : -EIO;
}

void target_read_maps(struct target *t, bool code)
{
	struct maps maps;
	t->view_read_ns = monotonic_ns();
	window_main_reads(t->pid, t->start_time);
	int r = maps_read(&maps, t->maps_fd);
	window_main_reads(0, 0);
	if (r == -ESRCH && runtime->id != RUNTIME_NONE) {
		target_ended(t, t->view_read_ns);
		return;
	}
	if (r == -ESRCH && !t->ncode)
		t->kernel = true; /* no memory: a kernel thread, or a process that is ending */
	if (r < 0)
		return;
	if (code && !target_maps_are_of_another_image(t, &maps, t->view_read_ns)) {
		t->maps_read_ns = t->view_read_ns;
		take_code(t, &maps);
	}
	take_data(t, &maps);
	publish_view(t, &maps);
	maps_free(&maps);
	target_code_changed(t);
}

bool target_refresh(struct target *t, int64_t time, bool code)
{
	int64_t now = monotonic_ns(), last = code ? t->maps_read_ns : t->view_read_ns;
	if (t->maps_fd < 0 || t->kernel || last >= time || now - last < (code ? CODE_AGE_NS : VIEW_AGE_NS))
		return false;
	target_read_maps(t, code);
	return true;
}

void target_map(struct target *t, const struct map_entry *entry, const char *path, int64_t time)
{
	if ((!t->ncode && !t->told) || time <= t->maps_read_ns || entry->start >= entry->end)
		return; /* the maps are not read yet, or tell of it already */
	struct code_range *code = calloc(t->ncode + 2, sizeof *code); /* one more, and one cut in two */
	if (!code)
		return;
	size_t n = 0;
	bool placed = false;
	struct code_range fresh = { entry->start, entry->end, entry->offset,
		entry->flags & MAP_IS_FILE ? module_of(entry, path) : NULL };
	for (size_t i = 0; i < t->ncode; i++) {
		struct code_range old = t->code[i], below = old, above = old;
		if (below.end > fresh.start)
			below.end = fresh.start;
		if (above.start < fresh.end) {
			above.offset += fresh.end - above.start;
			above.start = fresh.end;
		}
		if (below.start < below.end)
			code[n++] = below;
		if (!placed && old.end > fresh.start) {
			code[n++] = fresh;
			placed = true;
		}
		if (above.start < above.end && above.start >= fresh.end && old.end > fresh.start)
			code[n++] = above;
	}
	if (!placed)
		code[n++] = fresh;
	for (size_t i = 0; i < n; i++)
		if (code[i].module)
			code[i].module->users++;
	drop_code(t);
	t->code = code;
	t->ncode = n;
	if (fresh.module)
		module_mapped(fresh.module, t->pid, t->start_time, fresh.start, fresh.end);
	target_code_changed(t);
}

const struct code_range *target_code(const struct target *t, uint64_t pc)
{
	size_t low = 0, high = t->ncode;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (pc >= t->code[middle].end)
			low = middle + 1;
		else
			high = middle;
	}
	return low < t->ncode && pc >= t->code[low].start ? &t->code[low] : NULL;
}

/* Too many fds: the one that was not sampled for longest gives its back, and asks anew when it is sampled again. */
static void shed_oldest(const struct target *but)
{
	struct target *t = oldest;
	if (lent > TARGETS_MAX_LENT && t && t != but)
		drop_image(t);
}

void targets_shed(void)
{
	int64_t limit = monotonic_ns() - SHED_AGE_NS;
	while (oldest && oldest->sampled_ns < limit)
		drop_image(oldest);
}

static void opened(void *object, enum lease_kind kind, const struct lease_answer *answer)
{
	struct target *t = object;
	unsigned part = kind == LEASE_MEM     ? PART_MEM
			: kind == LEASE_MAPS  ? PART_MAPS
			: kind == LEASE_ABOUT ? PART_ABOUT
					      : PART_PERF_MAP;
	t->answered |= part;
	if (t->start_time && answer->start_time && t->start_time != answer->start_time)
		log_debug("pid %u is another process now", t->pid);
	if (answer->start_time)
		t->start_time = answer->start_time;
	if (answer->error) {
		if (answer->error == EPERM && part == PART_MEM)
			t->own = true;
		if (part & (PART_MEM | PART_MAPS)) {
			t->refused = true;
			t->avoided = t->avoided || answer->error == LEASE_AVOIDED;
		}
		return;
	}
	if (part == PART_ABOUT) {
		target_read_about(t, answer->fd);
		close(answer->fd);
		leases_release(answer->lease);
		return;
	}
	*(part == PART_MEM ? &t->mem : part == PART_MAPS ? &t->maps_fd : &t->perf_map) = answer->fd;
	*(part == PART_MEM ? &t->mem_lease : part == PART_MAPS ? &t->maps_lease : &t->perf_map_lease) = answer->lease;
	link_lent(t);
	shed_oldest(t);
	if (!(t->asked & PART_MAPS))
		target_ask(t, PART_MAPS | PART_ABOUT);
	if (t->mem >= 0 && t->maps_fd >= 0 && part != PART_PERF_MAP)
		target_read_maps(t, true);
}

void target_ask(struct target *t, unsigned parts)
{
	static const struct {
		enum target_part part;
		enum lease_kind kind;
	} kinds[] = { { PART_MEM, LEASE_MEM }, { PART_MAPS, LEASE_MAPS }, { PART_ABOUT, LEASE_ABOUT },
		{ PART_PERF_MAP, LEASE_PERF_MAP } };
	if (t->due_ns && parts & PART_MEM) {
		t->due_ns = 0;
		due_count--;
	}
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
		if (!(parts & kinds[i].part) || t->asked & kinds[i].part)
			continue;
		t->asked |= kinds[i].part;
		t->asked_ns = monotonic_ns();
		struct lease_request request = { .kind = kinds[i].kind, .pid = t->pid, .handler = opened, .object = t };
		leases_ask(&request);
	}
}

bool target_pending(const struct target *t, int64_t now)
{
	return t->asked & ~t->answered & (PART_MEM | PART_MAPS | PART_ABOUT) && !t->own &&
	       now - t->asked_ns < LEASE_PATIENCE_MS * NS_PER_MS;
}

void target_sampled(struct target *t, int64_t now, bool user)
{
	struct view *view = atomic_load(&t->view);
	/* An exec that we were not told of, or the end. */
	if (view && atomic_load(&view->gone) && now - t->asked_ns > REOPEN_NS) {
		drop_image(t);
	} else if (view && atomic_load(&view->asked) > VIEW_ASKED_MAX) {
		atomic_store(&view->asked, 0); /* maps that cannot be read are not tried at each sample */
		(void)target_refresh(t, now, false);
	}
	if (t->avoided && now - t->asked_ns > AVOIDED_S * NS_PER_S)
		drop_image(t);
	if (!t->refused)
		target_ask(t, user ? PART_MEM | PART_MAPS | PART_ABOUT : PART_ABOUT);
	t->sampled_ns = now;
	if (t->newer || newest == t)
		link_lent(t);
}

void target_exec(struct target *t, const char comm[16])
{
	drop_image(t);
	t->introduced_ns = 0;
	t->taken = false;
	table_clear(&t->threads);
	atomic_store(&t->want, TARGET_STACK_FIRST);
	atomic_store(&t->seen, 0);
	memcpy(t->comm, comm, sizeof t->comm);
	t->told = true;
	t->told_ns = monotonic_ns(); /* not the event's time: the busier the machine, the later we are */
	target_ask(t, PART_MEM | PART_MAPS);
}

void target_appeared(struct target *t, int64_t time)
{
	t->found = RUNTIME_NONE; /* who was told of it before may be another one now */
	t->introduced_ns = time;
	if (!t->asked && !t->image_ns)
		t->image_ns = time; /* its memory is asked for after that */
	/* Who tells of it may not know that it is ours. */
	if (t->taken) {
		t->taken = false;
		target_take(t, true);
	}
	if (!(t->asked & PART_MAPS))
		target_ask(t, PART_MEM); /* and if it has any, which no thread of the kernel has, the rest */
	else if (!target_refresh(t, time, true))
		target_code_changed(t);
}

/* A child begins with its parent's memory. */
static void copy_code(struct target *child, const struct target *parent)
{
	struct code_range *code = parent->ncode ? calloc(parent->ncode, sizeof *code) : NULL;
	if (!code || child->ncode) {
		free(code);
		return;
	}
	memcpy(code, parent->code, parent->ncode * sizeof *code);
	for (size_t i = 0; i < parent->ncode; i++)
		if (code[i].module)
			code[i].module->users++;
	child->code = code;
	child->ncode = parent->ncode;
	child->introduced_ns = parent->introduced_ns;
	child->taken = parent->taken; /* the sampler hands it down, too */
	child->told = true;
	child->told_ns = monotonic_ns();
}

void target_fork(struct target *parent, struct target *child)
{
	if (child->asked)
		return; /* a sample was first */
	if (parent) {
		memcpy(child->comm, parent->comm, sizeof child->comm);
		if (parent->container && !child->container)
			child->container = strdup(parent->container);
		copy_code(child, parent);
	}
	child->due_ns = monotonic_ns() + BORN_WAIT_NS;
	due_count++;
}

void targets_due(int64_t now)
{
	for (size_t i = 0; i < BUCKETS && due_count; i++)
		for (struct target *t = atomic_load(&buckets[i]); t; t = atomic_load(&t->next))
			if (t->due_ns && t->due_ns <= now)
				target_ask(t, PART_MEM | PART_MAPS);
}

int64_t targets_next_due(void)
{
	return due_count ? monotonic_ns() + BORN_WAIT_NS : INT64_MAX;
}
