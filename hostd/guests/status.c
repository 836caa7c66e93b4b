/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "common/util.h"
#include "hostd/dhcp.h"
#include "hostd/events.h"
#include "hostd/guests/guest.h"

/* The status in the record: what this host sees of the guest, and since when. */

static void status_paused(struct guest *g, struct guest_look *l)
{
        char word[sizeof(g->io_word)];

        pthread_mutex_lock(&g->lock);
        memcpy(word, g->io_word, sizeof(word));
        pthread_mutex_unlock(&g->lock);
        l->state = "paused";
        if (l->view.pause == PAUSE_ERROR && streq(word, "enospc"))
                snprintf(l->reason, sizeof(l->reason), "%s", health_pause_name(PAUSE_FULL));
        else if (l->view.pause == PAUSE_ERROR && word[0])
                snprintf(l->reason, sizeof(l->reason), "%s: %s", health_pause_name(PAUSE_ERROR), word);
        else
                snprintf(l->reason, sizeof(l->reason), "%s", health_pause_name(l->view.pause));
}

/* Once for each change: the record's status is what was told last. */
static void status_tell(struct guest *g, const struct guest_look *l)
{
        const struct instance *i = &l->instance;

        if (streq(l->state, "paused"))
                event_add(g->ctx, "instance-paused", g->id, i->name, "stands still: %s", l->reason);
        else if (streq(l->state, "running") && streq(i->state, "paused"))
                event_add(g->ctx, "instance-resumed", g->id, i->name, "runs on; it stood still: %s",
                          i->reason);
}

static void status_absent(struct guest *g, struct guest_look *l)
{
        if (instance_waits_for_libvirt(&l->view)) {
                l->state = "failed";
                snprintf(l->error, sizeof(l->error),
                         "host %.64s: its libvirt does not answer; the start waits for that, since the "
                         "instance was given to this host",
                         g->ctx->config->name);
        } else if (l->view.wanted == WANTED_RUNNING && g->crashed) {
                l->state = "restarting";
                l->tries = g->backoff.failures;
                snprintf(l->reason, sizeof(l->reason), "%s", g->crash);
        } else {
                l->state = "stopped";
        }
}

void guest_status_look(struct guest *g, struct guest_look *l)
{
        const struct instance *i = &l->instance;
        struct instance_view *v = &l->view;

        l->reason[0] = l->error[0] = '\0';
        l->tries = 0;
        if (v->qemu == QEMU_NONE)
                status_absent(g, l);
        else if (v->pause != PAUSE_NONE && v->pause != PAUSE_PASSING)
                status_paused(g, l);
        else
                l->state = "running";
        v->settled = l->record && streq(i->state, l->state) && streq(i->reason, l->reason) &&
                     (!l->error[0] || streq(i->error, l->error)) && i->tries == l->tries &&
                     i->state_host == l->lease.host && i->state_epoch == l->lease.epoch;
}

/*
 * Its last owner may be dead and its QEMU alive. Nobody has run it at this epoch, so that one may not be shut
 * out yet; "stopped" means that nothing writes. A start that failed at this epoch may have begun the fence, and
 * an epoch has one start: so this fence has an epoch of its own.
 */
static int status_fence(struct guest *g, const struct guest_look *l, struct lease *ret_mine, struct err *err)
{
        struct disk_spec disks[INSTANCE_DISKS];
        size_t n = instance_disks(&l->instance, disks);
        const uint32_t taken[] = {l->instance.start.uid, l->instance.entry_start.uid};
        struct disk_reader *reader = NULL;
        struct start nobody;
        int r;

        *ret_mine = l->lease;
        if (l->lease.host == 0 || l->instance.start_epoch == l->lease.epoch)
                return 0;
        r = guest_claim(g, l, ret_mine, err);
        if (r < 0)
                return r;
        start_init(&nobody, g->id, ret_mine->epoch, NULL, taken, ARRAY_SIZE(taken));
        r = lease_fence(g->ctx->store, g->id, ret_mine, &nobody, disks, n, err);
        start_forget(g->ctx->store, g->id, &nobody);
        /* On a directory a QEMU that lives keeps its lock, and with that the disk. */
        if (r == 0)
                r = disk_reader_open(g->ctx->store, g->id, ret_mine, &disks[0], &reader, err);
        disk_reader_close(reader);
        return r == -EOPNOTSUPP ? 0 : r;
}

int guest_settle(struct guest *g, const struct guest_look *l, struct err *err)
{
        bool stopped = streq(l->state, "stopped");
        const struct guest_status s = {.state = l->state,
                                       .reason = l->reason,
                                       .error = l->error[0] ? l->error : NULL,
                                       .tries = l->tries,
                                       .next = g->retry_at,
                                       .restarted = stopped};
        struct lease mine = l->lease;
        int r = stopped ? status_fence(g, l, &mine, err) : 0;

        if (stopped)
                dhcp_remove(g->ctx, g->id);
        if (r == 0)
                r = guest_record_status(g->ctx, g->id, &s, &mine, err);
        if (r == 0)
                status_tell(g, l);
        return r;
}
