/* Orders to the running service. */
#ifndef CTL_OPERATE_H
#define CTL_OPERATE_H

#include <stdbool.h>
#include <stdio.h>

bool operate_known(const char *name);
void operate_list(FILE *out);        /* a line for each, for --help */
void operate_help(const char *name); /* a known one */
int operate_main(const char *name, int argc, char **argv);

#endif
