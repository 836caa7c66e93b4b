/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store's own Ceph client. It may find itself on the blocklist: an administrator shut out the host, or a
 * removal took it for a dead QEMU. Such a client never works again, so the call that meets it fails, the
 * next one is served by a new client, and the old one is closed as soon as its last call has returned.
 *
 * That is safe because nothing that the store does rests on which client does it: names, records and gates
 * change by atomic operations that compare. A QEMU's client is another matter; nobody opens that one anew.
 * The old client's watches (of a golden image being written) end after 30 s and hinder only a removal; on an
 * instance's writable disk the store never has one, so the gate cannot take it for a QEMU's.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "imaged/store/rbd-engine.h"

static void client_free(struct pool_client *c)
{
        if (c->cluster)
                rados_shutdown(c->cluster);
        free(c->own);
        free(c);
}

static int client_new(const struct store *s, struct pool_client **ret, struct err *err)
{
        struct pool_client *c = calloc(1, sizeof *c);
        int r;

        if (!c)
                return err_set(err, -ENOMEM, "out of memory");
        c->pool = pool_of(s);
        c->users = 1; /* the pool itself */
        r = pool_connect(s, &c->cluster, err);
        if (r == 0)
                r = pool_address(c->cluster, &c->own, err);
        if (r < 0)
                client_free(c);
        else
                *ret = c;
        return r;
}

void pool_client_putp(struct pool_client **client)
{
        struct pool_client *c = take(*client);
        struct pool *p = c ? c->pool : NULL;
        bool last;

        if (!c)
                return;
        pthread_mutex_lock(&p->lock);
        last = --c->users == 0;
        pthread_mutex_unlock(&p->lock);
        if (last)
                client_free(c);
}

/* Asked only after some client of this process was refused: an OSD knows. */
static bool is_blocklisted(const struct store *s, struct pool_client *c)
{
        _cleanup_(pool_io_donep) rados_ioctx_t io = NULL;
        uint64_t size;
        time_t when;

        return pool_io_in(s, c->cluster, pool_of(s)->ns, &io, NULL) == 0 &&
               rados_stat(io, POOL_GOLDEN, &size, &when) == -ESHUTDOWN;
}

static void retire_if_blocklisted(const struct store *s, unsigned seen)
{
        struct pool *p = pool_of(s);
        struct pool_client *c = NULL, *retired = NULL;

        pthread_mutex_lock(&p->lock);
        c = p->client;
        if (c)
                c->users++;
        pthread_mutex_unlock(&p->lock);
        if (c && is_blocklisted(s, c)) {
                pthread_mutex_lock(&p->lock);
                if (p->client == c)
                        retired = take(p->client);
                pthread_mutex_unlock(&p->lock);
        }
        if (retired)
                log_warn("%s: the store's own client %s is on Ceph's blocklist: closed, a new one is opened",
                         s->url, c->own);
        pool_client_putp(&retired);
        pool_client_putp(&c);
        pthread_mutex_lock(&p->lock);
        p->refusals_seen = seen;
        pthread_mutex_unlock(&p->lock);
}

int pool_client_get(const struct store *s, struct pool_client **ret, struct err *err)
{
        struct pool *p = pool_of(s);
        unsigned refusals = pool_refusals();
        int r = 0;

        pthread_mutex_lock(&p->lock);
        if (p->client && p->refusals_seen != refusals) {
                pthread_mutex_unlock(&p->lock);
                retire_if_blocklisted(s, refusals);
                pthread_mutex_lock(&p->lock);
        }
        if (!p->client) /* under the lock: who else comes now needs it just as much */
                r = client_new(s, &p->client, err);
        if (r == 0) {
                *ret = p->client;
                p->client->users++;
        }
        pthread_mutex_unlock(&p->lock);
        return r;
}
