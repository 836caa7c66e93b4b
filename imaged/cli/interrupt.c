/* SPDX-License-Identifier: Apache-2.0 */
#include "imaged/cli/interrupt.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>

#include "common/clock.h"
#include "common/http-client.h"
#include "common/util.h"

#define PAUSE_MIN_MS 10
#define PAUSE_SHARE 40 /* a wait grows by at most a 40th for not being told when it is over */
#define PAUSE_MAX_MS 500

static volatile sig_atomic_t caught;
static struct http_client *_Atomic to_cancel;

static void on_signal(int sig)
{
        struct http_client *http = to_cancel;

        caught = sig;
        if (http)
                http_cancel(http);
}

/* The terminal has gone, too; but nohup(1) means that nobody minds. */
static void handle_hangup(const struct sigaction *sa)
{
        struct sigaction was;

        if (sigaction(SIGHUP, NULL, &was) == 0 && was.sa_handler != SIG_IGN)
                sigaction(SIGHUP, sa, NULL);
}

void interrupt_catch(struct http_client *http)
{
        /* SA_RESETHAND: whoever presses Ctrl-C twice means it. No SA_RESTART: a wait ends at once. */
        struct sigaction sa = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};

        to_cancel = http;
        caught = 0;
        sigaction(SIGINT, &sa, NULL);
        sigaction(SIGTERM, &sa, NULL);
        handle_hangup(&sa);
}

void interrupt_cancels(struct http_client *http)
{
        to_cancel = http;
        if (caught) /* before the handler could know of it */
                http_cancel(http);
}

void interrupt_release(void)
{
        struct sigaction sa = {.sa_handler = SIG_DFL};

        sigaction(SIGINT, &sa, NULL);
        sigaction(SIGTERM, &sa, NULL);
        handle_hangup(&sa);
        to_cancel = NULL;
}

bool interrupted(void)
{
        return caught != 0;
}

void interrupt_end(void)
{
        if (!caught)
                return;
        signal(caught, SIG_DFL);
        raise(caught);
}

struct pacer pacer_start(int64_t seconds)
{
        int64_t now = clock_ms();

        return (struct pacer){.begun_ms = now, .deadline_ms = now + seconds * 1000};
}

int pacer_wait(struct pacer *p, struct err *err)
{
        int64_t now = clock_ms(), left = p->deadline_ms - now, pause = (now - p->begun_ms) / PAUSE_SHARE;

        if (interrupted())
                return err_set(err, -ECANCELED, "interrupted");
        if (left <= 0)
                return err_set(err, -ETIMEDOUT, "the time to wait is over");
        pause = MAX_OF(MIN_OF(pause, PAUSE_MAX_MS), PAUSE_MIN_MS);
        poll(NULL, 0, (int)MIN_OF(pause, left));
        return interrupted() ? err_set(err, -ECANCELED, "interrupted") : 0;
}
