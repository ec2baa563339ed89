/* Readable names, and names made to exhaust the demangler. */
#include "kit/symbols.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "common/cleanup.h"

#include <stdint.h>
#include <string.h>
#include <time.h>

enum { READABLE_MAX = 512 };

static void expect(const char *mangled, const char *readable)
{
	cleanup_free char *name = symbols_demangle(mangled);
	assert_non_null(name);
	assert_string_equal(name, readable);
}

static void cxx_names_have_no_parameters(void **state)
{
	(void)state;
	expect("_ZN2ns5klass6methodEiPKc", "ns::klass::method");
	expect("_ZNK2ns5klass6methodEv", "ns::klass::method");
	expect("_ZSt4moveIRSsEONSt16remove_referenceIT_E4typeEOS2_", "std::move<std::string&>");
	expect("_ZN12_GLOBAL__N_13fooEv", "(anonymous namespace)::foo");
	expect("_ZN3fooC2Ei", "foo::foo");
	expect("_ZlsRSoRK3foo", "operator<<");
}

static void clones_and_stubs_keep_their_suffix(void **state)
{
	(void)state;
	expect("_ZN3foo3barEv.cold", "foo::bar");
	expect("_Znwm@plt", "operator new@plt");
}

static void rust_names_have_no_hash(void **state)
{
	(void)state;
	expect("_ZN3foo3bar17h0123456789abcdefE", "foo::bar");
	expect("_ZN3foo3bar17h0123456789abcdefE.llvm.1234567", "foo::bar");
	expect("_RINvNtC3std3mem8align_ofdE", "std::mem::align_of::<f64>");
	expect("_RNvNtCs1234_7mycrateu8gdel_5qa3foo", "mycrate::g\xc3\xb6"
						      "del::foo");
}

static void other_names_are_left_alone(void **state)
{
	(void)state;
	static const char *const names[] = { "", "_", "main", "_Z", "_R", "_ZN", "_Read", "Z", "runtime.main",
		"_ZNfooE", "@plt", "_Z@", "__libc_start_main" };
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		assert_null(symbols_demangle(names[i]));
	char name[SYMBOL_NAME_MAX + 2];
	memset(name, 'a', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	memcpy(name, "_Z997", 5);
	assert_null(symbols_demangle(name));
}

static void long_names_are_cut(void **state)
{
	(void)state;
	char name[SYMBOL_NAME_MAX + 1], body[901];
	memset(body, 'x', 900);
	body[900] = '\0';
	snprintf(name, sizeof(name), "_ZN900%s1yEv", body);
	cleanup_free char *readable = symbols_demangle(name);
	assert_non_null(readable);
	assert_int_equal(strlen(readable), READABLE_MAX);
	assert_string_equal(readable + READABLE_MAX - 3, "...");
}

static double seconds(void)
{
	struct timespec t;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Each template argument is twice the one before: 2^60 names. */
static void doubling_substitutions_end_early(void **state)
{
	(void)state;
	char name[SYMBOL_NAME_MAX + 1] = "_Z1fI1aIiiE";
	size_t n = strlen(name);
	static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";
	for (int i = 1; i < 60; i++) {
		int of = i * 1 - 1;
		char id[8] = "";
		if (of > 36)
			snprintf(id, sizeof(id), "1%c", digits[of - 37]);
		else if (of > 0)
			snprintf(id, sizeof(id), "%c", digits[of - 1]);
		n += (size_t)snprintf(name + n, sizeof(name) - n, "1bIS%s_S%s_E", id, id);
	}
	snprintf(name + n, sizeof(name) - n, "Evv");
	double begin = seconds();
	cleanup_free char *readable = symbols_demangle(name);
	assert_true(seconds() - begin < 0.5);
	assert_true(!readable || strlen(readable) <= READABLE_MAX);
}

static void put_base62(char *out, size_t size, size_t value)
{
	static const char digits[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
	if (!value)
		snprintf(out, size, "_");
	else if (value <= 62)
		snprintf(out, size, "%c_", digits[value - 1]);
	else
		snprintf(out, size, "%c%c_", digits[(value - 1) / 62], digits[(value - 1) % 62]);
}

/* f::<X0, (X0, X0), ...> by back references, each tuple twice the one before; also with an identifier in punycode. */
static void doubling_references_end_early(void **state)
{
	(void)state;
	static const char *const first[] = { "Ni1c1s", "NtC1cu8gdel_5qa" };
	for (size_t k = 0; k < 2; k++) {
		char name[SYMBOL_NAME_MAX + 1] = "_RINvC1c1f";
		size_t n = strlen(name), at = n - 2;
		n += (size_t)snprintf(name + n, sizeof(name) - n, "%s", k ? first[1] : "NtC1c1s");
		for (int i = 0; i < 50; i++) {
			char reference[8];
			put_base62(reference, sizeof(reference), at);
			at = n - 2;
			n += (size_t)snprintf(name + n, sizeof(name) - n, "TB%sB%sE", reference, reference);
		}
		snprintf(name + n, sizeof(name) - n, "E");
		double begin = seconds();
		cleanup_free char *readable = symbols_demangle(name);
		assert_true(seconds() - begin < 0.5);
		assert_non_null(readable);
		assert_int_equal(strlen(readable), READABLE_MAX);
	}
}

/* libiberty reads the arguments of such a conversion twice, and those in them four times ... */
static void nested_conversions_end_early(void **state)
{
	(void)state;
	for (size_t depth = 1; depth < 50; depth++) {
		char name[SYMBOL_NAME_MAX + 1] = "";
		for (size_t i = 0; i < depth; i++)
			strcat(name, "_ZN1acvT_IL");
		strcat(name, "_Z1gv");
		for (size_t i = 0; i < depth; i++)
			strcat(name, "EEEv");
		double begin = seconds();
		cleanup_free char *readable = symbols_demangle(name);
		assert_true(seconds() - begin < 0.5);
		assert_true(!readable == (depth > 8));
	}
	char name[SYMBOL_NAME_MAX + 1] = "_Zcv";
	for (size_t i = 0; i < 60; i++)
		strcat(name, "DpT_II");
	double begin = seconds();
	assert_null(symbols_demangle(name));
	assert_true(seconds() - begin < 0.5);
}

static void base36(char *out, size_t size, size_t value)
{
	static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";
	if (value < 36)
		snprintf(out, size, "%c", digits[value]);
	else
		snprintf(out, size, "%c%c", digits[value / 36], digits[value % 36]);
}

/* A type that doubles, which is read but not printed, and then a search for parameter packs in it. */
static void a_search_for_packs_ends_early(void **state)
{
	(void)state;
	for (size_t depth = 1; depth < 48; depth++) {
		char name[SYMBOL_NAME_MAX + 1] = "_ZN1aCI11zI1bIiiE", id[4];
		for (size_t i = 0; i <= depth; i++) {
			base36(id, sizeof(id), 2 + 2 * i);
			size_t n = strlen(name);
			snprintf(name + n, sizeof(name) - n, i < depth ? "1cIS%s_S%s_E" : "EIDpS%s_EEv", id, id);
		}
		double begin = seconds();
		cleanup_free char *readable = symbols_demangle(name);
		assert_true(seconds() - begin < 0.5);
		assert_true(!readable == (depth > 14));
	}
}

static void lambda_parameters_that_are_not_there(void **state)
{
	(void)state;
	assert_null(symbols_demangle("_ZZ1fI1bIEEK1_1cIXsZT_EEEUlS5_E_"));
	expect("_ZZ4mainENKUlDpT_E_clIJiiEEEDaS0_", "main::{lambda((auto:1)...)#1}::operator()<int, int>");
}

/* A function pointer with 839,299,365,868,340,224 lifetimes, in a path that is read but not printed. */
static void many_lifetimes_end_early(void **state)
{
	(void)state;
	double begin = seconds();
	assert_null(symbols_demangle("_RNvC1a1fIC1bFGzzzzzzzzzz_EuE"));
	assert_null(symbols_demangle("_RNvMIC1bDGzzzzzzzzzz_EL_El1f"));
	assert_true(seconds() - begin < 0.5);
	expect("_RINvC1a1fFG_RL0_lEuE", "a::f::<for<'a> fn(&'a i32)>");
	expect("_RNvCsjDGzQqb8aDj_1a1f", "a::f");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cxx_names_have_no_parameters),
		cmocka_unit_test(clones_and_stubs_keep_their_suffix),
		cmocka_unit_test(rust_names_have_no_hash),
		cmocka_unit_test(other_names_are_left_alone),
		cmocka_unit_test(long_names_are_cut),
		cmocka_unit_test(doubling_substitutions_end_early),
		cmocka_unit_test(doubling_references_end_early),
		cmocka_unit_test(nested_conversions_end_early),
		cmocka_unit_test(many_lifetimes_end_early),
		cmocka_unit_test(a_search_for_packs_ends_early),
		cmocka_unit_test(lambda_parameters_that_are_not_there),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
