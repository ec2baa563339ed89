/* What a status socket and a merge worker may say to `bulkhead`: an answer as JSON and as tables, and a summary. */
#include "common/buf.h"
#include "ctl/json.h"
#include "ctl/status.h"
#include "ctl/summary.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void answer(const uint8_t *data, size_t n, FILE *out)
{
	msgpack_unpacked tree;
	struct buf json = { 0 };
	if (pack_unpack(data, n, &tree))
		return;
	json_put(&json, &tree.data);
	status_print(&tree.data, out);
	status_print_generic(&tree.data, out);
	buf_free(&json);
	msgpack_unpacked_destroy(&tree);
}

static void summary(const uint8_t *data, size_t n, FILE *out)
{
	static struct summary s;
	char *text = strndup((const char *)data, n);
	summary_parse(&s, text);
	summary_print(&s, out);
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	char *text = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);
	answer(data, n, out);
	summary(data, n, out);
	fclose(out);
	for (size_t i = 0; i < size; i++)
		if ((text[i] > 0 && text[i] < ' ' && text[i] != '\n') || text[i] == 0x7f)
			abort(); /* a terminal would obey it */
	free(text);
	return 0;
}
