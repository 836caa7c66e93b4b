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
#include "migrate/preflight.h"

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
                            json_pack("{s:b,s:I,s:I,s:i,s:s,s:b}", "ok", self_trusted(ctx), "beat_ms",
                                      (json_int_t)(clock_ms() - ctx->self->own_write_ms), "steady_ms",
                                      (json_int_t)(clock_ms() - ctx->self->steady_ms), "host",
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

/* An earlier QEMU of the instance is still here: its process, else 0. */
static int preflight_leftover(struct context *ctx, const char *instance, struct err *err)
{
        _cleanup_(freep) struct virt_domain *processes = NULL;
        size_t n = 0;

        if (virt_processes(ctx->virt, &processes, &n, err) < 0)
                return 0;
        for (size_t k = 0; k < n; k++)
                if (streq(processes[k].lease.instance, instance))
                        return (int)processes[k].pid;
        return 0;
}

static bool preflight_group(struct context *ctx, const struct instance *i, struct err *err)
{
        _cleanup_(freep) struct failover_seat *seats = NULL;
        struct survey s = {0};
        size_t n = 0;
        bool here = false;

        if (survey_all(ctx->store, &s, err) == 0 && survey_seats(&s, i->id, 0, &seats, &n) < 0)
                err_set(err, -ENOMEM, "out of memory");
        for (size_t k = 0; k < n; k++)
                here |= seats[k].host == ctx->number && streq(seats[k].group, i->group);
        survey_done(&s);
        return here;
}

/* Every reason at once why that instance cannot arrive here. Where there is none its room is kept. */
static void preflight(struct context *ctx, const struct instance *i, const json_t *ask,
                      struct preflight *ret)
{
        const struct config *c = ctx->config;
        struct err tls = {0}, processes = {0}, survey = {0}, admission = {0};
        struct preflight_view v = {.trusted = self_trusted(ctx),
                                   .leaving = ctx->self->leaving,
                                   .libvirt = ctx->self->virt_connected,
                                   .bridge = c->bridge,
                                   .bridge_there = if_nametoindex(c->bridge) != 0,
                                   .uplink_good = ctx->self->uplink == UPLINK_GOOD,
                                   .accel = ctx->kvm ? "kvm" : "tcg",
                                   .guest_accel = json_get_str(ask, "accel", ""),
                                   .tls = c->migration_tls,
                                   .source_tls = json_get_bool(ask, "tls", false)};
        int r;

        if (v.tls && v.source_tls && virt_tls_ready(&ctx->capacity, c->address, &tls) < 0)
                v.tls_error = err_text(&tls);
        v.leftover = preflight_leftover(ctx, i->id, &processes);
        v.processes_error = processes.code ? err_text(&processes) : NULL;
        v.group_here = preflight_group(ctx, i, &survey);
        v.survey_error = survey.code ? err_text(&survey) : NULL;
        preflight_check(&v, ret);
        r = guests_admit_arrival(ctx, i, ret->n == 0, &admission);
        preflight_admission(ret, r, err_text(&admission));
}

static int post_preflight(struct http_request *req, void *userdata, struct err *err)
{
        struct context *ctx = userdata;
        _cleanup_(json_decrefpp) json_t *body = NULL, *list = json_array();
        _cleanup_(freep) char *uri = str_printf("tcp://%s", ctx->config->address);
        struct preflight found;
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
        preflight(ctx, &i, body, &found);
        for (size_t k = 0; k < found.n; k++)
                json_array_append_new(list, json_pack("{s:s,s:s}", "code", found.problems[k].code, "message",
                                                      found.problems[k].message));
        if (found.n == 0) /* the guest may ask as soon as it runs here */
                dhcp_add(ctx, i.id, i.name, i.mac, i.address);
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
