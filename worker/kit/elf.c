#include "kit/elf.h"

#include "common/cleanup.h"

#include <elf.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

enum {
	NOTES_MAX = 64 << 10,     /* bytes of one note segment looked at; build ids are within the first few hundred */
	INFLATE_INPUT = 64 << 10, /* bytes read at a time */
	INFLATE_RATIO_MAX = 1032, /* zlib cannot expand by more (zlib's technical notes) */
	SECTION_NAMES_MAX = 16 << 20, /* bytes; a larger name table is a lie */
	NT_GO_BUILD_ID = 4,           /* owner "Go": cmd/internal/buildid in the Go sources */
};

int elf_read(const struct elf *elf, void *buf, size_t n, uint64_t offset)
{
	const struct elf_source *source = &elf->source;
	if (n > source->size || offset > source->size - n || offset > INT64_MAX - n)
		return -EIO;
	if (source->fd < 0) {
		if (n)
			memcpy(buf, source->data + offset, n);
		return 0;
	}
	for (size_t done = 0; done < n;) {
		ssize_t got = pread(source->fd, (uint8_t *)buf + done, n - done, (off_t)(offset + done));
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0) /* an error, or the file was truncated behind our back */
			return -EIO;
		done += (size_t)got;
	}
	return 0;
}

static int read_segments(struct elf *elf, const Elf64_Ehdr *header, uint32_t count)
{
	if (count > ELF_MAX_SEGMENTS)
		count = ELF_MAX_SEGMENTS;
	if (!count)
		return 0;
	if (header->e_phentsize != sizeof(Elf64_Phdr))
		return -EINVAL;
	cleanup_free Elf64_Phdr *raw = calloc(count, sizeof(*raw));
	elf->segments = calloc(count, sizeof(*elf->segments));
	if (!raw || !elf->segments)
		return -ENOMEM;
	if (elf_read(elf, raw, count * sizeof(*raw), header->e_phoff) < 0)
		return -EINVAL;
	for (uint32_t i = 0; i < count; i++) {
		const Elf64_Phdr *p = &raw[i];
		uint64_t filesz = p->p_filesz;
		if (p->p_vaddr > UINT64_MAX - p->p_memsz || p->p_offset > elf->source.size)
			continue;
		if (filesz > elf->source.size - p->p_offset)
			filesz = elf->source.size - p->p_offset;
		if (filesz > UINT64_MAX - p->p_vaddr)
			continue;
		elf->segments[elf->nsegments++] = (struct elf_segment) {
			.type = p->p_type,
			.flags = p->p_flags,
			.offset = p->p_offset,
			.vaddr = p->p_vaddr,
			.filesz = filesz,
			.memsz = p->p_memsz,
		};
	}
	return 0;
}

static void name_sections(struct elf *elf, const Elf64_Shdr *raw, uint32_t names)
{
	if (names >= elf->nsections || raw[names].sh_type != SHT_STRTAB || !raw[names].sh_size)
		return;
	uint64_t size = raw[names].sh_size;
	if (size > SECTION_NAMES_MAX || size > elf->source.size)
		return;
	cleanup_free char *table = malloc(size);
	if (!table || elf_read(elf, table, size, raw[names].sh_offset) < 0)
		return;
	for (uint32_t i = 0; i < elf->nsections; i++) {
		uint32_t at = raw[i].sh_name;
		if (at >= size)
			continue;
		size_t left =
			size - at < sizeof(elf->sections[i].name) - 1 ? size - at : sizeof(elf->sections[i].name) - 1;
		memcpy(elf->sections[i].name, table + at, strnlen(table + at, left));
	}
}

/* Sections are a convenience: a file whose section table is missing or absurd is still run by the kernel, so it is
 * taken as one without sections. */
static int read_sections(struct elf *elf, const Elf64_Ehdr *header, const Elf64_Shdr *first)
{
	uint64_t count = header->e_shnum ? header->e_shnum : first->sh_size;
	uint32_t names = header->e_shstrndx == SHN_XINDEX ? first->sh_link : header->e_shstrndx;
	if (count > ELF_MAX_SECTIONS)
		count = ELF_MAX_SECTIONS;
	if (!count || count * sizeof(Elf64_Shdr) > elf->source.size)
		return 0;
	cleanup_free Elf64_Shdr *raw = calloc(count, sizeof(*raw));
	if (!raw)
		return -ENOMEM;
	if (elf_read(elf, raw, count * sizeof(*raw), header->e_shoff) < 0)
		return 0;
	elf->sections = calloc(count, sizeof(*elf->sections));
	if (!elf->sections)
		return -ENOMEM;
	elf->nsections = (uint32_t)count;
	for (uint32_t i = 0; i < elf->nsections; i++)
		elf->sections[i] = (struct elf_section) {
			.type = raw[i].sh_type,
			.link = raw[i].sh_link,
			.info = raw[i].sh_info,
			.flags = raw[i].sh_flags,
			.addr = raw[i].sh_addr,
			.offset = raw[i].sh_offset,
			.size = raw[i].sh_size,
			.entsize = raw[i].sh_entsize,
		};
	name_sections(elf, raw, names);
	return 0;
}

static bool is_owner(const Elf64_Nhdr *note, const uint8_t *name, const char *owner)
{
	return note->n_namesz == strlen(owner) + 1 && !memcmp(name, owner, note->n_namesz);
}

static void read_notes(struct elf *elf, uint64_t offset, uint64_t size)
{
	if (size > NOTES_MAX)
		size = NOTES_MAX;
	cleanup_free uint8_t *notes = malloc(size ? size : 1);
	if (!notes || elf_read(elf, notes, size, offset) < 0)
		return;
	for (size_t at = 0; size - at >= sizeof(Elf64_Nhdr);) {
		Elf64_Nhdr note;
		memcpy(&note, notes + at, sizeof(note));
		at += sizeof(note);
		/* Name and description are padded to 4 bytes; both sizes are compared before they are added up. */
		uint64_t name_end = ((uint64_t)note.n_namesz + 3) & ~3ULL;
		if (name_end > size - at || note.n_descsz > size - at - name_end)
			return;
		const uint8_t *name = notes + at, *description = name + name_end;
		if (note.n_type == NT_GNU_BUILD_ID && is_owner(&note, name, "GNU") && note.n_descsz &&
			note.n_descsz <= ELF_BUILD_ID_MAX && !elf->build_id_len) {
			memcpy(elf->build_id, description, note.n_descsz);
			elf->build_id_len = (uint8_t)note.n_descsz;
		}
		if (note.n_type == NT_GO_BUILD_ID && is_owner(&note, name, "Go"))
			elf->is_go = true;
		uint64_t end = at + name_end + (((uint64_t)note.n_descsz + 3) & ~3ULL);
		if (end > size)
			return;
		at = (size_t)end;
	}
}

static void identify(struct elf *elf)
{
	static const char *const go[] = { ".gopclntab", ".data.rel.ro.gopclntab", ".go.buildinfo", ".note.go.buildid" };
	for (uint32_t i = 0; i < elf->nsegments; i++)
		if (elf->segments[i].type == PT_NOTE)
			read_notes(elf, elf->segments[i].offset, elf->segments[i].filesz);
	const struct elf_section *id = elf_section(elf, ".note.gnu.build-id");
	if (!elf->build_id_len && id)
		read_notes(elf, id->offset, id->size);
	for (size_t i = 0; i < sizeof(go) / sizeof(go[0]); i++)
		elf->is_go |= elf_section(elf, go[i]) != NULL;
}

int elf_open(struct elf *ret, struct elf_source source)
{
	struct elf elf = { .source = source };
	Elf64_Ehdr header;
	if (source.size < sizeof(header))
		return -ENOEXEC;
	if (elf_read(&elf, &header, sizeof(header), 0) < 0)
		return -EIO;
	if (memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_ident[EI_CLASS] != ELFCLASS64 ||
		header.e_ident[EI_DATA] != ELFDATA2LSB)
		return -ENOEXEC;
	elf.type = header.e_type;
	elf.machine = header.e_machine;
	elf.entry = header.e_entry;

	/* Section 0 holds the counts that do not fit the header (gABI, "Sections"). */
	Elf64_Shdr first = { 0 };
	bool sections = header.e_shoff && header.e_shentsize == sizeof(first) &&
			!elf_read(&elf, &first, sizeof(first), header.e_shoff);
	uint32_t segments = header.e_phnum == PN_XNUM && sections ? first.sh_info : header.e_phnum;
	int r = read_segments(&elf, &header, segments);
	if (!r && sections)
		r = read_sections(&elf, &header, &first);
	if (r < 0) {
		elf_close(&elf);
		return r;
	}
	identify(&elf);
	*ret = elf;
	return 0;
}

void elf_close(struct elf *elf)
{
	free(elf->segments);
	free(elf->sections);
	elf->segments = NULL;
	elf->sections = NULL;
	elf->nsegments = elf->nsections = 0;
}

const struct elf_section *elf_section(const struct elf *elf, const char *name)
{
	for (uint32_t i = 0; i < elf->nsections; i++) {
		const struct elf_section *s = &elf->sections[i];
		if (s->type != SHT_NOBITS && s->type != SHT_NULL && s->size && !strcmp(s->name, name))
			return s;
	}
	return NULL;
}

/* The whole of `out` must be filled by the stream, and the stream must end there. */
static int inflate_file(const struct elf *elf, uint64_t offset, uint64_t size, uint8_t *out, size_t out_size)
{
	cleanup_free uint8_t *input = malloc(INFLATE_INPUT);
	if (!input)
		return -ENOMEM;
	z_stream z = { .next_out = out, .avail_out = (uInt)out_size };
	if (inflateInit(&z) != Z_OK)
		return -ENOMEM;
	int r = 0, status = Z_OK;
	while (!r && status == Z_OK && size) {
		size_t n = size < INFLATE_INPUT ? (size_t)size : INFLATE_INPUT;
		r = elf_read(elf, input, n, offset);
		if (r < 0)
			break;
		z.next_in = input;
		z.avail_in = (uInt)n;
		status = inflate(&z, Z_NO_FLUSH);
		offset += n;
		size -= n;
	}
	if (!r && (status != Z_STREAM_END || z.avail_out))
		r = -EINVAL;
	inflateEnd(&z);
	return r;
}

int elf_section_data(
	const struct elf *elf, const struct elf_section *section, size_t limit, uint8_t **ret_data, size_t *ret_size)
{
	if (section->type == SHT_NOBITS || section->offset > elf->source.size ||
		section->size > elf->source.size - section->offset)
		return -EINVAL;
	bool compressed = section->flags & SHF_COMPRESSED;
	Elf64_Chdr header = { .ch_size = section->size };
	uint64_t body = section->size;
	if (compressed) {
		if (body < sizeof(header))
			return -EINVAL;
		int r = elf_read(elf, &header, sizeof(header), section->offset);
		if (r < 0)
			return r;
		if (header.ch_type != ELFCOMPRESS_ZLIB)
			return -ENOTSUP;
		body -= sizeof(header);
		if (header.ch_size > ELF_MAX_INFLATED)
			return -E2BIG;
		if (header.ch_size / INFLATE_RATIO_MAX > body)
			return -EINVAL;
	}
	if (header.ch_size > limit)
		return -E2BIG;
	cleanup_free uint8_t *data = malloc(header.ch_size ? header.ch_size : 1);
	if (!data)
		return -ENOMEM;
	int r = compressed ? inflate_file(elf, section->offset + sizeof(header), body, data, header.ch_size)
			   : elf_read(elf, data, header.ch_size, section->offset);
	if (r < 0)
		return r;
	*ret_size = header.ch_size;
	*ret_data = data;
	data = NULL;
	return 0;
}

int elf_vaddr_of_offset(const struct elf *elf, uint64_t offset, uint64_t *ret_vaddr)
{
	const struct elf_segment *found = NULL;
	for (uint32_t i = 0; i < elf->nsegments; i++) {
		const struct elf_segment *s = &elf->segments[i];
		if (s->type != PT_LOAD || offset < s->offset || offset - s->offset >= s->filesz)
			continue;
		/* Two segments may map the same bytes; the question is nearly always about code. */
		if (!found || (!(found->flags & PF_X) && (s->flags & PF_X)))
			found = s;
	}
	if (!found)
		return -ENOENT;
	*ret_vaddr = found->vaddr + (offset - found->offset);
	return 0;
}

int elf_offset_of_vaddr(const struct elf *elf, uint64_t vaddr, uint64_t *ret_offset)
{
	for (uint32_t i = 0; i < elf->nsegments; i++) {
		const struct elf_segment *s = &elf->segments[i];
		if (s->type != PT_LOAD || vaddr < s->vaddr || vaddr - s->vaddr >= s->filesz)
			continue;
		*ret_offset = s->offset + (vaddr - s->vaddr);
		return 0;
	}
	return -ENOENT;
}
