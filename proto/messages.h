/* messages.def as an enum, with lookups. Owner: proto; both halves include it. */
#ifndef PROTO_MESSAGES_H
#define PROTO_MESSAGES_H

#include <stdbool.h>
#include <stdint.h>

/* Part of READY: a worker of another version is refused. Bump it with every change of messages.def, lane.h or stream.h.
 */
enum { PROTO_VERSION = 4 };

enum message {
#define MESSAGE(name, number, from, to, phases, signature, flags, max_bytes, max_per_s, words) MSG_##name = number,
#include "proto/messages.def"
#undef MESSAGE
};

/* Who speaks. LANE, SAMPLER, MERGE and OPENER are all WORKER too. */
enum party {
	PARTY_SUPERVISOR = 1,
	PARTY_SAMPLER = 2,
	PARTY_LANE = 4,
	PARTY_MERGE = 8,
	PARTY_OPENER = 16,
	PARTY_CLIENT = 32,
	PARTY_WORKER = PARTY_SAMPLER | PARTY_LANE | PARTY_MERGE | PARTY_OPENER,
};

enum phase { PHASE_S = 1, PHASE_V = 2, PHASE_R = 4, PHASE_D = 8 };

enum message_flag { MESSAGE_ONCE = 1, MESSAGE_FD = 2, MESSAGE_MAYBE_FD = 4 };

/* START flags */
enum start_flag {
	START_CARRY_MORE =
		1,        /* samples carry a large copy of the stack: real-time priority or pinning is not to be had */
	START_NO_PIN = 2, /* the operator refuses pinning */
};

/* ASK questions */
enum ask { ASK_STATUS = 1, ASK_LEDGER = 2, ASK_TARGETS = 3 };

/* TARGET's numbers. */
enum target_number {
	TARGET_PID,
	TARGET_START,   /* clock ticks since boot; 0: not known */
	TARGET_RUNTIME, /* enum runtime_id */
	TARGET_TAKEN,   /* 1: that runtime's worker has its samples */
	TARGET_SAMPLES,
	TARGET_TORN,
	TARGET_SKEWED,
	TARGET_UNREADABLE,
	TARGET_TRUNCATED,
	TARGET_LATE, /* and early: innermost frames only */
	TARGET_NUMBERS
};

/* OPERATE orders. OPERATE(name, number, argument, words): argument: what it takes; NULL: nothing */
#define OPERATES(OPERATE)                                                                                              \
	OPERATE(restart, 1, "WORKER", "end a worker and start it anew, its successor first")                           \
	OPERATE(disable, 2, "WORKER", "end a worker, and do not start it until it is enabled")                         \
	OPERATE(enable, 3, "WORKER", "start a worker that was disabled")                                               \
	OPERATE(snapshot, 4, NULL, "end the running snapshot now, and begin the next one")                             \
	OPERATE(loglevel, 5, "LEVEL", "log error, warning, info or debug from now on")

enum operate {
#define OPERATE(name, number, argument, words) OPERATE_##name = number,
	OPERATES(OPERATE)
#undef OPERATE
};

struct message_row {
	const char *name;
	uint8_t number, from, to, phases, flags;
	const char *signature;
	uint32_t max_bytes, max_per_s;
	const char *words;
};

enum { MESSAGE_MAX_BYTES = 60000, MESSAGE_MAX_FIELDS = 8, MESSAGE_NUMBER_MAX = 64 };

const struct message_row *message_row(unsigned number); /* NULL: no such message */
/* All rows, ended by a NULL name. */
const struct message_row *message_rows(void);

#endif
