/* SPDX-License-Identifier: Apache-2.0 */
#include <curl/curl.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/checksum.h"
#include "common/json.h"
#include "formats/formats.h"
#include "imaged/events.h"
#include "imaged/fetch.h"
#include "imaged/image.h"
#include "imaged/intake.h"
#include "imaged/upload-record.h"
#include "imaged/upload.h"

/*
 * POST /v2/images/{id}/import, method store-volume: image-volume.c. Method glance-direct: what was staged,
 * and lies in the store already, becomes active. Method web-download: imaged fetches the file itself. The
 * image says "importing" meanwhile; a failure puts it back to queued with the reason in `import_error`. http
 * and https only, redirects too, so that no URL makes the service read a file of its machine; and for
 * members no address inside: a raw image can be any bytes, so its "import" would show them what only the
 * service's network may see.
 *
 * Where the server gives parts of a file, a container (qcow2, VMDK, VDI, VHD, VHDX, OVA) is inspected and
 * then converted by reading it at random, as if it lay here. Else, and where a checksum of the whole file is
 * to be proved before anything of it is used, its bytes pass by once, in order: then an image whose tables
 * come too late is refused.
 */
struct import {
        struct imaged *im;
        char *url;
        struct upload *upload;
        struct checksum *checksum; /* of what is fetched, or NULL */
        enum image_format format;  /* as the record declares it */
        bool outside;              /* public addresses only */
};

static struct import *import_free(struct import *i)
{
        if (!i)
                return NULL;
        upload_free(i->upload, "this imaged was stopped; import again");
        checksum_free(i->checksum);
        free(i->url);
        free(i);
        return NULL;
}

static int stream_begin(void *state, uint64_t size, struct err *err)
{
        return upload_format(((struct import *)state)->upload, NULL, size, err);
}

static int stream_data(void *state, const void *buf, size_t len, struct err *err)
{
        struct import *i = state;
        int r = i->checksum ? checksum_feed(i->checksum, buf, len, err) : 0;

        return r < 0 ? r : upload_push(i->upload, buf, len, err);
}

static int take_stream(struct import *i, struct fetch *f, struct err *err)
{
        const struct fetch_sink sink = {.begin = stream_begin, .data = stream_data, .state = i};
        int r = fetch_stream(f, &sink, err);

        if (r == 0 && i->checksum)
                r = checksum_check(i->checksum, err);
        if (r == -EBADMSG && strstr(err_text(err), "table-order"))
                return err_wrap(err, r, "%s",
                                i->checksum ? "with a checksum it has to be read in order"
                                            : "this server sends it in order only, without ranges");
        return r;
}

static int source_fetch(void *state, void *buf, size_t len, uint64_t offset, struct err *err)
{
        return fetch_read(state, buf, len, offset, err);
}

static int take_ranges(struct import *i, struct fetch *f, struct err *err)
{
        const struct source src = {.size = fetch_size(f), .read = source_fetch, .state = f};
        _cleanup_(freep) struct image_info *info = calloc(1, sizeof(*info));
        struct image *img = NULL;
        int r =
            info ? image_inspect(&src, (int)i->format, info, err) : err_set(err, -ENOMEM, "out of memory");

        if (r == 0) /* or the first of the reasons against it */
                r = image_open(&src, info, &img, err);
        if (r == 0)
                r = intake_image(img, i->upload, NULL, NULL, err);
        image_close(img);
        return r;
}

static int import_fetch(struct import *i, struct err *err)
{
        const struct fetch_options o = {.url = i->url, .outside = i->outside, .stopping = &i->im->stopping};
        bool container = i->format != IMAGE_RAW && i->format != IMAGE_ISO9660;
        struct fetch *f = NULL;
        int r = fetch_open(&o, &f, err);

        if (r == 0)
                r = container && fetch_has_ranges(f) && !i->checksum ? take_ranges(i, f, err)
                                                                     : take_stream(i, f, err);
        fetch_free(f);
        return r;
}

/* On a worker. */
static void import_work(void *arg)
{
        struct import *i = arg;
        struct err err = {0};
        int r;

        r = import_fetch(i, &err);
        if (r == 0)
                r = upload_finish(i->upload, &err);
        i->upload = upload_free(i->upload, r < 0 ? err_text(&err) : NULL);
}

static void import_done(void *arg)
{
        import_free(arg);
}

static int url_check(const char *url, struct err *err)
{
        CURLU *u = curl_url();
        _cleanup_(freep) char *scheme = NULL;
        char *found = NULL;
        CURLUcode rc =
            u ? curl_url_set(u, CURLUPART_URL, url, CURLU_NON_SUPPORT_SCHEME) : CURLUE_OUT_OF_MEMORY;

        if (rc == CURLUE_OK && curl_url_get(u, CURLUPART_SCHEME, &found, 0) == CURLUE_OK)
                scheme = strdup(found);
        curl_free(found);
        curl_url_cleanup(u);
        if (rc != CURLUE_OK)
                return err_set(err, -EINVAL, "uri \"%s\": not a URL: %s", url, curl_url_strerror(rc));
        if (!streq(scheme, "http") && !streq(scheme, "https"))
                return err_set(err, -EINVAL, "uri \"%s\": scheme %s; http and https are possible", url,
                               scheme ? scheme : "unknown");
        return 0;
}

static int import_staged(struct http_request *req, struct imaged *im, const char *id, struct err *err)
{
        _cleanup_(json_decrefpp) json_t *now = NULL;
        int r = image_change(im, id, import_promote, (void *)id, &now, err);

        if (r < 0)
                return r;
        event_post(
            im->events,
            &(struct event){.kind = "image-active", .name = json_get_str(now, "name", NULL), .text = id});
        return http_reply_json(req, 202, NULL);
}

static int import_url(struct http_request *req, struct imaged *im, const json_t *record, const char *uri,
                      const char *checksum, struct err *err)
{
        const char *id = json_get_str(record, "id", "");
        int format = image_format_parse(json_get_str(record, "disk_format", ""));
        struct import *i = calloc(1, sizeof(*i));
        int r = 0;

        if (i) {
                i->im = im;
                i->outside = !caller_of(req)->admin && !im->allow_private;
                i->format =
                    format < 0 ? IMAGE_RAW : (enum image_format)format; /* upload_begin() judges it */
                i->url = strdup(uri);
        }
        if (!i || !i->url) {
                import_free(i);
                return err_set(err, -ENOMEM, "out of memory");
        }
        if (checksum)
                r = checksum_new(checksum, &i->checksum, err);
        if (r == 0) /* now: from the reply on the record shows it */
                r = upload_begin(im, id, "importing", &i->upload, err);
        if (r == 0 && jobs_add(im->imports, import_work, import_done, i) < 0)
                r = err_set(err, -ENOMEM, "out of memory");
        if (r < 0) {
                import_free(i);
                return r == -ENOENT ? err_set(err, r, "no image %s", id) : r;
        }
        return http_reply_json(req, 202, NULL);
}

int image_on_import(struct http_request *req, void *userdata, struct err *err)
{
        struct imaged *im = userdata;
        const char *id = http_param(req, "id"), *method, *uri;
        const json_t *checksum;
        _cleanup_(json_decrefpp) json_t *body = NULL, *record = NULL;
        int r = image_of(req, im, IMAGE_CHANGE, &record, err);

        if (r == 0)
                r = http_body_json(req, &body, err);
        if (r < 0)
                return r;
        method = json_string_value(json_path(body, "method.name"));
        uri = json_string_value(json_path(body, "method.uri"));
        if (streq(method, "glance-direct"))
                return import_staged(req, im, id, err);
        checksum = json_path(body, "method.checksum");
        if (checksum && !json_is_string(checksum))
                return err_set(err, -EINVAL, "method.checksum is not a string");
        if (streq(method, "store-volume"))
                return image_import_volume(req, im, record,
                                           json_string_value(json_path(body, "method.volume")),
                                           json_string_value(checksum), err);
        if (!streq(method, "web-download"))
                return err_set(
                    err, -EINVAL,
                    "import method \"%s\": glance-direct, web-download and store-volume are possible",
                    method ? method : "");
        if (!uri)
                return err_set(err, -EINVAL, "method.uri is missing");
        r = url_check(uri, err);
        return r < 0 ? r : import_url(req, im, record, uri, json_string_value(checksum), err);
}

/* GET /v2/images/{id}/tasks: the import that runs, or the last one that failed. */
int image_on_tasks(struct http_request *req, void *userdata, struct err *err)
{
        _cleanup_(json_decrefpp) json_t *record = NULL, *reply = NULL;
        const char *failed, *status;
        json_t *tasks;
        int r = image_of(req, userdata, IMAGE_CHANGE, &record, err);

        if (r < 0)
                return r;
        tasks = json_array();
        failed = json_get_str(record, "import_error", NULL);
        status = json_is_object(json_object_get(record, "import")) ? "processing"
                 : failed                                          ? "failure"
                                                                   : NULL;
        if (status)
                json_array_append_new(tasks,
                                      json_pack("{s:O,s:s,s:s,s:O,s:O,s:O,s:O,s:s,s:n,s:n}", "id",
                                                json_object_get(record, "id"), "type", "api_image_import",
                                                "status", status, "owner", json_object_get(record, "owner"),
                                                "image_id", json_object_get(record, "id"), "created_at",
                                                json_object_get(record, "updated_at"), "updated_at",
                                                json_object_get(record, "updated_at"), "message",
                                                failed ? failed : "", "expires_at", "result"));
        reply = json_pack("{s:o}", "tasks", tasks);
        return http_reply_json(req, 200, reply);
}
