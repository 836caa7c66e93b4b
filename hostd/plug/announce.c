/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/util.h"
#include "hostd/plug/internal.h"
#include "hostd/self.h"

/*
 * When the network is told that a guest is here, in ms after it began to run: again and again, because the
 * old host of a failover may shut its own plug, and a switch may learn from the old guest, a little later.
 */
static const int64_t times_ms[] = {0, 500, 1000, 2000, 4000, 8000};

static struct announcement *unlink_one(struct plug *p, const char *instance)
{
        for (struct announcement **a = &p->announcements; *a; a = &(*a)->next)
                if (streq((*a)->instance, instance)) {
                        struct announcement *found = *a;

                        *a = found->next;
                        return found;
                }
        return NULL;
}

void plug_announce(struct context *ctx, const char *instance, const char *mac, const char *address)
{
        struct plug *p = ctx->plug;
        struct announcement *a;

        if (!mac || !address)
                return;
        a = calloc(1, sizeof(*a));
        if (!a)
                return;
        snprintf(a->instance, sizeof(a->instance), "%.36s", instance);
        snprintf(a->mac, sizeof(a->mac), "%.17s", mac);
        snprintf(a->address, sizeof(a->address), "%.15s", address);
        a->due_ms = clock_ms();
        pthread_mutex_lock(&p->lock);
        free(unlink_one(p, instance));
        a->next = p->announcements;
        p->announcements = a;
        pthread_mutex_unlock(&p->lock);
}

void plug_quiet(struct context *ctx, const char *instance)
{
        pthread_mutex_lock(&ctx->plug->lock);
        free(unlink_one(ctx->plug, instance));
        pthread_mutex_unlock(&ctx->plug->lock);
}

void announce_drop(struct plug *p)
{
        struct announcement *a;

        while ((a = p->announcements)) {
                p->announcements = a->next;
                free(a);
        }
}

/* With the lock held, so that nothing is sent once plug_quiet() has returned. Returns whether it goes on. */
static bool tell(struct context *ctx, struct announcement *a)
{
        char tap[TAP_NAME_LEN];
        struct err e = {0};

        plug_tap(a->instance, tap);
        if (!tap_is_up(tap)) /* its QEMU has ended, or it was shut */
                return false;
        if (tap_announce(ctx->config->bridge, tap, a->mac, a->address, &e) < 0)
                log_warn("instance %s: the network was not told where it is: %s", a->instance, err_text(&e));
        if (++a->told == ARRAY_SIZE(times_ms))
                return false;
        a->due_ms += times_ms[a->told] - times_ms[a->told - 1];
        return true;
}

void announce_due(struct context *ctx)
{
        struct plug *p = ctx->plug;
        bool trusted = self_trusted(ctx); /* else it may be another host's guest by now */
        int64_t now = clock_ms();

        pthread_mutex_lock(&p->lock);
        for (struct announcement **a = &p->announcements; *a;) {
                struct announcement *one = *a;

                if (trusted && (one->due_ms > now || tell(ctx, one))) {
                        a = &one->next;
                } else {
                        *a = one->next;
                        free(one);
                }
        }
        pthread_mutex_unlock(&p->lock);
}
