/* The native worker: the lane of every process that no runtime's worker understands. Kernel and native stacks.
 *
 *   main.c    the loop: the channel, the lane's rings in order of time, marks, commits
 *   sample.c  one sample: which process, which stack, which outcome */
#ifndef NATIVE_NATIVE_H
#define NATIVE_NATIVE_H

#include "kit/window.h"

#include <stdbool.h>
#include <stdint.h>

/* Counts the sample of an entry; false: it should wait for answers (leases) that are under way. */
bool sample_take(const struct window_entry *entry);

#endif
