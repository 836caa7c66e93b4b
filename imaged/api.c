/* SPDX-License-Identifier: Apache-2.0 */
#include "common/json.h"
#include "imaged/account.h"
#include "imaged/daemon.h"
#include "imaged/drill.h"
#include "imaged/events.h"
#include "imaged/failovers.h"
#include "imaged/identity.h"
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

    {"GET", "/", image_on_root, NULL, true},
    {"GET", "/versions", image_on_versions, NULL, true},
    {"GET", "/v2/schemas/{name}", image_on_schema, NULL, false},
    {"GET", "/v2/info/import", image_on_info_import, NULL, false},
    {"GET", "/v2/info/usage", image_on_info_usage, NULL, false},
    {"GET", "/v2/images", image_on_list, NULL, false},
    {"POST", "/v2/images", image_on_create, NULL, false},
    {"GET", "/v2/images/{id}", image_on_show, NULL, false},
    {"PATCH", "/v2/images/{id}", image_on_patch, NULL, false},
    {"DELETE", "/v2/images/{id}", image_on_delete, NULL, false},
    {"PUT", "/v2/images/{id}/file", image_on_upload, &image_upload_body, false},
    {"GET", "/v2/images/{id}/file", image_on_download, NULL, false},
    {"PUT", "/v2/images/{id}/stage", image_on_stage, &image_stage_body, false},
    {"POST", "/v2/images/{id}/import", image_on_import, NULL, false},
    {"GET", "/v2/images/{id}/tasks", image_on_tasks, NULL, false},
    {"PUT", "/v2/images/{id}/tags/{tag}", image_on_tag_add, NULL, false},
    {"DELETE", "/v2/images/{id}/tags/{tag}", image_on_tag_remove, NULL, false},
    {"POST", "/v2/images/{id}/actions/deactivate", image_on_deactivate, NULL, false},
    {"POST", "/v2/images/{id}/actions/reactivate", image_on_reactivate, NULL, false},
    {"POST", "/v2/images/{id}/actions/undelete", image_on_undelete, NULL, false},
    {"GET", "/v2/images/{id}/verify", image_on_verify, NULL, false},
    {"GET", "/v2/images/{id}/members", image_on_member_list, NULL, false},
    {"POST", "/v2/images/{id}/members", image_on_member_add, NULL, false},
    {"GET", "/v2/images/{id}/members/{member}", image_on_member_show, NULL, false},
    {"PUT", "/v2/images/{id}/members/{member}", image_on_member_set, NULL, false},
    {"DELETE", "/v2/images/{id}/members/{member}", image_on_member_remove, NULL, false},
    {"GET", "/v1/images/{id}/written", image_on_written, NULL, false},
    {"GET", "/v1/images/{name}", image_on_find, NULL, false},
    {"GET", "/v1/images", image_on_find, NULL, false},

    {"GET", "/v3", identity_on_version, NULL, true},
    {"GET", "/v3/", identity_on_version, NULL, true},
    {"POST", "/v3/auth/tokens", identity_on_login, NULL, true},
    {"GET", "/v3/auth/tokens", identity_on_validate, NULL, false},
    {"GET", "/v3/auth/catalog", identity_on_catalog, NULL, false},
    {"GET", "/v3/auth/projects", identity_on_projects, NULL, false},
    {"GET", "/v3/projects", identity_on_projects, NULL, false},
    {"GET", "/v3/projects/{id}", identity_on_project, NULL, false},
    {"POST", "/v3/users/{id}/password", identity_on_password, NULL, false},

    {"GET", "/v1/accounts", account_on_list, NULL, false},
    {"POST", "/v1/accounts", account_on_create, NULL, false},
    {"GET", "/v1/accounts/{id}", account_on_show, NULL, false},
    {"PATCH", "/v1/accounts/{id}", account_on_change, NULL, false},
    {"DELETE", "/v1/accounts/{id}", account_on_delete, NULL, false},
    {"POST", "/v1/accounts/{id}/password", account_on_password, NULL, false},

    {"GET", "/v1/instances", instance_on_list, NULL, false},
    {"POST", "/v1/instances", instance_on_create, NULL, false},
    {"GET", "/v1/instances/{id}", instance_on_show, NULL, false},
    {"DELETE", "/v1/instances/{id}", instance_on_delete, NULL, false},
    {"POST", "/v1/instances/{id}/start", instance_on_start, NULL, false},
    {"POST", "/v1/instances/{id}/stop", instance_on_stop, NULL, false},
    {"POST", "/v1/instances/{id}/restart", instance_on_restart, NULL, false},
    {"POST", "/v1/instances/{id}/capture", instance_on_capture, NULL, false},
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
