/* SPDX-License-Identifier: Apache-2.0 */
/* Who on this host has an instance's disks open: the clients that are registered at its gate, rbd-gate.c. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "imaged/store/rbd-gate.h"

void gate_open_done(struct gate_open *o)
{
        free(o->client);
        *o = (struct gate_open){0};
}

struct finding {
        struct gate_open *open;
        size_t disk;
};

static int found_client(void *arg, const char *client)
{
        const struct finding *f = arg;
        struct gate_open *o = f->open;
        void *grown = reallocarray(o->client, o->n + 1, sizeof *o->client);

        if (!grown)
                return -ENOMEM;
        o->client = grown;
        o->client[o->n].disk = f->disk;
        snprintf(o->client[o->n++].address, sizeof o->client->address, "%s", client);
        return 0;
}

int gate_open_find(struct gate_open *ret, const struct pool *p, const struct pool_client *client,
                   rados_ioctx_t io, const char *instance, const struct lease *name,
                   const struct gate_look *look, const struct disk_spec *disks, size_t n_disks,
                   struct err *err)
{
        struct finding f = {.open = ret};
        char image[POOL_NAME_MAX];

        ret->ran_on = &p->machine;
        for (f.disk = 0; f.disk < n_disks; f.disk++) {
                const char *id;
                int r;

                if (!gate_writable(&look->gate, &disks[f.disk]))
                        continue;
                disk_image(instance, name, disks, f.disk, image);
                id = pool_list_id(&look->images, image);
                if (!id)
                        return err_set(err, -ENOENT, "instance %s has no disk %s", instance, image);
                r = disk_watchers(io, image, id, p->address, client->own, found_client, &f, err);
                if (r == 0)
                        return err_set(
                            err, -EACCES,
                            "instance %s: nothing on %s has disk %s open, so nothing can be let through",
                            instance, p->address, disks[f.disk].name);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* Recorded already, maybe for another start: then it stays that one's. */
static bool is_known(const struct gate *gate, const char *address)
{
        for (size_t k = 0; k < gate->n_clients; k++)
                if (streq(gate->clients[k].address, address))
                        return true;
        for (size_t k = 0; k < gate->n_fenced; k++)
                if (streq(gate->fenced[k].address, address))
                        return true;
        return false;
}

/* Whether that start has a client of this disk in the list. */
static bool has_client(const struct gate_client *list, size_t n, const struct gate_client *c)
{
        for (size_t k = 0; k < n; k++)
                if (streq(list[k].start, c->start) && streq(list[k].disk, c->disk))
                        return true;
        return false;
}

/*
 * Is the i-th, which `c` is to be, this start's QEMU without a doubt? One new client of a disk is. Of
 * several nobody can say which is whose (some tool of this host's administrator has it open, too), so that
 * the QEMU's death would prove nothing: then it is not noted where they run, and once fenced they stay so.
 */
static bool is_qemu(const struct gate *gate, const struct gate_open *open, size_t i,
                    const struct gate_client *c)
{
        for (size_t k = 0; k < open->n; k++)
                if (open->client[k].disk == open->client[i].disk &&
                    !streq(open->client[k].address, open->client[i].address) &&
                    !is_known(gate, open->client[k].address))
                        return false;
        return !has_client(gate->clients, gate->n_clients, c) &&
               !has_client(gate->fenced, gate->n_fenced, c);
}

void gate_op_register(rados_write_op_t op, const struct gate *gate, const struct gate_open *open,
                      const struct start *start, const struct lease *mine, const struct disk_spec *disks)
{
        for (size_t i = 0; i < open->n; i++) {
                const size_t disk = open->client[i].disk;
                struct gate_client c = {.epoch = mine->epoch};
                char key[128], val[GATE_CLIENT_TEXT];

                if (is_known(gate, open->client[i].address))
                        continue;
                strcpy(c.start, start->id);
                strcpy(c.disk, disk == 0 ? GATE_FIRST : disks[disk].name);
                if (is_qemu(gate, open, i, &c)) {
                        c.host = mine->host;
                        c.ran_on = *open->ran_on;
                }
                snprintf(key, sizeof key, "client.%s", open->client[i].address);
                gate_client_text(&c, val);
                gate_op_set(op, key, val);
        }
}
