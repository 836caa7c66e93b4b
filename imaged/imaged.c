/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "imaged/account.h"
#include "imaged/auth.h"
#include "imaged/catalog.h"
#include "imaged/collect.h"
#include "imaged/daemon.h"
#include "imaged/events.h"
#include "imaged/hosts.h"
#include "imaged/index.h"
#include "imaged/network.h"
#include "imaged/place.h"

#define IMPORTS 4 /* downloads at the same time; the others wait */
#define NUDGES 2
#define LOOKS 2 /* helpers at the same time, of 60 MB each */
#define STALE_MIN_MS 1000

static int open_store(struct imaged *im, const struct imaged_options *o, struct err *err)
{
        const struct store_options so = {.ceph_conf = o->ceph_conf, .ceph_user = o->ceph_user};
        struct err e = {0}, why = {0};
        int r;

        r = store_open(o->store_url, &so, &im->store, err);
        if (r < 0)
                return r;
        r = store_prepare(im->store, &e);
        if (r == -EACCES && store_selftest(im->store, &why) == 0) /* it knows the usual reason */
                return err_set(err, r, "%s: %s", err_text(&e), err_text(&why));
        if (r < 0)
                return err_set(err, r, "%s", err_text(&e));
        return 0;
}

static int serve(struct imaged *im, const struct imaged_options *o, struct err *err)
{
        const struct http_server_options ho = {.listen = o->listen,
                                               .token = o->token,
                                               .routes = imaged_routes,
                                               .n_routes = imaged_n_routes,
                                               .authenticate = auth_check,
                                               .userdata = im};
        int r = http_server_new(&ho, &im->server, err);

        return r < 0 ? r : http_server_start(im->server, err);
}

int imaged_new(const struct imaged_options *o, struct imaged **ret, struct err *err)
{
        struct imaged *im = calloc(1, sizeof(*im));
        int r = 0;

        if (!im)
                return err_set(err, -ENOMEM, "out of memory");
        pthread_mutex_init(&im->lock, NULL);
        sem_init(&im->looks, 0, LOOKS);
        im->undelete_s = o->undelete_s;
        im->allow_private = o->allow_private;
        im->stale_ms = MAX_OF(o->stale_ms, STALE_MIN_MS);
        if (o->hostd_token) {
                im->hostd_token = strdup(o->hostd_token);
                r = im->hostd_token ? 0 : err_set(err, -ENOMEM, "out of memory");
        }
        if (r == 0)
                r = open_store(im, o, err);
        if (r == 0 && o->public_url) {
                im->public_url = strdup(o->public_url);
                r = im->public_url ? 0 : err_set(err, -ENOMEM, "out of memory");
        }
        if (r == 0)
                r = accounts_new(im->store, &im->accounts, err);
        if (r == 0)
                r = catalog_new(im->store, &im->catalog, err);
        if (r == 0)
                r = network_prepare(im, &o->network, err);
        if (r == 0)
                r = events_new(im->store, &im->events, err);
        if (r == 0)
                r = index_new(im->store, &im->index, err);
        if (r == 0)
                r = places_new(&im->places, err);
        if (r == 0)
                r = jobs_new(IMPORTS, &im->imports, err);
        if (r == 0)
                r = jobs_new(NUDGES, &im->nudges, err);
        if (r == 0)
                r = hosts_new(im, &im->hosts, err);
        if (r == 0)
                r = collector_new(im, &im->collector, err);
        if (r == 0)
                r = serve(im, o, err);
        if (r < 0) {
                imaged_free(im);
                return r;
        }
        *ret = im;
        return 0;
}

/* Those who use something end before it. */
struct imaged *imaged_free(struct imaged *im)
{
        if (!im)
                return NULL;
        im->stopping = true;
        if (im->events)
                events_stop(im->events);
        http_server_free(im->server);
        collector_free(im->collector);
        jobs_free(im->imports);
        jobs_free(im->nudges);
        hosts_free(im->hosts);
        places_free(im->places);
        index_free(im->index);
        events_free(im->events);
        catalog_free(im->catalog);
        accounts_free(im->accounts);
        store_close(im->store);
        pthread_mutex_destroy(&im->lock);
        sem_destroy(&im->looks);
        free(im->hostd_token);
        free(im->public_url);
        free(im);
        return NULL;
}

unsigned imaged_port(const struct imaged *im)
{
        return http_server_port(im->server);
}
