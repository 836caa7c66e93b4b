/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Clients that are dead: taken out of the gate before any fence has met them, or off the blocklist after
 * one.
 *
 *   fence    client.X on the blocklist, then in one operation: client.X goes, fenced.X comes
 *   lift     X off the blocklist, then fenced.X goes
 *
 * Cut off in between, either is done again by whoever is next. Who is fenced takes no part in anything: it
 * counts as one that is no longer recorded. That it is dead is for the caller to know; what is here proves
 * nothing.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "imaged/store/rbd-gate.h"

static int same_client(void *arg, const char *client)
{
        return streq(arg, client) ? -EALREADY : 0;
}

/*
 * That QEMU is gone, says the host it ran on. Its client is proved dead where its watch has gone too: a QEMU
 * that ends in order has finished its writes and taken its watch back. The watch of one that was killed
 * stays, 30 s, and with it the record: what the kernel still sends for it may arrive later, so the next
 * fence blocklists it.
 */
void rbd_start_forget(struct store *s, const char *instance, const struct start *start)
{
        _cleanup_(pool_client_putp) struct pool_client *client = NULL;
        _cleanup_(pool_io_donep) rados_ioctx_t io = NULL;
        _cleanup_(pool_scan_done) struct pool_scan scan = {0};
        _cleanup_(pool_list_done) struct pool_list images = {0};
        _cleanup_(gate_done) struct gate gate = {0};
        struct lease lease;

        if (pool_io(s, &client, &io, NULL) < 0)
                return;
        lease_images_begin(&scan, io, instance);
        if (gate_read(io, instance, &gate, NULL) < 0 ||
            lease_images_wait(&scan, io, instance, &images, NULL) < 0 ||
            lease_name_of(&images, instance, &lease, NULL) < 0)
                return;
        for (size_t i = 0; i < gate.n_clients; i++) {
                const struct gate_client *c = &gate.clients[i];
                char image[POOL_NAME_MAX];
                const char *id;

                if (!streq(c->start, start->id))
                        continue;
                if (streq(c->disk, GATE_FIRST))
                        disk_image(instance, &lease, NULL, 0, image);
                else
                        snprintf(image, sizeof image, "%s.%s", instance, c->disk);
                id = pool_list_id(&images, image);
                if (id && disk_watchers(io, image, id, NULL, NULL, same_client,
                                        (void *)(uintptr_t)c->address, NULL) >= 0)
                        (void)gate_drop(io, instance, &c, 1, false, NULL);
        }
}

int rbd_lease_fenced(struct store *s, const char *instance, fenced_cb cb, void *arg, struct err *err)
{
        _cleanup_(pool_client_putp) struct pool_client *client = NULL;
        _cleanup_(pool_io_donep) rados_ioctx_t io = NULL;
        _cleanup_(gate_done) struct gate gate = {0};
        int r = pool_io(s, &client, &io, err);

        if (r == 0)
                r = gate_read(io, instance, &gate, err);
        for (size_t i = 0; i < gate.n_fenced && r == 0; i++) {
                const struct gate_client *c = &gate.fenced[i];
                struct fenced_client f = {.host = c->host, .epoch = c->epoch, .ran_on = c->ran_on};

                strcpy(f.address, c->address);
                strcpy(f.start, c->start);
                r = cb(arg, &f);
        }
        return r;
}

static const char *user_of(const struct store *s)
{
        return s->options.ceph_user ? s->options.ceph_user : "admin";
}

/* 0 also where it was not there. The right to it is none that comes with "profile rbd". */
static int blocklist_rm(const struct store *s, rados_t cluster, const char *address, struct err *err)
{
        _cleanup_(json_decrefpp) json_t *cmd =
            json_pack("{s:s,s:s,s:s}", "prefix", "osd blocklist", "blocklistop", "rm", "addr", address);
        _cleanup_(freep) char *text = cmd ? json_text(cmd) : NULL;
        const char *cmds[] = {text};
        int r;

        if (!text)
                return err_set(err, -ENOMEM, "out of memory");
        r = rados_mon_command(cluster, cmds, 1, "", 0, NULL, NULL, NULL, NULL);
        if (r == -EACCES || r == -EPERM)
                return err_set(err, -EPERM,
                               "client.%s may take no client off Ceph's blocklist: \"wherry store check\" "
                               "names the command that lets it",
                               user_of(s));
        return r < 0 && r != -ENOENT ? pool_fail(err, r, "take client %s off the blocklist", address) : 0;
}

/* Asked for by an address that no client has: without the right it is refused, and with it nothing happens.
 */
int rbd_diagnose_host(struct store *s, store_finding_cb cb, void *arg, struct err *err)
{
        _cleanup_(pool_client_putp) struct pool_client *client = NULL;
        _cleanup_(freep) char *text = NULL, *advice = NULL;
        _cleanup_(pool_io_donep) rados_ioctx_t io = NULL;
        int r = pool_io(s, &client, &io, err);

        if (r < 0)
                return r;
        r = blocklist_rm(s, client->cluster, "0.0.0.0:0/1", err);
        if (r != -EPERM)
                return r;
        text = str_printf("client.%s may take no client off Ceph's blocklist, so each failover leaves "
                          "entries there for 20 years",
                          user_of(s));
        advice =
            str_printf("run \"ceph auth caps client.%s mon 'profile rbd, allow command \"osd blocklist\" "
                       "with blocklistop=rm addr regex \"^[^/]+/[0-9]+$\"' osd 'CAPS'\", where CAPS are "
                       "those for osd that \"ceph auth get client.%s\" shows: the command sets all anew",
                       user_of(s), user_of(s));
        return text && advice
                   ? cb(arg, &(struct store_finding){.code = "no-lift", .text = text, .advice = advice})
                   : err_set(err, -ENOMEM, "out of memory");
}

/* The note of it goes, if it still says the same. */
static int unfence(rados_ioctx_t io, const char *instance, const struct gate_client *c, struct err *err)
{
        _cleanup_(pool_write_op_donep) rados_write_op_t op = rados_create_write_op();
        char oid[POOL_NAME_MAX], name[128], val[GATE_CLIENT_TEXT];
        const char *key = name;
        size_t len;
        int r;

        gate_object(instance, oid);
        snprintf(name, sizeof name, "fenced.%s", c->address);
        gate_client_text(c, val);
        len = strlen(key);
        rados_write_op_assert_exists(op);
        rados_write_op_omap_cmp2(op, key, LIBRADOS_CMPXATTR_OP_EQ, val, len, strlen(val), NULL);
        rados_write_op_omap_rm_keys2(op, &key, &len, 1);
        r = rados_write_op_operate(op, io, oid, NULL, 0);
        return r < 0 && r != -ENOENT && r != -ECANCELED
                   ? pool_fail(err, r, "clear the gate of instance %s", instance)
                   : 0;
}

int rbd_lease_lift(struct store *s, const char *instance, const struct fenced_client *fenced,
                   struct err *err)
{
        _cleanup_(pool_client_putp) struct pool_client *client = NULL;
        _cleanup_(pool_io_donep) rados_ioctx_t io = NULL;
        _cleanup_(gate_done) struct gate gate = {0};
        int r = pool_io(s, &client, &io, err);

        if (r == 0)
                r = gate_read(io, instance, &gate, err);
        for (size_t i = 0; i < gate.n_fenced && r == 0; i++) {
                const struct gate_client *c = &gate.fenced[i];

                if (!streq(c->address, fenced->address) || !streq(c->start, fenced->start) ||
                    c->host != fenced->host)
                        continue;
                r = blocklist_rm(s, client->cluster, c->address, err);
                return r < 0 ? r : unfence(io, instance, c, err);
        }
        return r == -ENOENT ? 0 : r; /* another was first, or the instance is gone */
}
