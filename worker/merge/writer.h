/* A buffered writer to a lent file, from its beginning, with or without gzip. The first error stays and is what
 * writer_close() returns, so encoders need not look at every line. System calls: pwrite64, ftruncate. */
#ifndef MERGE_WRITER_H
#define MERGE_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <zlib.h>

enum { WRITER_BUFFER_BYTES = 32 << 10 };

struct writer {
	int fd; /* borrowed */
	int error;
	bool gzip;
	uint64_t written; /* bytes in the file */
	size_t n;         /* bytes in plain */
	z_stream z;
	uint8_t plain[WRITER_BUFFER_BYTES], packed[WRITER_BUFFER_BYTES];
};

void writer_open(struct writer *w, int fd, bool gzip);
void writer_put(struct writer *w, const void *data, size_t n);
void writer_text(struct writer *w, const char *text);
__attribute__((format(printf, 2, 3))) void writer_printf(struct writer *w, const char *format, ...);
/* Writes what is left and cuts the file there (a worker that died may have left a longer one). 0 or the first -errno.
 */
int writer_close(struct writer *w);

#endif
