/* Loads and unloads two plugins in turn, which come to lie at the same addresses: a profiler that keeps old mappings
 * names one for the other. Chains: main; use_a; use; plugin_entry_a; plugin_work_a, the same with b, and the loader
 * below use. */
#include "workload.h"

#include <dlfcn.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

static char directory[PATH_MAX];

static NOINLINE void use(const char *name, const char *entry)
{
	char path[PATH_MAX + 32];
	snprintf(path, sizeof path, "%s/%s.so", directory, name);
	void *plugin = dlopen(path, RTLD_NOW);
	if (!plugin)
		abort();
	void (*call)(void) = (void (*)(void))dlsym(plugin, entry);
	if (!call)
		abort();
	for (int i = 0; i < 40; i++)
		call();
	dlclose(plugin);
}

static NOINLINE void use_a(void)
{
	use("plugin_a", "plugin_entry_a");
	STAYS_ON_THE_STACK();
}

static NOINLINE void use_b(void)
{
	use("plugin_b", "plugin_entry_b");
	STAYS_ON_THE_STACK();
}

int main(int argc, char **argv)
{
	workload_begin(argc, argv);
	char path[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
	if (n < 0)
		abort();
	path[n] = 0;
	snprintf(directory, sizeof directory, "%s", dirname(path));
	while (!workload_done) {
		use_a();
		use_b();
	}
	return 0;
}
