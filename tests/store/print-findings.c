/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>

#include "common/log.h"
#include "imaged/store/store.h"

/*
 * Prints what the self-test and the diagnosis say about the store of $STORE_URL, for the stories of
 * tests/store/diagnose: "fence: VERDICT", then "CODE: TEXT | ADVICE" for each finding; with
 * $STORE_HOST also what a host would find.
 */
static int print(void *arg, const struct store_finding *f)
{
        printf("%s: %s | %s\n", f->code, f->text, f->advice);
        return 0;
}

int main(void)
{
        const char *url = getenv("STORE_URL");
        const struct store_options options = {.ceph_conf = getenv("STORE_CEPH_CONF"),
                                              .ceph_user = getenv("STORE_CEPH_USER")};
        struct store *s = NULL;
        struct err err = {0};
        int r;

        log_level(LOG_WARNING);
        r = store_open(url ? url : "", &options, &s, &err);
        if (r == 0) {
                int verdict = store_selftest(s, &err);

                printf("fence: %s\n", verdict > 0 ? "holds" : err_text(&err));
                if (verdict > 0)
                        r = store_diagnose(s, false, print, NULL, &err);
                if (verdict > 0 && r == 0 && getenv("STORE_HOST"))
                        r = store_diagnose_host(s, print, NULL, &err);
        }
        if (r < 0)
                printf("failed: %s\n", err_text(&err));
        store_close(s);
        return r < 0;
}
