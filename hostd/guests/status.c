/* SPDX-License-Identifier: Apache-2.0 */
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

void guest_status_look(struct guest *g, struct guest_look *l)
{
        const struct instance *i = &l->instance;
        struct instance_view *v = &l->view;

        l->state = NULL;
        l->reason[0] = '\0';
        if (v->pause != PAUSE_NONE && v->pause != PAUSE_PASSING)
                status_paused(g, l);
        else
                l->state = v->qemu == QEMU_NONE ? "stopped" : "running";
        v->settled = l->record && streq(i->state, l->state) && streq(i->reason, l->reason) &&
                     i->state_host == l->lease.host && i->state_epoch == l->lease.epoch;
}

int guest_settle(struct guest *g, const struct guest_look *l, struct err *err)
{
        const struct guest_status s = {
            .state = l->state, .reason = l->reason, .restarted = l->view.qemu == QEMU_NONE};
        int r;

        if (l->view.qemu == QEMU_NONE)
                dhcp_remove(g->ctx, g->id);
        r = guest_record_status(g->ctx, g->id, &s, &l->lease, err);
        if (r == 0)
                status_tell(g, l);
        return r;
}
