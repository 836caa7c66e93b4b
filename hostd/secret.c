/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"
#include "hostd/manager.h"

/*
 * QEMU reaches Ceph with a key that libvirt hands it: the one of [store] ceph_user, found where Ceph's own
 * programs find it (the `keyring` of ceph.conf, read by librados). It goes to libvirt as an ephemeral secret
 * and into no file and no log.
 */
int manager_secret(struct manager *m, struct err *err)
{
        _cleanup_(freep) char *key = NULL, *usage = NULL;
        int r;

        if (!streq(store_engine(m->store), "rbd"))
                return 0;
        r = store_secret(m->store, &key, err);
        if (r < 0)
                return r;
        usage = str_printf("wherry %s", m->config->ceph_user);
        if (!usage)
                return err_set(err, -ENOMEM, "out of memory");
        r = virt_secret(m->virt, usage, key, err);
        explicit_bzero(key, strlen(key));
        if (r < 0)
                return r;
        if (!m->rbd_secret) /* once set, other threads read it */
                m->rbd_secret = take(usage);
        return 0;
}
