/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/http-client.h"
#include "common/json.h"
#include "tests/sim/world.h"

/*
 * What hosts say to each other: calls of hostd's HTTP API, to the real handlers; and the gate's
 * registration.
 */
struct http_client {
        struct host *from, *to;
        int timeout_ms;
};

struct http_request {
        struct http_server *server;
        const struct http_route *route;
        char id[UUID_LEN + 1];
        json_t *body, *reply;
        int status, result;
        struct err err;
        bool done;
};

bool hosts_connected(const struct host *a, const struct host *b)
{
        return a == b || (a->powered && b->powered && !a->network_cut && !b->network_cut);
}

int http_client_new(const char *base, const char *token, int timeout_ms, struct http_client **ret,
                    struct err *err)
{
        struct http_client *c = calloc(1, sizeof(*c));

        assert(c);
        c->from = host_current();
        c->timeout_ms = timeout_ms;
        for (unsigned i = 0; i < W.n_machines; i++)
                if (strncmp(base, "http://", 7) == 0 && streq(base + 7, W.hosts[i].listen))
                        c->to = &W.hosts[i];
        *ret = c;
        return 0;
}

struct http_client *http_client_free(struct http_client *c)
{
        free(c);
        return NULL;
}

static void handle(void *arg)
{
        struct http_request *req = arg;

        co_sleep(rnd_between(50, 2000) * SIM_US);
        req->result = req->route->handler(req, req->server->userdata, &req->err);
        req->server->busy--;
        co_wake(&req->server->busy, true);
        req->done = true;
        co_wake(req, true);
}

static const struct http_route *route_of(const struct http_server *s, const char *method, const char *path)
{
        for (size_t i = 0; i < s->n_routes; i++)
                if (streq(s->routes[i].method, method) && streq(s->routes[i].path, path))
                        return &s->routes[i];
        return NULL;
}

int http_call(struct http_client *c, const char *method, const char *path, const json_t *body, json_t **ret,
              long *ret_status, struct err *err)
{
        int64_t deadline = sched_now() + c->timeout_ms * SIM_MS;
        struct http_request *req;
        struct host *to = c->to;
        bool heard;

        co_sleep(rnd_between(50, 2000) * SIM_US);
        if (!to || !to->hostd || !to->http || to->http->stop || !hosts_connected(c->from, to)) {
                if (to && !hosts_connected(c->from, to))
                        co_sleep(deadline - sched_now());
                return err_set(err, -ECONNREFUSED, "nobody answers");
        }
        req = calloc(1, sizeof(*req)); /* the handler's, too */
        assert(req);
        req->server = to->http;
        req->route = route_of(to->http, method, path);
        assert(req->route);
        req->body = json_deep_copy(body);
        to->http->busy++;
        co_spawn(to->hostd, handle, req);
        while (!req->done)
                if (co_wait(req, deadline) < 0)
                        break;
        heard = req->done && hosts_connected(c->from, to);
        if (!heard)
                return err_set(err, -ETIMEDOUT, "no answer in %d ms", c->timeout_ms);
        if (req->result < 0) {
                if (err)
                        *err = req->err;
                return req->result;
        }
        if (ret)
                *ret = json_incref(req->reply);
        return 0;
}

int http_server_new(const struct http_server_options *options, struct http_server **ret, struct err *err)
{
        struct http_server *s = calloc(1, sizeof(*s));
        struct http_route *routes = calloc(options->n_routes, sizeof(*routes));

        assert(s && routes);
        memcpy(routes, options->routes, options->n_routes * sizeof(*routes));
        *s = (struct http_server){.host = host_current(),
                                  .routes = routes,
                                  .n_routes = options->n_routes,
                                  .userdata = options->userdata};
        *ret = s;
        return 0;
}

int http_server_start(struct http_server *s, struct err *err)
{
        s->host->http = s;
        return 0;
}

struct http_server *http_server_free(struct http_server *s)
{
        if (!s)
                return NULL;
        s->stop = true;
        while (s->busy > 0)
                co_wait(&s->busy, SIM_NEVER);
        s->host->http = NULL;
        return NULL; /* a request that is over may still point to it */
}

int http_body_json(struct http_request *req, json_t **ret, struct err *err)
{
        *ret = req->body ? json_incref(req->body) : json_object();
        return 0;
}

int http_reply_json(struct http_request *req, int status, const json_t *body)
{
        req->status = status;
        req->reply = body ? json_deep_copy(body) : json_null();
        return 0;
}

const char *http_param(struct http_request *req, const char *name)
{
        return req->id;
}

int http_reply_upgrade(struct http_request *req, const char *protocol,
                       void (*run)(void *state, int fd, const void *early, size_t n_early), void *state)
{
        return -EINVAL;
}

/* --- the gate's socket --- */

int gate_new(const char *socket_path, gate_cb cb, void *arg, struct gate **ret, struct err *err)
{
        struct gate *g = calloc(1, sizeof(*g));

        assert(g);
        *g = (struct gate){.host = host_current(), .cb = cb, .arg = arg};
        g->host->gate = g;
        *ret = g;
        return 0;
}

struct gate *gate_free(struct gate *g)
{
        if (!g)
                return NULL;
        g->host->gate = NULL;
        while (g->busy > 0)
                co_wait(&g->busy, SIM_NEVER);
        return NULL; /* a question that is over may still point to it */
}
