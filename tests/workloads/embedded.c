/* A program with a name of its own that has Python inside: embedded LIBPYTHON SCRIPT [ARGUMENT]... loads the library, as a plugin's host
 * does, and runs the script. Chain: main; run_script; (libpython's own); <module>; what the script does. */
#include "workload.h"

#include <dlfcn.h>
#include <stdio.h>
#include <wchar.h>

enum { ARGUMENTS_MAX = 16 };

static void *library;

static void *symbol(const char *name)
{
	void *found = dlsym(library, name);
	if (!found) {
		fprintf(stderr, "%s\n", dlerror());
		exit(3);
	}
	return found;
}

static NOINLINE int run_script(int argc, char **argv)
{
	wchar_t *wide[ARGUMENTS_MAX];
	wchar_t *(*decode)(const char *, size_t *) = (wchar_t * (*)(const char *, size_t *)) symbol("Py_DecodeLocale");
	int (*py_main)(int, wchar_t **) = (int (*)(int, wchar_t **))symbol("Py_Main");
	if (argc > ARGUMENTS_MAX)
		return 2;
	for (int i = 0; i < argc; i++)
		wide[i] = decode(argv[i], NULL);
	int status = py_main(argc, wide);
	STAYS_ON_THE_STACK();
	return status;
}

int main(int argc, char **argv)
{
	if (argc < 3)
		return 2;
	library = dlopen(argv[1], RTLD_NOW | RTLD_GLOBAL);
	if (!library) {
		fprintf(stderr, "%s\n", dlerror());
		return 3;
	}
	argv[1] = argv[0];
	int status = run_script(argc - 1, argv + 1);
	STAYS_ON_THE_STACK();
	return status;
}
