/* The profile stream: what a lane's worker hands to merge for one snapshot, in a memfd that the supervisor owns.
 *
 * The stream is append-only. A worker commits a length after each batch (see lane.h); what lies behind it does not
 * exist. So a worker that is killed loses nothing that it had committed, and its successor appends to the same stream:
 * it starts a new SECTION, in which all ids begin again at 1. Id 0 means "none". Ids are implicit: the n-th STRING of a
 * section is string n. A record may only refer to ids already defined in its section, except that NAME names an earlier
 * frame.
 *
 * Record: one byte of enum stream_record, a varint payload length, then the payload, all integers varints:
 *   SECTION  format version (1)
 *   STRING   raw bytes (as the target has them; merge escapes)
 *   MAPPING  file string, build-id string (hex text), start, limit, file offset
 *   FRAME    kind, mapping, address, name string, file string, line, start line
 *            address: for native code in the file's own numbering, as the mapping's start and limit; kernel: run-time
 * address NAME     frame, name string, file string, line, start line: a name found later than its frame was first seen
 *   TASK     pid, start time (clock ticks since boot), comm string, thread name string, container id string
 *   STACK    frame ids, leaf first; never 0
 *   SAMPLE   task, stack, outcome (enum counter, an OUTCOME row), count
 * The reader treats the worker as hostile: at the first record that breaks a rule the stream ends there and is
 * reported. */
#ifndef PROTO_STREAM_H
#define PROTO_STREAM_H

#include "common/buf.h"
#include "proto/counters.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum stream_record {
	STREAM_SECTION = 1,
	STREAM_STRING,
	STREAM_MAPPING,
	STREAM_FRAME,
	STREAM_NAME,
	STREAM_TASK,
	STREAM_STACK,
	STREAM_SAMPLE,
};

/* What a frame is; the suffix in folded stacks and the colour in the flame graph follow from it. */
enum frame_kind {
	FRAME_NATIVE,           /* no suffix */
	FRAME_KERNEL,           /* _[k] */
	FRAME_JIT,              /* no suffix: named by a perf map */
	FRAME_SYNTHETIC,        /* said by Bulkhead itself: "[truncated]" */
	FRAME_PYTHON,           /* _[p], with file and line */
	FRAME_JAVA_JIT,         /* _[j], as the next: compiled by C2, or a native method's wrapper */
	FRAME_JAVA_INLINED,     /* _[i] */
	FRAME_JAVA_INTERPRETED, /* _[0] */
	FRAME_JAVA_C1,          /* _[1] */
	FRAME_KIND_MAX,
};

/* Of a runtime that knows its source: the name is a function's, and there may be a file and a line. */
static inline bool frame_has_source(uint32_t kind)
{
	return kind >= FRAME_PYTHON && kind < FRAME_KIND_MAX;
}

enum {
	STREAM_VERSION = 1,
	STREAM_MAX_BYTES = 64 << 20, /* one worker's stream of one snapshot */
	STREAM_MAX_STRING = 4096,    /* bytes */
	STREAM_MAX_FRAMES = 4096,    /* frames of one stack: user, runtime and kernel */
	STREAM_MAX_IDS = 1 << 22,    /* of each kind in a section */
};

/* Samples in one SAMPLE record: sums of a whole stream stay far below 64 bits. */
#define STREAM_MAX_COUNT UINT32_MAX

/* Writing: records are collected in `out`; the owner writes them to the memfd and commits. Returns the id given, 0 when
 * the buffer is full. */
struct stream_writer {
	struct buf out;                                    /* limit: STREAM_MAX_BYTES */
	uint32_t strings, mappings, frames, tasks, stacks; /* ids given in this section */
};

struct stream_frame {
	uint32_t kind; /* enum frame_kind */
	uint32_t mapping;
	uint64_t address;
	uint32_t name, file, line, start_line;
};

struct stream_mapping {
	uint32_t file, build_id;
	uint64_t start, limit, offset;
};

struct stream_task {
	uint32_t pid;
	uint64_t start_time;
	uint32_t comm, thread, container;
};

void stream_section(struct stream_writer *w);
uint32_t stream_put_string(struct stream_writer *w, const void *bytes, size_t n); /* cut at STREAM_MAX_STRING */
uint32_t stream_put_mapping(struct stream_writer *w, const struct stream_mapping *mapping);
uint32_t stream_put_frame(struct stream_writer *w, const struct stream_frame *frame);
void stream_put_name(
	struct stream_writer *w, uint32_t frame, uint32_t name, uint32_t file, uint32_t line, uint32_t start_line);
uint32_t stream_put_task(struct stream_writer *w, const struct stream_task *task);
uint32_t stream_put_stack(struct stream_writer *w, const uint32_t *frames, size_t n);
void stream_put_sample(struct stream_writer *w, uint32_t task, uint32_t stack, enum counter outcome, uint64_t count);

/* Reading: the handler sees only records that keep the rules; ids are those of the current section. A handler returns 0
 * or a negative errno, which ends the reading and is returned. NULL handlers are skipped. */
struct stream_handler {
	void *context;
	int (*section)(void *context);
	int (*string)(void *context, uint32_t id, const uint8_t *bytes, size_t n);
	int (*mapping)(void *context, uint32_t id, const struct stream_mapping *mapping);
	int (*frame)(void *context, uint32_t id, const struct stream_frame *frame);
	int (*name)(void *context, uint32_t frame, uint32_t name, uint32_t file, uint32_t line, uint32_t start_line);
	int (*task)(void *context, uint32_t id, const struct stream_task *task);
	int (*stack)(void *context, uint32_t id, const uint32_t *frames, size_t n);
	int (*sample)(void *context, uint32_t task, uint32_t stack, enum counter outcome, uint64_t count);
};

/* 0; -EBADMSG at the first bad record (all before it were delivered); or what a handler returned. */
int stream_read(const uint8_t *bytes, size_t n, const struct stream_handler *handler);

#endif
