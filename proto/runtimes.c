#include "proto/runtimes.h"

#include <stddef.h>

const char *runtime_name(enum runtime_id id)
{
	static const char *const names[RUNTIME_MAX] = {
		[RUNTIME_NONE] = "native",
#define RUNTIME(name, number, symbol, section) [number] = #name,
#include "proto/runtimes.def"
#undef RUNTIME
	};
	return (unsigned)id < RUNTIME_MAX ? names[id] : NULL;
}
