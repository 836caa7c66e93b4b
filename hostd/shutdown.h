/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>

/* Does this host go down in order (reboot, power-off, kexec)? False where no systemd can tell. Blocks. */
bool shutdown_queued(void);
