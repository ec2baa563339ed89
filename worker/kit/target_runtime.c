/* Which processes carry a runtime, told to the supervisor by native; and which a runtime's worker takes. */
#include "kit/target_parts.h"

#include "common/clock.h"

#include <string.h>

enum {
	FOUND_BATCH = 128, /* processes in one FOUND or TAKE */
	AGAIN_S = 10,      /* until what nobody has taken is told of again; then twice as long each time, up to... */
	AGAIN_LAST_S = 10 * 60,
};

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

static uint64_t found_pids[RUNTIME_MAX][FOUND_BATCH], taken_pids[2][FOUND_BATCH];
static size_t nfound[RUNTIME_MAX], ntaken[2];

static void tell_found(enum runtime_id id)
{
	if (nfound[id] && kit)
		(void)channel_send(
			&kit->channel, MSG_FOUND, -1, (uint64_t)id, (const uint64_t *)found_pids[id], nfound[id]);
	nfound[id] = 0;
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
	for (unsigned id = RUNTIME_NONE + 1; id < RUNTIME_MAX; id++)
		tell_found((enum runtime_id)id);
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

static void tell_of(struct target *t, int64_t now)
{
	enum runtime_id id = t->found;
	if (nfound[id] == FOUND_BATCH)
		tell_found(id);
	found_pids[id][nfound[id]++] = t->pid;
	t->tell_again_ns = now + t->tell_pause_ns;
	t->tell_pause_ns *= t->tell_pause_ns < AGAIN_LAST_S * NS_PER_S ? 2 : 1;
}

static void found(struct target *t, enum runtime_id id)
{
	if (t->found != RUNTIME_NONE)
		return;
	t->found = id;
	t->tell_pause_ns = AGAIN_S * NS_PER_S;
	tell_of(t, monotonic_ns());
}

/* A runtime's worker may not have been there, or not have got what it asked for. What it takes leaves us. */
bool target_tell_again(struct target *t, int64_t now)
{
	if (t->found == RUNTIME_NONE || t->ended_ns || t->tell_again_ns > now)
		return false;
	tell_of(t, now);
	return true;
}

static void tell_soon(struct target *t)
{
	t->tell_again_ns = 0;
	t->tell_pause_ns = AGAIN_S * NS_PER_S;
}

void targets_tell_soon(void)
{
	targets_each(tell_soon);
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
