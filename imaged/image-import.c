/* SPDX-License-Identifier: Apache-2.0 */
#include <curl/curl.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/log.h"
#include "imaged/image.h"
#include "imaged/upload.h"

/*
 * POST /v2/images/{id}/import, method web-download: imaged fetches the file itself. The image says
 * "importing" meanwhile; a failure puts it back to queued with the reason in `import_error`. http and https
 * only, redirects too, so that no URL makes the service read a file of its machine.
 */
#define CONNECT_S 10L
#define SILENT_S 30L /* a server that sends nothing for so long has failed */
#define REDIRECTS 5L

struct import {
        struct imaged *im;
        char *url;
        CURL *curl;
        struct upload *upload;
        bool begun;
        int failed; /* of our own part: -errno and its text */
        struct err err;
};

static struct import *import_free(struct import *i)
{
        if (!i)
                return NULL;
        upload_free(i->upload, "this imaged was stopped; import again");
        curl_easy_cleanup(i->curl);
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
        if (r == 0)
                r = upload_push(i->upload, data, len, &i->err);
        i->failed = r < 0 ? r : 0;
        return r < 0 ? 0 : len;
}

static int on_progress(void *user, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
        return ((struct import *)user)->im->stopping;
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
        rc = curl_easy_perform(i->curl);
        if (i->failed) {
                *err = i->err;
                return err_wrap(err, i->failed, "%s", i->url);
        }
        if (rc == CURLE_OK)
                return i->begun ? 0 : err_set(err, -EBADMSG, "%s: the answer has 0 bytes", i->url);
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

int image_on_import(struct http_request *req, void *userdata, struct err *err)
{
        struct imaged *im = userdata;
        const char *id = http_param(req, "id"), *method, *uri;
        _cleanup_(json_decrefpp) json_t *body = NULL;
        struct import *i;
        int r;

        r = http_body_json(req, &body, err);
        if (r < 0)
                return r;
        method = json_string_value(json_path(body, "method.name"));
        uri = json_string_value(json_path(body, "method.uri"));
        if (!streq(method, "web-download"))
                return err_set(err, -EINVAL, "import method \"%s\": web-download is possible",
                               method ? method : "");
        if (!uri)
                return err_set(err, -EINVAL, "method.uri is missing");
        r = url_check(uri, err);
        if (r == 0 && !uuid_valid(id))
                r = err_set(err, -ENOENT, "no image %s", id);
        if (r < 0)
                return r;
        i = calloc(1, sizeof(*i));
        if (i) {
                i->im = im;
                i->url = strdup(uri);
                i->curl = curl_easy_init();
        }
        if (!i || !i->url || !i->curl) {
                import_free(i);
                return err_set(err, -ENOMEM, "out of memory");
        }
        r = upload_begin(im, id, "importing", &i->upload,
                         err); /* now: from the reply on the record shows it */
        if (r == 0 && jobs_add(im->imports, import_work, import_done, i) < 0)
                r = err_set(err, -ENOMEM, "out of memory");
        if (r < 0) {
                import_free(i);
                return r == -ENOENT ? err_set(err, r, "no image %s", id) : r;
        }
        return http_reply_json(req, 202, NULL);
}
