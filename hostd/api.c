/* SPDX-License-Identifier: Apache-2.0 */
#include "hostd/api.h"

#include <errno.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/json.h"
#include "common/http-server.h"
#include "common/util.h"
#include "hostd/dhcp.h"
#include "hostd/guests/admission.h"
#include "hostd/guests/table.h"
#include "hostd/record.h"
#include "hostd/ring/ring.h"
#include "hostd/self.h"
#include "hostd/survey.h"
#include "migrate/failover.h"
#include "migrate/isolation.h"

/* hostd's HTTP API, for imaged and other hostds: see docs/architecture.md. */

static int reply_packed(struct http_request *req, int status, json_t *body, struct err *err)
{
        int r;

        if (!body)
                return err_set(err, -ENOMEM, "out of memory");
        r = http_reply_json(req, status, body);
        json_decref(body);
        return r;
}

static int get_health(struct http_request *req, void *userdata, struct err *err)
{
        struct context *ctx = userdata;

        return reply_packed(req, 200,
                            json_pack("{s:b,s:I,s:i,s:s,s:b}", "ok", self_trusted(ctx), "beat_ms",
                                      (json_int_t)(clock_ms() - ctx->self->own_write_ms), "host",
                                      (int)ctx->number, "name", ctx->config->name, "libvirt",
                                      (int)ctx->self->virt_connected),
                            err);
}

static int post_look(struct http_request *req, void *userdata, struct err *err)
{
        _cleanup_(json_decrefpp) json_t *body = NULL;
        const char *id;
        int r;

        r = http_body_json(req, &body, err);
        if (r < 0)
                return r;
        id = json_get_str(body, "instance", "");
        if (!uuid_valid(id))
                return err_set(err, -EINVAL, "instance \"%.40s\" is not a UUID", id);
        guests_wake(userdata, id);
        if (json_get_bool(body, "start", false)) { /* a failover's winner asks another at once */
                r = self_can_start(userdata, err);
                if (r < 0)
                        return r;
        }
        return http_reply_json(req, 202, NULL);
}

static int post_store_check(struct http_request *req, void *userdata, struct err *err)
{
        char text[SELFTEST_TEXT];
        int verdict = selftest_run(userdata, text);
        _cleanup_(json_decrefpp) json_t *findings = json_array();
        int r = verdict < 0 ? 0 : selftest_findings(userdata, findings, err);

        if (r < 0)
                return r;
        return reply_packed(
            req, 200, json_pack("{s:b,s:s,s:O}", "ok", verdict > 0, "text", text, "findings", findings),
            err);
}

static int post_ended(struct http_request *req, void *userdata, struct err *err)
{
        _cleanup_(json_decrefpp) json_t *body = NULL;
        json_t *answer = NULL;
        const char *id, *start;
        int r;

        r = http_body_json(req, &body, err);
        if (r < 0)
                return r;
        id = json_get_str(body, "instance", "");
        start = json_get_str(body, "start", "");
        if (!uuid_valid(id) || !uuid_valid(start))
                return err_set(err, -EINVAL, "instance \"%.40s\", start \"%.40s\": not two UUIDs", id,
                               start);
        r = lift_answer(userdata, id, start, &answer, err);
        return r < 0 ? r : reply_packed(req, 200, answer, err);
}

static void problem(json_t *list, const char *code, const char *message)
{
        json_array_append_new(list, json_pack("{s:s,s:s}", "code", code, "message", message));
}

/* One that lost its disk, and that libvirtd may have forgotten: beside an arrival nobody would look for it.
 */
static void preflight_leftovers(struct context *ctx, const struct instance *i, json_t *list)
{
        _cleanup_(freep) struct virt_domain *processes = NULL;
        char why[120];
        struct err e = {0};
        size_t n = 0;

        if (virt_processes(ctx->virt, &processes, &n, &e) < 0)
                problem(list, "leftover", err_text(&e));
        for (size_t k = 0; k < n; k++)
                if (streq(processes[k].lease.instance, i->id)) {
                        snprintf(why, sizeof(why), "an earlier QEMU of it, process %d, has not ended yet",
                                 (int)processes[k].pid);
                        problem(list, "leftover", why);
                }
}

/* Both ends have to mean the same stream. A source older than this setting says nothing, and sends in clear.
 */
static void preflight_tls(struct context *ctx, const json_t *ask, json_t *list)
{
        bool theirs = json_get_bool(ask, "tls", false), ours = ctx->config->migration_tls;
        struct err e = {0};

        if (theirs != ours)
                problem(
                    list, "tls",
                    ours ? "its hostd.conf wants migrations encrypted (migration_tls = yes), the source's "
                           "hostd sends them in clear"
                         : "its hostd.conf says migration_tls = no, the source's yes: set the same on both");
        else if (ours && virt_tls_ready(&ctx->capacity, ctx->config->address, &e) < 0)
                problem(list, "tls", err_text(&e));
}

/* Every reason at once why that instance cannot arrive here. */
static void preflight(struct context *ctx, const struct instance *i, const json_t *ask, json_t *list)
{
        _cleanup_(freep) struct failover_seat *seats = NULL;
        const char *accel = json_get_str(ask, "accel", "");
        char why[160];
        struct survey s = {0};
        struct err e = {0};
        size_t n_seats = 0;
        int r;

        if (!self_trusted(ctx))
                problem(list, "storage", "its heartbeats do not reach the storage");
        if (ctx->self->leaving)
                problem(list, "leaving", "it goes down");
        if (!ctx->self->virt_connected)
                problem(list, "libvirt", "its libvirt does not answer");
        if (if_nametoindex(ctx->config->bridge) == 0) {
                snprintf(why, sizeof(why), "its bridge %s does not exist", ctx->config->bridge);
                problem(list, "network", why);
        }
        if (ctx->self->uplink != UPLINK_GOOD) {
                snprintf(why, sizeof(why), "the uplink of its bridge %s is dead", ctx->config->bridge);
                problem(list, "network", why);
        }
        if (!streq(accel, ctx->kvm ? "kvm" : "tcg")) {
                snprintf(why, sizeof(why), "the guest runs under %s, this host offers %s", accel,
                         ctx->kvm ? "kvm" : "tcg");
                problem(list, "accel", why);
        }
        preflight_tls(ctx, ask, list);
        preflight_leftovers(ctx, i, list);
        if (survey_all(ctx->store, &s, &e) < 0 || survey_seats(&s, i->id, 0, &seats, &n_seats) < 0)
                problem(list, "storage", err_text(&e));
        for (size_t k = 0; k < n_seats; k++)
                if (seats[k].host == ctx->number && streq(seats[k].group, i->group)) {
                        problem(list, "group", "it has another instance of its group");
                        break;
                }
        survey_done(&s);
        r = guests_admit_arrival(ctx, i, json_array_size(list) == 0, &e);
        if (r < 0)
                problem(list,
                        r == -EEXIST   ? "group"
                        : r == -ENOSPC ? "room"
                        : r == -EUSERS ? "turn"
                                       : "starting",
                        err_text(&e));
}

static int post_preflight(struct http_request *req, void *userdata, struct err *err)
{
        struct context *ctx = userdata;
        _cleanup_(json_decrefpp) json_t *body = NULL, *list = json_array();
        _cleanup_(freep) char *uri = str_printf("tcp://%s", ctx->config->address);
        const char *id;
        struct instance i;
        int r;

        r = http_body_json(req, &body, err);
        if (r < 0)
                return r;
        id = json_get_str(body, "instance", "");
        if (!uuid_valid(id))
                return err_set(err, -EINVAL, "instance \"%.40s\" is not a UUID", id);
        r = instance_load(ctx->store, id, &i, err);
        if (r < 0)
                return r;
        preflight(ctx, &i, body, list);
        if (json_array_size(list) == 0)
                dhcp_add(ctx, i.id, i.name, i.mac,
                         i.address); /* the guest may ask as soon as it runs here */
        instance_done(&i);
        return reply_packed(req, 200,
                            json_pack("{s:O,s:s,s:s,s:s}", "problems", list, "bridge", ctx->config->bridge,
                                      "migrate_uri", uri ? uri : "", "peer_uri", ctx->config->peer_uri),
                            err);
}

static int get_migration(struct http_request *req, void *userdata, struct err *err)
{
        struct context *ctx = userdata;
        const char *id = http_param(req, "id");
        struct virt_progress p = {0};
        int r;

        r = virt_migrate_progress(ctx->virt, id, &p, err);
        if (r < 0)
                return r;
        if (streq(p.state, "none"))
                return err_set(err, -ENOENT, "instance %s is not being migrated", id);
        return reply_packed(req, 200,
                            json_pack("{s:s,s:I,s:I,s:I,s:I,s:I,s:I}", "state", p.state, "transferred",
                                      (json_int_t)p.transferred, "remaining", (json_int_t)p.remaining,
                                      "total", (json_int_t)p.total, "elapsed_ms", (json_int_t)p.elapsed_ms,
                                      "dirty_rate", (json_int_t)p.dirty_rate, "downtime_ms",
                                      (json_int_t)p.downtime_ms),
                            err);
}

struct console {
        struct context *ctx;
        char id[UUID_LEN + 1];
};

static void console_run(void *state, int fd, const void *early, size_t n_early)
{
        struct console *c = state;
        struct err e = {0};

        (void)early; /* a client has nothing to say before the upgrade */
        (void)n_early;
        if (virt_console(c->ctx->virt, c->id, fd, &e) < 0)
                (void)!write_full(fd, err_text(&e), strlen(err_text(&e)));
        free(c);
}

static int get_console(struct http_request *req, void *userdata, struct err *err)
{
        struct console *c = calloc(1, sizeof(*c));
        struct virt_domain d;
        int r;

        if (!c)
                return err_set(err, -ENOMEM, "out of memory");
        c->ctx = userdata;
        snprintf(c->id, sizeof(c->id), "%.36s", http_param(req, "id"));
        r = virt_find(c->ctx->virt, c->id, &d, err);
        if (r == 0)
                r = http_reply_upgrade(req, "wherry-console", console_run, c);
        if (r < 0)
                free(c);
        return r;
}

int api_listen(struct context *ctx, struct err *err)
{
        static const struct http_route routes[] = {
            {"GET", "/healthz", get_health, NULL, true},
            {"POST", "/v1/look", post_look, NULL, false},
            {"POST", "/v1/store-check", post_store_check, NULL, false},
            {"POST", "/v1/ended", post_ended, NULL, false},
            {"POST", "/v1/preflight", post_preflight, NULL, false},
            {"GET", "/v1/instances/{id}/migration", get_migration, NULL, false},
            {"GET", "/v1/instances/{id}/console", get_console, NULL, false},
        };
        const struct http_server_options options = {.listen = ctx->config->listen,
                                                    .token = ctx->config->token,
                                                    .routes = routes,
                                                    .n_routes = ARRAY_SIZE(routes),
                                                    .userdata = ctx};

        return http_server_new(&options, &ctx->http, err);
}
