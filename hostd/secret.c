/* SPDX-License-Identifier: Apache-2.0 */
#include "hostd/secret.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"

/*
 * QEMU reaches Ceph with a key that libvirt hands it: the one of [store] ceph_user, found where Ceph's own
 * programs find it (the `keyring` of ceph.conf, read by librados). It goes to libvirt as an ephemeral secret
 * and into no file and no log.
 */
int secret_give(struct context *ctx, struct err *err)
{
        _cleanup_(freep) char *key = NULL, *usage = NULL;
        int r;

        if (!streq(store_engine(ctx->store), "rbd"))
                return 0;
        r = store_secret(ctx->store, &key, err);
        if (r < 0)
                return r;
        usage = str_printf("wherry %s", ctx->config->ceph_user);
        if (!usage)
                return err_set(err, -ENOMEM, "out of memory");
        r = virt_secret(ctx->virt, usage, key, err);
        explicit_bzero(key, strlen(key));
        if (r < 0)
                return r;
        if (!ctx->rbd_secret) /* once set, other threads read it */
                ctx->rbd_secret = take(usage);
        return 0;
}
