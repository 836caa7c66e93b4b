/* SPDX-License-Identifier: Apache-2.0 */
#include "common/http-client.h"

#include <curl/curl.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/util.h"

/* A list of 100,000 records is about a quarter of this. */
#define REPLY_MAX ((size_t)512 << 20)
/* Of an error reply no more than this is kept: a stranger's web page is not worth more. */
#define ERROR_MAX ((size_t)64 << 10)
#define CONNECT_MAX_MS 10000L

struct http_client {
        CURL *curl;
        char *base, *token;
        int timeout_ms;
        atomic_bool cancelled;
};

/* One exchange: what libcurl's callbacks need and what they found. */
struct exchange {
        struct http_client *c;
        const char *url;
        char *reply;
        size_t reply_len, reply_room;
        ssize_t (*read)(void *state, uint64_t offset, void *buf, size_t len);
        int (*write)(void *state, uint64_t offset, const void *buf, size_t len);
        void *state;
        uint64_t offset, size;
        int failed; /* -errno of a callback */
        char curl_text[CURL_ERROR_SIZE];
};

static void global_init(void)
{
        curl_global_init(CURL_GLOBAL_DEFAULT);
}

static int base_check(const char *base, struct err *err)
{
        CURLU *u = curl_url();
        CURLUcode rc = u ? curl_url_set(u, CURLUPART_URL, base, 0) : CURLUE_OUT_OF_MEMORY;

        curl_url_cleanup(u);
        if (rc == CURLUE_OK && (strncmp(base, "http://", 7) == 0 || strncmp(base, "https://", 8) == 0))
                return 0;
        return err_set(err, -EINVAL, "\"%s\" is not a server's URL; write it as http://HOST:PORT", base);
}

static int token_check(const char *token, struct err *err)
{
        for (const char *p = token; *p; p++)
                if (*p <= ' ' || *p > '~')
                        return err_set(err, -EINVAL,
                                       "the token has a character at position %td that a token cannot have "
                                       "(a space, a line break or not ASCII)",
                                       p - token + 1);
        return 0;
}

bool http_away(int code)
{
        return code == -ECONNREFUSED || code == -ECONNRESET || code == -ETIMEDOUT;
}

int http_client_new(const char *base, const char *token, int timeout_ms, struct http_client **ret,
                    struct err *err)
{
        static pthread_once_t once = PTHREAD_ONCE_INIT;
        struct http_client *c;
        int r;

        r = base ? base_check(base, err) : 0;
        if (r == 0 && token)
                r = token_check(token, err);
        if (r < 0)
                return r;
        pthread_once(&once, global_init);
        c = calloc(1, sizeof(*c));
        if (!c)
                return err_set(err, -ENOMEM, "out of memory");
        c->curl = curl_easy_init();
        c->base = strdup(base ? base : "");
        c->token = token ? strdup(token) : NULL;
        c->timeout_ms = timeout_ms;
        if (!c->curl || !c->base || (token && !c->token)) {
                http_client_free(c);
                return err_set(err, -ENOMEM, "out of memory");
        }
        for (size_t n = strlen(c->base); n > 0 && c->base[n - 1] == '/'; n--)
                c->base[n - 1] = '\0';
        *ret = c;
        return 0;
}

struct http_client *http_client_free(struct http_client *c)
{
        if (!c)
                return NULL;
        curl_easy_cleanup(c->curl);
        free(c->base);
        free(c->token);
        free(c);
        return NULL;
}

void http_cancel(struct http_client *c)
{
        c->cancelled = true;
}

static int on_progress(void *user, curl_off_t a, curl_off_t b, curl_off_t d, curl_off_t e)
{
        struct exchange *x = user;

        return x->c->cancelled;
}

static int reply_add(struct exchange *x, const char *buf, size_t len, size_t limit)
{
        if (len > limit - x->reply_len)
                return -EFBIG;
        if (x->reply_len + len + 1 > x->reply_room) {
                size_t room = MAX_OF(x->reply_room * 2, x->reply_len + len + 1);
                char *bigger = realloc(x->reply, room);

                if (!bigger)
                        return -ENOMEM;
                x->reply = bigger;
                x->reply_room = room;
        }
        memcpy(x->reply + x->reply_len, buf, len);
        x->reply_len += len;
        x->reply[x->reply_len] = '\0';
        return 0;
}

static size_t on_reply(char *buf, size_t one, size_t len, void *user)
{
        struct exchange *x = user;
        long status = 0;
        int r;

        curl_easy_getinfo(x->c->curl, CURLINFO_RESPONSE_CODE, &status);
        if (status >= 300) {
                size_t room = ERROR_MAX - x->reply_len;

                reply_add(x, buf, MIN_OF(len, room), ERROR_MAX);
                return len; /* read to its end, so that the connection can be used again */
        }
        if (x->write) {
                r = x->write(x->state, x->offset, buf, len);
                x->offset += len;
        } else
                r = reply_add(x, buf, len, REPLY_MAX);
        if (r < 0) {
                x->failed = r;
                return 0;
        }
        return len;
}

static size_t on_send(char *buf, size_t one, size_t len, void *user)
{
        struct exchange *x = user;
        uint64_t left = x->size == UINT64_MAX ? UINT64_MAX : x->size - x->offset;
        ssize_t n = 0;

        if (x->c->cancelled)
                return CURL_READFUNC_ABORT;
        if (left > 0)
                n = x->read(x->state, x->offset, buf, MIN_OF(one * len, left));
        if (n == 0 && left > 0 && x->size != UINT64_MAX)
                n = -ENODATA; /* fewer bytes than were promised: the server would wait for the rest */
        if (n < 0) {
                x->failed = (int)n;
                return CURL_READFUNC_ABORT;
        }
        x->offset += (uint64_t)n;
        return (size_t)n;
}

static int status_code(long status)
{
        switch (status) {
        case 400:
                return -EINVAL;
        case 401:
                return -EPERM;
        case 403:
                return -EACCES;
        case 404:
                return -ENOENT;
        case 409:
                return -EEXIST;
        case 413:
                return -EFBIG;
        case 502: /* this one and 504: of a balancer whose server is away */
        case 503:
        case 504:
                return -ETIMEDOUT;
        case 507:
                return -ENOSPC;
        default:
                return -EIO;
        }
}

/* The server's own words where it sent our kind of error; otherwise the status and the address. */
static int refused(struct exchange *x, long status, struct err *err)
{
        _cleanup_(json_decrefpp) json_t *j = x->reply ? json_loadb(x->reply, x->reply_len, 0, NULL) : NULL;
        const char *message = json_string_value(json_path(j, "error.message"));
        char *target = NULL;

        curl_easy_getinfo(x->c->curl, CURLINFO_REDIRECT_URL, &target);
        if (status == 401)
                return err_set(err, -EPERM, "%s: the server does not accept %s (401%s%s)", x->url,
                               x->c->token ? "this token; check that the token file holds the server's token"
                                           : "a call without a token; give its token file",
                               message ? ": " : "", message ? message : "");
        if (message)
                return err_set(err, status_code(status), "%s", message);
        if (target)
                return err_set(err, -EIO, "%s: the server points to %s (status %ld); use that address",
                               x->url, target, status);
        return err_set(err, status_code(status), "%s: the server answered with status %ld", x->url, status);
}

static int broken(struct exchange *x, CURLcode rc, struct err *err)
{
        const char *why = x->curl_text[0] ? x->curl_text : curl_easy_strerror(rc);

        if (x->c->cancelled)
                return err_set(err, -ECANCELED, "%s: cancelled", x->url);
        if (x->failed) {
                if (!err || err->code != x->failed)
                        err_set(err, x->failed, "%s: stopped after %llu bytes: %s", x->url,
                                (unsigned long long)x->offset, strerror(-x->failed));
                return x->failed;
        }
        switch (rc) {
        case CURLE_COULDNT_RESOLVE_HOST:
        case CURLE_COULDNT_CONNECT:
                return err_set(err, -ECONNREFUSED,
                               "%s: no connection: %s; check the address, and that the server runs", x->url,
                               why);
        case CURLE_OPERATION_TIMEDOUT:
                return err_set(err, -ETIMEDOUT, "%s: no answer in time: %s", x->url, why);
        case CURLE_GOT_NOTHING:
        case CURLE_PARTIAL_FILE:
        case CURLE_RECV_ERROR:
        case CURLE_SEND_ERROR:
                return err_set(err, -ECONNRESET, "%s: the server ended in the middle of the call: %s",
                               x->url, why);
        case CURLE_OUT_OF_MEMORY:
                return err_set(err, -ENOMEM, "out of memory");
        case CURLE_UNSUPPORTED_PROTOCOL:
                if (strncmp(x->url, "http", 4) == 0) /* libcurl says so too of an answer that is not HTTP */
                        break;
                /* fall through */
        case CURLE_URL_MALFORMAT:
                return err_set(err, -EINVAL, "%s: not a URL to fetch from (%s); http:// and https:// are",
                               x->url, why);
        default:
                break;
        }
        return err_set(err, -EIO, "%s: the exchange broke off: %s; is this the right server?", x->url, why);
}

static int exchange_run(struct exchange *x, struct curl_slist *headers, const char *method, bool stream,
                        struct err *err)
{
        CURL *curl = x->c->curl;
        long timeout = x->c->timeout_ms, status = 0;
        CURLcode rc;

        curl_easy_setopt(curl, CURLOPT_URL, x->url);
        curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method);
        curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
        curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
        curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
        curl_easy_setopt(curl, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
        curl_easy_setopt(curl, CURLOPT_USERAGENT, "wherry/" WHERRY_VERSION);
        curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, x->curl_text);
        curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_reply);
        curl_easy_setopt(curl, CURLOPT_WRITEDATA, x);
        curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
        curl_easy_setopt(curl, CURLOPT_XFERINFODATA, x);
        curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
        curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS,
                         timeout ? MIN_OF(timeout, CONNECT_MAX_MS) : CONNECT_MAX_MS);
        if (!stream)
                curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, timeout);
        else if (timeout) {
                curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
                curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, (timeout + 999) / 1000);
        }
        if (x->c->cancelled)
                return broken(x, CURLE_ABORTED_BY_CALLBACK, err);
        rc = curl_easy_perform(curl);
        curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
        /* A server that refuses in the middle of an upload closes the connection; its answer says more than
         * the close. */
        if (status >= 300 && !x->failed && !x->c->cancelled)
                return refused(x, status, err);
        if (rc != CURLE_OK || x->failed)
                return broken(x, rc, err);
        return 0;
}

/* Options stay in a handle until they are reset; the connections stay beyond that. */
static int headers_new(struct http_client *c, const char *type, bool own_server, struct curl_slist **ret,
                       struct err *err)
{
        _cleanup_(freep) char *token =
            c->token && own_server ? str_printf("Authorization: Bearer %s", c->token) : NULL;
        _cleanup_(freep) char *content = type ? str_printf("Content-Type: %s", type) : NULL;
        const char *lines[] = {token, content, "Accept: */*"};
        struct curl_slist *list = NULL;

        curl_easy_reset(c->curl);
        for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
                struct curl_slist *longer = lines[i] ? curl_slist_append(list, lines[i]) : list;

                if (!longer && lines[i]) {
                        curl_slist_free_all(list);
                        return err_set(err, -ENOMEM, "out of memory");
                }
                list = longer;
        }
        *ret = list;
        return 0;
}

static int reply_json(struct exchange *x, json_t **ret, struct err *err)
{
        json_error_t e;
        json_t *j;

        if (!ret)
                return 0;
        j = x->reply_len ? json_loadb(x->reply, x->reply_len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &e)
                         : json_null();
        if (!j)
                return err_set(err, -EBADMSG, "%s: the answer is not JSON (%s); is this the right server?",
                               x->url, e.text);
        *ret = j;
        return 0;
}

int http_call(struct http_client *c, const char *method, const char *path, const json_t *body, json_t **ret,
              long *ret_status, struct err *err)
{
        _cleanup_(freep) char *url = str_printf("%s%s", c->base, path);
        _cleanup_(freep) char *text = body ? json_text(body) : NULL;
        struct exchange x = {.c = c, .url = url};
        struct curl_slist *headers = NULL;
        long status = 0;
        int r;

        if (!url || (body && !text))
                return err_set(err, -ENOMEM, "out of memory");
        r = headers_new(c, body ? "application/json" : NULL, true, &headers, err);
        if (r < 0)
                return r;
        curl_easy_setopt(c->curl, CURLOPT_NOPROXY, "*");
        if (text) {
                curl_easy_setopt(c->curl, CURLOPT_POSTFIELDS, text);
                curl_easy_setopt(c->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(text));
        } else if (streq(method, "POST") || streq(method, "PUT")) {
                curl_easy_setopt(c->curl, CURLOPT_POSTFIELDS, "");
                curl_easy_setopt(c->curl, CURLOPT_POSTFIELDSIZE, 0L);
        }
        if (streq(method, "HEAD"))
                curl_easy_setopt(c->curl, CURLOPT_NOBODY, 1L);
        r = exchange_run(&x, headers, method, false, err);
        curl_easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, &status);
        if (ret_status)
                *ret_status = status;
        if (r == 0)
                r = reply_json(&x, ret, err);
        free(x.reply);
        curl_slist_free_all(headers);
        return r;
}

int http_upload(struct http_client *c, const char *method, const char *path, const char *type, uint64_t size,
                ssize_t (*read)(void *state, uint64_t offset, void *buf, size_t len), void *state,
                json_t **ret, struct err *err)
{
        _cleanup_(freep) char *url = str_printf("%s%s", c->base, path);
        struct exchange x = {.c = c, .url = url, .read = read, .state = state, .size = size};
        struct curl_slist *headers = NULL;
        int r;

        if (!url)
                return err_set(err, -ENOMEM, "out of memory");
        r = headers_new(c, type, true, &headers, err);
        if (r < 0)
                return r;
        curl_easy_setopt(c->curl, CURLOPT_NOPROXY, "*");
        curl_easy_setopt(c->curl, CURLOPT_UPLOAD, 1L);
        curl_easy_setopt(c->curl, CURLOPT_READFUNCTION, on_send);
        curl_easy_setopt(c->curl, CURLOPT_READDATA, &x);
        curl_easy_setopt(c->curl, CURLOPT_UPLOAD_BUFFERSIZE, 1L << 20);
        /* A kept connection may be dead, and what was read once cannot be sent again. */
        curl_easy_setopt(c->curl, CURLOPT_FRESH_CONNECT, 1L);
        if (size != UINT64_MAX)
                curl_easy_setopt(c->curl, CURLOPT_INFILESIZE_LARGE, (curl_off_t)size);
        r = exchange_run(&x, headers, method, true, err);
        if (r == 0)
                r = reply_json(&x, ret, err);
        free(x.reply);
        curl_slist_free_all(headers);
        return r;
}

int http_download(struct http_client *c, const char *url_or_path,
                  int (*write)(void *state, uint64_t offset, const void *buf, size_t len), void *state,
                  struct err *err)
{
        bool own = url_or_path[0] == '/';
        _cleanup_(freep) char *url = str_printf("%s%s", own ? c->base : "", url_or_path);
        struct exchange x = {.c = c, .url = url, .write = write, .state = state};
        struct curl_slist *headers = NULL;
        int r;

        if (!url)
                return err_set(err, -ENOMEM, "out of memory");
        r = headers_new(c, NULL, own, &headers, err);
        if (r < 0)
                return r;
        if (own)
                curl_easy_setopt(c->curl, CURLOPT_NOPROXY, "*");
        else {
                curl_easy_setopt(c->curl, CURLOPT_FOLLOWLOCATION, 1L);
                curl_easy_setopt(c->curl, CURLOPT_MAXREDIRS, 8L);
        }
        r = exchange_run(&x, headers, "GET", true, err);
        free(x.reply);
        curl_slist_free_all(headers);
        return r;
}

char *http_escape(const char *text)
{
        static const char hex[] = "0123456789ABCDEF";
        char *out = malloc(strlen(text) * 3 + 1), *p = out;

        if (!out)
                return NULL;
        for (const unsigned char *s = (const unsigned char *)text; *s; s++) {
                bool plain = (*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') ||
                             (*s >= '0' && *s <= '9') || *s == '-' || *s == '.' || *s == '_' || *s == '~';

                if (plain)
                        *p++ = (char)*s;
                else {
                        *p++ = '%';
                        *p++ = hex[*s >> 4];
                        *p++ = hex[*s & 15];
                }
        }
        *p = '\0';
        return out;
}
