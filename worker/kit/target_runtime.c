/* Which processes carry a runtime, told to the supervisor by native; and which a runtime's worker takes. */
#include "kit/target_parts.h"

#include <string.h>

enum { FOUND_BATCH = 128 /* processes in one FOUND or TAKE */ };

static struct kit *kit;
static enum runtime_id ours;
static void (*prepare)(struct target *t);

/* A file that is named after a runtime is looked at before a sample leads into it, so that its process is known from its start on. What
 * decides is what is in it. */
static bool is_promising(const struct module *m)
{
	const char *slash = strrchr(m->path, '/');
	for (unsigned id = RUNTIME_NONE + 1; id < RUNTIME_MAX; id++) {
		const char *hint = runtime_file((enum runtime_id)id);
		if (hint && strstr(slash ? slash : m->path, hint))
			return true;
	}
	return false;
}

static uint64_t found_pids[FOUND_BATCH], taken_pids[2][FOUND_BATCH];
static size_t nfound, ntaken[2];
static enum runtime_id found_runtime;

static void tell_found(void)
{
	if (nfound && kit)
		(void)channel_send(
			&kit->channel, MSG_FOUND, -1, (uint64_t)found_runtime, (const uint64_t *)found_pids, nfound);
	nfound = 0;
}

static void tell_taken(bool take)
{
	if (ntaken[take] && kit)
		(void)channel_send(
			&kit->channel, MSG_TAKE, -1, (uint64_t)take, (const uint64_t *)taken_pids[take], ntaken[take]);
	ntaken[take] = 0;
}

void targets_tell(void)
{
	tell_found();
	tell_taken(false);
	tell_taken(true);
}

void target_take(struct target *t, bool take)
{
	if (t->taken == take)
		return;
	t->taken = take;
	taken_pids[take][ntaken[take]++] = t->pid;
	if (ntaken[take] == FOUND_BATCH)
		tell_taken(take);
}

static void found(struct target *t, enum runtime_id id)
{
	if (t->found != RUNTIME_NONE)
		return;
	t->found = id;
	if (nfound == FOUND_BATCH || (nfound && found_runtime != id))
		tell_found();
	found_runtime = id;
	found_pids[nfound++] = t->pid;
}

/* What is mapped is known anew. */
void target_code_changed(struct target *t)
{
	bool native = ours == RUNTIME_NONE;
	for (size_t i = 0; i < t->ncode; i++) {
		struct module *m = t->code[i].module;
		if (m && m->state == MODULE_NEW && ((!native && t->introduced_ns) || is_promising(m)))
			module_ask(m, t->pid, t->start_time, t->code[i].start, t->code[i].end);
		if (m && m->runtime != RUNTIME_NONE && native)
			found(t, m->runtime);
	}
	if (prepare)
		prepare(t);
}

static bool maps_module(const struct target *t, const struct module *m)
{
	for (size_t i = 0; i < t->ncode; i++)
		if (t->code[i].module == m)
			return true;
	for (size_t i = 0; i < t->ndata; i++)
		if (t->data[i] == m)
			return true;
	return false;
}

static struct module *ready; /* while module_ready is at work */

static void tell_of_ready(struct target *t)
{
	if (!maps_module(t, ready))
		return;
	if ((ready->runtime == ours || ready->state == MODULE_DATA) && t->maps_fd >= 0)
		target_read_maps(t, false); /* its data may be read now, too */
	else
		target_code_changed(t);
}

static void module_ready(struct module *m)
{
	ready = m;
	if (m->runtime != RUNTIME_NONE || m->state == MODULE_DATA)
		targets_each(tell_of_ready);
}

void target_runtime_init(struct kit *k, const struct runtime *runtime)
{
	kit = k;
	ours = runtime->id;
	prepare = runtime->prepare;
	modules_on_ready(module_ready);
}
