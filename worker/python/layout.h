/* Where CPython keeps what we read, for each minor version. 3.8 to 3.12 from tables (reference of each number beside it, in
 * layout.c); from 3.13 on from the interpreter's own _Py_DebugOffsets, which stand in the target's memory and are treated as
 * hostile: every offset is checked against the size of its structure, and every size against the limits here. All offsets in
 * bytes. x86-64 and AArch64 agree in all of them: both are LP64, and no structure up to the last field used holds a lock. */
#ifndef PYTHON_LAYOUT_H
#define PYTHON_LAYOUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum {
	PYTHON_MINOR_MIN = 8, /* 3.8 */
	PYTHON_MINOR_MAX = 14,
	PYTHON_MINOR_OFFSETS = 13,   /* from here on, the interpreter says them itself */
	PYTHON_OFFSETS_BYTES = 1024, /* of _PyRuntime that are looked at for them */
	PYTHON_THREAD_MAX = 512,     /* bytes of a thread state that are read */
	PYTHON_FRAME_MIN = 24,       /* bytes of a frame */
	PYTHON_FRAME_MAX = 128,
	PYTHON_CODE_MAX = 256,  /* bytes of a code object, up to its instructions */
	PYTHON_OBJECT_MAX = 64, /* bytes of a str or bytes object, up to its data */
};

/* A field that a version does not have. */
#define PYTHON_NONE UINT16_MAX

/* _PyStackChunk (pycore_pystate.h, 3.11 and later): previous, size, words of data in use; then the data. A thread state has the word behind
 * its newest chunk's data in use next to the pointer to it. */
enum { PYTHON_CHUNK_HEAD = 24 /* bytes */ };

struct python_layout {
	uint8_t minor;
	/* _PyRuntime, PyInterpreterState */
	uint16_t interpreters_head, interpreter_next, threads_head;
	/* PyThreadState. frame: a PyFrameObject * (up to 3.10), a _PyInterpreterFrame * (from 3.13), or, where cframe_frame is a field, a
	 * _PyCFrame *. cframe: of 3.10, which has both. */
	uint16_t thread_bytes, thread_next, frame, cframe, thread_id, native_thread_id, datastack_chunk;
	/* _PyCFrame: on the C stack of each call of the interpreter's loop (3.10 to 3.12) */
	uint16_t cframe_frame, cframe_previous;
	/* PyFrameObject (up to 3.10) or _PyInterpreterFrame. instruction: i32 f_lasti (up to 3.10), else a pointer. */
	uint64_t tag_mask; /* of a frame's pointer to its code: _PyStackRef from 3.14 on; 0: none */
	uint16_t frame_bytes, frame_previous, frame_code, frame_instruction, frame_owner, frame_is_entry;
	/* PyCodeObject. code: of the instructions inline (from 3.11), or of the bytes object (up to 3.10). */
	uint16_t code_bytes, code_file, code_name, code_qualname, code_lines, code_first_line, code;
	/* PyBytesObject, PyVarObject; str: PyASCIIObject, and where a compact string that is not ASCII begins */
	uint16_t bytes_size, bytes_data, str_length, str_state, str_ascii_data, str_data;
};

/* Who a frame belongs to: _frameowner in pycore_frame.h (3.11 and later). The last is a mark that the interpreter's loop was entered
 * here: FRAME_OWNED_BY_CSTACK (3.12, 3.13), FRAME_OWNED_BY_INTERPRETER (3.14). */
enum python_owner { PYTHON_OWNER_THREAD, PYTHON_OWNER_GENERATOR, PYTHON_OWNER_FRAME_OBJECT, PYTHON_OWNER_LOOP };

/* 3.8 to 3.12; NULL: no table. */
const struct python_layout *python_layout_of(unsigned minor);

/* From n bytes at the start of _PyRuntime. 0; -EAGAIN: not initialised yet; -EINVAL with a reason in *ret_why (a literal, for
 * operators): another format, a version that is not known, free-threaded, offsets that make no sense. */
int python_layout_read(struct python_layout *ret, const uint8_t *bytes, size_t n, const char **ret_why);

/* A field of 64 bits in what was read of a structure. */
static inline uint64_t python_word(const uint8_t *bytes, size_t offset)
{
	uint64_t value;
	memcpy(&value, bytes + offset, sizeof value);
	return value;
}

#endif
