/* The numbers below are those of github.com/google/pprof/proto/profile.proto. */
#include "common/buf.h"
#include "merge/encode.h"
#include "merge/intern.h"
#include "merge/meta.h"
#include "merge/protobuf.h"
#include "merge/writer.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum {
	PROFILE_SAMPLE_TYPE = 1,
	PROFILE_SAMPLE,
	PROFILE_MAPPING,
	PROFILE_LOCATION,
	PROFILE_FUNCTION,
	PROFILE_STRING_TABLE,
	PROFILE_TIME_NANOS = 9,
	PROFILE_DURATION_NANOS,
	PROFILE_PERIOD_TYPE,
	PROFILE_PERIOD,
	PROFILE_COMMENT,
	PROFILE_DEFAULT_SAMPLE_TYPE,
};
enum { VALUE_TYPE_TYPE = 1, VALUE_TYPE_UNIT };
enum { SAMPLE_LOCATION_ID = 1, SAMPLE_VALUE, SAMPLE_LABEL };
enum { LABEL_KEY = 1, LABEL_STR, LABEL_NUM };
enum {
	MAPPING_ID = 1,
	MAPPING_START,
	MAPPING_LIMIT,
	MAPPING_OFFSET,
	MAPPING_FILENAME,
	MAPPING_BUILD_ID,
	MAPPING_HAS_FUNCTIONS,
	MAPPING_HAS_FILENAMES,
	MAPPING_HAS_LINE_NUMBERS,
};
enum { LOCATION_ID = 1, LOCATION_MAPPING_ID, LOCATION_ADDRESS, LOCATION_LINE };
enum { LINE_FUNCTION_ID = 1, LINE_LINE };
enum { FUNCTION_ID = 1, FUNCTION_NAME, FUNCTION_SYSTEM_NAME, FUNCTION_FILENAME, FUNCTION_START_LINE };

/* The first strings of the table; the counters' names, the profile's strings and the comments follow. */
#define FIXED_STRINGS                                                                                                  \
	X(EMPTY, "")                                                                                                   \
	X(SAMPLES, "samples")                                                                                          \
	X(COUNT, "count")                                                                                              \
	X(CPU, "cpu")                                                                                                  \
	X(NANOSECONDS, "nanoseconds")                                                                                  \
	X(PID, "pid")                                                                                                  \
	X(COMM, "comm")                                                                                                \
	X(THREAD, "thread")                                                                                            \
	X(CONTAINER, "container_id")                                                                                   \
	X(STACK, "stack")                                                                                              \
	X(KERNEL, "[kernel.kallsyms]")                                                                                 \
	X(UNKNOWN_KERNEL, "[unknown]")

/* clang-format off */
enum fixed_string {
#define X(name, text) STRING_##name,
	FIXED_STRINGS
#undef X
	STRING_COUNTERS,
	STRING_PROFILE = STRING_COUNTERS + COUNTER_MAX, /* the profile's string 1 */
};
/* clang-format on */

static const char *const fixed_strings[] = {
#define X(name, text) text,
	FIXED_STRINGS
#undef X
};

#define NS_PER_S UINT64_C(1000000000)
/* The kernel's half of the address space, where 64-bit kernels of x86 and arm live. */
#define KERNEL_START UINT64_C(0xffff000000000000)
#define KERNEL_LIMIT UINT64_MAX

enum { FUNCTIONS_MAX_BYTES = 64 << 20 };

struct function_key {
	uint32_t name, file, start_line; /* name: in the table */
};

struct pprof {
	const struct profile *p;
	const struct profile_meta *meta;
	struct writer w;
	struct buf message, part; /* being built: a field of the profile, and a field of that */
	uint64_t period_ns;
	struct room room;
	struct intern functions;
	int error;
};

static void begin(struct pprof *e)
{
	buf_clear(&e->message);
}

/* Writes what was built as one field of the profile. */
static void end(struct pprof *e, unsigned field)
{
	uint8_t bytes[20];
	struct buf head = { .data = bytes, .cap = sizeof bytes, .limit = sizeof bytes };
	buf_put_varint(&head, field << 3 | 2);
	buf_put_varint(&head, e->message.len);
	writer_put(&e->w, head.data, head.len);
	writer_put(&e->w, e->message.data, e->message.len);
	if ((e->message.failed || e->part.failed) && !e->error)
		e->error = -ENOMEM;
}

static void put_number(struct pprof *e, unsigned field, uint64_t value)
{
	uint8_t bytes[20];
	struct buf b = { .data = bytes, .cap = sizeof bytes, .limit = sizeof bytes };
	protobuf_uint(&b, field, value);
	writer_put(&e->w, b.data, b.len);
}

static void put_string(struct pprof *e, const char *text)
{
	begin(e);
	buf_put(&e->message, text, strlen(text));
	end(e, PROFILE_STRING_TABLE);
}

/* The place of the profile's string in the table. */
static uint64_t string_index(uint32_t id)
{
	return id ? (uint64_t)STRING_PROFILE + id - 1 : STRING_EMPTY;
}

static void put_value_type(struct pprof *e, unsigned field, uint64_t type, uint64_t unit)
{
	begin(e);
	protobuf_uint(&e->message, VALUE_TYPE_TYPE, type);
	protobuf_uint(&e->message, VALUE_TYPE_UNIT, unit);
	end(e, field);
}

static void add_label(struct pprof *e, uint64_t key, uint64_t string, uint64_t number)
{
	if (!string && !number)
		return;
	buf_clear(&e->part);
	protobuf_uint(&e->part, LABEL_KEY, key);
	protobuf_uint(&e->part, LABEL_STR, string);
	protobuf_uint(&e->part, LABEL_NUM, number);
	protobuf_bytes(&e->message, SAMPLE_LABEL, e->part.data, e->part.len);
}

static uint64_t nanoseconds(const struct pprof *e, uint64_t samples)
{
	uint64_t ns;
	/* pprof's values are signed. */
	return __builtin_mul_overflow(samples, e->period_ns, &ns) || ns > INT64_MAX ? INT64_MAX : ns;
}

static void put_sample(struct pprof *e, const struct profile_sample *sample)
{
	begin(e);
	buf_clear(&e->part);
	size_t n;
	const uint32_t *frames = profile_stack(e->p, sample->stack, &n);
	for (size_t i = 0; i < n; i++)
		buf_put_varint(&e->part, frames[i]);
	protobuf_bytes(&e->message, SAMPLE_LOCATION_ID, e->part.data, e->part.len);
	buf_clear(&e->part);
	buf_put_varint(&e->part, sample->count);
	buf_put_varint(&e->part, nanoseconds(e, sample->count));
	protobuf_bytes(&e->message, SAMPLE_VALUE, e->part.data, e->part.len);

	struct profile_task task = profile_task(e->p, sample->task);
	add_label(e, STRING_PID, 0, task.pid);
	add_label(e, STRING_COMM, string_index(task.comm), 0);
	add_label(e, STRING_THREAD, string_index(task.thread), 0);
	add_label(e, STRING_CONTAINER, string_index(task.container), 0);
	if (sample->outcome != COUNTER_complete)
		add_label(e, STRING_STACK, STRING_COUNTERS + (uint64_t)sample->outcome, 0);
	end(e, PROFILE_SAMPLE);
}

/* What is known about any frame of a mapping. pprof then leaves the mapping alone; else it would look for a file of
 * that name on its own machine. */
struct known {
	bool functions, files, lines;
};

static void put_mapping(struct pprof *e, uint32_t id, struct profile_mapping m, struct known known)
{
	begin(e);
	protobuf_uint(&e->message, MAPPING_ID, id);
	protobuf_uint(&e->message, MAPPING_START, m.start);
	protobuf_uint(&e->message, MAPPING_LIMIT, m.limit);
	protobuf_uint(&e->message, MAPPING_OFFSET, m.offset);
	protobuf_uint(&e->message, MAPPING_FILENAME, m.file);
	protobuf_uint(&e->message, MAPPING_BUILD_ID, m.build_id);
	protobuf_uint(&e->message, MAPPING_HAS_FUNCTIONS, known.functions);
	protobuf_uint(&e->message, MAPPING_HAS_FILENAMES, known.files);
	protobuf_uint(&e->message, MAPPING_HAS_LINE_NUMBERS, known.lines);
	end(e, PROFILE_MAPPING);
}

static int put_mappings(struct pprof *e)
{
	uint32_t n = profile_mapping_count(e->p);
	struct list known = { 0 }; /* struct known, by mapping */
	int r = 0;
	for (uint32_t i = 0; i < n && !r; i++)
		list_push(&known, &e->room, sizeof(struct known), &r);
	struct known *all = known.items;
	for (uint32_t i = 1; i <= profile_frame_count(e->p) && !r; i++) {
		struct profile_frame f = profile_frame(e->p, i);
		if (!f.mapping || !all)
			continue;
		all[f.mapping - 1].functions |= f.name != 0;
		all[f.mapping - 1].files |= f.file != 0;
		all[f.mapping - 1].lines |= f.line != 0;
	}
	for (uint32_t i = 0; all && i < n && !r; i++) {
		struct profile_mapping m = profile_mapping(e->p, i + 1);
		m.file = (uint32_t)string_index(m.file);
		m.build_id = (uint32_t)string_index(m.build_id);
		put_mapping(e, i + 1, m, all[i]);
	}
	list_free(&known, &e->room);
	struct profile_mapping kernel = { .start = KERNEL_START, .limit = KERNEL_LIMIT, .file = STRING_KERNEL };
	if (!r)
		put_mapping(e, n + 1, kernel, (struct known) { .functions = true });
	return r;
}

/* Programs that read pprof know the kernel's functions by their mapping, people by the suffix of the display name. */
static uint64_t function_name(const struct profile_frame *f)
{
	if (frame_has_source(f->kind)) /* its file and line have fields of their own */
		return string_index(f->name);
	if (f->kind != FRAME_KERNEL)
		return string_index(f->display);
	return f->name ? string_index(f->name) : STRING_UNKNOWN_KERNEL;
}

/* A frame is a location, under the frame's id. A native frame's address and its mapping are both in the file's own numbering, as if the
 * file had been loaded where it says: so pprof finds the one in the other, whatever kind of ELF file it is. */
static int put_location(struct pprof *e, uint32_t id)
{
	struct profile_frame f = profile_frame(e->p, id);
	uint64_t mapping = f.kind == FRAME_KERNEL ? (uint64_t)profile_mapping_count(e->p) + 1 : f.mapping;
	struct function_key key = { (uint32_t)function_name(&f), (uint32_t)string_index(f.file), f.start_line };
	uint32_t function;
	int r = intern(&e->functions, &key, sizeof key, &function);
	if (r < 0)
		return r;
	begin(e);
	protobuf_uint(&e->message, LOCATION_ID, id);
	protobuf_uint(&e->message, LOCATION_MAPPING_ID, mapping);
	protobuf_uint(&e->message, LOCATION_ADDRESS, f.address);
	buf_clear(&e->part);
	protobuf_uint(&e->part, LINE_FUNCTION_ID, function);
	protobuf_uint(&e->part, LINE_LINE, f.line);
	protobuf_bytes(&e->message, LOCATION_LINE, e->part.data, e->part.len);
	end(e, PROFILE_LOCATION);
	return 0;
}

static void put_functions(struct pprof *e)
{
	for (uint32_t id = 1; id <= intern_count(&e->functions); id++) {
		const struct function_key *key = intern_get(&e->functions, id, NULL);
		begin(e);
		protobuf_uint(&e->message, FUNCTION_ID, id);
		protobuf_uint(&e->message, FUNCTION_NAME, key->name);
		protobuf_uint(&e->message, FUNCTION_SYSTEM_NAME, key->name);
		protobuf_uint(&e->message, FUNCTION_FILENAME, key->file);
		protobuf_uint(&e->message, FUNCTION_START_LINE, key->start_line);
		end(e, PROFILE_FUNCTION);
	}
}

static void put_comment(struct pprof *e, uint64_t *next, const char *text)
{
	put_string(e, text);
	begin(e);
	buf_put_varint(&e->message, (*next)++);
	end(e, PROFILE_COMMENT);
}

static void put_counter(struct pprof *e, uint64_t *next, const char *name, uint64_t value)
{
	char text[ESCAPE_MAX];
	if (!value)
		return;
	snprintf(text, sizeof text, "%s %" PRIu64, name, value);
	put_comment(e, next, text);
}

/* Each adds its string to the table: the last of the strings. */
static void put_comments(struct pprof *e)
{
	uint64_t next = (uint64_t)STRING_PROFILE + profile_string_count(e->p);
	char text[ESCAPE_MAX + sizeof "missing "] = "missing ";
	for (int i = 0; i < COUNTER_MAX; i++)
		put_counter(e, &next, counter_name((enum counter)i), e->meta->counters[i]);
	put_counter(e, &next, "dropped", profile_dropped(e->p));
	const char *at = e->meta->missing;
	while (meta_missing_line(&at, text + strlen("missing ")))
		put_comment(e, &next, text);
}

static void put_strings(struct pprof *e)
{
	for (size_t i = 0; i < STRING_COUNTERS; i++)
		put_string(e, fixed_strings[i]);
	for (int i = 0; i < COUNTER_MAX; i++)
		put_string(e, counter_name((enum counter)i));
	for (uint32_t i = 1; i <= profile_string_count(e->p); i++)
		put_string(e, profile_string(e->p, i));
}

static int put_profile(struct pprof *e)
{
	put_value_type(e, PROFILE_SAMPLE_TYPE, STRING_SAMPLES, STRING_COUNT);
	put_value_type(e, PROFILE_SAMPLE_TYPE, STRING_CPU, STRING_NANOSECONDS);
	put_value_type(e, PROFILE_PERIOD_TYPE, STRING_CPU, STRING_NANOSECONDS);
	put_number(e, PROFILE_PERIOD, e->period_ns);
	put_number(e, PROFILE_DEFAULT_SAMPLE_TYPE, e->period_ns ? STRING_CPU : STRING_SAMPLES);
	put_number(e, PROFILE_TIME_NANOS, e->meta->start_ns);
	put_number(e, PROFILE_DURATION_NANOS, e->meta->duration_ns);
	int r = put_mappings(e);
	for (uint32_t i = 1; i <= profile_frame_count(e->p) && !r; i++)
		r = put_location(e, i);
	if (r < 0)
		return r;
	put_functions(e);
	for (uint32_t i = 1; i <= profile_sample_count(e->p) && !e->w.error && !e->error; i++) {
		struct profile_sample sample = profile_sample(e->p, i);
		put_sample(e, &sample);
	}
	put_strings(e);
	put_comments(e);
	return e->error;
}

int encode_pprof(const struct profile *p, const struct profile_meta *meta, int fd)
{
	struct pprof e = { .p = p, .meta = meta, .room = room_new(FUNCTIONS_MAX_BYTES) };
	e.functions.room = &e.room;
	e.period_ns = meta->frequency_hz ? NS_PER_S / meta->frequency_hz : 0;
	writer_open(&e.w, fd, true);
	int r = put_profile(&e);
	int closed = writer_close(&e.w);
	intern_free(&e.functions);
	buf_free(&e.message);
	buf_free(&e.part);
	return r < 0 ? r : closed;
}
