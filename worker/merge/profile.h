/* One snapshot in memory: the sum of the workers' streams, which are disjoint. Built by the merge worker's main loop,
 * read by the encoders. Everything in the streams is hostile; every string that leaves here is escaped
 * (common/escape.h).
 *
 * All ids begin at 1; string 0 is the empty string, mapping 0 is none. Pointers that accessors return are valid until
 * the next profile_add_stream(). */
#ifndef MERGE_PROFILE_H
#define MERGE_PROFILE_H

#include "proto/counters.h"
#include "proto/stream.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	/* A profile of 128 busy CPUs in a minute (760,000 samples, 200,000 distinct stacks of 40 frames) takes 60 MiB.
	 */
	PROFILE_MAX_BYTES = 256 << 20,
	/* One stream while it is read, beside its bytes: records refer back, and names come late. */
	PROFILE_DRAFT_MAX_BYTES = 192 << 20,
};

struct profile_meta {
	uint64_t snapshot;
	uint64_t start_ns; /* since 1970 */
	uint64_t duration_ns;
	uint64_t frequency_hz;
	const char *event, *hostname; /* borrowed, as yet unescaped */
	const char *missing;          /* borrowed: one "worker: cause" a line; NULL or "": none */
	uint64_t counters[COUNTER_MAX];
};

struct profile_frame {
	uint64_t address;
	uint32_t kind; /* enum frame_kind */
	uint32_t mapping;
	uint32_t name, file; /* strings; name 0: unknown */
	uint32_t line, start_line;
	uint32_t display; /* string: never 0; the name that people see */
	uint32_t padding; /* always 0: frames are compared as bytes */
};

struct profile_mapping {
	uint64_t start, limit, offset;
	uint32_t file, build_id; /* strings */
};

struct profile_task {
	uint64_t start_time;
	uint32_t pid;
	uint32_t comm, thread, container; /* strings */
	uint32_t process;
	uint32_t padding;
};

struct profile_process {
	uint64_t start_time;
	uint64_t samples;
	uint32_t pid;
	uint32_t comm; /* string: the last one seen */
};

struct profile_sample {
	uint32_t task; /* 0: not known */
	uint32_t stack;
	enum counter outcome;
	uint64_t count;
};

struct profile;

struct profile *profile_new(void); /* NULL: no memory */
void profile_free(struct profile *p);

/* Adds one stream. 0; -EBADMSG: malformed, what came before the first bad record is added; -E2BIG or -ENOMEM: over a
 * limit, samples that no longer fit are counted by profile_dropped(). No stream can use more than half of the memory
 * that is left when it begins, so a hostile one does not keep the next ones out. */
int profile_add_stream(struct profile *p, const uint8_t *bytes, size_t n);

uint64_t profile_total(const struct profile *p);   /* samples */
uint64_t profile_dropped(const struct profile *p); /* samples that no longer fit */
uint64_t profile_outcome(const struct profile *p, enum counter outcome);

uint32_t profile_string_count(const struct profile *p);
uint32_t profile_mapping_count(const struct profile *p);
uint32_t profile_frame_count(const struct profile *p);
uint32_t profile_stack_count(const struct profile *p); /* distinct stacks */
uint32_t profile_process_count(const struct profile *p);
uint32_t profile_sample_count(const struct profile *p); /* distinct triples of task, stack and outcome */

const char *profile_string(const struct profile *p, uint32_t id);
struct profile_mapping profile_mapping(const struct profile *p, uint32_t id);
struct profile_frame profile_frame(const struct profile *p, uint32_t id);
/* All zero for task 0. */
struct profile_task profile_task(const struct profile *p, uint32_t id);
struct profile_process profile_process(const struct profile *p, uint32_t id);
/* Frame ids, leaf first. */
const uint32_t *profile_stack(const struct profile *p, uint32_t id, size_t *ret_n);
struct profile_sample profile_sample(const struct profile *p, uint32_t id);

/* Building, for draft.c: each interns one thing whose parts are interned already. 0, -E2BIG or -ENOMEM. */
int profile_add_string(struct profile *p, const void *bytes, size_t n, uint32_t *ret_id); /* escapes */
int profile_add_mapping(struct profile *p, const struct profile_mapping *mapping, uint32_t *ret_id);
int profile_add_frame(struct profile *p, struct profile_frame frame, uint32_t *ret_id); /* sets display */
int profile_add_task(struct profile *p, struct profile_task task, uint32_t *ret_id);    /* sets process */
int profile_add_stack(struct profile *p, const uint32_t *frames, size_t n, uint32_t *ret_id);
int profile_add_sample(struct profile *p, const struct profile_sample *sample);
void profile_drop(struct profile *p, uint64_t samples);

#endif
