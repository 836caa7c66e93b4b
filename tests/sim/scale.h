/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>

/* 10, 100 and 1,000 hosts with 20 instances each: prints what each host asks of the storage and how long
 * decisions take; false where a host's share grows with the number of hosts, or a decision takes a second.
 */
bool scale_run(void);
