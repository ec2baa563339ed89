#include "merge/writer.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
	GZIP_WINDOW = 15 + 16, /* zlib.h: 16 asks for a gzip header, whose time stays 0 */
	GZIP_LEVEL = 6,
	GZIP_MEMORY = 8,   /* zlib's default: 256 KiB */
	PRINTF_MAX = 2048, /* bytes of one writer_printf(); names are shorter */
};

static void write_out(struct writer *w, const uint8_t *data, size_t n)
{
	while (n && !w->error) {
		ssize_t r = pwrite(w->fd, data, n, (off_t)w->written);
		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0) {
			w->error = r ? -errno : -EIO;
			return;
		}
		data += r;
		n -= (size_t)r;
		w->written += (uint64_t)r;
	}
}

static void pack(struct writer *w, int flush)
{
	w->z.next_in = w->plain;
	w->z.avail_in = (uInt)w->n;
	do {
		w->z.next_out = w->packed;
		w->z.avail_out = sizeof w->packed;
		if (deflate(&w->z, flush) == Z_STREAM_ERROR && !w->error)
			w->error = -EIO;
		write_out(w, w->packed, sizeof w->packed - w->z.avail_out);
	} while (!w->z.avail_out && !w->error);
}

static void flush(struct writer *w, bool last)
{
	if (w->gzip && !w->error)
		pack(w, last ? Z_FINISH : Z_NO_FLUSH);
	else
		write_out(w, w->plain, w->n);
	w->n = 0;
}

void writer_open(struct writer *w, int fd, bool gzip)
{
	w->fd = fd;
	w->gzip = gzip;
	w->error = 0;
	w->written = 0;
	w->n = 0;
	w->z = (z_stream) { 0 };
	if (gzip && deflateInit2(&w->z, GZIP_LEVEL, Z_DEFLATED, GZIP_WINDOW, GZIP_MEMORY, Z_DEFAULT_STRATEGY) != Z_OK) {
		w->error = -ENOMEM;
		w->gzip = false;
	}
}

void writer_put(struct writer *w, const void *data, size_t n)
{
	const uint8_t *p = data;
	while (n && !w->error) {
		size_t part = sizeof w->plain - w->n < n ? sizeof w->plain - w->n : n;
		memcpy(w->plain + w->n, p, part);
		w->n += part;
		p += part;
		n -= part;
		if (w->n == sizeof w->plain)
			flush(w, false);
	}
}

void writer_text(struct writer *w, const char *text)
{
	writer_put(w, text, strlen(text));
}

void writer_printf(struct writer *w, const char *format, ...)
{
	char text[PRINTF_MAX];
	va_list args;
	va_start(args, format);
	int n = vsnprintf(text, sizeof text, format, args);
	va_end(args);
	if (n < 0 || (size_t)n >= sizeof text) {
		if (!w->error)
			w->error = -EMSGSIZE;
		return;
	}
	writer_put(w, text, (size_t)n);
}

int writer_close(struct writer *w)
{
	flush(w, true);
	if (w->gzip)
		deflateEnd(&w->z);
	/* EINVAL: not a regular file, nothing to cut. */
	if (!w->error && ftruncate(w->fd, (off_t)w->written) < 0 && errno != EINVAL)
		w->error = -errno;
	return w->error;
}
