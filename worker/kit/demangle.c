/* Readable names by libiberty. A few hundred hostile bytes can stand for a name of terabytes (substitutions that
 * double), so output is taken through libiberty's callbacks, which keep all they need on the stack, and once it is long
 * enough the demangler is left by longjmp: there is no other way to stop it. */
#include "kit/symbols.h"

#include <libiberty/demangle.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum {
	OUTPUT_MAX = 512,         /* bytes of a readable name; longer ones end in "..." */
	CONVERSIONS_MAX = 8,      /* levels; each doubles the time, which is a microsecond for the first */
	PACK_REFERENCES_MAX = 30, /* 3^10 steps of a search, which may be repeated some hundred times */
	HASH_DIGITS_MIN = 8,      /* of 64 bits in base 62: 11 most often */
	LIFETIME_DIGITS_MAX = 1,  /* in base 62; code has one or two lifetimes there */
};

struct output {
	char text[OUTPUT_MAX + 1];
	size_t len;
	jmp_buf full;
};

static bool is_ascii(const char *text, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (text[i] & 0x80)
			return false;
	return true;
}

static void take(const char *text, size_t n, void *arg)
{
	struct output *out = arg;
	size_t room = OUTPUT_MAX - out->len;
	if (!n) /* then there may be no text either */
		return;
	memcpy(out->text + out->len, text, n < room ? n : room);
	out->len += n < room ? n : room;
	if (n <= room)
		return;
	memcpy(out->text + OUTPUT_MAX - 3, "...", 3);
	/* libiberty holds memory only while it prints a Rust identifier that was in punycode, hence not ASCII. It would
	 * be lost by leaving there; the next piece is a separator. */
	if (is_ascii(text, n))
		longjmp(out->full, 1);
}

typedef int demangler(const char *mangled, int options, demangle_callbackref callback, void *arg);

static bool run(demangler *demangle, const char *mangled, int options, struct output *out)
{
	out->len = 0;
	if (setjmp(out->full) == 0 && !demangle(mangled, options, take, out))
		return false;
	out->text[out->len] = '\0';
	return out->len > 0;
}

/* References to what was said before: "S_", "S1A_" (substitutions) and "T_", "T0_" (template parameters). `kinds`:
 * their first letters; `next`: only those before this byte, 0 for all. */
static size_t count_references(const char *mangled, const char *kinds, char next)
{
	size_t n = 0;
	for (const char *p = mangled; (p = strpbrk(p, kinds));) {
		p += 1 + strspn(p + 1, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ");
		n += p[0] == '_' && (!next || p[1] == next);
	}
	return n;
}

/* C++ names over which libiberty (2.40) stays for hours without a word to the callback, or follows a null pointer. */
static bool is_harmful_cxx(const char *mangled)
{
	/* In the type of a conversion, "cv", the arguments of a template parameter, "T_I", are read twice at each
	 * level. */
	if (strstr(mangled, "cv") && count_references(mangled, "T", 'I') > CONVERSIONS_MAX)
		return true;
	/* A search for parameter packs goes through all that references lead to, as often as they do. Three references
	 * in each level are the worst. */
	bool packs = strstr(mangled, "Dp"), sizes = strstr(mangled, "sZ") || strstr(mangled, "sP");
	if ((packs || sizes) && count_references(mangled, "ST", 0) > PACK_REFERENCES_MAX)
		return true;
	/* Template parameters of a lambda's own are looked up where there are none. */
	const char *lambda = strstr(mangled, "Ul");
	if (lambda && sizes)
		return true;
	for (; lambda; lambda = strstr(lambda + 1, "Ul"))
		if (lambda[2] == 'T' && lambda[3] && strchr("ynpt", lambda[3]))
			return true;
	return false;
}

static const char base62[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

/* "FG" or "DG" and a number in base 62: so many lifetimes, counted one by one even where nothing is printed. */
static bool is_harmful_rust(const char *mangled)
{
	for (const char *p = mangled; (p = strchr(p, 'G')); p++)
		if (p > mangled && (p[-1] == 'F' || p[-1] == 'D') && strspn(p + 1, base62) > LIFETIME_DIGITS_MAX)
			return true;
	return false;
}

/* A crate's hash, "Cs<hash>_<length of its name>", has a "DG" now and then. It is not shown: any other will do. */
static void mask_hashes(char *mangled)
{
	for (char *p = mangled; (p = strstr(p, "Cs")); p++) {
		size_t digits = strspn(p + 2, base62);
		const char *end = p + 2 + digits;
		if (digits >= HASH_DIGITS_MIN && end[0] == '_' && end[1] >= '0' && end[1] <= '9')
			memset(p + 2, 'a', digits);
	}
}

static bool demangle_rust(char *mangled, struct output *out)
{
	if (is_harmful_rust(mangled))
		mask_hashes(mangled);
	return !is_harmful_rust(mangled) && run(rust_demangle_callback, mangled, DMGL_NO_OPTS, out);
}

/* Rust's older mangling is one of C++, with a hash at the end. */
static bool demangle_cxx(const char *mangled, struct output *out)
{
	return run(rust_demangle_callback, mangled, DMGL_NO_OPTS, out) ||
	       (!is_harmful_cxx(mangled) && run(cplus_demangle_v3_callback, mangled, DMGL_ANSI, out));
}

char *symbols_demangle(const char *name)
{
	char mangled[SYMBOL_NAME_MAX + 1];
	struct output out;
	bool rust = strncmp(name, "_R", 2) == 0;
	if ((!rust && strncmp(name, "_Z", 2) != 0) || strnlen(name, sizeof(mangled)) == sizeof(mangled))
		return NULL;
	/* "NAME@plt" is ours. */
	size_t len = strcspn(name, "@");
	memcpy(mangled, name, len);
	mangled[len] = '\0';
	if (rust ? !demangle_rust(mangled, &out) : !demangle_cxx(mangled, &out))
		return NULL;

	size_t suffix = strlen(name + len);
	char *readable = malloc(out.len + suffix + 1);
	if (!readable)
		return NULL;
	memcpy(readable, out.text, out.len);
	memcpy(readable + out.len, name + len, suffix + 1);
	return readable;
}
