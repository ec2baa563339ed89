/* A worker that is not what it seems. It stands in for one of Bulkhead's workers, behaves as one up to a point, and
 * then tries what ACTION (set when it is compiled) says: a row of the table at the end. What a system call answers goes
 * to the supervisor's log as "hostile: ACTION: ..."; test_hostile.py knows what has to become of each. Where a file "crime"
 * lies beside the executable (struct crime), it says there when it went over its budget. */
#include "common/log.h"
#include "kit/kit.h"
#include "kit/lockdown.h"
#include "proto/channel.h"
#include "proto/lane.h"
#include "proto/lease.h"
#include "proto/messages.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#ifndef PARTY
#define PARTY PARTY_LANE
#endif

enum { OURS_MAX = 32, LENT_MAX = 256 };

enum stage {
	BEFORE,  /* before anything */
	LOCKED,  /* after lockdown and READY */
	STARTED, /* after START */
	MARKED,  /* native: at the first stream; sampler: at MARK; merge: at MERGE; opener: at the first order */
};

static struct kit kit;
static unsigned needs;
static int ours[OURS_MAX], ours_count; /* the supervisor and its workers, seen before lockdown */
static struct {
	int fd;
	uint64_t kind, a, b;
} lent[LENT_MAX];
static int lent_count;
static uint64_t snapshot;

static void say(const char *what)
{
	log_error("hostile: %s: %s", ACTION, what);
}

static void result(long r)
{
	char text[128];
	snprintf(text, sizeof text, r < 0 ? "refused, %s" : "ALLOWED%s", r < 0 ? strerror(errno) : "");
	say(text);
}

static void sleep_ms(long ms)
{
	struct timespec time = { ms / 1000, ms % 1000 * 1000000 };
	clock_nanosleep(CLOCK_MONOTONIC, 0, &time, NULL);
}

/* Mapped before the lockdown, so that telling takes no system call. The first four are for tests/bench/restart to set. */
enum { CRIME_WORKERS = 1024 };
struct crime {
	uint64_t budget;         /* in the unit of the action */
	uint64_t step, pause_us; /* bytes at once, and the wait between two steps */
	uint64_t workers;        /* that have begun */
	struct {
		uint64_t pid, breach_ns; /* CLOCK_MONOTONIC; 0: not yet */
	} worker[CRIME_WORKERS];
};
static struct crime nobody_asks, *crime = &nobody_asks;
static uint64_t own_place; /* in crime->worker */

static uint64_t clock_now(clockid_t clock)
{
	struct timespec now;
	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

/* So that what is looked at now and then is not always gone over at the same time between two looks. */
static void at_another_time(void)
{
	enum { TIMES = 211 };
	sleep_ms((long)(own_place * 37 % TIMES) * 5);
}

static void breach(void)
{
	uint64_t *at = &crime->worker[own_place].breach_ns;
	if (!__atomic_load_n(at, __ATOMIC_ACQUIRE))
		__atomic_store_n(at, clock_now(CLOCK_MONOTONIC), __ATOMIC_RELEASE);
}

/* A file beside the executable; -1: there is none. */
static int open_beside(const char *name, int flags)
{
	char path[512], whole[600];
	ssize_t n = readlink("/proc/self/exe", path, sizeof path);
	char *slash = n > 0 ? memrchr(path, '/', (size_t)n) : NULL;
	if (!slash)
		return -1;
	snprintf(whole, sizeof whole, "%.*s/%s", (int)(slash - path), path, name);
	return open(whole, flags | O_CLOEXEC);
}

static void open_crime(void)
{
	int fd = open_beside("crime", O_RDWR);
	if (fd < 0)
		return;
	void *shared = mmap(NULL, sizeof *crime, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (shared != MAP_FAILED)
		crime = shared;
	own_place = __atomic_fetch_add(&crime->workers, 1, __ATOMIC_ACQ_REL) % CRIME_WORKERS;
}

static void raw(const void *bytes, size_t n, const int *fds, size_t fd_count)
{
	union {
		char bytes[CMSG_SPACE(250 * sizeof(int))];
		struct cmsghdr align;
	} control = { 0 };
	struct iovec piece = { (void *)(uintptr_t)bytes, n };
	struct msghdr message = { .msg_iov = &piece, .msg_iovlen = 1 };
	if (fd_count) {
		message.msg_control = control.bytes;
		message.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
		struct cmsghdr *head = CMSG_FIRSTHDR(&message);
		head->cmsg_level = SOL_SOCKET;
		head->cmsg_type = SCM_RIGHTS;
		head->cmsg_len = CMSG_LEN(fd_count * sizeof(int));
		memcpy(CMSG_DATA(head), fds, fd_count * sizeof(int));
	}
	if (sendmsg(KIT_CHANNEL_FD, &message, MSG_NOSIGNAL) < 0)
		result(-1);
}

#define RAW(...)                                                                                                       \
	do {                                                                                                           \
		static const uint8_t packet_[] = { __VA_ARGS__ };                                                      \
		raw(packet_, sizeof packet_, NULL, 0);                                                                 \
	} while (0)

enum { FALSE = 0xc2, TRUE = 0xc3 }; /* msgpack */

/* -- system calls: each must kill, or at least fail */

static void do_open(void)
{
	result(open("/", O_RDONLY));
}

static void do_open_mem(void)
{
	result(syscall(SYS_openat, AT_FDCWD, "/proc/1/mem", O_RDONLY, 0));
}

static void do_openat2(void)
{
	uint64_t how[3] = { O_RDONLY };
	result(syscall(SYS_openat2, AT_FDCWD, "/etc/passwd", how, sizeof how));
}

static void do_execve(void)
{
	char *argv[] = { "sh", NULL };
	result(execve("/bin/sh", argv, argv + 1));
}

static void do_fork(void)
{
	long r = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
	if (!r)
		_exit(0);
	result(r);
}

static void do_vfork(void)
{
	long r = syscall(SYS_fork);
	if (!r)
		_exit(0);
	result(r);
}

static void do_clone3(void)
{
	uint64_t arguments[11] = { [4] = SIGCHLD };
	long r = syscall(SYS_clone3, arguments, sizeof arguments);
	if (!r)
		_exit(0);
	result(r);
}

static void do_socket(void)
{
	result(socket(AF_INET, SOCK_STREAM, 0));
}

static void do_unix_socket(void)
{
	result(socket(AF_UNIX, SOCK_SEQPACKET, 0));
}

static void do_connect(void)
{
	struct sockaddr address = { .sa_family = AF_UNSPEC };
	result(connect(KIT_CHANNEL_FD, &address, sizeof address));
}

static void do_ptrace(void)
{
	result(ptrace(PTRACE_SEIZE, 1, NULL, NULL));
}

static void do_kill(void)
{
	result(kill(-1, SIGKILL));
}

static void do_pidfd_open(void)
{
	result(syscall(SYS_pidfd_open, 1, 0));
}

static void do_mount(void)
{
	result(mount("none", "/", "tmpfs", 0, NULL));
}

static void do_process_vm_readv(void)
{
	char bytes[8];
	struct iovec here = { bytes, sizeof bytes }, there = { bytes, sizeof bytes };
	result(process_vm_readv(ours_count ? ours[0] : 1, &here, 1, &there, 1, 0));
}

static void do_unshare(void)
{
	result(unshare(CLONE_NEWUSER));
}

static void do_setuid(void)
{
	result(setuid(0));
}

static void do_chmod(void)
{
	result(chmod("/", 0777));
}

static void do_ioctl(void)
{
	char c = 'x';
	result(syscall(SYS_ioctl, 0, 0x5412 /* TIOCSTI */, &c));
}

static void do_bpf(void)
{
	result(syscall(SYS_bpf, 0, NULL, 0));
}

static void do_perf_event_open(void)
{
	result(syscall(SYS_perf_event_open, NULL, 0, -1, -1, 0));
}

static void do_io_uring(void)
{
	result(syscall(SYS_io_uring_setup, 1, NULL));
}

static void do_memfd(void)
{
	result(syscall(SYS_memfd_create, "x", 0));
}

static void do_executable_memory(void)
{
	void *memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	result(memory == MAP_FAILED ? -1 : 0);
}

static void do_mprotect(void)
{
	void *memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	result(mprotect(memory, 4096, PROT_READ | PROT_EXEC));
}

static void do_dumpable(void)
{
	result(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0));
}

static void do_foreign_abi(void)
{
#ifdef __x86_64__
	/* int 0x80 reaches the 32-bit table, where 5 is open. */
	long r;
	__asm__ volatile("int $0x80" : "=a"(r) : "a"(5L), "b"(0L), "c"(0L), "d"(0L) : "memory");
	errno = (int)-r;
	result(r < 0 ? -1 : 0);
#else
	do_open();
#endif
}

static void do_realtime_99(void)
{
	struct sched_param high = { .sched_priority = 99 };
	result(sched_setscheduler(0, SCHED_FIFO, &high));
}

/* -- frames: each breaks the protocol */

static void do_ready_twice(void)
{
	channel_send(&kit.channel, MSG_READY, -1, (uint64_t)PROTO_VERSION, (uint64_t)0, (uint64_t)1, (uint64_t)1,
		(uint64_t)0);
}

static void do_frame_of_another_worker(void)
{
	uint64_t none = 0;
	if (PARTY & PARTY_MERGE)
		channel_send(&kit.channel, MSG_CLOSED, -1, (uint64_t)1, (uint64_t)0, &none, (size_t)1);
	else
		channel_send(&kit.channel, MSG_MERGED, -1, (uint64_t)1, (uint64_t)0, (uint64_t)1, (uint64_t)1, &none,
			(size_t)1);
}

static void do_frame_of_the_supervisor(void)
{
	channel_send(&kit.channel, MSG_STOP, -1);
}

static void do_frame_of_a_client(void)
{
	channel_send(&kit.channel, MSG_ASK, -1, (uint64_t)ASK_STATUS, "", (size_t)0);
}

static void do_unknown_frame(void)
{
	RAW(0x92, 63, FALSE);
}

static void do_number_zero(void)
{
	RAW(0x92, 0, FALSE);
}

static void do_garbage(void)
{
	RAW(0xde, 0xad, 0xbe, 0xef, 0xff, 0x00, 0xc1, 0xc1);
}

static void do_one_byte(void)
{
	RAW(0x95);
}

static void do_map_instead_of_array(void)
{
	RAW(0x82, 5, FALSE, 1, 0xc4, 1, 'x');
}

static void do_oversize(void)
{
	static char bytes[20000];
	memset(bytes, 'x', sizeof bytes);
	bytes[0] = (char)0x94;
	bytes[1] = 5;
	bytes[2] = (char)FALSE;
	bytes[3] = 1;
	bytes[4] = (char)0xc5; /* bin 16 */
	bytes[5] = (char)((sizeof bytes - 7) >> 8);
	bytes[6] = (char)((sizeof bytes - 7) & 255);
	raw(bytes, sizeof bytes, NULL, 0);
}

static void do_missing_field(void)
{
	RAW(0x93, 5, FALSE, 1);
}

static void do_surplus_field(void)
{
	RAW(0x95, 5, FALSE, 1, 0xc4, 1, 'x', 1);
}

static void do_wrong_type(void)
{
	RAW(0x94, 5, FALSE, 0xc4, 1, 'x', 1);
}

static void do_negative_number(void)
{
	RAW(0x94, 5, FALSE, 0xff, 0xc4, 1, 'x');
}

static void do_bytes_left_over(void)
{
	RAW(0x94, 5, FALSE, 1, 0xc4, 1, 'x', 0, 0, 0);
}

static void do_huge_count(void)
{
	/* RELEASE of 4 billion leases, in ten bytes */
	RAW(0x93, 13, FALSE, 0xdd, 0xff, 0xff, 0xff, 0xff, 1, 2);
}

static void do_huge_array(void)
{
	RAW(0xdd, 0xff, 0xff, 0xff, 0xff, 5, FALSE, 1, 2);
}

static void do_deep_nesting(void)
{
	static uint8_t packet[500];
	memset(packet, 0x91, sizeof packet);
	packet[0] = 0x93;
	packet[1] = 13;
	packet[2] = FALSE;
	raw(packet, sizeof packet, NULL, 0);
}

static void do_fd_with_log(void)
{
	static const uint8_t packet[] = { 0x94, 5, TRUE, 1, 0xc4, 1, 'x' };
	raw(packet, sizeof packet, (const int[]) { 0 }, 1);
}

static void do_fd_unannounced(void)
{
	static const uint8_t packet[] = { 0x94, 5, FALSE, 1, 0xc4, 1, 'x' };
	raw(packet, sizeof packet, (const int[]) { 0 }, 1);
}

static void do_fd_announced_only(void)
{
	RAW(0x94, 5, TRUE, 1, 0xc4, 1, 'x');
}

static void do_many_fds(void)
{
	int fds[250] = { 0 };
	static const uint8_t packet[] = { 0x94, 5, TRUE, 1, 0xc4, 1, 'x' };
	raw(packet, sizeof packet, fds, 250);
}

static void do_own_channel_as_fd(void)
{
	/* A socket inside a socket: garbage collection's nightmare. */
	static const uint8_t packet[] = { 0x94, 5, TRUE, 1, 0xc4, 1, 'x' };
	raw(packet, sizeof packet, (const int[]) { KIT_CHANNEL_FD }, 1);
}

static void do_empty_packet(void)
{
	raw("", 0, (const int[]) { 0 }, 1);
}

static void do_wrong_version(void)
{
	channel_send(&kit.channel, MSG_READY, -1, (uint64_t)(PROTO_VERSION + 1), (uint64_t)0, (uint64_t)1, (uint64_t)1,
		(uint64_t)0);
}

static void do_release_of_nothing(void)
{
	uint64_t leases[] = { 999999, 1000000 };
	channel_send(&kit.channel, MSG_RELEASE, -1, leases, (size_t)2);
}

static void do_closed_before_mark(void)
{
	uint64_t counters[COUNTER_MAX] = { 0 };
	channel_send(&kit.channel, MSG_CLOSED, -1, (uint64_t)424242, (uint64_t)0, counters, (size_t)COUNTER_MAX);
}

static void do_closed_with_too_much(void)
{
	uint64_t counters[COUNTER_MAX] = { 0 };
	channel_send(&kit.channel, MSG_CLOSED, -1, snapshot, (uint64_t)1 << 40, counters, (size_t)COUNTER_MAX);
}

static void do_closed_without_counters(void)
{
	channel_send(&kit.channel, MSG_CLOSED, -1, snapshot, (uint64_t)0, NULL, (size_t)0);
}

/* -- requests */

static int ask_for(uint64_t id, uint64_t kind, uint64_t pid, uint64_t a, uint64_t b, const char *bytes, size_t n)
{
	return channel_send(&kit.channel, MSG_OPEN, -1, id, kind, pid, (uint64_t)0, a, b, (const void *)bytes, n);
}

static void do_lease_of_our_own(void)
{
	char text[64];
	int granted = 0, refused = 0;
	for (int i = 0; i < ours_count; i++)
		ask_for((uint64_t)i + 1, LEASE_MEM, (uint64_t)ours[i], 0, 0, NULL, 0);
	while (granted + refused < ours_count) {
		struct frame frame;
		struct pollfd in = { KIT_CHANNEL_FD, POLLIN, 0 };
		if (poll(&in, 1, 3000) <= 0)
			break;
		while (kit_receive(&kit, &frame) == 1) {
			if (frame.row->number != MSG_OPENED)
				continue;
			if (frame.fd >= 0)
				granted++;
			else
				refused++;
		}
	}
	snprintf(text, sizeof text, "of %d processes %d GRANTED, %d refused", ours_count, granted, refused);
	say(text);
}

static void do_unknown_kind(void)
{
	ask_for(1, 77, 1, 0, 0, NULL, 0);
}

static void do_kind_that_is_not_for_asking(void)
{
	ask_for(1, LEASE_OUTPUT, 1, 0, 0, NULL, 0);
}

static void do_climbing_build_id(void)
{
	static const char id[] = "../../../../etc/shadow";
	ask_for(1, LEASE_DEBUG_FILE, 0, 0, 0, id, sizeof id - 1);
	ask_for(2, LEASE_DEBUG_FILE, 0, 0, 0, "", 0);
	ask_for(3, LEASE_DEBUG_FILE, 0, 0, 0, "/", 1);
	struct frame frame;
	int answers = 0;
	for (int i = 0; i < 60 && answers < 3; i++) {
		struct pollfd in = { KIT_CHANNEL_FD, POLLIN, 0 };
		poll(&in, 1, 50);
		while (kit_receive(&kit, &frame) == 1) {
			if (frame.row->number != MSG_OPENED)
				continue;
			answers++;
			if (frame.fd >= 0)
				say("GRANTED");
		}
	}
	say("asked");
}

static void do_flood_of_requests(void)
{
	for (uint64_t i = 1; i < 200000; i++) {
		if (i > crime->budget)
			breach();
		if (ask_for(i, LEASE_MAPS, 1, 0, 0, NULL, 0) == -EAGAIN)
			sleep_ms(1);
	}
}

static void do_flood_of_log_lines(void)
{
	for (int i = 0; i < 20000; i++)
		if (channel_send(&kit.channel, MSG_LOG, -1, (uint64_t)LOG_LEVEL_ERROR, "flood", (size_t)5) == -EAGAIN)
			sleep_ms(1);
}

static void do_log_with_escapes(void)
{
	static const char text[] = "\x1b[2J\x1b]0;owned\a\n<0> bulkheadd: forged line\r\xff";
	channel_send(&kit.channel, MSG_LOG, -1, (uint64_t)LOG_LEVEL_ERROR, text, sizeof text - 1);
	channel_send(&kit.channel, MSG_LOG, -1, (uint64_t)~0ULL, "level", (size_t)5);
	say("sent");
}

/* -- lent memory */

static void do_vandalize_lane(void)
{
	uint32_t random = 1;
	for (int i = 0; i < lent_count; i++) {
		if (lent[i].kind != LEASE_LANE)
			continue;
		struct lane lane;
		if (lane_open(&lane, lent[i].fd, (uint32_t)lent[i].a, (uint32_t)lent[i].b))
			continue;
		for (int round = 0; round < 200; round++) {
			for (uint32_t cpu = 0; cpu < lane.cpus; cpu++) {
				struct lane_ring ring = lane_ring(&lane, cpu);
				for (size_t at = 0; at < LANE_PAGE; at += 4) {
					random = random * 1664525 + 1013904223;
					memcpy((uint8_t *)ring.producer + at, &random, 4);
					memcpy((uint8_t *)ring.consumer + at, &random, 4);
				}
			}
			memset(lane.commit, 0xff, LANE_PAGE);
			sleep_ms(10);
		}
		say("done");
	}
}

static void do_garbage_in_stream(void)
{
	for (int i = 0; i < lent_count; i++) {
		if (lent[i].kind != LEASE_STREAM)
			continue;
		uint8_t bytes[4096];
		for (size_t k = 0; k < sizeof bytes; k++)
			bytes[k] = (uint8_t)(k * 37 + 1);
		uint64_t counters[COUNTER_MAX] = { 0 };
		if (write(lent[i].fd, bytes, sizeof bytes) < 0)
			result(-1);
		channel_send(
			&kit.channel, MSG_CLOSED, -1, lent[i].a, (uint64_t)sizeof bytes, counters, (size_t)COUNTER_MAX);
		say("done");
	}
}

static void do_write_to_every_lease(void)
{
	for (int i = 0; i < lent_count; i++)
		if (lent[i].kind == LEASE_LANE || lent[i].kind == LEASE_PERF)
			result(ftruncate(lent[i].fd, 0));
}

/* -- lives */

static void do_exit(void)
{
	_exit(3);
}

static void do_abort(void)
{
	abort();
}

static void do_hang(void)
{
	for (;;)
		sleep_ms(1000);
}

static void do_spin(void)
{
	for (;;)
		__asm__ volatile("");
}

static void do_stop_answering(void)
{
	/* The channel stays open, nothing is read from it any more. */
	do_hang();
}

static void do_close_channel(void)
{
	close(KIT_CHANNEL_FD);
	do_hang();
}

/* With what it was asked for; the time is over a deadline later. */
static void do_late(void)
{
	breach();
	do_hang();
}

static void do_eat_memory(void)
{
	for (;;) {
		char *piece = malloc(1 << 20);
		if (!piece) {
			say("refused, no more memory");
			_exit(KIT_EXIT_MEMORY);
		}
		memset(piece, 1, 1 << 20);
	}
}

static void do_eat_fds(void)
{
	for (;;)
		if (syscall(SYS_eventfd2, 0, 0) < 0) {
			result(-1);
			do_hang();
		}
}

static void leak(size_t bytes, long pause_ms)
{
	for (;;) {
		char *piece = malloc(bytes);
		if (piece)
			memset(piece, 1, bytes);
		sleep_ms(pause_ms);
	}
}

static void do_leak_slowly(void) /* 3 MiB a second */
{
	leak(64 << 10, 20);
}

static void do_leak_to_recycle(void) /* 20 MiB a second */
{
	leak(1 << 20, 50);
}

static uint64_t anonymous; /* bytes, before the first of ours */

static void measure_anonymous(void)
{
	unsigned long resident = 0, shared = 0;
	FILE *statm = fopen("/proc/self/statm", "re");
	if (statm && fscanf(statm, "%*u %lu %lu", &resident, &shared) == 2)
		anonymous = (resident - shared) * 4096;
	if (statm)
		fclose(statm);
}

/* Up to a little below its budget at once, and then over it as fast as it was told. */
static void do_cross_memory(void)
{
	const uint64_t piece = 64 << 10, below = 6 << 20;
	struct timespec pause = { 0, (long)crime->pause_us * 1000 };
	at_another_time();
	for (uint64_t had = anonymous, step = 0; had < crime->budget * 16; had += piece) {
		char *more = mmap(NULL, piece, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (more == MAP_FAILED)
			_exit(KIT_EXIT_MEMORY);
		memset(more, 1, piece);
		if (had + piece > crime->budget)
			breach();
		if (had + below < crime->budget || (step += piece) < crime->step)
			continue;
		step = 0;
		if (crime->pause_us)
			clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
	}
	do_hang();
}

/* The budget in nanoseconds of CPU time. */
static void do_cross_cpu(void)
{
	at_another_time();
	while (clock_now(CLOCK_PROCESS_CPUTIME_ID) < crime->budget)
		;
	breach();
	do_spin();
}

/* The fill of the fullest ring, in bytes; `passes` puts all that is in there behind its reader. */
static uint64_t look_at_lane(const struct lane *lane, bool passes)
{
	uint64_t fullest = 0;
	for (uint32_t cpu = 0; cpu < lane->cpus; cpu++) {
		struct lane_consumer_page *reader = lane_ring(lane, cpu).consumer;
		uint64_t head = lane_state(lane, cpu).head, unread = head - atomic_load(&reader->tail);
		fullest = unread > fullest ? unread : fullest;
		if (passes)
			atomic_store(&reader->tail, head);
	}
	return fullest;
}

/* A reader that throws away what is in its lane, until it reads no more. The budget in nanoseconds: how long the lane may have less room
 * than a quarter (LAG_SHARE in supervisor/enforce.c). */
static void do_cross_lag(void)
{
	struct lane lane = { 0 };
	for (int i = 0; i < lent_count && !lane.map; i++)
		if (lent[i].kind == LEASE_LANE)
			(void)lane_open(&lane, lent[i].fd, (uint32_t)lent[i].a, (uint32_t)lent[i].b);
	if (!lane.map)
		do_hang();
	(void)look_at_lane(&lane, true);
	at_another_time();
	(void)look_at_lane(&lane, true);
	for (uint64_t full_since = 0;; sleep_ms(1)) {
		uint64_t now = clock_now(CLOCK_MONOTONIC);
		if (look_at_lane(&lane, false) < lane.ring_size - lane.ring_size / 4)
			full_since = 0;
		else if (!full_since)
			full_since = now;
		else if (now - full_since > crime->budget)
			breach();
	}
}

static void *spin_on_a_cpu(void *argument)
{
	kit_pin_thread(&kit, (uint32_t)(uintptr_t)argument);
	breach();
	do_spin();
	return NULL;
}

static void do_spin_realtime(void)
{
	pthread_t thread;
	long cpus = 64;
	say("spinning at real-time priority"); /* before: afterwards there is no time left for it */
	for (long cpu = 0; cpu < cpus; cpu++)
		if (kit_thread(spin_on_a_cpu, (void *)cpu, &thread) < 0)
			break;
	do_hang();
}

static bool realtime_allowed; /* by the supervisor: an argument */

static void end_with_cause(int number)
{
	(void)number;
	_exit(KIT_EXIT_CPU);
}

/* As on a machine on which all that comes before READY takes longer than the leash is. */
static void do_slow_to_start(void)
{
	const struct sched_param on = { .sched_priority = 1 };
	signal(SIGXCPU, end_with_cause); /* as kit_start does, before it is in real time */
	if (realtime_allowed && !sched_setscheduler(0, SCHED_FIFO, &on))
		do_spin();
}

static void *sleep_for_ever(void *argument)
{
	(void)argument;
	do_hang();
	return NULL;
}

static void do_many_threads(void)
{
	pthread_t thread;
	at_another_time();
	/* beside the main thread and the one that makes them */
	for (uint64_t count = 3; count < 63 && !kit_thread(sleep_for_ever, NULL, &thread); count++)
		if (count > crime->budget)
			breach();
	do_hang();
}

static void do_fill_stream(void)
{
	static char piece[1 << 16];
	for (int i = 0; i < lent_count; i++)
		for (off_t n = lseek(lent[i].fd, 0, SEEK_END); lent[i].kind == LEASE_STREAM; n += sizeof piece) {
			if ((uint64_t)n + sizeof piece > crime->budget)
				breach();
			if (write(lent[i].fd, piece, sizeof piece) <= 0)
				break;
		}
	say("refused, the stream takes no more");
	do_hang();
}

/* Asks for one fd after the other and gives none back. */
static void do_hold_leases(void)
{
	uint64_t got = 0;
	for (uint64_t id = 1;; id++) {
		struct frame frame;
		if (channel_send(&kit.channel, MSG_OPEN, -1, id, (uint64_t)LEASE_KALLSYMS, (uint64_t)0, (uint64_t)0,
			    (uint64_t)0, (uint64_t)0, "", (size_t)0) < 0) {
			sleep_ms(1);
			continue;
		}
		do {
			struct pollfd in = { KIT_CHANNEL_FD, POLLIN, 0 };
			poll(&in, 1, -1);
		} while (kit_receive(&kit, &frame) != 1 || frame.row->number != MSG_OPENED);
		if (frame.field[2].u) {
			char text[80];
			snprintf(text, sizeof text, "refused after %llu leases: %s", (unsigned long long)got,
				strerror((int)frame.field[2].u));
			say(text);
			do_hang();
		}
		got++;
		sleep_ms(1);
	}
}

/* Right, but twice; and once for a snapshot that is long over. */
static void do_answer_twice(void)
{
	static const uint64_t counters[COUNTER_MAX];
	for (int i = 0; i < 2; i++)
		channel_send(&kit.channel, MSG_CLOSED, -1, snapshot - 1, (uint64_t)0, counters, (size_t)COUNTER_MAX);
	channel_send(&kit.channel, MSG_CLOSED, -1, (uint64_t)0, (uint64_t)0, counters, (size_t)COUNTER_MAX);
	say("answered twice, and late");
}

/* -- before the lockdown: what it keeps, or leaves out */

static void claim(void)
{
	if (channel_init(&kit.channel, KIT_CHANNEL_FD, (uint8_t)PARTY, PARTY_SUPERVISOR) < 0)
		_exit(KIT_EXIT_MEMORY);
	channel_send(&kit.channel, MSG_READY, -1, (uint64_t)PROTO_VERSION, (uint64_t)6, (uint64_t)1, (uint64_t)1,
		(uint64_t)0);
	do_hang();
}

static unsigned own_uid; /* argv[1] */

/* In a file system that does not answer, where SIGKILL does not end it; past the cache, so that each asks for itself. */
static void do_hang_in_file(void)
{
	static _Alignas(4096) char page[4096];
	int fd = open_beside("stalled", O_RDONLY | O_DIRECT);
	_exit(read(fd, page, sizeof page) < 0);
}

static void do_no_lockdown(void)
{
	claim();
}

static void do_only_uid(void)
{
	if (setresgid(own_uid, own_uid, own_uid) || setresuid(own_uid, own_uid, own_uid))
		_exit(1);
	claim();
}

static void do_no_seccomp(void)
{
	/* Everything but the filter. */
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	for (unsigned long cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
		prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
	do_only_uid();
}

static void do_lockdown_as_root(void)
{
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	lockdown_seccomp(needs);
	claim();
}

static void do_keeps_a_file(void)
{
	if (open("/etc/passwd", O_RDONLY) < 0)
		_exit(1);
}

static void do_keeps_a_directory(void)
{
	if (open("/", O_PATH | O_DIRECTORY) < 0)
		_exit(1);
}

static void do_keeps_a_socket(void)
{
	if (socket(AF_INET, SOCK_DGRAM, 0) < 0)
		_exit(1);
}

static void do_writes_before_ready(void)
{
	if (channel_init(&kit.channel, KIT_CHANNEL_FD, (uint8_t)PARTY, PARTY_SUPERVISOR) < 0)
		_exit(KIT_EXIT_MEMORY);
	uint64_t leases[] = { 1 };
	channel_send(&kit.channel, MSG_RELEASE, -1, leases, (size_t)1);
	do_hang();
}

struct action {
	const char *name;
	enum stage stage;
	void (*run)(void);
};

static const struct action actions[] = {
	{ "open", LOCKED, do_open },
	{ "open_mem", LOCKED, do_open_mem },
	{ "openat2", LOCKED, do_openat2 },
	{ "execve", LOCKED, do_execve },
	{ "fork", LOCKED, do_fork },
	{ "vfork", LOCKED, do_vfork },
	{ "clone3", LOCKED, do_clone3 },
	{ "socket", LOCKED, do_socket },
	{ "unix_socket", LOCKED, do_unix_socket },
	{ "connect", LOCKED, do_connect },
	{ "ptrace", LOCKED, do_ptrace },
	{ "kill", LOCKED, do_kill },
	{ "pidfd_open", LOCKED, do_pidfd_open },
	{ "mount", LOCKED, do_mount },
	{ "process_vm_readv", LOCKED, do_process_vm_readv },
	{ "unshare", LOCKED, do_unshare },
	{ "setuid", LOCKED, do_setuid },
	{ "chmod", LOCKED, do_chmod },
	{ "ioctl", LOCKED, do_ioctl },
	{ "bpf", LOCKED, do_bpf },
	{ "perf_event_open", LOCKED, do_perf_event_open },
	{ "io_uring", LOCKED, do_io_uring },
	{ "memfd", LOCKED, do_memfd },
	{ "executable_memory", LOCKED, do_executable_memory },
	{ "mprotect", LOCKED, do_mprotect },
	{ "dumpable", LOCKED, do_dumpable },
	{ "foreign_abi", LOCKED, do_foreign_abi },
	{ "realtime_99", LOCKED, do_realtime_99 },
	{ "open_when_started", STARTED, do_open },
	{ "ready_twice", STARTED, do_ready_twice },
	{ "frame_of_another_worker", STARTED, do_frame_of_another_worker },
	{ "frame_of_the_supervisor", STARTED, do_frame_of_the_supervisor },
	{ "frame_of_a_client", STARTED, do_frame_of_a_client },
	{ "unknown_frame", STARTED, do_unknown_frame },
	{ "number_zero", STARTED, do_number_zero },
	{ "garbage", STARTED, do_garbage },
	{ "garbage_after_ready", LOCKED, do_garbage },
	{ "one_byte", STARTED, do_one_byte },
	{ "map_instead_of_array", STARTED, do_map_instead_of_array },
	{ "oversize", STARTED, do_oversize },
	{ "missing_field", STARTED, do_missing_field },
	{ "surplus_field", STARTED, do_surplus_field },
	{ "wrong_type", STARTED, do_wrong_type },
	{ "negative_number", STARTED, do_negative_number },
	{ "bytes_left_over", STARTED, do_bytes_left_over },
	{ "huge_count", STARTED, do_huge_count },
	{ "huge_array", STARTED, do_huge_array },
	{ "deep_nesting", STARTED, do_deep_nesting },
	{ "fd_with_log", STARTED, do_fd_with_log },
	{ "fd_unannounced", STARTED, do_fd_unannounced },
	{ "fd_announced_only", STARTED, do_fd_announced_only },
	{ "many_fds", STARTED, do_many_fds },
	{ "own_channel_as_fd", STARTED, do_own_channel_as_fd },
	{ "empty_packet", STARTED, do_empty_packet },
	{ "wrong_version", BEFORE, do_wrong_version }, /* after a lockdown of its own, see main */
	{ "release_of_nothing", STARTED, do_release_of_nothing },
	{ "closed_before_mark", STARTED, do_closed_before_mark },
	{ "closed_with_too_much", MARKED, do_closed_with_too_much },
	{ "closed_without_counters", MARKED, do_closed_without_counters },
	{ "lease_of_our_own", STARTED, do_lease_of_our_own },
	{ "unknown_kind", STARTED, do_unknown_kind },
	{ "kind_that_is_not_for_asking", STARTED, do_kind_that_is_not_for_asking },
	{ "climbing_build_id", STARTED, do_climbing_build_id },
	{ "flood_of_requests", STARTED, do_flood_of_requests },
	{ "flood_of_log_lines", STARTED, do_flood_of_log_lines },
	{ "log_with_escapes", STARTED, do_log_with_escapes },
	{ "vandalize_lane", MARKED, do_vandalize_lane },
	{ "garbage_in_stream", MARKED, do_garbage_in_stream },
	{ "write_to_every_lease", MARKED, do_write_to_every_lease },
	{ "exit_before_ready", BEFORE, do_exit },
	{ "exit_after_ready", LOCKED, do_exit },
	{ "exit_when_started", STARTED, do_exit },
	{ "exit_at_mark", MARKED, do_exit },
	{ "abort", STARTED, do_abort },
	{ "hang_before_ready", BEFORE, do_hang },
	{ "hang_after_ready", LOCKED, do_hang },
	{ "hang_when_started", STARTED, do_hang },
	{ "hang_at_mark", MARKED, do_hang },
	{ "spin", STARTED, do_spin },
	{ "close_channel", STARTED, do_close_channel },
	{ "stop_answering", MARKED, do_stop_answering },
	{ "eat_memory", STARTED, do_eat_memory },
	{ "eat_fds", STARTED, do_eat_fds },
	{ "leak_slowly", STARTED, do_leak_slowly },
	{ "leak_to_recycle", STARTED, do_leak_to_recycle },
	{ "cross_memory", STARTED, do_cross_memory },
	{ "cross_cpu", STARTED, do_cross_cpu },
	{ "cross_lag", MARKED, do_cross_lag },
	{ "late", MARKED, do_late },
	{ "spin_realtime", STARTED, do_spin_realtime },
	{ "slow_to_start", BEFORE, do_slow_to_start },
	{ "many_threads", STARTED, do_many_threads },
	{ "fill_stream", MARKED, do_fill_stream },
	{ "hold_leases", STARTED, do_hold_leases },
	{ "answer_twice", MARKED, do_answer_twice },
	{ "no_lockdown", BEFORE, do_no_lockdown },
	{ "only_uid", BEFORE, do_only_uid },
	{ "no_seccomp", BEFORE, do_no_seccomp },
	{ "lockdown_as_root", BEFORE, do_lockdown_as_root },
	{ "keeps_a_file", BEFORE, do_keeps_a_file },
	{ "keeps_a_directory", BEFORE, do_keeps_a_directory },
	{ "keeps_a_socket", BEFORE, do_keeps_a_socket },
	{ "writes_before_ready", BEFORE, do_writes_before_ready },
	{ "hang_in_file", BEFORE, do_hang_in_file },
};

/* The comm and the parent of a process; /proc is still the host's. 0: no such process. */
static int look_at(const char *pid, char comm[16])
{
	char path[300], text[512];
	snprintf(path, sizeof path, "/proc/%s/stat", pid);
	int fd = open(path, O_RDONLY), parent = 0;
	if (fd < 0)
		return 0;
	ssize_t n = read(fd, text, sizeof text - 1);
	close(fd);
	text[n > 0 ? n : 0] = 0;
	char *begin = strchr(text, '('), *end = strrchr(text, ')');
	if (!begin || !end || sscanf(end, ") %*c %d", &parent) != 1)
		return 0;
	*end = 0;
	snprintf(comm, 16, "%s", begin + 1);
	return parent;
}

/* Calls `see` with each process. */
static void each_process(void (*see)(const char *pid, const char *comm, int parent))
{
	DIR *proc = opendir("/proc");
	struct dirent *entry;
	while (proc && (entry = readdir(proc))) {
		char comm[16];
		int parent = isdigit((unsigned char)entry->d_name[0]) ? look_at(entry->d_name, comm) : 0;
		if (parent)
			see(entry->d_name, comm, parent);
	}
	if (proc)
		closedir(proc);
}

static char mark[16];
static int supervisor;

static void see_self(const char *pid, const char *comm, int parent)
{
	if (strcmp(comm, mark))
		return;
	supervisor = parent;
	__atomic_store_n(&crime->worker[own_place].pid, (uint64_t)atoi(pid), __ATOMIC_RELEASE);
}

static void see_family(const char *pid, const char *comm, int parent)
{
	(void)comm;
	if ((parent == supervisor || atoi(pid) == supervisor) && ours_count < OURS_MAX)
		ours[ours_count++] = atoi(pid);
}

/* Our own number on the host is not to be had from inside a PID namespace: found by a name that nobody else has. */
static void find_our_own(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	snprintf(mark, sizeof mark, "h%lx", (unsigned long)now.tv_nsec ^ (unsigned long)now.tv_sec << 30);
	prctl(PR_SET_NAME, mark);
	each_process(see_self);
	if (supervisor)
		each_process(see_family);
	prctl(PR_SET_NAME, "hostile");
}

static void reach(const struct action *action, enum stage stage)
{
	static bool done;
	if (done || action->stage != stage)
		return;
	done = true;
	action->run();
}

/* Behaves like a worker that does no work: keeps what it is lent, and lets the action loose at its stage. */
static void live(const struct action *action)
{
	for (;;) {
		struct frame frame;
		struct pollfd in = { KIT_CHANNEL_FD, POLLIN, 0 };
		poll(&in, 1, -1);
		while (kit_receive(&kit, &frame) == 1) {
			switch (frame.row->number) {
			case MSG_LEND:
				if (lent_count < LENT_MAX) {
					lent[lent_count].fd = frame.fd;
					lent[lent_count].kind = frame.field[1].u;
					lent[lent_count].a = frame.field[2].u;
					lent[lent_count++].b = frame.field[3].u;
				}
				if (frame.field[1].u == LEASE_STREAM) {
					snapshot = frame.field[2].u;
					reach(action, MARKED);
				}
				break;
			case MSG_START:
				snapshot = frame.field[0].u;
				reach(action, STARTED);
				break;
			case MSG_MARK:
			case MSG_MERGE:
				snapshot = frame.field[0].u;
				reach(action, MARKED);
				break;
			case MSG_ORDER:
				reach(action, MARKED);
				break;
			case MSG_STOP:
				_exit(0);
			}
		}
	}
}

int main(int argc, char **argv)
{
	needs = PARTY & (PARTY_MERGE | PARTY_OPENER) ? KIT_WRITES : KIT_REALTIME | KIT_WRITES;
	realtime_allowed = argc > 2 && !strcmp(argv[2], "realtime");
	own_uid = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 0;
	const struct action *action = actions, *end = actions + sizeof actions / sizeof *actions;
	while (action < end && strcmp(action->name, ACTION))
		action++;
	if (action == end)
		return 64;
	signal(SIGPIPE, SIG_IGN);
	open_crime();
	find_our_own();
	if (!strcmp(ACTION, "wrong_version")) {
		unsigned abi;
		if (channel_init(&kit.channel, KIT_CHANNEL_FD, (uint8_t)PARTY, PARTY_SUPERVISOR) < 0 ||
			lockdown(own_uid, &abi) || lockdown_seccomp(needs))
			_exit(KIT_EXIT_SANDBOX);
		do_wrong_version();
		do_hang();
	}
	reach(action, BEFORE);
	measure_anonymous();
	kit_start(&kit, "hostile", PARTY, needs, argc, argv);
	reach(action, LOCKED);
	live(action);
}
