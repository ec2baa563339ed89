#include "merge/meta.h"

#include <string.h>

const char *meta_missing_line(const char **at, char out[static ESCAPE_MAX])
{
	if (!*at)
		return NULL;
	*at += strspn(*at, "\n");
	size_t n = strcspn(*at, "\n");
	if (!n)
		return NULL;
	escape_text(out, ESCAPE_MAX, *at, n);
	*at += n;
	return out;
}
