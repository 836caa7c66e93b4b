/* SPDX-License-Identifier: Apache-2.0 */
#include "common/clock.h"

#include <stdio.h>
#include <time.h>

int64_t clock_ns(void)
{
        struct timespec ts;

        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

int64_t clock_ms(void)
{
        return clock_ns() / 1000000;
}

const char *clock_stamp(char ret[CLOCK_STAMP_LEN + 1])
{
        return clock_stamp_ago(0, ret);
}

const char *clock_stamp_ago(int64_t ms, char ret[CLOCK_STAMP_LEN + 1])
{
        struct timespec ts;
        struct tm tm;
        int64_t then;

        clock_gettime(CLOCK_REALTIME, &ts);
        then = (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000 - ms;
        ts = (struct timespec){.tv_sec = then / 1000, .tv_nsec = then % 1000 * 1000000};
        gmtime_r(&ts.tv_sec, &tm);
        snprintf(ret, CLOCK_STAMP_LEN + 1, "%04u-%02u-%02uT%02u:%02u:%02u.%03uZ",
                 (unsigned)(tm.tm_year + 1900) % 10000U, (unsigned)(tm.tm_mon + 1) % 100U,
                 (unsigned)tm.tm_mday % 100U, (unsigned)tm.tm_hour % 100U, (unsigned)tm.tm_min % 100U,
                 (unsigned)tm.tm_sec % 100U, (unsigned)(ts.tv_nsec / 1000000) % 1000U);
        return ret;
}
