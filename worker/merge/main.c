/* bulkhead-merge: sums the parts of a snapshot and writes what was asked for into lent files. Exit codes: kit.h. */
#include "common/log.h"
#include "kit/kit.h"
#include "merge/encode.h"
#include "merge/meta.h"
#include "merge/missed.h"
#include "merge/profile.h"
#include "proto/lease.h"

#include <errno.h>
#include <malloc.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PARTS_MAX = 64, OUTPUTS_MAX = 32, TEXT_MAX = 256, MISSING_MAX = 4096 };

struct lent {
	int fd;
	uint64_t lease, value[2];
};

static struct kit kit;
static struct lent parts[PARTS_MAX], lanes[PARTS_MAX], outputs[OUTPUTS_MAX];
static size_t nparts, nlanes, noutputs;

static void give_back(struct lent *lent, size_t *n)
{
	uint64_t leases[PARTS_MAX > OUTPUTS_MAX ? PARTS_MAX : OUTPUTS_MAX];
	for (size_t i = 0; i < *n; i++) {
		close(lent[i].fd);
		leases[i] = lent[i].lease;
	}
	if (*n)
		(void)channel_send(&kit.channel, MSG_RELEASE, -1, (const uint64_t *)leases, *n);
	*n = 0;
}

static void lend(const struct frame *f)
{
	struct lent lent = { f->fd, f->field[0].u, { f->field[2].u, f->field[3].u } };
	size_t one = 1;
	if (f->field[1].u == LEASE_PART && nparts < PARTS_MAX)
		parts[nparts++] = lent;
	else if (f->field[1].u == LEASE_MISSED && nlanes < PARTS_MAX)
		lanes[nlanes++] = lent;
	else if (f->field[1].u == LEASE_OUTPUT && noutputs < OUTPUTS_MAX)
		outputs[noutputs++] = lent;
	else
		give_back(&lent, &one);
}

/* One worker's stream into the profile. The bytes beyond what was committed do not exist. */
static void add_part(struct profile *profile, const struct lent *part, uint64_t counters[COUNTER_MAX])
{
	size_t size = part->value[1] <= STREAM_MAX_BYTES ? part->value[1] : STREAM_MAX_BYTES, n = 0;
	uint8_t *bytes = malloc(size ? size : 1);
	while (bytes && n < size) {
		ssize_t got = pread(part->fd, bytes + n, size - n, (off_t)n);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			break;
		n += (size_t)got;
	}
	int r = bytes ? profile_add_stream(profile, bytes, n) : -ENOMEM;
	free(bytes);
	if (r == -EBADMSG)
		counters[COUNTER_bad_stream]++;
	if (r < 0)
		log_error("the stream of worker %llu: %s", (unsigned long long)part->value[0], strerror(-r));
}

/* Lanes of workers that were late, in the order of the lines that say why. */
static void add_missed(struct profile *profile, struct profile_meta *meta)
{
	const char *line_at = meta->missing;
	char why[ESCAPE_MAX];
	for (size_t i = 0; i < nlanes; i++) {
		struct lane lane;
		const char *line = meta_missing_line(&line_at, why);
		int r = lane_open_read_only(
			&lane, lanes[i].fd, (uint32_t)(lanes[i].value[1] >> 32), (uint32_t)lanes[i].value[1]);
		if (!r) {
			r = missed_add(profile, &lane, meta->snapshot, line ? line : "missing", meta->counters);
			lane_close(&lane);
		}
		if (r < 0)
			log_error("the lane of worker %llu: %s", (unsigned long long)lanes[i].value[0], strerror(-r));
	}
}

/* What nothing else explains was in the ring that was damaged. */
static void count_damage(uint64_t counters[COUNTER_MAX])
{
	if (!counters[COUNTER_lane_damaged])
		return;
	counters[COUNTER_lane_damaged] = 0;
	int64_t left = counters_unaccounted(counters);
	counters[COUNTER_lane_damaged] = left > 0 ? (uint64_t)left : 0;
}

static int encode_as(const struct profile *profile, const struct profile_meta *meta, const struct lent *output)
{
	switch (output->value[0]) {
	case OUTPUT_PPROF:
		return encode_pprof(profile, meta, output->fd);
	case OUTPUT_FOLDED:
		return encode_folded(profile, meta, output->fd);
	case OUTPUT_HTML:
		return encode_html(profile, meta, output->fd);
	case OUTPUT_SUMMARY:
		return encode_summary(profile, meta, output->fd);
	default:
		return -EINVAL;
	}
}

/* A disk may take long, so it is for us to wait for it. */
static int encode(const struct profile *profile, const struct profile_meta *meta, const struct lent *output)
{
	int r = encode_as(profile, meta, output);
	return !r && output->value[1] && fsync(output->fd) ? -errno : r;
}

static void copy_text(char *to, size_t size, const struct field *from)
{
	size_t n = from->n < size - 1 ? from->n : size - 1;
	memcpy(to, from->data, n);
	to[n] = 0;
}

static void merge(const struct frame *f)
{
	char event[TEXT_MAX], host[TEXT_MAX], missing[MISSING_MAX];
	copy_text(event, sizeof event, &f->field[4]);
	copy_text(host, sizeof host, &f->field[5]);
	copy_text(missing, sizeof missing, &f->field[6]);
	struct profile_meta meta = { .snapshot = f->field[0].u,
		.start_ns = f->field[1].u,
		.duration_ns = f->field[2].u,
		.frequency_hz = f->field[3].u,
		.event = event,
		.hostname = host,
		.missing = missing };
	for (size_t i = 0; i < f->field[7].n && i < COUNTER_MAX; i++)
		meta.counters[i] = f->field[7].array[i];

	struct profile *profile = profile_new();
	if (!profile)
		_exit(KIT_EXIT_MEMORY);
	for (size_t i = 0; i < nparts; i++)
		add_part(profile, &parts[i], meta.counters);
	give_back(parts, &nparts);
	add_missed(profile, &meta);
	give_back(lanes, &nlanes);
	for (enum counter c = 0; c < COUNTER_MAX; c++)
		if (counter_source(c) == COUNTER_SOURCE_OUTCOME)
			meta.counters[c] = profile_outcome(profile, c);
	meta.counters[COUNTER_merge_full] += profile_dropped(profile);
	count_damage(meta.counters);
	int r = 0;
	for (size_t i = 0; i < noutputs && !r; i++)
		r = encode(profile, &meta, &outputs[i]);
	give_back(outputs, &noutputs);
	uint64_t processes = profile_process_count(profile), stacks = profile_stack_count(profile);
	profile_free(profile);
	malloc_trim(0);
	(void)channel_send(&kit.channel, MSG_MERGED, -1, meta.snapshot, (uint64_t)-r, processes, stacks,
		(const uint64_t *)meta.counters, (size_t)COUNTER_MAX);
}

int main(int argc, char **argv)
{
	kit_start(&kit, "merge", PARTY_MERGE, KIT_WRITES, argc, argv);
	for (;;) {
		struct pollfd fd = { kit.channel.fd, POLLIN, 0 };
		poll(&fd, 1, -1);
		struct frame f;
		while (kit_receive(&kit, &f)) {
			if (f.row->number == MSG_LEND)
				lend(&f);
			else if (f.row->number == MSG_MERGE)
				merge(&f);
			else if (f.row->number == MSG_SHED)
				malloc_trim(0);
			else if (f.row->number == MSG_STOP)
				_exit(KIT_EXIT_OK);
		}
	}
}
