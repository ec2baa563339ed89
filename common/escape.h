/* The one choke point for names that a target can choose (comm, symbol, file, container): what leaves here is valid
 * UTF-8 without control bytes and without ';', so it fits a log line, a terminal and a folded stack. */
#ifndef COMMON_ESCAPE_H
#define COMMON_ESCAPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Longest escaped name, in bytes with the final NUL; longer ones are cut at a character and end in "...". */
enum { ESCAPE_MAX = 1024 };

/* Writes the escaped form of the n bytes at `in` to `out` (size bytes, at least 8). ';' becomes ':'; control bytes
 * (also C1 and DEL, bidirectional overrides, line separators) and bytes that are not UTF-8 become \xHH. Returns its
 * length. */
size_t escape_name(char *out, size_t size, const void *in, size_t n);

/* The same for a whole log line or message: ';' stays. */
size_t escape_text(char *out, size_t size, const void *in, size_t n);

/* Length of the well-formed UTF-8 character at p (1 to 4), 0 when there is none (RFC 3629: no overlong forms, no
 * surrogates, at most U+10FFFF); its code point in *ret. n is at least 1. */
size_t utf8_char(const uint8_t *p, size_t n, uint32_t *ret);
/* Characters that move the cursor, end a line, or hide or reorder what a reader sees. */
bool utf8_harmful(uint32_t c);

#endif
