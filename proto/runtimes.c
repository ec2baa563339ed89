#include "proto/runtimes.h"

#include <stddef.h>

const char *runtime_name(enum runtime_id id)
{
	static const char *const names[RUNTIME_MAX] = {
		[RUNTIME_NONE] = "native",
#define RUNTIME(name, number, symbol, section, file) [number] = #name,
#include "proto/runtimes.def"
#undef RUNTIME
	};
	return (unsigned)id < RUNTIME_MAX ? names[id] : NULL;
}

const char *runtime_file(enum runtime_id id)
{
	static const char *const files[RUNTIME_MAX] = {
#define RUNTIME(name, number, symbol, section, file) [number] = file,
#include "proto/runtimes.def"
#undef RUNTIME
	};
	return (unsigned)id < RUNTIME_MAX ? files[id] : NULL;
}
