/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/preflight.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void __attribute__((format(printf, 3, 4)))
problem(struct preflight *p, const char *code, const char *fmt, ...)
{
        struct preflight_problem *new;
        va_list ap;

        assert(p->n < PREFLIGHT_PROBLEMS);
        new = &p->problems[p->n++];
        new->code = code;
        va_start(ap, fmt);
        vsnprintf(new->message, sizeof(new->message), fmt, ap);
        va_end(ap);
}

/* Both ends have to mean the same stream. A source older than this setting says nothing, and sends in clear. */
static void check_tls(const struct preflight_view *v, struct preflight *p)
{
        if (v->tls && !v->source_tls)
                problem(
                    p, "tls",
                    "its hostd.conf wants migrations encrypted (migration_tls = yes), the source's hostd "
                    "sends them in clear");
        else if (!v->tls && v->source_tls)
                problem(p, "tls",
                        "its hostd.conf says migration_tls = no, the source's yes: set the same on both");
        else if (v->tls && v->tls_error)
                problem(p, "tls", "%s", v->tls_error);
}

void preflight_check(const struct preflight_view *v, struct preflight *ret)
{
        ret->n = 0;
        if (!v->trusted)
                problem(ret, "storage", "its heartbeats do not reach the storage");
        if (v->leaving)
                problem(ret, "leaving", "it goes down");
        if (!v->libvirt)
                problem(ret, "libvirt", "its libvirt does not answer");
        if (!v->bridge_there)
                problem(ret, "network", "its bridge %s does not exist", v->bridge);
        if (!v->uplink_good)
                problem(ret, "network", "the uplink of its bridge %s is dead", v->bridge);
        if (strcmp(v->guest_accel, v->accel) != 0)
                problem(ret, "accel", "the guest runs under %s, this host offers %s", v->guest_accel,
                        v->accel);
        check_tls(v, ret);
        if (v->processes_error)
                problem(ret, "leftover", "%s", v->processes_error);
        /* libvirtd may have forgotten it, and beside an arrival nobody would look for it. */
        if (v->leftover)
                problem(ret, "leftover", "an earlier QEMU of it, process %d, has not ended yet",
                        v->leftover);
        if (v->survey_error)
                problem(ret, "storage", "%s", v->survey_error);
        if (v->group_here)
                problem(ret, "group", "it has another instance of its group");
}

void preflight_admission(struct preflight *p, int r, const char *why)
{
        const char *code = r == -EEXIST   ? "group"
                           : r == -ENOSPC ? "room"
                           : r == -EUSERS ? "turn"
                                          : "starting";

        if (r < 0)
                problem(p, code, "%s", why);
}

enum preflight_answer preflight_answer(const char *const *codes, size_t n)
{
        if (n == 0)
                return PREFLIGHT_GO;
        return n == 1 && strcmp(codes[0], "turn") == 0 ? PREFLIGHT_WAIT : PREFLIGHT_REFUSE;
}
