/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * A progress bar on standard error, drawn at most 10 times a second and only where that is a terminal:
 * "importing debian  [#########-----------]  45%  1.2 GiB / 2.6 GiB  110 MiB/s  0:12 left".
 */
struct progress {
        const char *what; /* borrowed */
        bool shown;       /* standard error is a terminal */
        int64_t start_ms, drawn_ms;
        uint64_t rate_done; /* the point that the rate is measured from */
        int64_t rate_ms;
        double rate; /* bytes a second, smoothed; 0: not known yet */
};

void progress_begin(struct progress *p, const char *what, bool quiet);
/* Whether progress_draw() would draw now: what it needs is worth asking for. */
bool progress_due(const struct progress *p);
/* total 0: not known, so that only what is done and the rate are shown. */
void progress_draw(struct progress *p, uint64_t done, uint64_t total);
/* Removes the bar's line, so that a result or an error can be printed. */
void progress_end(struct progress *p);

/* The line itself, for `columns` of terminal; of its own for the tests. now_ms is clock_ms(). */
void progress_line(struct progress *p, uint64_t done, uint64_t total, int64_t now_ms, unsigned columns,
                   char *buf, size_t len);
