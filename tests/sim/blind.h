/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>

/*
 * Hosts whose listings are slow, and a heartbeat that nobody can read: a host that dies beside them is taken
 * over as soon as ever, and the heartbeat that cannot be read is told. Prints a line for each case; false
 * when one of them fails.
 */
bool blind_run(void);
