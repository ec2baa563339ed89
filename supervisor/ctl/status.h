/* `bulkhead status` for people. */
#ifndef CTL_STATUS_H
#define CTL_STATUS_H

#include "pack.h"

#include <stdio.h>

/* The answer to ASK_STATUS. Keys that are missing are left out. */
void status_print(const pack *status, FILE *out);
/* Any answer as "key: value" lines, with an array of maps as a table: for ASK_LEDGER. */
void status_print_generic(const pack *answer, FILE *out);

#endif
