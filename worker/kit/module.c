#include "kit/module.h"

#include "common/clock.h"
#include "common/log.h"
#include "kit/identify.h"
#include "kit/leases.h"

#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

enum {
	BUCKETS = 256,
	RACE_MS = 5,    /* after a file that came and went: a plugin that is loaded over and over */
	RETRY_MS = 100, /* between two attempts to have a file opened through the same target */
};

static struct module *buckets[BUCKETS], *vdso;
static uint64_t last_id;
static void (*on_ready)(struct module *m);

void modules_on_ready(void (*tell)(struct module *m))
{
	on_ready = tell;
}

static struct module *new_module(const char *path)
{
	struct module *m = calloc(1, sizeof *m);
	if (!m)
		return NULL;
	static const char deleted[] = " (deleted)";
	size_t n = strlen(path), cut = sizeof deleted - 1;
	if (n > cut && !strcmp(path + n - cut, deleted))
		n -= cut;
	m->path = strndup(path, n);
	m->id = ++last_id;
	m->elf.source.fd = m->debug.source.fd = -1;
	if (!m->path) {
		free(m);
		return NULL;
	}
	return m;
}

struct module *module_of(const struct map_entry *entry, const char *path)
{
	struct module **at = &buckets[(entry->inode ^ entry->device) % BUCKETS];
	for (struct module *m = *at; m; m = m->next)
		if (m->inode == entry->inode && m->device == entry->device)
			return m;
	struct module *m = new_module(path);
	if (!m)
		return NULL;
	m->device = entry->device;
	m->inode = entry->inode;
	m->next = *at;
	*at = m;
	return m;
}

static void find_text(struct module *m)
{
	for (uint32_t i = 0; i < m->elf.nsegments; i++) {
		const struct elf_segment *s = &m->elf.segments[i];
		if (s->type == PT_LOAD && s->flags & PF_X) {
			m->text_vaddr = s->vaddr;
			m->text_size = s->filesz;
			m->text_offset = s->offset;
			return;
		}
	}
}

/* The request named a place in a target's memory, and by the time it was opened another file may have been mapped there. Where the
 * devices differ, the numbers cannot be compared (overlayfs and btrfs say one thing in maps and another here). */
static bool another_file(const struct module *m, const struct stat *st)
{
	uint64_t device = (uint64_t)major(st->st_dev) << 32 | minor(st->st_dev);
	return device == m->device && st->st_ino != m->inode;
}

static bool open_fd(struct elf *elf, int fd, const struct stat *st)
{
	if (st->st_size <= 0)
		return false;
	struct elf_source source = { .fd = fd, .size = (uint64_t)st->st_size };
	return elf_open(elf, source) == 0;
}

struct module *module_vdso_known(void)
{
	return vdso;
}

struct module *module_vdso(const uint8_t *bytes, size_t n)
{
	if (vdso)
		return vdso;
	struct module *m = new_module("[vdso]");
	if (!m)
		return NULL;
	m->image = malloc(n);
	struct elf_source source = { .fd = -1, .data = m->image, .size = n };
	if (m->image)
		memcpy(m->image, bytes, n);
	m->state = m->image && elf_open(&m->elf, source) == 0 ? MODULE_READY : MODULE_FAILED;
	m->debug_state = MODULE_FAILED;
	m->users = 1;
	if (m->state == MODULE_READY)
		find_text(m);
	vdso = m;
	return m;
}

/* Whether an error is about the file itself. The others are about the way to it: the target may have gone, be avoided or hang, the
 * mapping may have gone and be back, there may have been too much to do. The next one that maps the file asks again; a hostile
 * target must not take the names of a library from everyone. */
static bool is_final(int error)
{
	static const int about_the_way[] = { ESRCH, ENOENT, EBUSY, EAGAIN, ETIMEDOUT, EMFILE, ENFILE, LEASE_AVOIDED };
	for (size_t i = 0; i < sizeof about_the_way / sizeof *about_the_way; i++)
		if (error == about_the_way[i])
			return false;
	return true;
}

static void lost_race(struct module *m)
{
	m->asked_ns -= (RETRY_MS - RACE_MS) * NS_PER_MS;
}

static void opened(void *object, enum lease_kind kind, const struct lease_answer *answer)
{
	struct module *m = object;
	bool main_file = kind == LEASE_MAPPED_FILE;
	struct elf *elf = main_file ? &m->elf : &m->debug;
	enum module_state *state = main_file ? &m->state : &m->debug_state;
	*state = MODULE_FAILED;
	if (answer->error) {
		if (main_file)
			log_debug("%s: not opened: %s", m->path, strerror(answer->error));
		if (main_file && !is_final(answer->error))
			*state = MODULE_NEW;
		if (main_file && answer->error == ENOENT)
			lost_race(m);
		return;
	}
	struct stat st;
	bool known = !fstat(answer->fd, &st);
	if (known && main_file && another_file(m, &st)) {
		*state = MODULE_NEW;
		lost_race(m);
		known = false;
	}
	bool is_elf = known && open_fd(elf, answer->fd, &st);
	if (known && !is_elf && main_file) {
		elf->source.fd = answer->fd; /* as long as it is open, its numbers are no other file's */
		m->lease = answer->lease;
		m->state = MODULE_DATA;
		if (on_ready)
			on_ready(m);
		return;
	}
	if (!is_elf) {
		close(answer->fd);
		leases_release(answer->lease);
		elf->source.fd = -1;
		return;
	}
	*(main_file ? &m->lease : &m->debug_lease) = answer->lease;
	*state = MODULE_READY;
	if (!main_file)
		return;
	find_text(m);
	m->runtime = identify(&m->elf, &m->runtime_vaddr);
	if (on_ready)
		on_ready(m);
}

/* Only an attempt through the same target is held back: in a storm of short lives those who ask first end before their file is
 * opened, one after the other, and who lives on must not wait for them. */
void module_ask(struct module *m, uint32_t pid, uint64_t start_time, uint64_t start, uint64_t end)
{
	if (m->state != MODULE_NEW)
		return;
	int64_t now = monotonic_ns();
	if (m->asked_pid == pid && now - m->asked_ns < RETRY_MS * NS_PER_MS)
		return;
	m->state = MODULE_ASKED;
	m->asked_ns = now;
	m->asked_pid = pid;
	struct lease_request request = { .kind = LEASE_MAPPED_FILE,
		.pid = pid,
		.start_time = start_time,
		.value = { start, end },
		.handler = opened,
		.object = m };
	leases_ask(&request);
}

void module_mapped(struct module *m, uint32_t pid, uint64_t start_time, uint64_t start, uint64_t end)
{
	m->asked_pid = 0;
	module_ask(m, pid, start_time, start, end);
}

bool module_pending(const struct module *m)
{
	return m->state == MODULE_ASKED && monotonic_ns() - m->asked_ns < LEASE_PATIENCE_MS * NS_PER_MS;
}

bool module_ask_debug(struct module *m)
{
	if (m->debug_state == MODULE_ASKED)
		return true;
	if (m->debug_state != MODULE_NEW || m->state != MODULE_READY)
		return false;
	if (!m->elf.build_id_len || elf_section(&m->elf, ".symtab")) {
		m->debug_state = MODULE_FAILED;
		return false;
	}
	m->debug_state = MODULE_ASKED;
	struct lease_request request = { .kind = LEASE_DEBUG_FILE,
		.bytes = m->elf.build_id,
		.n = m->elf.build_id_len,
		.handler = opened,
		.object = m };
	leases_ask(&request);
	return true;
}

struct cfi *module_cfi(struct module *m)
{
	if (!m->cfi_tried && m->state == MODULE_READY) {
		m->cfi_tried = true;
		if (cfi_open(&m->cfi, &m->elf) < 0)
			m->cfi = NULL;
	}
	return m->cfi;
}

uint64_t module_vaddr(const struct module *m, uint64_t file_offset)
{
	uint64_t vaddr;
	return m->state == MODULE_READY && !elf_vaddr_of_offset(&m->elf, file_offset, &vaddr) ? vaddr : file_offset;
}

static void close_file(struct elf *elf, uint64_t lease)
{
	int fd = elf->source.fd;
	elf_close(elf);
	if (fd >= 0) {
		close(fd);
		leases_release(lease);
	}
}

void modules_sweep(void)
{
	for (size_t i = 0; i < BUCKETS; i++) {
		for (struct module **at = &buckets[i]; *at;) {
			struct module *m = *at;
			if (m->users) {
				at = &m->next;
				continue;
			}
			*at = m->next;
			leases_forget(m);
			cfi_close(m->cfi);
			close_file(&m->elf, m->lease);
			close_file(&m->debug, m->debug_lease);
			free(m->path);
			free(m);
		}
	}
}
