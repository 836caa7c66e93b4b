/* SPDX-License-Identifier: Apache-2.0 */
#include "imaged/store/rbd-engine.h"

#include <errno.h>
#include <ini.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"

/* A keyring is "[client.NAME]" sections with "key = BASE64" lines; ceph.conf's `keyring` lists where to
 * look. */
struct keyring {
        const char *section;
        char *key;
};

static int keyring_line(void *user, const char *section, const char *name, const char *value)
{
        struct keyring *k = user;

        /* The first value: inih gives the indented `caps` lines that follow as more of it. */
        if (!k->key && streq(section, k->section) && streq(name, "key"))
                k->key = strdup(value);
        return 1;
}

int rbd_secret(struct store *s, char **ret, struct err *err)
{
        _cleanup_(freep) char *section =
            str_printf("client.%s", s->options.ceph_user ? s->options.ceph_user : "admin");
        _cleanup_(pool_client_putp) struct pool_client *client = NULL;
        struct keyring k = {.section = section};
        char paths[1024] = "";
        char *save = NULL;
        int r;

        if (!section)
                return err_set(err, -ENOMEM, "%s: out of memory", s->url);
        r = pool_client_get(s, &client, err);
        if (r < 0)
                return r;
        r = rados_conf_get(client->cluster, "keyring", paths, sizeof(paths));
        if (r < 0)
                return pool_fail(err, r, "%s: Ceph's setting \"keyring\"", s->url);
        for (char *p = strtok_r(paths, ",; ", &save); p && !k.key; p = strtok_r(NULL, ",; ", &save))
                ini_parse(p, keyring_line, &k);
        if (!k.key)
                return err_set(err, -ENOENT, "%s: no key of %s in any keyring that ceph.conf names", s->url,
                               section);
        *ret = k.key;
        return 0;
}
