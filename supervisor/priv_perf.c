/* The perf events, one per CPU, with their rings. The attributes are built here and nowhere else. We map each ring
 * first and keep it: so it outlives a sampler (law 6), and its pages are charged to us and not to a user without
 * privilege, whose mmap of the same fd then shares them. We never look into the pages. */
#include "supervisor.h"

#include "common/clock.h"
#include "proto/perf_regs.h"

#include <errno.h>
#include <linux/perf_event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static const struct {
	const char *name;
	uint32_t type;
	uint64_t config;
} events[] = {
	{ "cycles", PERF_TYPE_HARDWARE, PERF_COUNT_HW_CPU_CYCLES },
	{ "cpu-clock", PERF_TYPE_SOFTWARE, PERF_COUNT_SW_CPU_CLOCK }, /* virtual machines without a PMU */
};

enum {
	EVENTS_COUNT = sizeof events / sizeof *events,
	WAKE_RING_PAGES = 1,
	/* Less than a record of a mapping, which is 72 bytes and a name; those of a thread's birth and end are 32 (linux/perf_event.h). */
	WAKE_BYTES = 64,
};

static struct perf_event_attr attributes(unsigned event, uint32_t frequency, uint32_t stack_bytes)
{
	return (struct perf_event_attr) {
		.size = sizeof(struct perf_event_attr),
		.type = events[event].type,
		.config = events[event].config,
		.freq = 1,
		.sample_freq = frequency,
		.sample_type = PERF_SAMPLE_TID | PERF_SAMPLE_TIME | PERF_SAMPLE_CPU | PERF_SAMPLE_CALLCHAIN |
			       PERF_SAMPLE_REGS_USER | PERF_SAMPLE_STACK_USER,
		.sample_regs_user = PERF_REGS_MASK,
		.sample_stack_user = stack_bytes,
		.exclude_callchain_user = 1, /* by frame pointers, which are not there */
		.exclude_idle = 1,
		.exclude_guest = events[event].type == PERF_TYPE_HARDWARE, /* a guest's addresses mean nothing here */
		.sample_id_all = 1,
		.mmap = 1, /* executable mappings only */
		.mmap2 = 1,
		.comm = 1,
		.comm_exec = 1,
		.task = 1,
		.wakeup_events = 1, /* every sample wakes: the frozen read; for the rest, see wake_attributes */
		.use_clockid = 1,
		.clockid = CLOCK_MONOTONIC,
		.disabled = 1,
	};
}

static size_t ring_bytes(uint32_t pages)
{
	return (1 + (size_t)pages) * (size_t)sysconf(_SC_PAGESIZE);
}

/* The sampler is to know of a program before its first sample, to have its memory lent by then. If all records of the samples'
 * event woke it, a program that starts threads would do so for each birth and end. So a second event, which no sample is of, tells
 * it of mappings once more. The kernel puts births and ends into its ring too, but several of those are needed to wake. Where only
 * some processes are wanted, a child is to be known of at once: it may be sampled on another CPU. */
static struct perf_event_attr wake_attributes(bool some)
{
	return (struct perf_event_attr) {
		.size = sizeof(struct perf_event_attr),
		.type = PERF_TYPE_SOFTWARE,
		.config = PERF_COUNT_SW_DUMMY,
		.mmap = 1,
		.mmap2 = 1,
		.watermark = 1,
		.wakeup_watermark = some ? 1 : WAKE_BYTES,
		.disabled = 1,
	};
}

static int open_attr(const struct perf_event_attr *attr, uint32_t cpu)
{
	int fd = (int)syscall(SYS_perf_event_open, attr, -1, cpu, -1, PERF_FLAG_FD_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int open_event(const struct perf *perf, unsigned event, uint32_t cpu)
{
	struct perf_event_attr attr = attributes(event, perf->frequency, perf->stack_bytes);
	return open_attr(&attr, cpu);
}

/* The first event that this CPU has; the others then use the same. */
static int choose_event(struct perf *perf, uint32_t cpu, unsigned *ret_event)
{
	int r = -ENODEV;
	for (unsigned event = 0; event < EVENTS_COUNT; event++) {
		r = open_event(perf, event, cpu);
		if (r >= 0) {
			*ret_event = event;
			return r;
		}
		log_debug("perf event %s on CPU %u: %s", events[event].name, cpu, strerror(-r));
		if (r == -EACCES || r == -EPERM)
			break;
	}
	return r;
}

static unsigned event_index(const struct perf *perf)
{
	for (unsigned event = 0; event < EVENTS_COUNT; event++)
		if (perf->event == events[event].name)
			return event;
	return 0;
}

static void close_event(struct perf_event *event, uint32_t pages)
{
	if (event->ring)
		munmap(event->ring, ring_bytes(pages));
	if (event->fd >= 0)
		close(event->fd);
	*event = (struct perf_event) { .fd = -1 };
}

static void close_cpu(struct perf *perf, uint32_t cpu)
{
	close_event(&perf->cpus[cpu].samples, perf->pages);
	close_event(&perf->cpus[cpu].wake, WAKE_RING_PAGES);
}

static int map_ring(struct perf_event *event, int fd, uint32_t pages)
{
	void *ring = mmap(NULL, ring_bytes(pages), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (ring == MAP_FAILED) {
		int error = errno;
		close(fd);
		return -error;
	}
	*event = (struct perf_event) { fd, ring };
	return 0;
}

static int open_cpu(struct supervisor *s, uint32_t cpu)
{
	struct perf *perf = &s->perf;
	unsigned event = event_index(perf);
	int fd = perf->event ? open_event(perf, event, cpu) : choose_event(perf, cpu, &event);
	int r = fd < 0 ? fd : map_ring(&perf->cpus[cpu].samples, fd, perf->pages);
	if (r < 0)
		return r;
	struct perf_event_attr wake = wake_attributes(s->record.follow_count > 0);
	fd = open_attr(&wake, cpu);
	r = fd < 0 ? fd : map_ring(&perf->cpus[cpu].wake, fd, WAKE_RING_PAGES);
	if (r < 0) {
		close_cpu(perf, cpu);
		return r;
	}
	perf->event = events[event].name;
	return 0;
}

/* Online, and not set apart by the machine's owner unless the configuration says so. */
static int wanted_cpus(const struct supervisor *s, struct cpu_set_bits *ret)
{
	static const char *const set_apart[] = { "/sys/devices/system/cpu/isolated",
		"/sys/devices/system/cpu/nohz_full" };
	int r = cpulist_read("/sys/devices/system/cpu/online", ret);
	if (r < 0 || s->config.isolated_cpus)
		return r;
	for (unsigned i = 0; i < 2; i++) {
		struct cpu_set_bits apart;
		if (cpulist_read(set_apart[i], &apart) < 0)
			continue; /* this kernel has no such thing */
		for (unsigned word = 0; word < sizeof apart.word / sizeof *apart.word; word++)
			ret->word[word] &= ~apart.word[word];
	}
	return 0;
}

static void explain(int error, uint32_t cpu)
{
	if (error == EACCES || error == EPERM)
		log_error("perf events are refused: run as root, or with CAP_PERFMON (CAP_SYS_ADMIN before Linux 5.8); "
			  "in a "
			  "container, its seccomp profile must allow perf_event_open");
	else
		log_error("perf event on CPU %u: %s", cpu, strerror(error));
}

int priv_perf_open(struct supervisor *s)
{
	struct perf *perf = &s->perf;
	struct cpu_set_bits wanted;
	int r = wanted_cpus(s, &wanted);
	if (r < 0) {
		log_error("/sys/devices/system/cpu/online: %s", strerror(-r));
		return r;
	}
	perf->cpu_limit = s->lane_cpus;
	perf->cpus = malloc(perf->cpu_limit * sizeof *perf->cpus);
	if (!perf->cpus)
		return -ENOMEM;
	for (uint32_t cpu = 0; cpu < perf->cpu_limit; cpu++)
		perf->cpus[cpu] = (struct perf_cpu) { .samples.fd = -1, .wake.fd = -1 };
	uint32_t opened = 0;
	r = -ENODEV;
	for (uint32_t cpu = 0; cpu < perf->cpu_limit; cpu++) {
		if (!cpu_has(&wanted, cpu))
			continue;
		r = open_cpu(s, cpu);
		if (r == -ENODEV)
			continue; /* it went away just now */
		if (r < 0) {
			explain(-r, cpu);
			return r;
		}
		opened++;
	}
	if (opened)
		return 0;
	log_error("no CPU to profile");
	return r;
}

static void enable_cpu(const struct perf_cpu *c, bool on)
{
	const int fds[] = { c->samples.fd, c->wake.fd };
	for (unsigned i = 0; i < 2; i++)
		if (fds[i] >= 0 && ioctl(fds[i], on ? PERF_EVENT_IOC_ENABLE : PERF_EVENT_IOC_DISABLE, 0))
			log_error("perf event: cannot be switched %s: %s", on ? "on" : "off", strerror(errno));
}

static bool is_clock(const char *event)
{
	for (unsigned i = 0; i < EVENTS_COUNT; i++)
		if (events[i].type == PERF_TYPE_SOFTWARE && !strcmp(events[i].name, event))
			return true;
	return false;
}

void priv_perf_frequency(struct supervisor *s, uint32_t hz)
{
	/* The kernel turns the frequency of its own clock into a period once and for all (perf_swevent_init_hrtimer), so there the
	 * call takes nanoseconds: a small number would be a hundred thousand samples a second. */
	uint64_t value = is_clock(s->perf.event) ? (uint64_t)NS_PER_S / hz : hz;
	s->perf.frequency = hz;
	for (uint32_t cpu = 0; cpu < s->perf.cpu_limit; cpu++)
		if (s->perf.cpus[cpu].samples.fd >= 0 &&
			ioctl(s->perf.cpus[cpu].samples.fd, PERF_EVENT_IOC_PERIOD, &value))
			log_warn("CPU %u keeps its rate: %s", cpu, strerror(errno));
}

void priv_perf_enable(struct supervisor *s, bool on)
{
	s->perf.enabled = on;
	for (uint32_t cpu = 0; cpu < s->perf.cpu_limit; cpu++)
		enable_cpu(&s->perf.cpus[cpu], on);
}

static bool lend_cpu(struct worker *sampler, uint32_t cpu)
{
	const struct perf *perf = &sampler->supervisor->perf;
	const struct perf_cpu *c = &perf->cpus[cpu];
	return lend(sampler, LEASE_PERF_WAKE, c->wake.fd, cpu, WAKE_RING_PAGES) &&
	       lend(sampler, LEASE_PERF, c->samples.fd, cpu, perf->pages);
}

void priv_perf_lend(struct worker *sampler)
{
	const struct perf *perf = &sampler->supervisor->perf;
	for (uint32_t cpu = 0; cpu < perf->cpu_limit; cpu++)
		if (perf->cpus[cpu].samples.fd >= 0 && !lend_cpu(sampler, cpu))
			return;
}

void priv_perf_hotplug(struct supervisor *s)
{
	struct perf *perf = &s->perf;
	struct worker *sampler = worker_of_party(s, PARTY_SAMPLER);
	struct cpu_set_bits wanted;
	if (!perf->cpus || wanted_cpus(s, &wanted) < 0)
		return;
	for (uint32_t cpu = 0; cpu < perf->cpu_limit; cpu++) {
		bool has = perf->cpus[cpu].samples.fd >= 0;
		if (has == cpu_has(&wanted, cpu))
			continue;
		if (has) {
			log_info("CPU %u is gone", cpu);
			close_cpu(perf, cpu); /* the sampler sees the hangup, and reads what the ring still holds */
			continue;
		}
		int r = open_cpu(s, cpu);
		if (r < 0) {
			log_debug("CPU %u: %s", cpu, strerror(-r));
			continue; /* tried again with the next tick */
		}
		log_info("CPU %u has come", cpu);
		if (sampler && worker_running(sampler))
			(void)lend_cpu(sampler, cpu);
		enable_cpu(&perf->cpus[cpu], perf->enabled);
	}
}

void priv_perf_close(struct supervisor *s)
{
	struct perf *perf = &s->perf;
	if (perf->cpus)
		for (uint32_t cpu = 0; cpu < perf->cpu_limit; cpu++)
			close_cpu(perf, cpu);
	free(perf->cpus);
	*perf = (struct perf) { 0 };
}
