/* A just-in-time compiler in miniature: machine code with frame pointers in anonymous memory, named by
 * /tmp/perf-PID.map (in its own PID namespace's numbers), which is removed at the end. Chain: main; run_jit; jit_outer;
 * jit inner; part 2. With argv[2] "hostile" the map has broken lines, overlaps and names with control bytes. */
#include "workload.h"

#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

/* push rbp; mov rbp, rsp; mov eax, 0x80000; dec eax; jnz -4; pop rbp; ret */
static const unsigned char inner[] = { 0x55, 0x48, 0x89, 0xe5, 0xb8, 0x00, 0x00, 0x08, 0x00, 0xff, 0xc8, 0x75, 0xfc,
	0x5d, 0xc3 };
/* push rbp; mov rbp, rsp; sub rsp, 64; call inner (at +64); leave; ret */
static const unsigned char outer[] = { 0x55, 0x48, 0x89, 0xe5, 0x48, 0x83, 0xec, 0x40, 0xe8, 0x33, 0x00, 0x00, 0x00,
	0xc9, 0xc3 };

static NOINLINE void run_jit(void (*code)(void))
{
	code();
	STAYS_ON_THE_STACK();
}

int main(int argc, char **argv)
{
	workload_begin(argc, argv);
	unsigned char *code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (code == MAP_FAILED)
		abort();
	memcpy(code, outer, sizeof outer);
	memcpy(code + 64, inner, sizeof inner);
	char path[64];
	snprintf(path, sizeof path, "/tmp/perf-%d.map", getpid());
	FILE *map = fopen(path, "w");
	if (!map)
		abort();
	if (argc > 2 && !strcmp(argv[2], "hostile")) {
		fprintf(map, "garbage\n%lx\n%lx ffffffffffffffff wraps\n0 0 \n-1 -1 -1\n", (long)code, (long)code);
		fprintf(map, "%lx %zx evil;\x1b[31m\xff%c(rest)\n", (long)code + 64, sizeof inner, '\t');
	} else {
		fprintf(map, "%lx %zx jit inner; part 2\n", (long)code + 64, sizeof inner);
	}
	fprintf(map, "%lx %zx jit_outer\n", (long)code, sizeof outer);
	fclose(map);
	while (!workload_done)
		run_jit((void (*)(void))code);
	unlink(path);
	return 0;
}
