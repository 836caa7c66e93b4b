/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "common/json.h"
#include "common/util.h"
#include "hostd/config.h"
#include "hostd/record.h"

/*
 * edit-record HOSTD.CONF host|instance ID MEMBER JSON: sets one member of a record, as another writer would;
 * with hostd's own credentials.
 */
struct edit {
        const char *member;
        json_t *value;
};

static int edit_member(json_t *doc, void *arg, struct err *err)
{
        const struct edit *e = arg;

        (void)err;
        json_object_set(doc, e->member, e->value);
        return 1;
}

int main(int argc, char **argv)
{
        struct config c = {0};
        struct store *s = NULL;
        struct edit edit;
        struct err e = {0};
        int r;

        if (argc != 6) {
                fprintf(stderr, "usage: edit-record HOSTD.CONF host|instance ID MEMBER JSON\n");
                return 2;
        }
        edit.member = argv[4];
        edit.value = json_loads(argv[5], JSON_DECODE_ANY, NULL);
        r = edit.value ? config_load(argv[1], &c, &e) : err_set(&e, -1, "%s is not JSON", argv[5]);
        if (r == 0) {
                struct store_options options = {.ceph_conf = c.ceph_conf, .ceph_user = c.ceph_user};

                r = store_open(c.store_url, &options, &s, &e);
        }
        if (r == 0)
                r = record_change(s, streq(argv[2], "host") ? RECORD_HOST : RECORD_INSTANCE, argv[3],
                                  edit_member, &edit, &e);
        if (r < 0)
                fprintf(stderr, "edit-record: %s\n", err_text(&e));
        store_close(s);
        config_done(&c);
        json_decref(edit.value);
        return r < 0;
}
