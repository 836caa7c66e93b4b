/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <rbd/librbd.h>
#include <stdlib.h>
#include <string.h>

#include "imaged/store/rbd-engine.h"

/*
 * Images of instances with the feature exclusive-lock: with it a failover waits for the dead QEMU's watch,
 * 10 s and more. Layering and deep-flatten need no lock. An image's features are read from its header (omap
 * "features", 64 bits, little endian), which is one operation; to open each image would be a dozen.
 */
#define NAMED 3 /* images that a finding names; the others are counted */

struct locked {
        rados_ioctx_t io;
        char names[NAMED][POOL_NAME_MAX];
        size_t n;
};

static int features_of(rados_ioctx_t io, const char *id, uint64_t *ret)
{
        _cleanup_(pool_read_op_donep) rados_read_op_t op = rados_create_read_op();
        _cleanup_(pool_iter_donep) rados_omap_iter_t it = NULL;
        const char *keys[] = {"features"};
        _cleanup_(freep) char *header = str_printf("rbd_header.%s", id);
        char *key, *val;
        size_t len;
        int prval = 0, r;

        if (!header)
                return -ENOMEM;
        rados_read_op_omap_get_vals_by_keys(op, keys, 1, &it, &prval);
        r = rados_read_op_operate(op, io, header, 0);
        if (r < 0 || prval < 0)
                return r < 0 ? r : prval;
        if (rados_omap_get_next(it, &key, &val, &len) < 0 || !key || len != 8)
                return -ENOENT;
        *ret = 0;
        for (size_t i = 0; i < 8; i++)
                *ret |= (uint64_t)(unsigned char)val[i] << (8 * i);
        return 0;
}

static int look_one(void *arg, const char *name, const char *id)
{
        struct locked *l = arg;
        char instance[UUID_LEN + 1];
        uint64_t features;
        int r;

        snprintf(instance, sizeof(instance), "%s", name); /* "<instance>.e<N>.h<H>", "<instance>.<disk>" */
        if (!uuid_valid(instance) || name[UUID_LEN] != '.')
                return 0;
        r = features_of(l->io, id, &features);
        if (r == -ENOENT) /* being made, renamed or removed */
                return 0;
        if (r < 0)
                return r;
        if (!(features & RBD_FEATURE_EXCLUSIVE_LOCK))
                return 0;
        if (l->n < NAMED)
                strcpy(l->names[l->n], name);
        l->n++;
        return 0;
}

static int tell_locked(struct store *s, const struct locked *l, store_finding_cb cb, void *arg,
                       struct err *err)
{
        char path[POOL_NAME_MAX * 2] = "", names[NAMED * POOL_NAME_MAX] = "";
        _cleanup_(freep) char *text = NULL, *advice = NULL;
        struct store_finding f = {.code = "exclusive-lock"};
        int r = pool_path(s, l->names[0], path, sizeof(path), err);

        if (r < 0)
                return r;
        for (size_t i = 0; i < MIN_OF(l->n, NAMED); i++)
                snprintf(names + strlen(names), sizeof(names) - strlen(names), "%s%s", i ? ", " : "",
                         l->names[i]);
        text = str_printf(
            "%zu disk%s of instances %s the feature exclusive-lock, so that after the death of a "
            "host a failover waits up to 30 s for Ceph's own lock: %s%s",
            l->n, l->n == 1 ? "" : "s", l->n == 1 ? "has" : "have", names, l->n > NAMED ? ", ..." : "");
        advice =
            str_printf("stop the instance, then for each: rbd feature disable %s FEATURES, where "
                       "FEATURES are those of journaling, fast-diff, object-map and exclusive-lock that "
                       "\"rbd info\" shows",
                       path);
        f.text = text;
        f.advice = advice;
        return text && advice ? cb(arg, &f) : err_set(err, -ENOMEM, "out of memory");
}

int rbd_diagnose(struct store *s, bool many_machines, store_finding_cb cb, void *arg, struct err *err)
{
        _cleanup_(pool_client_putp) struct pool_client *client = NULL;
        _cleanup_(pool_io_donep) rados_ioctx_t io = NULL;
        struct locked l = {0};
        struct err old = {0};
        int r;

        (void)many_machines;
        r = pool_io(s, &client, &io, err);
        if (r < 0)
                return r;
        r = pool_check_clone_v2(client->cluster, &old);
        if (r == -EINVAL)
                r = cb(arg, &(struct store_finding){
                                .code = "old-clients",
                                .text = err_text(&old),
                                .advice = "run \"ceph osd set-require-min-compat-client mimic\""});
        else if (r < 0 && err)
                *err = old;
        if (r != 0)
                return r;
        l.io = io;
        r = pool_names(io, "", look_one, &l, err);
        if (r < 0)
                return err && err->code ? r : pool_fail(err, r, "read the features of the images");
        return l.n ? tell_locked(s, &l, cb, arg, err) : 0;
}
