/* SPDX-License-Identifier: Apache-2.0 */
#include "common/json.h"
#include "imaged/daemon.h"
#include "imaged/drill.h"
#include "imaged/events.h"
#include "imaged/failovers.h"
#include "imaged/image.h"
#include "imaged/instance.h"
#include "imaged/place.h"
#include "imaged/records.h"
#include "imaged/store-check.h"

/* The HTTP API, as docs/architecture.md lists it. */

static int on_health(struct http_request *req, void *userdata, struct err *err)
{
        _cleanup_(json_decrefpp) json_t *reply = json_pack("{s:b,s:s}", "ok", 1, "version", WHERRY_VERSION);

        return http_reply_json(req, 200, reply);
}

static int on_store(struct http_request *req, void *userdata, struct err *err)
{
        struct imaged *im = userdata;
        _cleanup_(json_decrefpp) json_t *reply = NULL;
        uint64_t total = 0, left = 0;
        int r = store_space(im->store, &total, &left, err);

        if (r < 0)
                return records_code(r);
        reply = json_pack("{s:s,s:s,s:I,s:I}", "url", store_url(im->store), "engine",
                          store_engine(im->store), "total", (json_int_t)total, "free", (json_int_t)left);
        return http_reply_json(req, 200, reply);
}

const struct http_route imaged_routes[] = {
    {"GET", "/healthz", on_health, NULL, true},

    {"GET", "/v2/images", image_on_list, NULL, false},
    {"POST", "/v2/images", image_on_create, NULL, false},
    {"GET", "/v2/images/{id}", image_on_show, NULL, false},
    {"DELETE", "/v2/images/{id}", image_on_delete, NULL, false},
    {"PUT", "/v2/images/{id}/file", image_on_upload, &image_upload_body, false},
    {"GET", "/v2/images/{id}/file", image_on_download, NULL, false},
    {"POST", "/v2/images/{id}/import", image_on_import, NULL, false},

    {"GET", "/v1/instances", instance_on_list, NULL, false},
    {"POST", "/v1/instances", instance_on_create, NULL, false},
    {"GET", "/v1/instances/{id}", instance_on_show, NULL, false},
    {"DELETE", "/v1/instances/{id}", instance_on_delete, NULL, false},
    {"POST", "/v1/instances/{id}/start", instance_on_start, NULL, false},
    {"POST", "/v1/instances/{id}/stop", instance_on_stop, NULL, false},
    {"POST", "/v1/instances/{id}/restart", instance_on_restart, NULL, false},
    {"POST", "/v1/instances/{id}/migrate", instance_on_migrate, NULL, false},
    {"GET", "/v1/instances/{id}/migration", instance_on_migration, NULL, false},
    {"GET", "/v1/instances/{id}/console", instance_on_console, NULL, false},

    {"GET", "/v1/hosts", place_on_hosts, NULL, false},
    {"GET", "/v1/hosts/{id}/drill", host_on_drill, NULL, false},
    {"POST", "/v1/hosts/{id}/maintenance", host_on_maintenance, NULL, false},
    {"GET", "/v1/drill", host_on_drill_all, NULL, false},
    {"GET", "/v1/failovers", failovers_on_list, NULL, false},
    {"GET", "/v1/events", events_on_list, NULL, false},
    {"GET", "/v1/store", on_store, NULL, false},
    {"POST", "/v1/store/check", store_on_check, NULL, false},
};
const size_t imaged_n_routes = ARRAY_SIZE(imaged_routes);
