/* SPDX-License-Identifier: Apache-2.0 */
#include "imaged/cli/progress.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/util.h"
#include "imaged/cli/human.h"

#define DRAW_MS 100
#define RATE_MS 500
#define LINE_MAX_LEN 512
#define BAR_MAX 40U

void progress_begin(struct progress *p, const char *what, bool quiet)
{
        int64_t now = clock_ms();

        *p = (struct progress){
            .what = what,
            .shown = !quiet && isatty(STDERR_FILENO),
            .start_ms = now,
            .drawn_ms = now - DRAW_MS,
            .rate_ms = now,
        };
}

/* Half of the new measurement and half of the old ones: steady to look at, and up to date within seconds. */
static void rate_update(struct progress *p, uint64_t done, int64_t now_ms)
{
        int64_t elapsed = now_ms - p->rate_ms;
        double now_rate;

        if (elapsed < RATE_MS || done < p->rate_done)
                return;
        now_rate = (double)(done - p->rate_done) * 1000 / (double)elapsed;
        p->rate = p->rate > 0 ? (p->rate + now_rate) / 2 : now_rate;
        p->rate_done = done;
        p->rate_ms = now_ms;
}

static void put_bar(uint64_t done, uint64_t total, unsigned width, char *buf, size_t len)
{
        unsigned full = (unsigned)((double)done / (double)total * width);

        if (width + 3 > len)
                return;
        *buf++ = '[';
        for (unsigned i = 0; i < width; i++)
                *buf++ = i < full ? '#' : '-';
        *buf++ = ']';
        *buf = '\0';
}

void progress_line(struct progress *p, uint64_t done, uint64_t total, int64_t now_ms, unsigned columns,
                   char *buf, size_t len)
{
        char a[24], b[24], rate[48] = "", left[48] = "", bar[BAR_MAX + 3] = "", time[HUMAN_LEN], tail[192];
        size_t used;

        rate_update(p, done, now_ms);
        if (total && done > total)
                done = total; /* memory that is sent again while a guest writes */
        if (p->rate >= 1)
                snprintf(rate, sizeof(rate), "  %s/s", size_format((uint64_t)p->rate, a, sizeof(a)));
        if (p->rate >= 1 && total > done)
                snprintf(
                    left, sizeof(left), "  %s left",
                    human_duration(MAX_OF((int64_t)((double)(total - done) / p->rate), 1) * 1000, time));
        if (!total) {
                snprintf(buf, len, "%s  %s%s", p->what, size_format(done, a, sizeof(a)), rate);
                return;
        }
        snprintf(tail, sizeof(tail), "%3u%%  %s / %s%s%s", (unsigned)((double)done * 100 / (double)total),
                 size_format(done, a, sizeof(a)), size_format(total, b, sizeof(b)), rate, left);
        used = strlen(p->what) + strlen(tail) + 6;
        if (used + 10 <= columns)
                put_bar(done, total, MIN_OF(columns - (unsigned)used, BAR_MAX), bar, sizeof(bar));
        snprintf(buf, len, "%s  %s%s%s", p->what, bar, bar[0] ? " " : "", tail);
}

bool progress_due(const struct progress *p)
{
        return p->shown && clock_ms() - p->drawn_ms >= DRAW_MS;
}

void progress_draw(struct progress *p, uint64_t done, uint64_t total)
{
        int64_t now = clock_ms();
        struct winsize size = {0};
        char line[LINE_MAX_LEN];
        unsigned columns = 80;

        if (!progress_due(p))
                return;
        p->drawn_ms = now;
        if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col)
                columns = size.ws_col;
        progress_line(p, done, total, now, columns, line, sizeof(line));
        if (strlen(line) >= columns)
                line[columns - 1] = '\0';
        fprintf(stderr, "\r%s\033[K", line);
        fflush(stderr);
}

void progress_end(struct progress *p)
{
        if (p->shown) {
                fprintf(stderr, "\r\033[K");
                fflush(stderr);
        }
        p->shown = false;
}
