/* SPDX-License-Identifier: Apache-2.0 */
#include "common/log.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static atomic_int level = LOG_INFO;

void log_level(int max_priority)
{
        level = max_priority;
}

void log_at(int priority, const char *fmt, ...)
{
        struct pollfd p = {.fd = STDERR_FILENO, .events = POLLOUT};
        char line[1024];
        size_t n = 0, prefix;
        int r, saved = errno; /* a caller may log first and look at errno then */
        va_list ap;

        if (priority > level)
                return;
        if (isatty(STDERR_FILENO) == 0) {
                struct timespec ts;
                struct tm tm;

                clock_gettime(CLOCK_REALTIME, &ts);
                gmtime_r(&ts.tv_sec, &tm);
                n = (size_t)snprintf(line, sizeof(line), "<%d>%02d:%02d:%02d.%03ld ", priority, tm.tm_hour,
                                     tm.tm_min, tm.tm_sec, ts.tv_nsec / 1000000);
        }
        prefix = n;
        va_start(ap, fmt);
        r = vsnprintf(line + n, sizeof(line) - n - 1, fmt, ap);
        va_end(ap);
        if (r < 0)
                return;
        n += (size_t)r;
        if (n > sizeof(line) - 2)
                n = sizeof(line) - 2;
        /* One message is one line: a text from elsewhere must not look like a line of its own, or steer a
         * terminal. */
        for (size_t i = prefix; i < n; i++)
                if ((unsigned char)line[i] < ' ' || line[i] == 127)
                        line[i] = ' ';
        line[n++] = '\n';
        /* A full pipe drops the line rather than stop the caller. */
        if (poll(&p, 1, 0) == 1 && (p.revents & POLLOUT))
                (void)!write(STDERR_FILENO, line, n);
        errno = saved;
}
