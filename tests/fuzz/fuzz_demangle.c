/* Any string as a mangled name: the answer is bounded, and nothing is lost. */
#include "kit/symbols.h"

#include <stdlib.h>
#include <string.h>

enum { READABLE_MAX = 512 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *name = malloc(size + 1);
	if (!name)
		abort();
	memcpy(name, data, size);
	name[size] = '\0';
	char *readable = symbols_demangle(name);
	if (readable && strlen(readable) > READABLE_MAX + size)
		abort();
	free(readable);
	free(name);
	return 0;
}
