#include "proto/stream.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

/* What a handler saw, as text. */
struct seen {
	struct buf text;
};

static int saw_section(void *context)
{
	buf_printf(&((struct seen *)context)->text, "section\n");
	return 0;
}

static int saw_string(void *context, uint32_t id, const uint8_t *bytes, size_t n)
{
	buf_printf(&((struct seen *)context)->text, "string %u %.*s\n", id, (int)n, (const char *)bytes);
	return 0;
}

static int saw_mapping(void *context, uint32_t id, const struct stream_mapping *m)
{
	buf_printf(&((struct seen *)context)->text, "mapping %u %u %u %llx %llx %llx\n", id, m->file, m->build_id,
		(unsigned long long)m->start, (unsigned long long)m->limit, (unsigned long long)m->offset);
	return 0;
}

static int saw_frame(void *context, uint32_t id, const struct stream_frame *f)
{
	buf_printf(&((struct seen *)context)->text, "frame %u %u %u %llx %u %u %u %u\n", id, f->kind, f->mapping,
		(unsigned long long)f->address, f->name, f->file, f->line, f->start_line);
	return 0;
}

static int saw_name(void *context, uint32_t frame, uint32_t name, uint32_t file, uint32_t line, uint32_t start_line)
{
	buf_printf(&((struct seen *)context)->text, "name %u %u %u %u %u\n", frame, name, file, line, start_line);
	return 0;
}

static int saw_task(void *context, uint32_t id, const struct stream_task *t)
{
	buf_printf(&((struct seen *)context)->text, "task %u %u %llu %u %u %u\n", id, t->pid,
		(unsigned long long)t->start_time, t->comm, t->thread, t->container);
	return 0;
}

static int saw_stack(void *context, uint32_t id, const uint32_t *frames, size_t n)
{
	buf_printf(&((struct seen *)context)->text, "stack %u", id);
	for (size_t i = 0; i < n; i++)
		buf_printf(&((struct seen *)context)->text, " %u", frames[i]);
	buf_printf(&((struct seen *)context)->text, "\n");
	return 0;
}

static int saw_sample(void *context, uint32_t task, uint32_t stack, enum counter outcome, uint64_t count)
{
	buf_printf(&((struct seen *)context)->text, "sample %u %u %s %llu\n", task, stack, counter_name(outcome),
		(unsigned long long)count);
	return 0;
}

static int read_all(const struct buf *bytes, struct seen *seen)
{
	struct stream_handler handler = { .context = seen,
		.section = saw_section,
		.string = saw_string,
		.mapping = saw_mapping,
		.frame = saw_frame,
		.name = saw_name,
		.task = saw_task,
		.stack = saw_stack,
		.sample = saw_sample };
	return stream_read(bytes->data, bytes->len, &handler);
}

static void write_some(struct stream_writer *w)
{
	stream_section(w);
	uint32_t file = stream_put_string(w, "/bin/x", 6);
	uint32_t name = stream_put_string(w, "main", 4);
	struct stream_mapping mapping = { .file = file, .start = 0x400000, .limit = UINT64_MAX, .offset = 0x1000 };
	uint32_t map = stream_put_mapping(w, &mapping);
	struct stream_frame frame = { .kind = FRAME_NATIVE, .mapping = map, .address = UINT64_MAX };
	uint32_t leaf = stream_put_frame(w, &frame);
	frame = (struct stream_frame) { .kind = FRAME_KERNEL, .name = name, .file = file, .line = 3, .start_line = 1 };
	uint32_t kernel = stream_put_frame(w, &frame);
	struct stream_task task = { .pid = 42, .start_time = 99, .comm = name };
	stream_put_task(w, &task);
	stream_put_stack(w, (uint32_t[]) { kernel, leaf }, 2);
	stream_put_sample(w, 1, 1, COUNTER_complete, 300);
	stream_put_name(w, leaf, name, 0, 7, 0);
}

static const char *const some =
	"section\nstring 1 /bin/x\nstring 2 main\nmapping 1 1 0 400000 ffffffffffffffff 1000\n"
	"frame 1 0 1 ffffffffffffffff 0 0 0 0\nframe 2 1 0 0 2 1 3 1\ntask 1 42 99 2 0 0\nstack 1 2 1\n"
	"sample 1 1 complete 300\nname 1 2 0 7 0\n";

static void test_what_is_written_is_read(void **state)
{
	(void)state;
	struct stream_writer w = { 0 };
	write_some(&w);
	struct seen seen = { 0 };
	assert_int_equal(read_all(&w.out, &seen), 0);
	assert_string_equal((char *)seen.text.data, some);
	buf_free(&seen.text);
	buf_free(&w.out);
}

static void test_ids_begin_again_in_each_section(void **state)
{
	(void)state;
	struct stream_writer w = { 0 };
	write_some(&w);
	write_some(&w);
	struct seen seen = { 0 };
	assert_int_equal(read_all(&w.out, &seen), 0);
	assert_int_equal(seen.text.len, 2 * strlen(some));
	assert_memory_equal(seen.text.data + strlen(some), some, strlen(some));
	buf_free(&seen.text);
	buf_free(&w.out);
}

static void test_a_cut_stream_keeps_its_whole_records(void **state)
{
	(void)state;
	struct stream_writer w = { 0 };
	write_some(&w);
	for (size_t n = 0; n < w.out.len; n++) {
		struct buf cut = { .data = w.out.data, .len = n };
		struct seen seen = { 0 };
		buf_put(&seen.text, "", 0);
		int r = read_all(&cut, &seen);
		assert_true(r == 0 || r == -EBADMSG);
		assert_memory_equal(seen.text.len ? (char *)seen.text.data : "", some, seen.text.len);
		buf_free(&seen.text);
	}
	buf_free(&w.out);
}

/* Each is one record behind "section, a string, a frame, a task, a stack". */
static void test_records_that_break_a_rule(void **state)
{
	(void)state;
	static const struct {
		const char *what;
		uint8_t bytes[24];
		size_t n;
	} bad[] = {
		{ "unknown type", { 9, 0 }, 2 },
		{ "type 0", { 0, 0 }, 2 },
		{ "section of another version", { STREAM_SECTION, 1, 2 }, 3 },
		{ "section with something behind", { STREAM_SECTION, 2, 1, 0 }, 4 },
		{ "mapping of an unknown string", { STREAM_MAPPING, 5, 2, 0, 0, 0, 0 }, 7 },
		{ "mapping that ends before it starts", { STREAM_MAPPING, 5, 0, 0, 2, 1, 0 }, 7 },
		{ "frame of no kind", { STREAM_FRAME, 7, FRAME_KIND_MAX, 0, 0, 0, 0, 0, 0 }, 9 },
		{ "frame in an unknown mapping", { STREAM_FRAME, 7, 0, 1, 0, 0, 0, 0, 0 }, 9 },
		{ "frame with a field missing", { STREAM_FRAME, 6, 0, 0, 0, 0, 0, 0 }, 8 },
		{ "frame with a field too many", { STREAM_FRAME, 8, 0, 0, 0, 0, 0, 0, 0, 0 }, 10 },
		{ "line over 32 bits", { STREAM_FRAME, 12, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0 }, 14 },
		{ "name of frame 0", { STREAM_NAME, 5, 0, 1, 0, 0, 0 }, 7 },
		{ "name of a later frame", { STREAM_NAME, 5, 2, 1, 0, 0, 0 }, 7 },
		{ "task with an unknown comm", { STREAM_TASK, 5, 1, 1, 2, 0, 0 }, 7 },
		{ "pid over 31 bits", { STREAM_TASK, 9, 0xff, 0xff, 0xff, 0xff, 0xf, 1, 0, 0, 0 }, 11 },
		{ "stack with frame 0", { STREAM_STACK, 2, 1, 0 }, 4 },
		{ "stack with a later frame", { STREAM_STACK, 1, 2 }, 3 },
		{ "sample of an unknown task", { STREAM_SAMPLE, 4, 2, 1, COUNTER_complete, 1 }, 6 },
		{ "sample of an unknown stack", { STREAM_SAMPLE, 4, 1, 2, COUNTER_complete, 1 }, 6 },
		{ "sample with a counter that is no outcome", { STREAM_SAMPLE, 4, 1, 1, COUNTER_taken, 1 }, 6 },
		{ "sample with no such counter", { STREAM_SAMPLE, 4, 1, 1, COUNTER_MAX, 1 }, 6 },
		{ "more samples than 32 bits",
			{ STREAM_SAMPLE, 8, 1, 1, COUNTER_complete, 0x80, 0x80, 0x80, 0x80, 0x10 }, 10 },
		{ "payload longer than the stream", { STREAM_STRING, 100, 'a' }, 3 },
		{ "length without end", { STREAM_STRING, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff },
			11 },
	};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct stream_writer w = { 0 };
		stream_section(&w);
		stream_put_string(&w, "a", 1);
		stream_put_frame(&w, &(struct stream_frame) { .name = 1 });
		stream_put_task(&w, &(struct stream_task) { .pid = 1 });
		stream_put_stack(&w, (uint32_t[]) { 1 }, 1);
		struct seen seen = { 0 };
		assert_int_equal(read_all(&w.out, &seen), 0);
		size_t before = seen.text.len;
		buf_clear(&seen.text);
		buf_put(&w.out, bad[i].bytes, bad[i].n);
		stream_put_sample(&w, 1, 1, COUNTER_complete, 1);
		if (read_all(&w.out, &seen) != -EBADMSG || seen.text.len != before)
			fail_msg("%s", bad[i].what);
		buf_free(&seen.text);
		buf_free(&w.out);
	}
}

static void test_records_before_any_section(void **state)
{
	(void)state;
	struct buf bytes = { 0 };
	buf_put(&bytes, (uint8_t[]) { STREAM_STRING, 1, 'a' }, 3);
	struct seen seen = { 0 };
	assert_int_equal(read_all(&bytes, &seen), -EBADMSG);
	assert_int_equal(seen.text.len, 0);
	buf_free(&bytes);
}

static void test_a_full_buffer_holds_whole_records(void **state)
{
	(void)state;
	for (size_t limit = 1; limit < 60; limit++) {
		struct stream_writer w = { .out.limit = limit };
		write_some(&w);
		assert_true(w.out.len <= limit);
		struct seen seen = { 0 };
		buf_put(&seen.text, "", 1);
		buf_clear(&seen.text);
		assert_int_equal(read_all(&w.out, &seen), 0);
		assert_memory_equal(seen.text.data, some, seen.text.len);
		buf_free(&seen.text);
		buf_free(&w.out);
	}
}

static void test_long_strings_are_cut_and_long_stacks_refused(void **state)
{
	(void)state;
	static char text[STREAM_MAX_STRING + 1];
	static uint32_t frames[STREAM_MAX_FRAMES + 1];
	struct stream_writer w = { 0 };
	stream_section(&w);
	memset(text, 'x', sizeof text);
	assert_int_equal(stream_put_string(&w, text, sizeof text), 1);
	assert_int_equal(stream_put_frame(&w, &(struct stream_frame) { .name = 1 }), 1);
	for (size_t i = 0; i < sizeof frames / sizeof *frames; i++)
		frames[i] = 1;
	assert_int_equal(stream_put_stack(&w, frames, STREAM_MAX_FRAMES + 1), 0);
	assert_int_equal(stream_put_stack(&w, frames, STREAM_MAX_FRAMES), 1);
	assert_int_equal(stream_read(w.out.data, w.out.len, &(struct stream_handler) { 0 }), 0);
	/* one frame more than a stack may have */
	buf_put(&w.out, (uint8_t[]) { STREAM_STACK, 0x81, 0x10 }, 3);
	for (size_t i = 0; i <= STREAM_MAX_FRAMES; i++)
		buf_put_u8(&w.out, 1);
	assert_int_equal(stream_read(w.out.data, w.out.len, &(struct stream_handler) { 0 }), -EBADMSG);
	buf_free(&w.out);
}

static int stop_at_sample(void *context, uint32_t task, uint32_t stack, enum counter outcome, uint64_t count)
{
	(void)context, (void)task, (void)stack, (void)outcome, (void)count;
	return -ENOMEM;
}

static void test_a_handler_can_stop_the_reading(void **state)
{
	(void)state;
	struct stream_writer w = { 0 };
	write_some(&w);
	struct stream_handler handler = { .sample = stop_at_sample };
	assert_int_equal(stream_read(w.out.data, w.out.len, &handler), -ENOMEM);
	buf_free(&w.out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_written_is_read),
		cmocka_unit_test(test_ids_begin_again_in_each_section),
		cmocka_unit_test(test_a_cut_stream_keeps_its_whole_records),
		cmocka_unit_test(test_records_that_break_a_rule),
		cmocka_unit_test(test_records_before_any_section),
		cmocka_unit_test(test_a_full_buffer_holds_whole_records),
		cmocka_unit_test(test_long_strings_are_cut_and_long_stacks_refused),
		cmocka_unit_test(test_a_handler_can_stop_the_reading),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
