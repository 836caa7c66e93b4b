/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "common/util.h"
#include "imaged/address.h"
#include "imaged/fetch-internal.h"

/*
 * Times:
 *   10 s   until a connection stands
 *   30 s   a server that sends nothing for so long has failed
 *   0.25, 0.5, 1, 2, 4, 4, 4, 4 s
 *          pauses after connections that brought nothing, so that a server may be away for 20 s; one that
 *          broke after it brought something is made again at once
 */
#define CONNECT_S 10L
#define SILENT_S 30L
#define REDIRECTS 5L
#define TRIES 8
#define PAUSE_MS 250
#define PAUSE_MAX_MS 4000
#define LOOK_MS 100

/* One request and its answer. */
struct attempt {
        struct fetch *f;
        bool first, part;  /* the very first one; else: a part is asked for */
        uint64_t at, last; /* the next byte to come; the last one that was asked for */
        const struct fetch_sink *sink;
        bool checked, again; /* the head was looked at; the same request may be tried once more */
        int denied, failed;  /* failed: of our own part, -errno, its text in err */
        struct err err;
};

static const char *header(struct attempt *a, const char *name)
{
        struct curl_header *h;

        return curl_easy_header(a->f->curl, name, 0, CURLH_HEADER, -1, &h) == CURLHE_OK ? h->value : NULL;
}

static void validators(struct attempt *a, char etag[FETCH_VALIDATOR], char modified[FETCH_VALIDATOR])
{
        const char *e = header(a, "ETag"), *m = header(a, "Last-Modified");

        /* a weak one says nothing about bytes */
        snprintf(etag, FETCH_VALIDATOR, "%s", e && e[0] == '"' && strlen(e) < FETCH_VALIDATOR ? e : "");
        snprintf(modified, FETCH_VALIDATOR, "%s", m && strlen(m) < FETCH_VALIDATOR ? m : "");
}

/* "bytes FIRST-LAST/SIZE" */
static bool content_range(struct attempt *a, uint64_t *first, uint64_t *last, uint64_t *size)
{
        const char *text = header(a, "Content-Range");
        unsigned long long f, l, s;
        int n = 0;

        if (!text || sscanf(text, "bytes %llu-%llu/%llu%n", &f, &l, &s, &n) != 3 || text[n] || f > l ||
            l >= s)
                return false;
        *first = f;
        *last = l;
        *size = s;
        return true;
}

static int changed(struct attempt *a, const char *what, const char *was, const char *is)
{
        return err_set(&a->err, -ESTALE,
                       "the file has changed during the import (its %s was %.60s, is %.60s): import again",
                       what, was, is ? is : "");
}

/* The first answer tells what the file is, and whether there are parts of it. */
static int answer_first(struct attempt *a, long status)
{
        struct fetch *f = a->f;
        uint64_t first, last, size;
        curl_off_t length = -1;

        validators(a, f->etag, f->modified);
        f->ranges = status == 206 && content_range(a, &first, &last, &size) && first == 0 &&
                    (f->etag[0] || f->modified[0]);
        curl_easy_getinfo(f->curl, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
        f->size = f->ranges ? size : status == 200 && length >= 0 ? (uint64_t)length : UINT64_MAX;
        a->last = f->ranges ? last : a->last;
        return 0;
}

/* Every later one has to be of the same file. */
static int answer_part(struct attempt *a, long status)
{
        const struct fetch *f = a->f;
        char etag[FETCH_VALIDATOR], modified[FETCH_VALIDATOR], was[32], is[32];
        uint64_t first, last, size;

        validators(a, etag, modified);
        if (!streq(f->etag, etag))
                return changed(a, "ETag", f->etag, etag);
        if (!streq(f->modified, modified))
                return changed(a, "Last-Modified", f->modified, modified);
        if (status != 206 || !content_range(a, &first, &last, &size))
                return err_set(&a->err, -ESTALE,
                               "asked for bytes from %llu on, the server answers with status %ld and "
                               "Content-Range \"%.60s\"",
                               (unsigned long long)a->at, status,
                               header(a, "Content-Range") ? header(a, "Content-Range") : "");
        snprintf(was, sizeof(was), "%llu", (unsigned long long)f->size);
        snprintf(is, sizeof(is), "%llu", (unsigned long long)size);
        if (size != f->size)
                return changed(a, "size", was, is);
        if (first != a->at || last > a->last)
                return err_set(&a->err, -EBADMSG, "asked for bytes %llu-%llu, the server sends %llu-%llu",
                               (unsigned long long)a->at, (unsigned long long)a->last,
                               (unsigned long long)first, (unsigned long long)last);
        return 0;
}

static int answer_whole(struct attempt *a)
{
        curl_off_t length = -1;

        curl_easy_getinfo(a->f->curl, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
        return a->sink->begin(a->sink->state, length >= 0 ? (uint64_t)length : UINT64_MAX, &a->err);
}

static int answer(struct attempt *a)
{
        const char *encoding = header(a, "Content-Encoding");
        long status = 0;

        a->checked = true;
        curl_easy_getinfo(a->f->curl, CURLINFO_RESPONSE_CODE, &status);
        if (encoding && !streq(encoding, "identity"))
                return err_set(&a->err, -EBADMSG, "the server sends it with Content-Encoding \"%.60s\"",
                               encoding);
        return a->first ? answer_first(a, status) : a->part ? answer_part(a, status) : answer_whole(a);
}

static size_t on_data(char *data, size_t one, size_t len, void *user)
{
        struct attempt *a = user;
        int r = a->checked ? 0 : answer(a);

        if (r == 0 && a->first && !a->f->ranges)
                return 0; /* it is asked for as a whole */
        if (r == 0 && a->part && (a->at > a->last || len > a->last + 1 - a->at))
                r = err_set(&a->err, -EBADMSG, "the server sends more than was asked for");
        if (r == 0)
                r = a->sink->data(a->sink->state, data, len, &a->err);
        a->at += len;
        a->failed = r < 0 ? r : 0;
        return r < 0 ? 0 : len;
}

static int on_progress(void *user, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
        return *((struct attempt *)user)->f->stopping;
}

/* At the moment of connecting, so that no name, redirect or change of a name's address goes past it. */
static curl_socket_t on_socket(void *user, curlsocktype purpose, struct curl_sockaddr *address)
{
        struct attempt *a = user;

        if (a->f->outside && address_inside(&address->addr)) {
                a->denied = -EACCES;
                return CURL_SOCKET_BAD;
        }
        return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

static void set_options(struct attempt *a, char error[CURL_ERROR_SIZE])
{
        CURL *c = a->f->curl;

        curl_easy_setopt(c, CURLOPT_URL, a->f->effective ? a->f->effective : a->f->url);
        curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
        curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
        curl_easy_setopt(c, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
        curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 1L);
        curl_easy_setopt(c, CURLOPT_MAXREDIRS, REDIRECTS);
        curl_easy_setopt(c, CURLOPT_FAILONERROR, 1L);
        curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT, CONNECT_S);
        curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, 1L);
        curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, SILENT_S);
        curl_easy_setopt(c, CURLOPT_USERAGENT, "wherry/" WHERRY_VERSION);
        curl_easy_setopt(c, CURLOPT_ERRORBUFFER, error);
        curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_data);
        curl_easy_setopt(c, CURLOPT_WRITEDATA, a);
        curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, on_progress);
        curl_easy_setopt(c, CURLOPT_XFERINFODATA, a);
        curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L);
        curl_easy_setopt(c, CURLOPT_OPENSOCKETFUNCTION, on_socket);
        curl_easy_setopt(c, CURLOPT_OPENSOCKETDATA, a);
}

/* Why it is over, by libcurl; sets a->again. */
static int failure(struct attempt *a, CURLcode rc, const char *text, struct err *err)
{
        long status = 0;

        curl_easy_getinfo(a->f->curl, CURLINFO_RESPONSE_CODE, &status);
        if (a->failed) {
                if (err)
                        *err = a->err;
                return a->failed;
        }
        if (a->denied)
                return err_set(err, a->denied, "its address is a private one, which members may not use");
        switch (rc) {
        case CURLE_ABORTED_BY_CALLBACK:
                return err_set(err, -ECANCELED, "this imaged was stopped; import again");
        case CURLE_HTTP_RETURNED_ERROR:
                if (a->first && status == 416)
                        return err_set(err, -EBADMSG, "the file has 0 bytes");
                a->again = status >= 500 || status == 408 || status == 429;
                return err_set(err, -EIO, "the server answered with status %ld", status);
        case CURLE_URL_MALFORMAT:
        case CURLE_UNSUPPORTED_PROTOCOL:
        case CURLE_TOO_MANY_REDIRECTS:
        case CURLE_OUT_OF_MEMORY:
                break;
        case CURLE_PEER_FAILED_VERIFICATION:
                return err_set(err, -EIO,
                               "%s; imaged's machine has to trust the certificate (update-ca-certificates), "
                               "or download the file and add that",
                               text[0] ? text : curl_easy_strerror(rc));
        default:
                a->again = true;
        }
        return err_set(err, -EIO, "%s", text[0] ? text : curl_easy_strerror(rc));
}

static int attempt(struct attempt *a, struct err *err)
{
        char text[CURL_ERROR_SIZE] = "", range[64], condition[FETCH_VALIDATOR + 16];
        struct curl_slist *headers = NULL;
        struct fetch *f = a->f;
        const char *led = NULL;
        CURLcode rc;

        set_options(a, text);
        snprintf(range, sizeof(range), "%llu-%llu", (unsigned long long)a->at, (unsigned long long)a->last);
        curl_easy_setopt(f->curl, CURLOPT_RANGE, a->first || a->part ? range : NULL);
        if (a->part) {
                snprintf(condition, sizeof(condition), "If-Range: %s", f->etag[0] ? f->etag : f->modified);
                headers = curl_slist_append(NULL, condition);
        }
        curl_easy_setopt(f->curl, CURLOPT_HTTPHEADER, headers);
        rc = curl_easy_perform(f->curl);
        curl_easy_setopt(f->curl, CURLOPT_HTTPHEADER, NULL);
        curl_easy_setopt(f->curl, CURLOPT_ERRORBUFFER, NULL);
        curl_slist_free_all(headers);
        freep(&f->effective);
        f->effective = NULL;
        if (a->first && a->checked && !a->failed && !f->ranges)
                return 0;
        if (rc != CURLE_OK)
                return failure(a, rc, text, err);
        if (curl_easy_getinfo(f->curl, CURLINFO_EFFECTIVE_URL, &led) == CURLE_OK && led &&
            !streq(led, f->url))
                f->effective = strdup(led); /* else it is asked for again */
        a->again = true;
        if (!a->checked)
                return err_set(err, -EBADMSG, "the answer has 0 bytes");
        if ((a->first || a->part) && a->at <= a->last)
                return err_set(err, -EIO, "the connection ended at byte %llu", (unsigned long long)a->at);
        return 0;
}

/* False: this imaged is being stopped. */
static bool pause_before(const struct fetch *f, unsigned tries)
{
        unsigned left = MIN_OF(PAUSE_MS << tries, PAUSE_MAX_MS);

        for (; left > 0 && !*f->stopping; left -= MIN_OF(left, LOOK_MS))
                poll(NULL, 0, (int)MIN_OF(left, LOOK_MS));
        return !*f->stopping;
}

static int ranges(struct fetch *f, uint64_t first, uint64_t last, const struct fetch_sink *sink,
                  struct err *err)
{
        uint64_t at = first;
        unsigned tries = 0;
        int r;

        while (at <= last) {
                struct attempt a = {.f = f, .part = true, .at = at, .last = last, .sink = sink};
                struct err why = {0}; /* told only if it is the last */

                r = attempt(&a, &why);
                tries = a.at > at ? 0 : tries + 1;
                at = a.at;
                if (at > last && (r == 0 || a.again)) /* or it broke behind the last byte */
                        return 0;
                if (!a.again || tries > TRIES)
                        return err_set(err, r, "%s: %s", f->url, err_text(&why));
                if (tries > 0 && !pause_before(f, tries - 1))
                        return err_set(err, -ECANCELED, "%s: this imaged was stopped; import again", f->url);
        }
        return 0;
}

int fetch_range(struct fetch *f, uint64_t first, uint64_t last,
                int (*data)(void *state, const void *buf, size_t len, struct err *err), void *state,
                struct err *err)
{
        return ranges(f, first, last, &(struct fetch_sink){.data = data, .state = state}, err);
}

int fetch_stream(struct fetch *f, const struct fetch_sink *sink, struct err *err)
{
        struct attempt a = {.f = f, .sink = sink};
        int r;

        if (f->ranges) {
                r = sink->begin(sink->state, f->size, err);
                return r < 0 ? err_wrap(err, r, "%s", f->url) : ranges(f, 0, f->size - 1, sink, err);
        }
        r = attempt(&a, err);
        return r < 0 ? err_wrap(err, r, "%s", f->url) : 0;
}

static int ignore(void *state, const void *buf, size_t len, struct err *err)
{
        return 0;
}

int fetch_open(const struct fetch_options *o, struct fetch **ret, struct err *err)
{
        const struct fetch_sink none = {.data = ignore};
        struct fetch *f = calloc(1, sizeof(*f));
        struct attempt a = {.f = f, .first = true, .last = 0, .sink = &none};
        int r;

        if (f) {
                f->outside = o->outside;
                f->stopping = o->stopping;
                f->ahead = 1;
                f->size = UINT64_MAX;
                f->url = strdup(o->url);
                f->curl = curl_easy_init();
        }
        if (!f || !f->url || !f->curl) {
                fetch_free(f);
                return err_set(err, -ENOMEM, "out of memory");
        }
        r = attempt(&a, err);
        if (r < 0) {
                err_wrap(err, r, "%s", f->url);
                fetch_free(f);
                return r;
        }
        *ret = f;
        return 0;
}

struct fetch *fetch_free(struct fetch *f)
{
        if (!f)
                return NULL;
        curl_easy_cleanup(f->curl);
        if (f->kept)
                munmap(f->kept, FETCH_MEMORY);
        free(f->effective);
        free(f->url);
        free(f);
        return NULL;
}

bool fetch_has_ranges(const struct fetch *f)
{
        return f->ranges;
}

uint64_t fetch_size(const struct fetch *f)
{
        return f->size;
}
