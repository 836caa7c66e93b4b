/* SPDX-License-Identifier: Apache-2.0 */
#include <curl/curl.h>
#include <errno.h>
#include <stdlib.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "common/checksum.h"
#include "common/json.h"
#include "common/log.h"
#include "imaged/events.h"
#include "imaged/image.h"
#include "imaged/upload-record.h"
#include "imaged/upload.h"

/*
 * POST /v2/images/{id}/import, method glance-direct: what was staged, and lies in the store already, becomes
 * active. Method web-download: imaged fetches the file itself. The image says "importing" meanwhile; a
 * failure puts it back to queued with the reason in `import_error`. http and https only, redirects too, so
 * that no URL makes the service read a file of its machine; and for members no address inside: a raw image
 * can be any bytes, so its "import" would show them what only the service's network may see.
 */
#define CONNECT_S 10L
#define SILENT_S 30L /* a server that sends nothing for so long has failed */
#define REDIRECTS 5L

struct import {
        struct imaged *im;
        char *url;
        CURL *curl;
        struct upload *upload;
        struct checksum *checksum; /* of what is fetched, or NULL */
        bool begun;
        bool outside; /* public addresses only */
        int denied;
        int failed; /* of our own part: -errno and its text */
        struct err err;
};

static struct import *import_free(struct import *i)
{
        if (!i)
                return NULL;
        upload_free(i->upload, "this imaged was stopped; import again");
        curl_easy_cleanup(i->curl);
        checksum_free(i->checksum);
        free(i->url);
        free(i);
        return NULL;
}

static size_t on_data(char *data, size_t one, size_t len, void *user)
{
        struct import *i = user;
        curl_off_t length = -1;
        int r = 0;

        if (!i->begun) {
                i->begun = true;
                curl_easy_getinfo(i->curl, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
                r = upload_format(i->upload, NULL, length >= 0 ? (uint64_t)length : UINT64_MAX, &i->err);
        }
        if (r == 0 && i->checksum)
                r = checksum_feed(i->checksum, data, len, &i->err);
        if (r == 0)
                r = upload_push(i->upload, data, len, &i->err);
        i->failed = r < 0 ? r : 0;
        return r < 0 ? 0 : len;
}

static int on_progress(void *user, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
        return ((struct import *)user)->im->stopping;
}

/* Loopback, link-local, private, multicast and the like: RFC 6890. */
static bool inside_v4(uint32_t a)
{
        static const struct {
                uint32_t net;
                int bits;
        } nets[] = {{0, 8},           {0x0a000000, 8},  {0x64400000, 10}, {0x7f000000, 8},  {0xa9fe0000, 16},
                    {0xac100000, 12}, {0xc0000000, 24}, {0xc0a80000, 16}, {0xc6120000, 15}, {0xe0000000, 3}};

        for (size_t i = 0; i < ARRAY_SIZE(nets); i++) {
                if ((a ^ nets[i].net) >> (32 - nets[i].bits) == 0)
                        return true;
        }
        return false;
}

static bool inside(const struct sockaddr *sa)
{
        const struct in6_addr *a = &((const struct sockaddr_in6 *)sa)->sin6_addr;
        const uint8_t *b = a->s6_addr;

        if (sa->sa_family == AF_INET)
                return inside_v4(ntohl(((const struct sockaddr_in *)sa)->sin_addr.s_addr));
        if (sa->sa_family != AF_INET6)
                return true;
        if (IN6_IS_ADDR_V4MAPPED(a))
                return inside_v4((uint32_t)b[12] << 24 | (uint32_t)b[13] << 16 | (uint32_t)b[14] << 8 |
                                 b[15]);
        return (b[0] & 0xe0) != 0x20 ||
               (b[0] == 0x20 && b[1] == 0x02); /* what is not global unicast; 6to4 */
}

/* At the moment of connecting, so that no name, redirect or change of a name's address goes past it. */
static curl_socket_t on_socket(void *user, curlsocktype purpose, struct curl_sockaddr *address)
{
        struct import *i = user;

        if (i->outside && inside(&address->addr)) {
                i->denied = -EACCES;
                return CURL_SOCKET_BAD;
        }
        return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

static int import_fetch(struct import *i, struct err *err)
{
        char text[CURL_ERROR_SIZE] = "";
        long status = 0;
        CURLcode rc;

        curl_easy_setopt(i->curl, CURLOPT_URL, i->url);
        curl_easy_setopt(i->curl, CURLOPT_NOSIGNAL, 1L);
        curl_easy_setopt(i->curl, CURLOPT_PROTOCOLS_STR, "http,https");
        curl_easy_setopt(i->curl, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
        curl_easy_setopt(i->curl, CURLOPT_FOLLOWLOCATION, 1L);
        curl_easy_setopt(i->curl, CURLOPT_MAXREDIRS, REDIRECTS);
        curl_easy_setopt(i->curl, CURLOPT_FAILONERROR, 1L);
        curl_easy_setopt(i->curl, CURLOPT_CONNECTTIMEOUT, CONNECT_S);
        curl_easy_setopt(i->curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
        curl_easy_setopt(i->curl, CURLOPT_LOW_SPEED_TIME, SILENT_S);
        curl_easy_setopt(i->curl, CURLOPT_USERAGENT, "wherry/" WHERRY_VERSION);
        curl_easy_setopt(i->curl, CURLOPT_ERRORBUFFER, text);
        curl_easy_setopt(i->curl, CURLOPT_WRITEFUNCTION, on_data);
        curl_easy_setopt(i->curl, CURLOPT_WRITEDATA, i);
        curl_easy_setopt(i->curl, CURLOPT_XFERINFOFUNCTION, on_progress);
        curl_easy_setopt(i->curl, CURLOPT_XFERINFODATA, i);
        curl_easy_setopt(i->curl, CURLOPT_NOPROGRESS, 0L);
        curl_easy_setopt(i->curl, CURLOPT_OPENSOCKETFUNCTION, on_socket);
        curl_easy_setopt(i->curl, CURLOPT_OPENSOCKETDATA, i);
        rc = curl_easy_perform(i->curl);
        if (i->failed) {
                *err = i->err;
                return err_wrap(err, i->failed, "%s", i->url);
        }
        if (rc == CURLE_OK)
                return i->begun ? 0 : err_set(err, -EBADMSG, "%s: the answer has 0 bytes", i->url);
        if (i->denied)
                return err_set(err, i->denied, "%s: its address is a private one, which members may not use",
                               i->url);
        curl_easy_getinfo(i->curl, CURLINFO_RESPONSE_CODE, &status);
        if (rc == CURLE_HTTP_RETURNED_ERROR)
                return err_set(err, -EIO, "%s: the server answered with status %ld", i->url, status);
        if (rc == CURLE_ABORTED_BY_CALLBACK)
                return err_set(err, -ECANCELED, "%s: this imaged was stopped; import again", i->url);
        return err_set(err, -EIO, "%s: %s", i->url, text[0] ? text : curl_easy_strerror(rc));
}

/* On a worker. */
static void import_work(void *arg)
{
        struct import *i = arg;
        struct err err = {0};
        int r;

        r = import_fetch(i, &err);
        if (r == 0 && i->checksum)
                r = checksum_check(i->checksum, &err);
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

static int import_url(struct http_request *req, struct imaged *im, const char *id, const char *uri,
                      const char *checksum, struct err *err)
{
        struct import *i = calloc(1, sizeof(*i));
        int r = 0;

        if (i) {
                i->im = im;
                i->outside = !caller_of(req)->admin && !im->allow_private;
                i->url = strdup(uri);
                i->curl = curl_easy_init();
        }
        if (!i || !i->url || !i->curl) {
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
        if (!streq(method, "web-download"))
                return err_set(err, -EINVAL,
                               "import method \"%s\": glance-direct and web-download are possible",
                               method ? method : "");
        if (!uri)
                return err_set(err, -EINVAL, "method.uri is missing");
        checksum = json_path(body, "method.checksum");
        if (checksum && !json_is_string(checksum))
                return err_set(err, -EINVAL, "method.checksum is not a string");
        r = url_check(uri, err);
        return r < 0 ? r : import_url(req, im, id, uri, json_string_value(checksum), err);
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
