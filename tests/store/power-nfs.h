/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>

#include "tests/store/power-fs.h"

/* What the server below the nfs engine answers, besides power-fs.h; a test begins with it zeroed. */
struct power_server {
        int own_answer;      /* < 0: of every change of owner */
        unsigned owns;       /* changes of owner that were asked for */
        int write_answer[4]; /* < 0: of that write of the self-test */
        unsigned writes;
        bool takes_all; /* writes of everybody */
};
extern struct power_server power_server;
