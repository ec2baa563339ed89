/* A stopped process for the tests of the unwinder: its registers by ptrace, its memory and maps from /proc. */
#ifndef TESTS_LIVE_TARGET_H
#define TESTS_LIVE_TARGET_H

#include "kit/unwind.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/user.h>
#include <unistd.h>

enum { LIVE_MAPS = 1024, LIVE_FILES = 128 };

struct live_file {
	char path[256];
	int fd;
	uint8_t *image; /* of the vDSO */
	struct elf elf;
	struct cfi *cfi; /* NULL: none */
	bool usable;
};

struct live_map {
	uint64_t start, end, offset;
	bool exec;
	char path[256];
	int file; /* index, or -1: not looked at */
};

struct live_target {
	pid_t pid;
	int mem;
	size_t nmaps, nfiles;
	struct live_map maps[LIVE_MAPS];
	struct live_file files[LIVE_FILES];
};

static void live_read_maps(struct live_target *t)
{
	char path[64], line[1024];
	snprintf(path, sizeof(path), "/proc/%d/maps", t->pid);
	FILE *f = fopen(path, "re");
	t->nmaps = 0;
	while (f && t->nmaps < LIVE_MAPS && fgets(line, sizeof(line), f)) {
		struct live_map *m = &t->maps[t->nmaps];
		char perms[8] = "";
		m->path[0] = 0;
		m->file = -1;
		if (sscanf(line, "%lx-%lx %7s %lx %*s %*s %255s", &m->start, &m->end, perms, &m->offset, m->path) < 4)
			continue;
		m->exec = perms[2] == 'x';
		t->nmaps++;
	}
	if (f)
		fclose(f);
}

static void live_open(struct live_target *t, pid_t pid)
{
	char path[64];
	memset(t, 0, sizeof(*t));
	t->pid = pid;
	snprintf(path, sizeof(path), "/proc/%d/mem", pid);
	t->mem = open(path, O_RDONLY | O_CLOEXEC);
	live_read_maps(t);
}

static void live_close(struct live_target *t)
{
	for (size_t i = 0; i < t->nfiles; i++) {
		struct live_file *f = &t->files[i];
		if (f->usable) {
			cfi_close(f->cfi);
			elf_close(&f->elf);
		}
		if (f->fd >= 0)
			close(f->fd);
		free(f->image);
	}
	close(t->mem);
}

static int live_file_of(struct live_target *t, const struct live_map *map)
{
	for (size_t i = 0; i < t->nfiles; i++)
		if (!strcmp(t->files[i].path, map->path))
			return (int)i;
	if (t->nfiles == LIVE_FILES || !map->path[0])
		return -1;
	struct live_file *f = &t->files[t->nfiles];
	memset(f, 0, sizeof(*f));
	snprintf(f->path, sizeof(f->path), "%s", map->path);
	struct elf_source source = { .fd = -1 };
	if (!strcmp(map->path, "[vdso]")) {
		source.size = map->end - map->start;
		f->image = malloc(source.size);
		source.data = f->image;
		if (!f->image || pread(t->mem, f->image, source.size, (off_t)map->start) != (ssize_t)source.size)
			source.size = 0;
	} else if (map->path[0] == '/') {
		struct stat st;
		source.fd = open(map->path, O_RDONLY | O_CLOEXEC);
		if (source.fd >= 0 && !fstat(source.fd, &st))
			source.size = (uint64_t)st.st_size;
	}
	f->fd = source.fd;
	f->usable = source.size && !elf_open(&f->elf, source);
	if (f->usable && cfi_open(&f->cfi, &f->elf) < 0)
		f->cfi = NULL;
	return (int)t->nfiles++;
}

static struct live_map *live_map_of(struct live_target *t, uint64_t pc)
{
	for (size_t i = 0; i < t->nmaps; i++)
		if (t->maps[i].exec && pc >= t->maps[i].start && pc < t->maps[i].end)
			return &t->maps[i];
	return NULL;
}

static int live_code(void *context, uint64_t pc, struct unwind_code *ret)
{
	struct live_target *t = context;
	struct live_map *map = live_map_of(t, pc);
	if (!map) {
		live_read_maps(t);
		map = live_map_of(t, pc);
	}
	if (!map)
		return -ENOENT;
	if (map->file < 0)
		map->file = live_file_of(t, map);
	memset(ret, 0, sizeof(*ret));
	if (map->file < 0 || !t->files[map->file].usable)
		return 0;
	const struct live_file *f = &t->files[map->file];
	uint64_t offset = pc - map->start + map->offset;
	if (!strcmp(f->path, "[vdso]"))
		offset = pc - map->start;
	if (elf_vaddr_of_offset(&f->elf, offset, &ret->vaddr) < 0)
		return 0;
	ret->cfi = f->cfi;
	ret->is_go = f->elf.is_go;
	return 0;
}

static int live_read(void *context, uint64_t address, void *buf, size_t n)
{
	struct live_target *t = context;
	if (address > INT64_MAX - n)
		return -EFAULT;
	return pread(t->mem, buf, n, (off_t)address) == (ssize_t)n ? 0 : -EFAULT;
}

static bool live_regs(pid_t tid, struct regs *ret)
{
	struct user_regs_struct u;
	if (ptrace(PTRACE_GETREGS, tid, NULL, &u) < 0)
		return false;
	struct regs regs = { .known = (1ULL << REG_COUNT) - 1 };
	regs.r[DWARF_RAX] = u.rax;
	regs.r[DWARF_RDX] = u.rdx;
	regs.r[DWARF_RCX] = u.rcx;
	regs.r[DWARF_RBX] = u.rbx;
	regs.r[DWARF_RSI] = u.rsi;
	regs.r[DWARF_RDI] = u.rdi;
	regs.r[REG_FP] = u.rbp;
	regs.r[REG_SP] = u.rsp;
	regs.r[DWARF_R8] = u.r8;
	regs.r[DWARF_R9] = u.r9;
	regs.r[DWARF_R10] = u.r10;
	regs.r[DWARF_R11] = u.r11;
	regs.r[DWARF_R12] = u.r12;
	regs.r[DWARF_R13] = u.r13;
	regs.r[DWARF_R14] = u.r14;
	regs.r[DWARF_R15] = u.r15;
	regs.r[REG_PC] = u.rip;
	*ret = regs;
	return true;
}

static size_t live_unwind(
	struct live_target *t, struct regs regs, struct unwind_frame *frames, size_t max, enum unwind_end *ret_end)
{
	const struct unwind_env env = { .context = t, .read = live_read, .code = live_code };
	return unwind(&env, &regs, frames, max, ret_end);
}

#endif
