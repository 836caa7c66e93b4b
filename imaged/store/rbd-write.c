/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "imaged/store/rbd-gate.h"

/* Whether Ceph takes the writes of one start's QEMU: by the gate, which knows its clients, and by the
 * blocklist, on which an administrator may have put them as well. */

/* The list names a client in quotes, with or without the protocol before it: "v1:10.0.0.1:0/42". */
static bool list_names(const char *list, const char *address)
{
        size_t len = strlen(address);

        for (const char *at = list; (at = strstr(at, address)); at += len)
                if (at > list && (at[-1] == '"' || at[-1] == ':') && at[len] == '"')
                        return true;
        return false;
}

static int refused(struct err *err, const char *instance, const struct gate_client *c)
{
        return err_set(err, -EACCES, "instance %s: its client %s is on Ceph's blocklist", instance,
                       c->address);
}

int rbd_may_write(struct store *s, const char *instance, const struct lease *mine, const struct start *start,
                  const struct disk_spec *disks _unused_, size_t n_disks _unused_, struct err *err)
{
        _cleanup_(pool_client_putp) struct pool_client *client = NULL;
        _cleanup_(pool_io_donep) rados_ioctx_t io = NULL;
        _cleanup_(gate_look_done) struct gate_look look = {0};
        _cleanup_(freep) char *list = NULL;
        const struct gate *g = &look.gate;
        bool known = false;
        int r = pool_io(s, &client, &io, err);

        if (r == 0)
                r = gate_look(&look, io, instance, mine, err);
        if (r == -ESTALE)
                return err_wrap(err, -EACCES, "refused");
        if (r < 0)
                return r;
        for (size_t i = 0; i < g->n_fenced; i++)
                if (streq(g->fenced[i].start, start->id))
                        return refused(err, instance, &g->fenced[i]);
        r = pool_ask(client->cluster, "osd blocklist ls", "", &list);
        if (r < 0)
                return pool_fail(err, r, "ask for Ceph's blocklist");
        for (size_t i = 0; i < g->n_clients; i++) {
                if (!streq(g->clients[i].start, start->id))
                        continue;
                known = true;
                if (list_names(list, g->clients[i].address))
                        return refused(err, instance, &g->clients[i]);
        }
        return known ? 0
                     : err_set(err, -ENOENT, "instance %s: the gate knows no client of start %s", instance,
                               start->id);
}
