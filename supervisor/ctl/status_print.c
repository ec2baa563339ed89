#include "status.h"

#include "ctl.h"
#include "proto/counters.h"

#include <stdlib.h>
#include <string.h>

enum { CELL = 96 /* bytes of a table's cell; longer text is cut */, COLUMNS_MAX = 16, ROWS_MAX = 4096 };

static const pack *item(const pack *array, uint32_t i)
{
	return array && array->type == MSGPACK_OBJECT_ARRAY && i < array->via.array.size ? &array->via.array.ptr[i]
											 : NULL;
}

/* Cells of one row after the other; the first row is the head. Right-aligned where `right` says so. */
struct table {
	unsigned columns, rows;
	const bool *right;
	char (*cells)[CELL];
};

static void print_table(const struct table *t, FILE *out)
{
	int width[COLUMNS_MAX] = { 0 };
	for (unsigned i = 0; i < t->rows * t->columns; i++) {
		int n = (int)strlen(t->cells[i]);
		if (n > width[i % t->columns])
			width[i % t->columns] = n;
	}
	for (unsigned i = 0; i < t->rows * t->columns; i++) {
		unsigned column = i % t->columns;
		bool last = column + 1 == t->columns;
		fprintf(out, "%s%*s%s", column ? "  " : "  ",
			t->right[column] ? width[column]
			: last           ? 0
					 : -width[column],
			t->cells[i], last ? "\n" : "");
	}
}

static void worker_cells(const pack *w, char cells[][CELL])
{
	struct human h;
	const pack *latency = pack_get(w, "latency_us");
	unsigned c = 0;
	pack_text(w, "name", cells[c++], CELL);
	pack_show(pack_get(w, "pid"), cells[c++], CELL);
	pack_text(w, "state", cells[c++], CELL);
	snprintf(cells[c++], CELL, "%s", human_seconds(&h, pack_number(w, "uptime_s", 0)));
	pack_show(pack_get(w, "restarts"), cells[c++], CELL);
	pack_text(w, "last_cause", cells[c++], CELL);
	snprintf(cells[c++], CELL, "%s", human_bytes(&h, pack_number(w, "pss_bytes", 0)));
	snprintf(cells[c++], CELL, "%s", human_bytes(&h, pack_number(w, "rss_bytes", 0)));
	snprintf(cells[c++], CELL, "%.2f s", pack_number(w, "cpu_s", 0));
	pack_show(pack_get(w, "fds"), cells[c++], CELL);
	pack_show(pack_get(w, "leases"), cells[c++], CELL);
	if (pack_number(latency, "p99", 0) > 0)
		snprintf(cells[c++], CELL, "%.0f / %.0f us", pack_number(latency, "p50", 0),
			pack_number(latency, "p99", 0));
	else
		snprintf(cells[c++], CELL, "-");
}

static void print_workers(const pack *workers, FILE *out)
{
	static const char *const head[] = { "worker", "pid", "state", "up", "restarts", "last cause", "PSS", "RSS",
		"CPU", "fds", "leases", "p50 / p99" };
	static const bool right[] = { false, true, false, true, true, false, true, true, true, true, true, true };
	enum { COLUMNS = sizeof head / sizeof *head, WORKERS = 64 };
	static char cells[(WORKERS + 1) * COLUMNS][CELL];
	unsigned rows = 1;
	for (unsigned i = 0; i < COLUMNS; i++)
		snprintf(cells[i], CELL, "%s", head[i]);
	for (uint32_t i = 0; rows <= WORKERS && item(workers, i); i++, rows++)
		worker_cells(item(workers, i), cells + rows * COLUMNS);
	fputc('\n', out);
	print_table(&(struct table) { COLUMNS, rows, right, cells }, out);
}

static void print_sandbox(const pack *w, FILE *out)
{
	char text[512];
	const pack *s = pack_get(w, "sandbox");
	uint64_t capabilities = pack_u64(s, "caps", 0);
	fprintf(out, "  %-10s ", pack_text(w, "name", text, sizeof text));
	fprintf(out, "uid %llu, ", (unsigned long long)pack_u64(s, "uid", 0));
	if (capabilities)
		fprintf(out, "capabilities 0x%llx, ", (unsigned long long)capabilities);
	else
		fprintf(out, "no capabilities, ");
	fprintf(out, "no new privileges: %s, ", pack_show(pack_get(s, "no_new_privs"), text, sizeof text));
	fprintf(out, "seccomp %s, ", pack_u64(s, "seccomp", 0) == 2 ? "filter" : "MISSING");
	fprintf(out, "own namespaces %s, ", pack_show(pack_get(s, "namespaces"), text, sizeof text));
	if (item(pack_get(s, "refused"), 0))
		fprintf(out, "refused %s, ", pack_show(pack_get(s, "refused"), text, sizeof text));
	fprintf(out, "Landlock ABI %llu, ", (unsigned long long)pack_u64(s, "landlock_abi", 0));
	fprintf(out, "root %s\n", pack_show(pack_get(s, "root"), text, sizeof text));
}

static void print_sandboxes(const pack *workers, FILE *out)
{
	fprintf(out, "\nsandbox\n");
	for (uint32_t i = 0; item(workers, i); i++)
		if (pack_get(item(workers, i), "sandbox"))
			print_sandbox(item(workers, i), out);
}

static void print_budget(const pack *w, FILE *out)
{
	char text[128], used[128];
	struct human a, b;
	const pack *budget = pack_get(w, "budget"), *memory = pack_get(budget, "memory"),
		   *cpu = pack_get(budget, "cpu_percent"), *fds = pack_get(budget, "fds"),
		   *threads = pack_get(budget, "processes");
	fprintf(out, "  %-10s ", pack_text(w, "name", text, sizeof text));
	fprintf(out, "memory %s of %s (%s)", human_bytes(&a, pack_number(memory, "used", 0)),
		human_bytes(&b, pack_number(memory, "limit", 0)), pack_text(memory, "by", text, sizeof text));
	fprintf(out, ", CPU %s of %s %% of one", pack_show(pack_get(cpu, "used"), used, sizeof used),
		pack_show(pack_get(cpu, "limit"), text, sizeof text));
	fprintf(out, " (%s)", pack_text(cpu, "by", text, sizeof text));
	fprintf(out, ", fds %s of %s", pack_show(pack_get(fds, "used"), used, sizeof used),
		pack_show(pack_get(fds, "limit"), text, sizeof text));
	fprintf(out, ", threads %s of %s", pack_show(pack_get(threads, "used"), used, sizeof used),
		pack_show(pack_get(threads, "limit"), text, sizeof text));
	fprintf(out, ", killed by %s\n", pack_text(budget, "kill_by", text, sizeof text));
}

static void print_budgets(const pack *workers, FILE *out)
{
	fprintf(out, "\nbudgets\n");
	for (uint32_t i = 0; item(workers, i); i++)
		if (pack_get(item(workers, i), "budget"))
			print_budget(item(workers, i), out);
}

static void print_avoided(const pack *avoided, FILE *out)
{
	char kind[CELL];
	struct human h;
	if (!item(avoided, 0))
		return;
	fprintf(out, "\navoided\n");
	for (uint32_t i = 0; item(avoided, i); i++) {
		const pack *one = item(avoided, i);
		uint64_t held = pack_u64(one, "hang_in_it", 0);
		fprintf(out, "  process %llu (started %llu ticks after boot): %s not read, ",
			(unsigned long long)pack_u64(one, "pid", 0), (unsigned long long)pack_u64(one, "start_time", 0),
			pack_text(one, "kind", kind, sizeof kind));
		if (held)
			fprintf(out, "%llu of our processes hanging in it\n", (unsigned long long)held);
		else
			fprintf(out, "for %s more\n", human_seconds(&h, pack_number(one, "for_s", 0)));
	}
}

static void print_counters(const pack *counters, FILE *out)
{
	struct human n;
	if (!pack_u64(counters, "taken", 0))
		fprintf(out, "%14d  samples\n", 0);
	for (int i = 0; i < COUNTER_MAX; i++) {
		uint64_t v = pack_u64(counters, counter_name((enum counter)i), 0);
		if (v)
			fprintf(out, "%14s  %s\n", human_count(&n, v), counter_words((enum counter)i));
	}
}

static void print_snapshot(const pack *status, FILE *out)
{
	struct human h;
	const pack *snapshot = pack_get(status, "snapshot"), *last = pack_get(snapshot, "last");
	if (!snapshot)
		return;
	fprintf(out, "\nsnapshot %llu: %s old", (unsigned long long)pack_u64(snapshot, "id", 0),
		human_seconds(&h, pack_number(snapshot, "age_s", 0)));
	fprintf(out, ", %s samples so far\n", human_count(&h, pack_u64(pack_get(snapshot, "so_far"), "taken", 0)));
	double unaccounted = pack_number(snapshot, "unaccounted", pack_number(last, "unaccounted", 0));
	if (unaccounted != 0)
		fprintf(out, "  %.0f samples are unaccounted for: this is a bug in Bulkhead, please report it\n",
			unaccounted);
	if (!last || last->type != MSGPACK_OBJECT_MAP || !last->via.map.size)
		return;
	fprintf(out, "the one before\n");
	/* the counters stand in it, or in a map of their own */
	print_counters(pack_get(last, "counters") ? pack_get(last, "counters") : last, out);
}

static void print_event(const pack *status, FILE *out)
{
	char text[CELL];
	if (!pack_get(status, "event"))
		return;
	fprintf(out, "  sampling    %s at %llu Hz", pack_text(status, "event", text, sizeof text),
		(unsigned long long)pack_u64(status, "frequency", 0));
	fprintf(out, ", %s real-time priority, %s, %llu bytes of stack in each sample\n",
		pack_bool(status, "realtime", false) ? "with" : "without",
		pack_bool(status, "pinned", false) ? "pinned" : "not pinned",
		(unsigned long long)pack_u64(status, "stack_bytes", 0));
}

void status_print(const pack *status, FILE *out)
{
	char text[512];
	struct human h;
	const pack *supervisor = pack_get(status, "supervisor"), *ledger = pack_get(status, "ledger");
	const pack *problems = pack_get(status, "problems");
	bool healthy = pack_bool(status, "healthy", true);
	fprintf(out, "bulkheadd %s is %s\n", pack_text(status, "version", text, sizeof text),
		healthy ? "healthy" : "NOT healthy");
	for (uint32_t i = 0; item(problems, i); i++)
		fprintf(out, "  - %s\n", pack_show(item(problems, i), text, sizeof text));
	fprintf(out, "\n  supervisor  pid %llu, up %s", (unsigned long long)pack_u64(supervisor, "pid", 0),
		human_seconds(&h, pack_number(supervisor, "uptime_s", 0)));
	fprintf(out, ", %s PSS", human_bytes(&h, pack_number(supervisor, "pss_bytes", 0)));
	fprintf(out, ", %s RSS", human_bytes(&h, pack_number(supervisor, "rss_bytes", 0)));
	fprintf(out, ", %llu fds, longest stall %.1f ms", (unsigned long long)pack_u64(supervisor, "fds", 0),
		pack_number(supervisor, "loop_stall_us_max", 0) / 1000);
	fprintf(out, ", longest work %.1f ms\n", pack_number(supervisor, "loop_cpu_us_max", 0) / 1000);
	print_event(status, out);
	if (ledger)
		fprintf(out, "  ledger      %llu fds and %llu processes lent out\n",
			(unsigned long long)pack_u64(ledger, "fds", 0),
			(unsigned long long)pack_u64(ledger, "pids", 0));
	print_workers(pack_get(status, "workers"), out);
	print_budgets(pack_get(status, "workers"), out);
	print_sandboxes(pack_get(status, "workers"), out);
	print_avoided(pack_get(status, "avoided"), out);
	print_snapshot(status, out);
}

/* An array of maps: the keys of the first are the columns. */
static void print_maps(const pack *array, FILE *out)
{
	static const bool right[COLUMNS_MAX];
	const pack *first = item(array, 0);
	uint32_t n = array->via.array.size < ROWS_MAX ? array->via.array.size : ROWS_MAX;
	unsigned columns = first->via.map.size < COLUMNS_MAX ? first->via.map.size : COLUMNS_MAX;
	char(*cells)[CELL] = calloc((size_t)(n + 1) * columns, CELL);
	if (!cells)
		return;
	for (unsigned c = 0; c < columns; c++) {
		char key[CELL];
		pack_show(&first->via.map.ptr[c].key, key, sizeof key);
		memcpy(cells[c], key, CELL);
		for (uint32_t i = 0; i < n; i++)
			pack_show(pack_get(item(array, i), key), cells[(i + 1) * columns + c], CELL);
	}
	print_table(&(struct table) { columns, n + 1, right, cells }, out);
	free(cells);
	if (n < array->via.array.size)
		fprintf(out, "  and %u more: --json has them all\n", array->via.array.size - n);
}

void status_print_generic(const pack *answer, FILE *out)
{
	char text[512];
	if (answer->type != MSGPACK_OBJECT_MAP) {
		fprintf(out, "%s\n", pack_show(answer, text, sizeof text));
		return;
	}
	for (uint32_t i = 0; i < answer->via.map.size; i++) {
		const pack *value = &answer->via.map.ptr[i].val, *first = item(value, 0);
		fprintf(out, "%s", pack_show(&answer->via.map.ptr[i].key, text, sizeof text));
		if (first && first->type == MSGPACK_OBJECT_MAP && first->via.map.size) {
			fprintf(out, "\n");
			print_maps(value, out);
		} else {
			fprintf(out, ": %s\n", pack_show(value, text, sizeof text));
		}
	}
}
