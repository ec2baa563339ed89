#include "sampler/sampler.h"

static struct routes *routes;

bool route_init(int fd)
{
	routes = routes_open(fd);
	return routes;
}

void route_follow_only(void)
{
	atomic_store(&routes->only, 1);
}

void route_follow(uint32_t pid)
{
	routes_set(routes, RUNTIME_NONE, pid, true);
}

bool route_follows(uint32_t pid)
{
	return !routes->only || (pid && routes_bit(routes, RUNTIME_NONE, pid));
}

enum runtime_id route_of(uint32_t pid)
{
	for (unsigned id = RUNTIME_NONE + 1; id < RUNTIME_MAX; id++)
		if (runtime_name((enum runtime_id)id) && routes_bit(routes, id, pid))
			return (enum runtime_id)id;
	return RUNTIME_NONE;
}

void route_set(uint32_t pid, enum runtime_id runtime)
{
	for (unsigned id = RUNTIME_NONE + 1; id < RUNTIME_MAX; id++)
		if (runtime_name((enum runtime_id)id))
			routes_set(routes, id, pid, id == runtime);
	if (runtime != RUNTIME_NONE && pid > atomic_load(&routes->highest))
		atomic_store(&routes->highest, pid);
}

/* The last execs: whose, and when. A fork that is heard of after its child's exec must not undo it. */
enum { EXECS = 1024 };
static struct {
	_Atomic uint32_t pid;
	_Atomic uint64_t time;
} execs[EXECS];

static bool has_execed_since(uint32_t pid, uint64_t time)
{
	return atomic_load(&execs[pid % EXECS].pid) == pid && atomic_load(&execs[pid % EXECS].time) >= time;
}

void route_exec(uint32_t pid, uint64_t time)
{
	atomic_store(&execs[pid % EXECS].time, time);
	atomic_store(&execs[pid % EXECS].pid, pid);
	route_set(pid, RUNTIME_NONE);
}

/* A bit is cleared when its pid is born again elsewhere, not at exit: threads may outlive their leader. */
void route_fork(uint32_t parent, uint32_t child, uint64_t time)
{
	if (routes->only)
		routes_set(routes, RUNTIME_NONE, child, route_follows(parent));
	if (has_execed_since(child, time))
		return;
	route_set(child, route_of(parent));
	if (has_execed_since(child, time)) /* meanwhile, on another CPU */
		route_set(child, RUNTIME_NONE);
}

size_t route_list(enum runtime_id runtime, uint32_t *from, uint32_t *pids, size_t max)
{
	uint32_t highest = atomic_load(&routes->highest);
	size_t n = 0;
	for (; *from <= highest && n < max; ++*from)
		if (routes_bit(routes, runtime, *from))
			pids[n++] = *from;
	return n;
}
