/* Answers of the status socket: what is refused before it is unpacked, and what becomes of the rest as JSON. */
#include "ctl/json.h"
#include "ctl/pack.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void becomes(const void *data, size_t n, const char *expected)
{
	msgpack_unpacked tree;
	struct buf out = { 0 };
	assert_int_equal(pack_unpack(data, n, &tree), 0);
	json_put(&out, &tree.data);
	assert_false(out.failed);
	buf_put_u8(&out, 0);
	assert_string_equal((char *)out.data, expected);
	buf_free(&out);
	msgpack_unpacked_destroy(&tree);
}

#define BECOMES(bytes, expected) becomes(bytes, sizeof(bytes) - 1, expected)

static void every_type_has_its_json(void **state)
{
	(void)state;
	BECOMES("\xc0", "null");
	BECOMES("\xc2", "false");
	BECOMES("\xc3", "true");
	BECOMES("\x07", "7");
	BECOMES("\xff", "-1");
	BECOMES("\xcf\xff\xff\xff\xff\xff\xff\xff\xff", "18446744073709551615");
	BECOMES("\xd3\x80\x00\x00\x00\x00\x00\x00\x00", "-9223372036854775808");
	BECOMES("\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00", "1.5");
	BECOMES("\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00", "null");
	BECOMES("\xa0", "\"\"");
	BECOMES("\xc4\x02xy", "\"xy\"");
	BECOMES("\x90", "[]");
	BECOMES("\x80", "{}");
	BECOMES("\x92\x01\x81\xa1k\x91\x02", "[\n  1,\n  {\n    \"k\": [\n      2\n    ]\n  }\n]");
	BECOMES("\x81\x05\x06", "{\n  \"5\": 6\n}");
	BECOMES("\xd4\x01z", "null");
}

static void strings_stay_strings_whatever_is_in_them(void **state)
{
	(void)state;
	BECOMES("\xa5"
		"a\"\\\n\t",
		"\"a\\\"\\\\\\u000a\\u0009\"");
	BECOMES("\xa4\x1b[0m", "\"\\u001b[0m\"");
	BECOMES("\xa3\xff\xc3\x28", "\"\\ufffd\\ufffd(\"");
	BECOMES("\xa3\xe2\x80\xae", "\"\\u202e\"");
	BECOMES("\xa4\xf3\xa0\x81\x81", "\"\\udb40\\udc41\"");
	BECOMES("\xa4\xf0\x9f\x9a\xa2", "\"\xf0\x9f\x9a\xa2\"");
	BECOMES("\xa2\xf0\x9f", "\"\\ufffd\\ufffd\"");
	BECOMES("\xa1\0", "\"\\u0000\"");
}

static void refused(const void *data, size_t n)
{
	msgpack_unpacked tree;
	assert_int_equal(pack_unpack(data, n, &tree), -EBADMSG);
}

#define REFUSED(bytes) refused(bytes, sizeof(bytes) - 1)

static void counts_that_the_bytes_cannot_hold_are_refused(void **state)
{
	(void)state;
	REFUSED("");
	REFUSED("\xc1");
	REFUSED("\x91");
	REFUSED("\x81\x01");
	REFUSED("\xa5xxxx");
	REFUSED("\xdd\xff\xff\xff\xff\x01"); /* an array of 2^32: 100 GB for msgpack-c */
	REFUSED("\xdf\xff\xff\xff\xff\x01");
	REFUSED("\xdf\x80\x00\x00\x00\x01"); /* twice the count is 2^32 */
	REFUSED("\xdb\xff\xff\xff\xff");
	REFUSED("\xc6\xff\xff\xff\xff");
	REFUSED("\xc9\xff\xff\xff\xff\x01");
	REFUSED("\xdc\x00");
	REFUSED("\xcf\x01\x02");
	REFUSED("\xd8\x01");
	REFUSED("\x01\x01"); /* two values */
}

static void nesting_is_bounded(void **state)
{
	(void)state;
	uint8_t data[PACK_MAX_DEPTH + 2];
	memset(data, 0x91, sizeof data);
	data[PACK_MAX_DEPTH] = 1;
	assert_int_equal(pack_check(data, PACK_MAX_DEPTH + 1), 0);
	data[PACK_MAX_DEPTH] = 0x91;
	data[PACK_MAX_DEPTH + 1] = 1;
	assert_int_equal(pack_check(data, PACK_MAX_DEPTH + 2), -EBADMSG);
}

static void the_check_agrees_with_msgpack(void **state)
{
	(void)state;
	/* every first byte, with enough behind it to be complete or not at each length */
	for (unsigned type = 0; type < 256; type++) {
		for (size_t n = 1; n <= 40; n++) {
			uint8_t data[40] = { (uint8_t)type };
			if (type >= 0xc4 && type <= 0xdf)
				data[1] = 0; /* lengths of 0, or of what the third byte says */
			msgpack_unpacked tree;
			msgpack_unpacked_init(&tree);
			size_t at = 0;
			bool whole =
				msgpack_unpack_next(&tree, (char *)data, n, &at) == MSGPACK_UNPACK_SUCCESS && at == n;
			msgpack_unpacked_destroy(&tree);
			if (whole != !pack_check(data, n))
				fail_msg("type %02x, %zu bytes: msgpack %d", type, n, whole);
		}
	}
}

static void missing_keys_are_nothing(void **state)
{
	(void)state;
	msgpack_unpacked tree;
	char text[32];
	static const char bytes[] = "\x83\xa1n\x07\xa1s\xa2h\n\xa1"
				    "b\xc3";
	assert_int_equal(pack_unpack((const uint8_t *)bytes, sizeof bytes - 1, &tree), 0);
	assert_int_equal(pack_u64(&tree.data, "n", 1), 7);
	assert_int_equal(pack_u64(&tree.data, "s", 1), 1);
	assert_int_equal(pack_u64(&tree.data, "x", 1), 1);
	assert_int_equal(pack_u64(NULL, "x", 1), 1);
	assert_true(pack_bool(&tree.data, "b", false));
	assert_null(pack_get(pack_get(&tree.data, "n"), "deeper"));
	assert_string_equal(pack_text(&tree.data, "s", text, sizeof text), "h\\x0a");
	assert_string_equal(pack_text(&tree.data, "n", text, sizeof text), "");
	assert_string_equal(pack_show(&tree.data, text, sizeof text), "n 7, s h\\x0a, b yes");
	assert_string_equal(pack_show(&tree.data, text, 8), "n 7, s ");
	msgpack_unpacked_destroy(&tree);
}

static void an_empty_key_has_no_address(void **state)
{
	(void)state;
	msgpack_unpacked tree;
	static const char bytes[] = "\x82\xa0\x07\xa1"
				    "b\xa0";
	char text[8] = "x";
	assert_int_equal(pack_unpack((const uint8_t *)bytes, sizeof bytes - 1, &tree), 0);
	assert_int_equal(pack_u64(&tree.data, "", 1), 7);
	assert_string_equal(pack_text(&tree.data, "b", text, sizeof text), "");
	becomes(bytes, sizeof bytes - 1, "{\n  \"\": 7,\n  \"b\": \"\"\n}");
	msgpack_unpacked_destroy(&tree);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_type_has_its_json),
		cmocka_unit_test(strings_stay_strings_whatever_is_in_them),
		cmocka_unit_test(counts_that_the_bytes_cannot_hold_are_refused),
		cmocka_unit_test(nesting_is_bounded),
		cmocka_unit_test(the_check_agrees_with_msgpack),
		cmocka_unit_test(missing_keys_are_nothing),
		cmocka_unit_test(an_empty_key_has_no_address),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
