/* runtimes.def as an enum. Owner: proto; both halves include it. */
#ifndef PROTO_RUNTIMES_H
#define PROTO_RUNTIMES_H

enum runtime_id {
	RUNTIME_NONE = 0, /* native code */
#define RUNTIME(name, number, symbol, section, file) RUNTIME_##name = number,
#include "proto/runtimes.def"
#undef RUNTIME
	RUNTIME_MAX = 16,
};

const char *runtime_name(enum runtime_id id); /* "native" for RUNTIME_NONE; NULL: no such runtime */
const char *runtime_file(enum runtime_id id); /* part of the usual names of its files; NULL: no such runtime */

/* Why a lane that some processes belong to is closed; their samples go to native meanwhile. */
enum lane_away { AWAY_NO, AWAY_DISABLED, AWAY_FAILING };

#endif
