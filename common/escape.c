#include "common/escape.h"

#include <stdio.h>
#include <string.h>

size_t utf8_char(const uint8_t *p, size_t n, uint32_t *ret)
{
	if (p[0] < 0x80) {
		*ret = p[0];
		return 1;
	}
	size_t len = p[0] >= 0xc2 && p[0] <= 0xdf   ? 2
		     : (p[0] & 0xf0) == 0xe0        ? 3
		     : p[0] >= 0xf0 && p[0] <= 0xf4 ? 4
						    : 0;
	if (!len || len > n)
		return 0;
	uint32_t c = p[0] & (0x7fU >> len);
	for (size_t i = 1; i < len; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (p[i] & 0x3f);
	}
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	if (c < least[len] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
		return 0;
	*ret = c;
	return len;
}

/* Unicode's controls and separators of lines (Cc, Zl, Zp), and of what it calls formats (Cf) all that have no shape of their own. */
bool utf8_harmful(uint32_t c)
{
	static const struct {
		uint32_t first, last;
	} ranges[] = { { 0, 0x1f }, { 0x7f, 0x9f }, { 0xad, 0xad }, { 0x61c, 0x61c }, { 0x180e, 0x180e },
		{ 0x200b, 0x200f }, { 0x2028, 0x202e }, { 0x2060, 0x206f }, { 0xfeff, 0xfeff }, { 0xfff9, 0xfffb },
		{ 0x13430, 0x1343f }, { 0x1bca0, 0x1bca3 }, { 0x1d173, 0x1d17a },
		{ 0xe0000, 0xe0fff } /* tags, and selectors that can hide a text */ };
	for (size_t i = 0; i < sizeof ranges / sizeof *ranges && c >= ranges[i].first; i++)
		if (c <= ranges[i].last)
			return true;
	return false;
}

static size_t escape(char *out, size_t size, const void *in, size_t n, bool separators)
{
	const uint8_t *p = in;
	size_t at = 0, safe = 0; /* safe: longest prefix that leaves room for "..." */
	for (size_t i = 0; i < n;) {
		uint32_t c = 0;
		size_t len = utf8_char(p + i, n - i, &c);
		char piece[20];
		size_t piece_len = 0;
		if (len && !utf8_harmful(c)) {
			memcpy(piece, p + i, len);
			piece_len = len;
			if (separators && c == ';')
				piece[0] = ':';
		} else {
			if (!len)
				len = 1;
			for (size_t k = 0; k < len; k++)
				piece_len += (size_t)snprintf(
					piece + piece_len, sizeof piece - piece_len, "\\x%02x", p[i + k]);
		}
		if (at + piece_len >= size) {
			memcpy(out + safe, "...", 4);
			return safe + 3;
		}
		memcpy(out + at, piece, piece_len);
		at += piece_len;
		i += len;
		if (at + 4 <= size)
			safe = at;
	}
	out[at] = 0;
	return at;
}

size_t escape_name(char *out, size_t size, const void *in, size_t n)
{
	return escape(out, size, in, n, true);
}

size_t escape_text(char *out, size_t size, const void *in, size_t n)
{
	return escape(out, size, in, n, false);
}
