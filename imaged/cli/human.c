/* SPDX-License-Identifier: Apache-2.0 */
#include "imaged/cli/human.h"

#include <stdio.h>
#include <string.h>

#include "common/util.h"

time_t human_stamp_parse(const char *stamp)
{
        struct tm tm = {0};
        const char *rest;

        if (!stamp)
                return -1;
        rest = strptime(stamp, "%Y-%m-%dT%H:%M:%S", &tm);
        if (!rest)
                return -1;
        if (*rest == '.')
                rest += 1 + strspn(rest + 1, "0123456789");
        if (!streq(rest, "Z") && !streq(rest, "+00:00") && *rest != '\0')
                return -1;
        return timegm(&tm);
}

const char *human_age(const char *stamp, time_t now, char buf[HUMAN_LEN])
{
        static const struct {
                long seconds;
                const char *one, *many;
        } units[] = {
            {86400, "day", "days"},
            {3600, "hour", "hours"},
            {60, "min", "min"},
            {1, "s", "s"},
        };
        time_t then = human_stamp_parse(stamp);
        long age = (long)(now - then);

        if (then < 0) {
                snprintf(buf, HUMAN_LEN, "-");
                return buf;
        }
        for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
                long n = age / units[i].seconds;

                if (age >= 2 && n >= 1) {
                        snprintf(buf, HUMAN_LEN, "%ld %s ago", n, n == 1 ? units[i].one : units[i].many);
                        return buf;
                }
        }
        /* Also where the server's clock is ahead of ours. */
        snprintf(buf, HUMAN_LEN, "just now");
        return buf;
}

const char *human_until(const char *stamp, time_t now, char buf[HUMAN_LEN])
{
        time_t then = human_stamp_parse(stamp);

        if (then > now)
                snprintf(buf, HUMAN_LEN, "in %lld s", (long long)(then - now));
        else
                snprintf(buf, HUMAN_LEN, "at any moment");
        return buf;
}

const char *human_duration(int64_t ms, char buf[HUMAN_LEN])
{
        long long s = (long long)(ms / 1000);

        if (ms < 0)
                snprintf(buf, HUMAN_LEN, "unknown");
        else if (ms < 1000)
                snprintf(buf, HUMAN_LEN, "%lld ms", (long long)ms);
        else if (ms < 60000)
                snprintf(buf, HUMAN_LEN, "%.1f s", (double)ms / 1000);
        else if (s < 3600)
                snprintf(buf, HUMAN_LEN, "%lld:%02lld", s / 60, s % 60);
        else
                snprintf(buf, HUMAN_LEN, "%lld:%02lld:%02lld", s / 3600, s / 60 % 60, s % 60);
        return buf;
}
