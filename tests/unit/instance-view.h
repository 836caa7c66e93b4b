/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "migrate/instance.h"

/* A guest that runs here as it should. */
static inline struct instance_view running(void)
{
        return (struct instance_view){.me = 1,
                                      .trusted = true,
                                      .epoch = 5,
                                      .host = 1,
                                      .record = true,
                                      .wanted = WANTED_RUNNING,
                                      .settled = true,
                                      .qemu = QEMU_RUNNING,
                                      .qemu_epoch = 5};
}

#define decides(v, a) assert_string_equal(instance_action_name(instance_decide(v)), instance_action_name(a))
