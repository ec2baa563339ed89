/* A plugin for dlopen.c. LETTER is a or b; b has other frame sizes, so its unwind table does not fit a. */
#include "workload.h"

#define PASTE_(a, b) a##b
#define PASTE(a, b) PASTE_(a, b)
#define WORK PASTE(plugin_work_, LETTER)
#define ENTRY PASTE(plugin_entry_, LETTER)

void ENTRY(void);

static NOINLINE void WORK(volatile char *bytes)
{
	bytes[0] = 1;
	SPIN(500000);
}

void ENTRY(void)
{
	volatile char bytes[FRAME_BYTES];
	WORK(bytes);
	STAYS_ON_THE_STACK();
}
