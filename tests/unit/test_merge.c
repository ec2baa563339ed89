#include "merge/encode.h"
#include "merge/missed.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zlib.h>

typedef int encoder(const struct profile *p, const struct profile_meta *meta, int fd);

static encoder *const encoders[] = { encode_pprof, encode_folded, encode_html, encode_summary };
enum { ENCODERS = sizeof encoders / sizeof *encoders };

static const struct profile_meta some_meta = { .snapshot = 5,
	.start_ns = 1700000000000000000,
	.duration_ns = 10000000000,
	.frequency_hz = 100,
	.event = "cpu-clock",
	.hostname = "host</script>",
	.missing = "native: deadline\npython: <memory>\n",
	.counters = { [COUNTER_taken] = 12, [COUNTER_complete] = 11 } };

/* What an encoder writes, ended by a NUL; the caller frees. */
static char *encoded(encoder *encode, const struct profile *p, const struct profile_meta *meta, size_t *ret_n)
{
	int fd = memfd_create("test", MFD_CLOEXEC);
	assert_true(fd >= 0);
	/* what a worker that died left behind */
	assert_int_equal(ftruncate(fd, 1 << 20), 0);
	assert_int_equal(encode(p, meta, fd), 0);
	off_t n = lseek(fd, 0, SEEK_END);
	assert_true(n >= 0 && n < 1 << 20);
	char *text = calloc(1, (size_t)n + 1);
	assert_int_equal(pread(fd, text, (size_t)n, 0), n);
	close(fd);
	*ret_n = (size_t)n;
	return text;
}

static char *text_of(encoder *encode, const struct profile *p)
{
	size_t n;
	char *text = encoded(encode, p, &some_meta, &n);
	assert_int_equal(strlen(text), n);
	return text;
}

static void add(struct profile *p, struct stream_writer *w, int expected)
{
	assert_int_equal(profile_add_stream(p, w->out.data, w->out.len), expected);
	buf_free(&w->out);
}

static uint32_t put(struct stream_writer *w, const char *text)
{
	return stream_put_string(w, text, strlen(text));
}

static uint32_t native(struct stream_writer *w, const char *name)
{
	return stream_put_frame(w, &(struct stream_frame) { .kind = FRAME_NATIVE, .name = put(w, name) });
}

static uint32_t process(struct stream_writer *w, uint32_t pid, const char *comm)
{
	return stream_put_task(w, &(struct stream_task) { .pid = pid, .start_time = 7, .comm = put(w, comm) });
}

/* main;work 3, main;work;kernel 2 (truncated) in pid 10 "app"; main 6 in pid 11 "app". */
static void write_some(struct stream_writer *w)
{
	stream_section(w);
	uint32_t main_frame = native(w, "main"), work = native(w, "ns::work");
	struct stream_frame frame = { .kind = FRAME_KERNEL, .address = 0xffffffff81000000, .name = put(w, "do_idle") };
	uint32_t kernel = stream_put_frame(w, &frame);
	uint32_t ten = process(w, 10, "app"), eleven = process(w, 11, "app");
	uint32_t one = stream_put_stack(w, (uint32_t[]) { work, main_frame }, 2);
	uint32_t two = stream_put_stack(w, (uint32_t[]) { kernel, work, main_frame }, 3);
	uint32_t three = stream_put_stack(w, (uint32_t[]) { main_frame }, 1);
	stream_put_sample(w, ten, one, COUNTER_complete, 1);
	stream_put_sample(w, ten, one, COUNTER_complete, 2);
	stream_put_sample(w, ten, two, COUNTER_truncated, 2);
	stream_put_sample(w, eleven, three, COUNTER_complete, 6);
}

static struct profile *some_profile(void)
{
	struct profile *p = profile_new();
	struct stream_writer w = { 0 };
	write_some(&w);
	add(p, &w, 0);
	return p;
}

static uint64_t folded_sum(const char *text)
{
	uint64_t sum = 0;
	for (const char *line = text; *line;) {
		const char *end = strchr(line, '\n');
		assert_non_null(end);
		const char *space = memrchr(line, ' ', (size_t)(end - line));
		assert_non_null(space);
		sum += strtoull(space, NULL, 10);
		line = end + 1;
	}
	return sum;
}

/* The numbers of the page's list `key`. */
static uint64_t html_cells(const char *text, uint64_t *ret_nodes)
{
	const char *at = strstr(text, "\"cells\":[");
	assert_non_null(at);
	at += strlen("\"cells\":[");
	uint64_t sum = 0, nodes = 0;
	for (int i = 0; *at != ']' && *at; i++) {
		char *end;
		uint64_t v = strtoull(at, &end, 10);
		sum += i % 3 == 2 ? v : 0;
		nodes += i % 3 == 1;
		at = *end == ',' ? end + 1 : end;
	}
	*ret_nodes = nodes;
	return sum;
}

/* The plain bytes of a gzip file; the caller frees. */
static uint8_t *unpacked(const char *packed, size_t n, size_t *ret_n)
{
	enum { MAX = 4 << 20 };
	uint8_t *plain = malloc(MAX);
	z_stream z = { .next_in = (Bytef *)packed, .avail_in = (uInt)n, .next_out = plain, .avail_out = MAX };
	assert_int_equal(inflateInit2(&z, 15 + 16), Z_OK);
	assert_int_equal(inflate(&z, Z_FINISH), Z_STREAM_END);
	assert_int_equal(z.avail_in, 0);
	*ret_n = z.total_out;
	inflateEnd(&z);
	return plain;
}

/* Sums both values of all samples (Profile.sample = 2, Sample.value = 2); checks that the file is whole. */
static void pprof_sums(const struct profile *p, const struct profile_meta *meta, uint64_t ret[2])
{
	size_t packed_n, n;
	char *packed = encoded(encode_pprof, p, meta, &packed_n);
	uint8_t *plain = unpacked(packed, packed_n, &n);
	ret[0] = ret[1] = 0;
	struct cursor c = { .p = plain, .end = plain + n };
	while (c.p < c.end) {
		uint64_t tag = cursor_varint(&c);
		if ((tag & 7) == 0) {
			cursor_varint(&c);
			continue;
		}
		assert_int_equal(tag & 7, 2);
		size_t size = (size_t)cursor_varint(&c);
		const uint8_t *at = cursor_bytes(&c, size);
		assert_false(c.failed);
		if (tag >> 3 != 2)
			continue;
		struct cursor sample = { .p = at, .end = at + size };
		while (sample.p < sample.end) {
			uint64_t field = cursor_varint(&sample);
			size_t length = (size_t)cursor_varint(&sample);
			const uint8_t *bytes = cursor_bytes(&sample, length);
			assert_false(sample.failed);
			struct cursor values = { .p = bytes, .end = bytes + length };
			for (int i = 0; field >> 3 == 2 && i < 2; i++)
				ret[i] += cursor_varint(&values);
		}
	}
	assert_false(c.failed);
	free(plain);
	free(packed);
}

static void assert_all_sum_to(const struct profile *p, uint64_t samples)
{
	assert_int_equal(profile_total(p), samples);
	char *folded = text_of(encode_folded, p);
	assert_int_equal(folded_sum(folded), samples);
	char *html = text_of(encode_html, p);
	uint64_t nodes;
	assert_int_equal(html_cells(html, &nodes), samples);
	char *summary = text_of(encode_summary, p), expected[64];
	snprintf(expected, sizeof expected, "samples\t%llu\n", (unsigned long long)samples);
	assert_memory_equal(summary, expected, strlen(expected));
	uint64_t sums[2];
	pprof_sums(p, &some_meta, sums);
	assert_int_equal(sums[0], samples);
	assert_int_equal(sums[1], samples * 10000000);
	free(folded);
	free(html);
	free(summary);
}

static void test_every_format_holds_every_sample(void **state)
{
	(void)state;
	struct profile *p = some_profile();
	assert_int_equal(profile_outcome(p, COUNTER_complete), 9);
	assert_int_equal(profile_outcome(p, COUNTER_truncated), 2);
	assert_int_equal(profile_process_count(p), 2);
	assert_int_equal(profile_stack_count(p), 3);
	assert_all_sum_to(p, 11);
	char *folded = text_of(encode_folded, p);
	assert_string_equal(folded, "app;main 6\napp;main;ns::work 3\napp;main;ns::work;do_idle_[k] 2\n");
	free(folded);
	char *summary = text_of(encode_summary, p);
	assert_string_equal(summary, "samples\t11\nprocesses\t2\nstacks\t3\ncounter\ttaken\t12\ncounter\tcomplete\t11\n"
				     "process\t6\t11\tapp\nprocess\t5\t10\tapp\n"
				     "function\t6\t11\tmain\nfunction\t3\t5\tns::work\nfunction\t2\t2\tdo_idle_[k]\n"
				     "missing\tnative: deadline\nmissing\tpython: <memory>\n");
	free(summary);
	profile_free(p);
}

static void test_an_empty_profile_is_valid(void **state)
{
	(void)state;
	struct profile *p = profile_new();
	assert_int_equal(profile_add_stream(p, NULL, 0), 0);
	assert_all_sum_to(p, 0);
	profile_free(p);
}

static void test_equal_stacks_of_two_streams_are_summed(void **state)
{
	(void)state;
	struct profile *p = some_profile();
	struct stream_writer w = { 0 };
	write_some(&w);
	add(p, &w, 0);
	assert_int_equal(profile_stack_count(p), 3);
	assert_int_equal(profile_sample_count(p), 3);
	assert_int_equal(profile_process(p, 2).samples, 12);
	assert_all_sum_to(p, 22);
	profile_free(p);
}

static void test_sections_of_one_stream_are_summed(void **state)
{
	(void)state;
	struct profile *p = profile_new();
	struct stream_writer w = { 0 };
	write_some(&w);
	write_some(&w);
	write_some(&w);
	add(p, &w, 0);
	assert_int_equal(profile_stack_count(p), 3);
	assert_all_sum_to(p, 33);
	profile_free(p);
}

static void test_a_malformed_stream_keeps_what_came_before(void **state)
{
	(void)state;
	struct profile *p = profile_new();
	struct stream_writer w = { 0 };
	write_some(&w);
	buf_put_u8(&w.out, 77);
	add(p, &w, -EBADMSG);
	assert_all_sum_to(p, 11);
	profile_free(p);
}

static uint32_t at_address(struct stream_writer *w, uint32_t kind, uint32_t mapping, uint64_t address)
{
	return stream_put_frame(w, &(struct stream_frame) { .kind = kind, .mapping = mapping, .address = address });
}

static uint32_t library(struct stream_writer *w)
{
	struct stream_mapping mapping = { .file = put(w, "/usr/lib/libz.so.1"), .start = 0x7000, .limit = 0x9000 };
	return stream_put_mapping(w, &mapping);
}

static void sample_each(struct stream_writer *w, uint32_t task, uint32_t frames)
{
	for (uint32_t i = 1; i <= frames; i++) {
		uint32_t stack = stream_put_stack(w, &i, 1);
		stream_put_sample(w, task, stack, COUNTER_complete, 1);
	}
}

static void test_frames_without_a_name(void **state)
{
	(void)state;
	struct profile *p = profile_new();
	struct stream_writer w = { 0 };
	stream_section(&w);
	at_address(&w, FRAME_NATIVE, library(&w), 0x1abc);
	at_address(&w, FRAME_NATIVE, 0, 0x1abd);
	at_address(&w, FRAME_KERNEL, 0, 0xffffffff81000001);
	at_address(&w, FRAME_JIT, 0, 0x1abe);
	sample_each(&w, 0, 4);
	stream_put_sample(&w, process(&w, 1, ""), 0, COUNTER_unreadable, 5);
	add(p, &w, 0);
	char *folded = text_of(encode_folded, p);
	assert_string_equal(folded,
		"[unknown] 5\n[unknown];[unknown] 1\n[unknown];[unknown] 1\n[unknown];[unknown]_[k] 1\n"
		"[unknown];libz.so.1+0x1abc 1\n");
	free(folded);
	assert_all_sum_to(p, 9);
	profile_free(p);
}

static void test_a_name_may_come_after_its_samples(void **state)
{
	(void)state;
	struct profile *p = profile_new();
	struct stream_writer w = { 0 };
	stream_section(&w);
	uint32_t frame = at_address(&w, FRAME_NATIVE, library(&w), 0x10);
	sample_each(&w, process(&w, 1, "app"), 1);
	stream_put_name(&w, frame, put(&w, "inflate"), 0, 0, 0);
	add(p, &w, 0);
	char *folded = text_of(encode_folded, p);
	assert_string_equal(folded, "app;inflate 1\n");
	free(folded);
	profile_free(p);
}

/* A worker dies before it names what it sampled; its successor meets the same code and names it. */
static void test_a_restarted_worker_names_its_first_life(void **state)
{
	(void)state;
	struct profile *p = profile_new();
	struct stream_writer w = { 0 };
	stream_section(&w);
	uint32_t map = library(&w);
	at_address(&w, FRAME_NATIVE, map, 0x10);
	at_address(&w, FRAME_NATIVE, map, 0x20);
	at_address(&w, FRAME_KERNEL, 0, 0x30);
	at_address(&w, FRAME_NATIVE, map, 0x40);
	sample_each(&w, process(&w, 1, "app"), 4);
	stream_section(&w);
	put(&w, "so that ids differ");
	map = library(&w);
	stream_put_name(&w, at_address(&w, FRAME_NATIVE, map, 0x10), put(&w, "inflate"), 0, 0, 0);
	stream_put_name(&w, at_address(&w, FRAME_KERNEL, 0, 0x30), put(&w, "schedule"), 0, 0, 0);
	/* two functions at one address: not known which */
	stream_put_name(&w, at_address(&w, FRAME_NATIVE, map, 0x40), put(&w, "inner"), 0, 0, 0);
	stream_put_name(&w, at_address(&w, FRAME_NATIVE, map, 0x40), put(&w, "outer"), 0, 0, 0);
	sample_each(&w, process(&w, 1, "app"), 2);
	add(p, &w, 0);
	char *folded = text_of(encode_folded, p);
	assert_string_equal(folded, "app;inflate 2\napp;libz.so.1+0x20 1\napp;libz.so.1+0x40 1\napp;schedule_[k] 2\n");
	free(folded);
	assert_int_equal(profile_stack_count(p), 4);
	profile_free(p);
}

static const char *const hostile_names[] = { "new\nline", "semi;colon", "</script><script>alert(1)</script>", "<!--",
	"esc\033[2J", "not\xff\xfeutf8\xc3", "quote\"back\\slash", "line\xe2\x80\xa8separator", "tab\tbed", "@PROFILE@",
	"&lt;", "a b 99", "right\xe2\x80\xaeto left" };
enum { HOSTILE = sizeof hostile_names / sizeof *hostile_names };

static void test_hostile_names(void **state)
{
	(void)state;
	struct profile *p = profile_new();
	struct stream_writer w = { 0 };
	stream_section(&w);
	for (size_t i = 0; i < HOSTILE; i++) {
		uint32_t name = put(&w, hostile_names[i]);
		struct stream_mapping mapping = { .file = name, .build_id = name, .limit = 1 };
		struct stream_frame frames[] = { { .name = name, .file = name },
			{ .mapping = stream_put_mapping(&w, &mapping), .kind = FRAME_NATIVE } };
		uint32_t ids[] = { stream_put_frame(&w, &frames[0]), stream_put_frame(&w, &frames[1]) };
		struct stream_task task = { .pid = 1, .comm = name, .thread = name, .container = name };
		stream_put_sample(&w, stream_put_task(&w, &task), stream_put_stack(&w, ids, 2), COUNTER_moved, 1);
	}
	add(p, &w, 0);
	assert_all_sum_to(p, HOSTILE);

	char *folded = text_of(encode_folded, p);
	size_t lines = 0, separators = 0;
	for (const char *c = folded; *c; c++) {
		assert_true(*c == '\n' || ((unsigned char)*c >= 0x20 && *c != 0x7f));
		lines += *c == '\n';
		separators += *c == ';';
	}
	assert_int_equal(lines, HOSTILE);
	assert_int_equal(separators, 2 * HOSTILE);
	free(folded);

	char *html = text_of(encode_html, p);
	char *data = strstr(html, "id=\"profile\">");
	assert_non_null(data);
	char *end = strstr(data, "</script>");
	assert_non_null(end);
	assert_memory_equal(end - 1, "}", 1);
	for (const char *c = data + strlen("id=\"profile\">"); c < end; c++)
		assert_true(*c != '<' && *c != '>' && *c != '&' && ((unsigned char)*c >= 0x20 || *c == '\n'));
	assert_null(strstr(data, "\xe2\x80\xa8"));
	free(html);

	char *summary = text_of(encode_summary, p);
	assert_null(strchr(summary, '\033'));
	free(summary);
	profile_free(p);
}

static void test_a_full_disk_is_reported(void **state)
{
	(void)state;
	struct profile *p = some_profile();
	int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	for (size_t i = 0; i < ENCODERS; i++)
		assert_int_equal(encoders[i](p, &some_meta, fd), -ENOSPC);
	close(fd);
	fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	for (size_t i = 0; i < ENCODERS; i++)
		assert_int_equal(encoders[i](p, &some_meta, fd), -EBADF);
	close(fd);
	profile_free(p);
}

static void test_output_does_not_depend_on_hash_order(void **state)
{
	(void)state;
	for (size_t i = 0; i < ENCODERS; i++) {
		struct profile *a = some_profile(), *b = some_profile();
		size_t na, nb;
		char *first = encoded(encoders[i], a, &some_meta, &na),
		     *second = encoded(encoders[i], b, &some_meta, &nb);
		assert_int_equal(na, nb);
		assert_memory_equal(first, second, na);
		free(first);
		free(second);
		profile_free(a);
		profile_free(b);
	}
}

/* Stacks of 2,000 frames, each its own, until the memory of one stream is used up. */
static void test_a_stream_that_is_too_large_is_cut_and_counted(void **state)
{
	(void)state;
	enum { FRAMES = 2000, STACKS = 20000 };
	struct profile *p = profile_new();
	struct stream_writer w = { 0 };
	static uint32_t frames[FRAMES];
	stream_section(&w);
	uint32_t task = process(&w, 1, "app");
	for (uint32_t i = 0; i < FRAMES; i++)
		frames[i] = at_address(&w, FRAME_JIT, 0, i);
	uint64_t written = 0;
	for (uint32_t i = 0; i < STACKS && !w.out.failed; i++) {
		frames[0] = 1 + i % FRAMES;
		frames[1] = 1 + i / FRAMES;
		uint32_t stack = stream_put_stack(&w, frames, FRAMES);
		size_t before = w.out.len;
		stream_put_sample(&w, task, stack, COUNTER_complete, 3);
		written += w.out.len > before ? 3 : 0;
	}
	add(p, &w, -E2BIG);
	assert_true(profile_total(p) > 0);
	assert_true(profile_dropped(p) > 0);
	assert_int_equal(profile_total(p) + profile_dropped(p), written);
	/* and there is room for the next worker's */
	uint64_t total = profile_total(p);
	write_some(&w);
	add(p, &w, 0);
	assert_int_equal(profile_total(p), total + 11);
	profile_free(p);
}

static void test_nanoseconds_saturate(void **state)
{
	(void)state;
	struct profile *p = profile_new();
	struct stream_writer w = { 0 };
	stream_section(&w);
	for (int i = 0; i < 3; i++)
		stream_put_sample(&w, 0, 0, COUNTER_complete, STREAM_MAX_COUNT);
	add(p, &w, 0);
	struct profile_meta meta = { .frequency_hz = 1 };
	uint64_t sums[2];
	pprof_sums(p, &meta, sums);
	assert_int_equal(sums[0], 3 * (uint64_t)STREAM_MAX_COUNT);
	assert_int_equal(sums[1], INT64_MAX);
	profile_free(p);
}

/* The samples of a worker that was late, counted in its lane by process. */
static void what_a_late_worker_missed_is_counted_by_process(void **state)
{
	(void)state;
	int fd = lane_create(1, LANE_RING_MIN);
	struct lane lane, view;
	assert_int_equal(lane_open(&lane, fd, 1, LANE_RING_MIN), 0);
	lane_use(&lane, 0);
	struct lane_state at = lane_state(&lane, 0);
	const uint32_t pids[] = { 7, 8, 7, 7 };
	for (size_t i = 0; i < 4; i++) {
		struct lane_sample sample = { .head = { sizeof sample, LANE_SAMPLE, i, pids[i], pids[i] } };
		struct lane_event name = { .head = { sizeof name, LANE_EXEC, i, 8, 8 }, .comm = "evil;\n" };
		struct lane_piece pieces[] = { { &sample, sizeof sample }, { &name, sizeof name } };
		assert_true(lane_put(&lane, 0, &at, pieces, 2));
	}
	at.mark_snapshot = 5;
	at.mark_end = at.head;
	struct lane_sample next = { .head = { sizeof next, LANE_SAMPLE, 9, 9, 9 } }; /* of the next snapshot */
	assert_true(lane_put(&lane, 0, &at, &(struct lane_piece) { &next, sizeof next }, 1));
	lane_publish(&lane, 0, &at);

	struct profile *p = profile_new();
	uint64_t counters[COUNTER_MAX] = { 0 };
	assert_int_equal(lane_open_read_only(&view, fd, 1, LANE_RING_MIN), 0);
	assert_int_equal(missed_add(p, &view, 5, "native: missed the deadline", counters), 0);
	assert_int_equal(profile_total(p), 4);
	assert_int_equal(profile_outcome(p, COUNTER_missed), 4);
	assert_int_equal(profile_process_count(p), 2);
	for (uint32_t i = 1; i <= 2; i++) {
		struct profile_process process = profile_process(p, i);
		const char *comm = profile_string(p, process.comm);
		assert_int_equal(process.samples, process.pid == 7 ? 3 : 1);
		assert_null(strpbrk(comm, ";\n"));
		if (process.pid == 7)
			assert_string_equal(comm, "[process 7]");
	}
	size_t n;
	uint32_t frame = *profile_stack(p, 1, &n);
	assert_int_equal(n, 1);
	assert_string_equal(profile_string(p, profile_frame(p, frame).display), "[native: missed the deadline]");
	assert_int_equal(missed_add(p, &view, 6, "native", counters), 0); /* no mark of that one */
	assert_int_equal(profile_total(p), 4);
	profile_free(p);
	lane_close(&view);
	lane_close(&lane);
	close(fd);
}

/* A reader that closed a part without having read its mark left samples whose number only that mark knows. */
static void what_an_earlier_mark_counts_is_not_forgotten(void **state)
{
	(void)state;
	int fd = lane_create(1, LANE_RING_MIN);
	struct lane lane;
	assert_int_equal(lane_open(&lane, fd, 1, LANE_RING_MIN), 0);
	lane_use(&lane, 0);
	struct lane_state at = lane_state(&lane, 0);
	for (uint64_t snapshot = 4; snapshot <= 6; snapshot++) {
		struct lane_sample sample = { .head = { sizeof sample, LANE_SAMPLE, snapshot, 7, 7 } };
		struct lane_mark mark = { .head = { sizeof mark, LANE_MARK, snapshot, 0, 0 }, .snapshot = snapshot };
		mark.counters[COUNTER_taken] = 1 + snapshot; /* one, and those that were filtered */
		mark.counters[COUNTER_filtered] = snapshot;
		mark.counters[COUNTER_missed] = 100; /* not the sampler's to say */
		struct lane_piece pieces[] = { { &sample, sizeof sample }, { &mark, sizeof mark } };
		assert_true(lane_put(&lane, 0, &at, pieces, 2));
		at.mark_snapshot = snapshot;
		at.mark_end = at.head;
	}
	lane_publish(&lane, 0, &at);
	struct profile *p = profile_new();
	uint64_t counters[COUNTER_MAX] = { [COUNTER_taken] = 1 + 6, [COUNTER_filtered] = 6 };
	assert_int_equal(missed_add(p, &lane, 6, "native: missed the deadline", counters), 0);
	assert_int_equal(counters[COUNTER_taken], 3 + 4 + 5 + 6);
	assert_int_equal(counters[COUNTER_filtered], 4 + 5 + 6);
	assert_int_equal(counters[COUNTER_missed], 0);
	assert_int_equal(profile_outcome(p, COUNTER_missed), 3);
	profile_free(p);
	lane_close(&lane);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_a_late_worker_missed_is_counted_by_process),
		cmocka_unit_test(what_an_earlier_mark_counts_is_not_forgotten),
		cmocka_unit_test(test_every_format_holds_every_sample),
		cmocka_unit_test(test_an_empty_profile_is_valid),
		cmocka_unit_test(test_equal_stacks_of_two_streams_are_summed),
		cmocka_unit_test(test_sections_of_one_stream_are_summed),
		cmocka_unit_test(test_a_malformed_stream_keeps_what_came_before),
		cmocka_unit_test(test_frames_without_a_name),
		cmocka_unit_test(test_a_name_may_come_after_its_samples),
		cmocka_unit_test(test_a_restarted_worker_names_its_first_life),
		cmocka_unit_test(test_hostile_names),
		cmocka_unit_test(test_a_full_disk_is_reported),
		cmocka_unit_test(test_output_does_not_depend_on_hash_order),
		cmocka_unit_test(test_a_stream_that_is_too_large_is_cut_and_counted),
		cmocka_unit_test(test_nanoseconds_saturate),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
