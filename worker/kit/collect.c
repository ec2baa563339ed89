#include "kit/collect.h"

#include "common/clock.h"
#include "common/log.h"
#include "kit/kit.h"
#include "kit/leases.h"
#include "kit/names.h"
#include "kit/table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct sample_key {
	uint32_t task, stack, outcome;
};

static struct stream_writer writer = { .out = { .limit = STREAM_MAX_BYTES } };
static int stream_fd = -1;
static uint64_t stream_at, stream_lease;
static uint32_t section;
static struct table strings, stacks, tasks, samples, sources;

void collect_stream(int fd, uint64_t lease, uint64_t committed)
{
	if (stream_fd >= 0) {
		close(stream_fd);
		leases_release(stream_lease);
	}
	stream_lease = lease;
	stream_fd = fd;
	stream_at = committed;
	buf_clear(&writer.out);
	stream_section(&writer);
	section++;
	table_clear(&strings);
	table_clear(&stacks);
	table_clear(&tasks);
	table_clear(&samples);
	table_clear(&sources);
	names_section(section);
}

bool collect_ready(void)
{
	return stream_fd >= 0;
}

static uint32_t collect_string(const void *bytes, size_t n)
{
	uint64_t *id = n ? table_at(&strings, bytes, n) : NULL;
	if (id && !*id)
		*id = stream_put_string(&writer, bytes, n);
	return id ? (uint32_t)*id : 0;
}

uint32_t collect_task(struct target *t, uint32_t pid, uint32_t tid)
{
	char name[16] = "";
	struct {
		uint64_t start_time;
		uint32_t pid, unused;
		char comm[16], thread[16];
	} key = { .pid = pid <= INT32_MAX ? pid : 0 };
	if (t) {
		key.start_time = t->start_time;
		memcpy(key.comm, t->comm, sizeof key.comm);
		memcpy(key.thread, target_thread_name(t, tid, name), sizeof key.thread);
	}
	uint64_t *id = table_at(&tasks, &key, sizeof key);
	if (!id || *id)
		return id ? (uint32_t)*id : 0;
	struct stream_task task = { .pid = key.pid, .start_time = key.start_time };
	task.comm = collect_string(key.comm, strnlen(key.comm, sizeof key.comm));
	task.thread = collect_string(key.thread, strnlen(key.thread, sizeof key.thread));
	if (t && t->container)
		task.container = collect_string(t->container, strlen(t->container));
	return (uint32_t)(*id = stream_put_task(&writer, &task));
}

static uint32_t mapping_of(struct module *m)
{
	if (!m)
		return 0;
	if (m->section == section && m->mapping)
		return m->mapping;
	char hex[2 * ELF_BUILD_ID_MAX + 1];
	for (size_t i = 0; i < m->elf.build_id_len; i++) {
		hex[2 * i] = "0123456789abcdef"[m->elf.build_id[i] >> 4];
		hex[2 * i + 1] = "0123456789abcdef"[m->elf.build_id[i] & 15];
	}
	struct stream_mapping mapping = {
		.start = m->text_vaddr, .limit = m->text_vaddr + m->text_size, .offset = m->text_offset
	};
	mapping.file = collect_string(m->path, strlen(m->path));
	mapping.build_id = collect_string(hex, 2U * m->elf.build_id_len);
	m->section = section;
	m->mapping = stream_put_mapping(&writer, &mapping);
	return m->mapping;
}

/* The frame of a name in this section; its record is written the first time. */
static uint32_t frame_of(struct name *name)
{
	if (!name)
		return 0;
	if (name->section != section || !name->frame) {
		struct stream_frame frame = {
			.kind = name->kind, .address = name->address, .mapping = mapping_of(name->module)
		};
		if (name->text)
			frame.name = collect_string(name->text, strlen(name->text));
		name->frame = stream_put_frame(&writer, &frame);
		name->section = section;
	}
	return name->frame;
}

uint32_t collect_user_frame(struct target *t, const struct code_range *code, uint64_t address)
{
	return frame_of(names_user(t, code, address));
}

uint32_t collect_kernel_frame(uint64_t address)
{
	return frame_of(names_kernel(address));
}

uint32_t collect_source_frame(enum frame_kind kind, struct collect_source *ids, const char *name, const char *file,
	uint32_t line, uint32_t start_line)
{
	if (ids->section != section) {
		ids->section = section;
		ids->name = collect_string(name, strlen(name));
		ids->file = collect_string(file, strlen(file));
	}
	const struct stream_frame frame = {
		.kind = kind, .name = ids->name, .file = ids->file, .line = line, .start_line = start_line
	};
	uint64_t *id = table_at(&sources, &frame, sizeof frame);
	if (id && !*id)
		*id = stream_put_frame(&writer, &frame);
	return id ? (uint32_t)*id : 0;
}

uint32_t collect_synthetic_frame(const char *text)
{
	return frame_of(names_synthetic(text));
}

void collect_sample(uint32_t task, const uint32_t *frames, size_t n, enum counter outcome)
{
	uint64_t *stack = table_at(&stacks, frames, n * sizeof *frames);
	if (stack && !*stack)
		*stack = stream_put_stack(&writer, frames, n);
	struct sample_key key = { task, stack ? (uint32_t)*stack : 0, outcome };
	uint64_t *times = key.stack ? table_at(&samples, &key, sizeof key) : NULL;
	if (!times) {
		log_error("out of memory for this snapshot's stacks");
		_exit(KIT_EXIT_MEMORY); /* what is uncommitted stays in the lane */
	}
	++*times;
}

/* A name that came after its frame had been written. */
static void late_name(struct name *name)
{
	if (name->section == section && name->frame && name->text)
		stream_put_name(&writer, name->frame, collect_string(name->text, strlen(name->text)), 0, 0, 0);
}

bool collect_names(bool now)
{
	return names_resolve(now, late_name);
}

uint64_t collect_flush(void)
{
	for (size_t i = 0; samples.count && i < samples.size; i++) {
		const void *bytes;
		size_t n;
		const uint64_t *times = table_slot(&samples, i, &bytes, &n);
		struct sample_key key;
		if (!times)
			continue;
		memcpy(&key, bytes, sizeof key);
		stream_put_sample(&writer, key.task, key.stack, key.outcome, *times);
	}
	table_clear(&samples);
	const struct buf *out = &writer.out;
	for (size_t done = 0; done < out->len && !out->failed;) {
		ssize_t n = pwrite(stream_fd, out->data + done, out->len - done, (off_t)(stream_at + done));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			log_error("the profile stream cannot be written: %s", strerror(errno));
			_exit(KIT_EXIT_MEMORY);
		}
		done += (size_t)n;
	}
	if (out->failed) {
		log_error("the profile stream is larger than %d MiB", STREAM_MAX_BYTES >> 20);
		_exit(KIT_EXIT_MEMORY);
	}
	stream_at += out->len;
	buf_clear(&writer.out);
	return stream_at;
}
