/* From unwound samples to a profile stream: dictionaries of strings, frames, tasks and stacks, counts, and names, which
 * are looked up in batches, behind the sampling, at normal priority. One stream a snapshot; a section begins with each
 * stream and with each worker that takes one over. One thread. */
#ifndef KIT_COLLECT_H
#define KIT_COLLECT_H

#include "kit/target.h"
#include "proto/counters.h"
#include "proto/stream.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Begins a section at `committed` bytes of the stream. The fd is taken over; the last one is closed and its lease given
 * back. */
void collect_stream(int fd, uint64_t lease, uint64_t committed);
bool collect_ready(void); /* there is a stream */

/* Ids for collect_sample; 0: out of memory, which counts as "[unknown]". `address` is what is looked up: for a return
 * address, one less. */
uint32_t collect_task(struct target *t, uint32_t pid, uint32_t tid);
uint32_t collect_user_frame(struct target *t, const struct code_range *code, uint64_t address);
uint32_t collect_kernel_frame(uint64_t address);
/* A frame of a runtime, which knows its source. What this section of the stream calls the names is remembered with the caller. line 0: not
 * known. */
struct collect_source {
	uint32_t section, name, file;
};
uint32_t collect_source_frame(enum frame_kind kind, struct collect_source *ids, const char *name, const char *file,
	uint32_t line, uint32_t start_line);
uint32_t collect_synthetic_frame(const char *name); /* a literal */
/* frames: leaf first. */
void collect_sample(uint32_t task, const uint32_t *frames, size_t n, enum counter outcome);

/* Writes what was collected to the stream; the length to commit. Exits when the stream cannot be written. */
uint64_t collect_flush(void);

/* Looks names up when it is time for it, or now. False: answers (debug files, perf maps, kernel symbols) are still
 * awaited. */
bool collect_names(bool now);

#endif
