#include "python/layout.h"

#include <errno.h>
#include <string.h>

#define NONE PYTHON_NONE

static const struct python_layout tables[] = {
	{
		.minor = 8,
#define FIELD(name, v8, v9, v10, v11, v12, source) .name = v8,
#include "python/layout.def"
#undef FIELD
	},
	{
		.minor = 9,
#define FIELD(name, v8, v9, v10, v11, v12, source) .name = v9,
#include "python/layout.def"
#undef FIELD
	},
	{
		.minor = 10,
#define FIELD(name, v8, v9, v10, v11, v12, source) .name = v10,
#include "python/layout.def"
#undef FIELD
	},
	{
		.minor = 11,
#define FIELD(name, v8, v9, v10, v11, v12, source) .name = v11,
#include "python/layout.def"
#undef FIELD
	},
	{
		.minor = 12,
#define FIELD(name, v8, v9, v10, v11, v12, source) .name = v12,
#include "python/layout.def"
#undef FIELD
	},
};

const struct python_layout *python_layout_of(unsigned minor)
{
	for (size_t i = 0; i < sizeof tables / sizeof *tables; i++)
		if (tables[i].minor == minor)
			return &tables[i];
	return NULL;
}

/* Places of the fields in _Py_DebugOffsets (internal/pycore_debug_offsets.h), whose first words are the cookie, the version and whether
 * the build is free-threaded. A structure is named by where its size stands; a field of it comes behind. */
struct places {
	uint16_t runtime, interpreters_head;
	uint16_t interpreter, interpreter_next, threads_head;
	uint16_t thread, thread_next, current_frame, thread_id, native_thread_id, datastack_chunk;
	uint16_t frame, frame_previous, executable, instr_ptr, owner;
	uint16_t code, filename, name, qualname, linetable, firstlineno, co_code_adaptive;
	uint16_t bytes, ob_size, ob_sval;
	uint16_t unicode, state, length, asciiobject_size;
	uint16_t end; /* size of the structure */
};

static const struct places places_13 = { 24, 40, 48, 64, 72, 152, 168, 184, 192, 200, 208, 224, 232, 240, 248, 264, 272,
	280, 288, 296, 304, 312, 344, 512, 520, 528, 536, 544, 552, 560, 584 };
static const struct places places_14 = { 24, 40, 48, 64, 72, 176, 192, 208, 216, 224, 232, 248, 256, 264, 272, 288, 312,
	320, 328, 336, 344, 352, 384, 592, 600, 608, 616, 624, 632, 640, 760 };

struct offsets {
	const uint8_t *bytes;
	bool bad;
};

/* The offset of a field of `width` bytes in the structure whose size stands at `structure`. */
static uint16_t field(struct offsets *o, uint16_t structure, uint16_t at, unsigned width)
{
	uint64_t size = python_word(o->bytes, structure), offset = python_word(o->bytes, at);
	if (size > UINT32_MAX || offset >= PYTHON_NONE - 8U || offset % width || width > size || offset > size - width)
		o->bad = true;
	return (uint16_t)offset;
}

/* What has to be read to have all fields up to the last. */
static uint16_t span(struct offsets *o, const uint16_t *fields, size_t n, unsigned most)
{
	unsigned end = 0;
	for (size_t i = 0; i < n; i++)
		end = fields[i] + 8U > end ? fields[i] + 8U : end;
	if (end > most)
		o->bad = true;
	return (uint16_t)end;
}

static void fill(struct python_layout *l, struct offsets *o, const struct places *p)
{
	enum { POINTER = 8, BYTE = 1, INT = 4, UNICODE_UTF8 = 16 /* PyCompactUnicodeObject: utf8_length, utf8 */ };
	l->interpreters_head = field(o, p->runtime, p->interpreters_head, POINTER);
	l->interpreter_next = field(o, p->interpreter, p->interpreter_next, POINTER);
	l->threads_head = field(o, p->interpreter, p->threads_head, POINTER);
	l->thread_next = field(o, p->thread, p->thread_next, POINTER);
	l->frame = field(o, p->thread, p->current_frame, POINTER);
	l->thread_id = field(o, p->thread, p->thread_id, POINTER);
	l->native_thread_id = field(o, p->thread, p->native_thread_id, POINTER);
	l->datastack_chunk = field(o, p->thread, p->datastack_chunk, POINTER);
	l->frame_previous = field(o, p->frame, p->frame_previous, POINTER);
	l->frame_code = field(o, p->frame, p->executable, POINTER);
	l->frame_instruction = field(o, p->frame, p->instr_ptr, POINTER);
	l->frame_owner = field(o, p->frame, p->owner, BYTE);
	l->code_file = field(o, p->code, p->filename, POINTER);
	l->code_name = field(o, p->code, p->name, POINTER);
	l->code_qualname = field(o, p->code, p->qualname, POINTER);
	l->code_lines = field(o, p->code, p->linetable, POINTER);
	l->code_first_line = field(o, p->code, p->firstlineno, INT);
	l->code = field(o, p->code, p->co_code_adaptive, INT);
	l->bytes_size = field(o, p->bytes, p->ob_size, POINTER);
	l->bytes_data = field(o, p->bytes, p->ob_sval, BYTE);
	l->str_length = field(o, p->unicode, p->length, POINTER);
	l->str_state = field(o, p->unicode, p->state, INT);
	uint64_t ascii = python_word(o->bytes, p->asciiobject_size);
	o->bad |= ascii > PYTHON_OBJECT_MAX - UNICODE_UTF8 || ascii < l->str_length + 8U || ascii < l->str_state + 4U;
	l->str_ascii_data = (uint16_t)ascii;
	l->str_data = (uint16_t)(ascii + UNICODE_UTF8);
	/* the word behind the pointer to the chunk, too */
	const uint16_t thread[] = { l->thread_next, l->frame, l->thread_id, l->native_thread_id,
		(uint16_t)(l->datastack_chunk + POINTER) };
	const uint16_t frame[] = { l->frame_previous, l->frame_code, l->frame_instruction, l->frame_owner };
	const uint16_t code[] = { l->code_file, l->code_name, l->code_qualname, l->code_lines, l->code_first_line };
	const uint16_t object[] = { l->bytes_size, l->str_length, l->str_state };
	l->thread_bytes = span(o, thread, sizeof thread / sizeof *thread, PYTHON_THREAD_MAX);
	l->frame_bytes = span(o, frame, sizeof frame / sizeof *frame, PYTHON_FRAME_MAX);
	l->code_bytes = span(o, code, sizeof code / sizeof *code, PYTHON_CODE_MAX);
	(void)span(o, object, sizeof object / sizeof *object, PYTHON_OBJECT_MAX);
	if (l->code > PYTHON_CODE_MAX || l->bytes_data > PYTHON_OBJECT_MAX || l->frame_bytes < PYTHON_FRAME_MIN)
		o->bad = true;
}

int python_layout_read(struct python_layout *ret, const uint8_t *bytes, size_t n, const char **ret_why)
{
	enum { VERSION = 8, FREE_THREADED = 16, HEAD = 24, FINAL = 0xf0 };
	static const char cookie[8] = { 'x', 'd', 'e', 'b', 'u', 'g', 'p', 'y' };
	static const uint8_t nothing[sizeof cookie];
	*ret_why = "its interpreter does not say where its structures are";
	if (n < PYTHON_OFFSETS_BYTES)
		return -EINVAL;
	if (!memcmp(bytes, nothing, sizeof nothing))
		return -EAGAIN;
	if (memcmp(bytes, cookie, sizeof cookie))
		return -EINVAL;
	uint64_t version = python_word(bytes, VERSION);
	unsigned minor = version >> 16 & 0xff;
	*ret_why = "its interpreter is of an unknown version";
	if (version >> 24 != 3 || minor < PYTHON_MINOR_OFFSETS || minor > PYTHON_MINOR_MAX)
		return -EINVAL;
	*ret_why = "its interpreter is a pre-release, whose structures may still move";
	if ((version & 0xf0) != FINAL)
		return -EINVAL;
	*ret_why = "its interpreter is a free-threaded build: not supported";
	if (python_word(bytes, FREE_THREADED))
		return -EINVAL;
	const struct places *p = minor == 13 ? &places_13 : &places_14;
	struct offsets o = { bytes, false };
	struct python_layout l = {
		.minor = (uint8_t)minor,
		.cframe = NONE,
		.cframe_frame = NONE,
		.cframe_previous = NONE,
		.frame_is_entry = NONE,
		.tag_mask = minor >= 14 ? 3 : 0, /* Py_TAG_BITS (internal/pycore_stackref.h) */
	};
	fill(&l, &o, p);
	*ret_why = "what its interpreter says of its structures makes no sense";
	if (o.bad)
		return -EINVAL;
	*ret = l;
	*ret_why = NULL;
	return 0;
}
