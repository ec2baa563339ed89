/* What the merge worker says about a recording: lines of fields with tabs between, into a memfd. */
#ifndef CTL_SUMMARY_H
#define CTL_SUMMARY_H

#include "proto/counters.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum {
	SUMMARY_ROWS = 10,         /* hottest processes and functions shown */
	SUMMARY_NAME = 200,        /* bytes of a name shown */
	SUMMARY_MISSING = 16,      /* workers that can be missing */
	SUMMARY_BYTES = 256 << 10, /* of the text; a real one has 2 KiB */
};

struct summary_row {
	uint64_t a, b; /* process: samples, pid; function: samples in itself, and in it and what it called */
	char name[SUMMARY_NAME];
};

struct summary {
	uint64_t samples, processes, stacks;
	uint64_t counters[COUNTER_MAX];
	struct summary_row process[SUMMARY_ROWS], function[SUMMARY_ROWS];
	unsigned process_count, function_count;
	char missing[SUMMARY_MISSING][SUMMARY_NAME];
	unsigned missing_count;
};

/* Lines that make no sense are passed over. Changes the text, which ends with a NUL. */
void summary_parse(struct summary *s, char *text);
void summary_print(const struct summary *s, FILE *out);

#endif
