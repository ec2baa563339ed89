/* bulkhead.conf from memory: no crash, and an error of the file is always told with its line. */
#include "config.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct config c;
	char *text = NULL;
	size_t size = 0;
	config_defaults(&c);
	FILE *errors = open_memstream(&text, &size);
	int err = config_parse(&c, "f", (const char *)data, n, errors);
	fclose(errors);
	if (!err != !size || (size && (strncmp(text, "f:", 2) || text[size - 1] != '\n')))
		abort();
	if (!err && (!c.directory || c.interval_ns <= 0 || c.deadline_ns <= 0 || c.frequency < 1 || c.frequency > 1000))
		abort();
	free(text);
	config_free(&c);
	return 0;
}
