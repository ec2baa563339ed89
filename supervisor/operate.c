/* What operators may order, over the status socket. Each order is logged with who gave it, whether it was carried out or not. */
#include "supervisor.h"

#include <stdio.h>
#include <string.h>

static struct worker *find(struct supervisor *s, const char *name)
{
	for (unsigned i = 0; i < s->workers_count; i++)
		if (!strcmp(s->workers[i].row->name, name))
			return &s->workers[i];
	return NULL;
}

__attribute__((format(printf, 3, 4))) static void say(char *words, size_t size, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	vsnprintf(words, size, format, args);
	va_end(args);
}

static void list_workers(const struct supervisor *s, char *words, size_t size)
{
	size_t at = (size_t)snprintf(words, size, "there is no such worker: there are");
	for (unsigned i = 0; i < s->workers_count && at < size; i++)
		at += (size_t)snprintf(words + at, size - at, "%s %s", i ? "," : "", s->workers[i].row->name);
}

static bool restart(struct worker *w, char *words, size_t size)
{
	if (w->disabled) {
		say(words, size, "%s is disabled: enable it first", w->row->name);
		return false;
	}
	w->leashed = 0;
	if (worker_running(w)) {
		heir_of(w)->heir_wait_ns = 0;
		handover_begin(w, CAUSE_operator, "the operator wants it");
		say(words, size, "%s: its successor is being started", w->row->name);
		return true;
	}
	if (w->life.state != LIFE_BACKOFF && w->life.state != LIFE_EMPTY) {
		say(words, size, "%s is %s: try again when that is over", w->row->name, life_state_name(w->life.state));
		return false;
	}
	worker_event(w, LIFE_START, CAUSE_operator);
	say(words, size, "%s is being started", w->row->name);
	return true;
}

static bool disable(struct worker *w, char *words, size_t size)
{
	if (w->disabled) {
		say(words, size, "%s is disabled already", w->row->name);
		return false;
	}
	w->disabled = true;
	worker_event(w, LIFE_STOP, CAUSE_operator);
	say(words, size, "%s is disabled until you enable it, or the service is started anew", w->row->name);
	return true;
}

static bool enable(struct worker *w, char *words, size_t size)
{
	if (!w->disabled) {
		say(words, size, "%s is not disabled", w->row->name);
		return false;
	}
	w->disabled = false;
	w->leashed = 0;
	memset(w->life.failures, 0, sizeof w->life.failures);
	worker_event(w, LIFE_START, CAUSE_operator);
	say(words, size, "%s is being started", w->row->name);
	return true;
}

static bool carry_out(struct supervisor *s, const struct status_request *request, char *words, size_t size)
{
	struct worker *w = find(s, request->argument);
	int level;
	if (s->stopping) {
		say(words, size, "the service is stopping");
		return false;
	}
	switch (request->order) {
	case OPERATE_restart:
	case OPERATE_disable:
	case OPERATE_enable:
		if (!w) {
			list_workers(s, words, size);
			return false;
		}
		return request->order == OPERATE_restart   ? restart(w, words, size)
		       : request->order == OPERATE_disable ? disable(w, words, size)
							   : enable(w, words, size);
	case OPERATE_snapshot:
		if (!snapshot_now(s)) {
			say(words, size, "no snapshot is running, or one is still being written: try again");
			return false;
		}
		say(words, size, "snapshot %llu ends now", (unsigned long long)s->snapshots.closing.id);
		return true;
	case OPERATE_loglevel:
		level = log_level_from_name(request->argument);
		if (level < 0) {
			say(words, size, "a level is error, warning, info or debug");
			return false;
		}
		log_set_level((enum log_level)level);
		say(words, size, "the log level is %s now", request->argument);
		return true;
	default:
		say(words, size, "there is no such order");
		return false;
	}
}

static const char *order_name(unsigned order)
{
#define OPERATE(name, number, argument, words)                                                                         \
	if (order == (number))                                                                                         \
		return #name;
	OPERATES(OPERATE)
#undef OPERATE
	return "?";
}

bool operate(struct supervisor *s, const struct status_request *request, const char *who, char *words, size_t size)
{
	bool done = carry_out(s, request, words, size);
	log_warn("operator (%s): %s%s%s: %s", who, order_name(request->order), request->argument[0] ? " " : "",
		request->argument, words);
	return done;
}
