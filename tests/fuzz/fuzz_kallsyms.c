/* Any bytes as /proc/kallsyms, asked for addresses low and high. */
#include "kit/kallsyms.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static int fd = -1;
	if (fd < 0)
		fd = memfd_create("kallsyms", MFD_CLOEXEC);
	if (ftruncate(fd, 0) || pwrite(fd, data, size, 0) != (ssize_t)size)
		abort();
	struct kallsyms *k;
	if (kallsyms_load(&k, fd))
		return 0;
	char out[200];
	for (uint64_t address = 0; address < 1 << 16; address += 1 << 9)
		if (kallsyms_find(k, address, out, sizeof(out)) >= sizeof(out))
			abort();
	kallsyms_find(k, UINT64_MAX, out, sizeof(out));
	kallsyms_find(k, 0xffffffff81000000, out, 1);
	if (!kallsyms_memory(k))
		abort();
	kallsyms_free(k);
	return 0;
}
