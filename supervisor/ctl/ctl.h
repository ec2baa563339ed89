/* `bulkhead`, the operator's command: what its files share. It runs with the rights of whoever typed it, holds nothing
 * of the supervisor's, and believes neither the status socket nor a summary: sizes are capped, text is escaped before a
 * terminal sees it. */
#ifndef CTL_CTL_H
#define CTL_CTL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* EXIT(name, number, words): an interface; also in bulkhead.1 */
#define CTL_EXITS(EXIT)                                                                                                \
	EXIT(OK, 0, "all went well; for status: the service runs and is healthy")                                      \
	EXIT(FAILED, 1, "it failed; standard error says why; for status: no service, or one that is not healthy")      \
	EXIT(USAGE, 2, "wrong arguments")                                                                              \
	EXIT(PERMISSION, 3, "not permitted: root, or a missing capability, or not in the status group")                \
	EXIT(OUTPUT, 4, "an output file could not be written")

enum ctl_exit {
#define EXIT(name, number, words) CTL_##name = number,
	CTL_EXITS(EXIT)
#undef EXIT
};

int record_main(int argc, char **argv);
int status_main(int argc, char **argv);
void record_help(void);
void status_help(void);

/* "bulkhead: ..." on standard error, control bytes escaped. */
__attribute__((format(printf, 1, 2))) void ctl_error(const char *format, ...);

/* "1.5 MiB", "3 d 4 h", "1,234,567": for people. They return `out`. */
struct human {
	char text[32];
};
const char *human_bytes(struct human *out, double bytes);
const char *human_seconds(struct human *out, double seconds);
const char *human_count(struct human *out, uint64_t n);

#endif
