/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>

#include "hostd/ring/internal.h"

int ring_new(struct ring **ret)
{
        struct ring *r = calloc(1, sizeof(*r));

        if (!r)
                return -ENOMEM;
        r->identity = calloc(1, sizeof(*r->identity));
        if (!r->identity) {
                free(r);
                return -ENOMEM;
        }
        pthread_mutex_init(&r->lock, NULL);
        pthread_mutex_init(&r->selftest_lock, NULL);
        *ret = r;
        return 0;
}

struct ring *ring_free(struct ring *r)
{
        if (!r)
                return NULL;
        r->beat_quit = true;
        if (r->beat_running)
                pthread_join(r->beat_thread, NULL);
        free(r->identity);
        free(r->first);
        free(r->takeovers);
        free(r->lift_proofs);
        pthread_mutex_destroy(&r->selftest_lock);
        pthread_mutex_destroy(&r->lock);
        free(r);
        return NULL;
}
