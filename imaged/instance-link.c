/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/http-client.h"
#include "common/json.h"
#include "imaged/hosts.h"
#include "imaged/instance.h"

/* What only the instance's host can tell: passed on to its hostd with the cluster's token. */

#define CALL_MS 5000
#define PROTOCOL "wherry-console"
#define HEAD_MAX 8192

struct link {
        char id[UUID_LEN + 1];
        unsigned host;
        char *api;
};

static int link_find(struct http_request *req, struct imaged *im, struct link *ret, struct err *err)
{
        _cleanup_(json_decrefpp) json_t *record = NULL;
        struct lease lease;
        int r;

        r = instance_find(im, http_param(req, "id"), &record, err);
        if (r == 0)
                r = instance_lease(im, record, &lease, err);
        if (r < 0)
                return r;
        if (lease.host == 0)
                return err_set(err, -ENOENT, "instance %s is on no host yet", http_param(req, "id"));
        snprintf(ret->id, sizeof(ret->id), "%s", json_get_str(record, "id", ""));
        ret->host = lease.host;
        ret->api = hosts_api(im->hosts, lease.host);
        if (!ret->api || !hosts_alive(im->hosts, lease.host)) {
                free(ret->api);
                return err_set(err, -EHOSTUNREACH, "instance %s: its host %u is not alive",
                               http_param(req, "id"), lease.host);
        }
        return 0;
}

/* Our token being refused by a hostd is not our caller's mistake. */
static int link_code(int r, const struct link *l, struct err *err)
{
        return err_wrap(err, r == -EPERM || r == -EACCES ? -EIO : r, "host %u", l->host);
}

int instance_on_migration(struct http_request *req, void *userdata, struct err *err)
{
        struct imaged *im = userdata;
        _cleanup_(freep) char *path = NULL;
        _cleanup_(json_decrefpp) json_t *reply = NULL;
        struct http_client *client = NULL;
        struct link l;
        int r;

        r = link_find(req, im, &l, err);
        if (r < 0)
                return r;
        path = str_printf("/v1/instances/%s/migration", l.id);
        r = path ? http_client_new(l.api, im->hostd_token, CALL_MS, &client, err)
                 : err_set(err, -ENOMEM, "out of memory");
        if (r == 0)
                r = http_call(client, "GET", path, NULL, &reply, NULL, err);
        http_client_free(client);
        free(l.api);
        return r < 0 ? link_code(r, &l, err) : http_reply_json(req, 200, reply);
}

/* --- the console: bytes both ways until one side ends --- */

struct console {
        int hostd;
        size_t n_early; /* what the hostd sent behind its head */
        char early[HEAD_MAX];
};

static int dial(const char *api, struct err *err)
{
        _cleanup_(freep) char *host = NULL;
        struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;
        const char *authority = strncmp(api, "http://", 7) == 0 ? api + 7 : NULL;
        struct timeval limit = {.tv_sec = CALL_MS / 1000};
        char *colon, *name;
        int fd, r;

        host = authority ? strndup(authority, strcspn(authority, "/")) : NULL;
        colon = host ? strrchr(host, ':') : NULL;
        if (!colon)
                return err_set(err, -EIO, "%s is not http://HOST:PORT", api);
        *colon = '\0';
        name = host;
        if (name[0] == '[' && colon[-1] == ']') {
                name++;
                colon[-1] = '\0';
        }
        r = getaddrinfo(name, colon + 1, &hints, &found);
        if (r != 0)
                return err_set(err, -EHOSTUNREACH, "%s: %s", api, gai_strerror(r));
        fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd >= 0) {
                setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)); /* connect() too */
                setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
        }
        if (fd < 0 || connect(fd, found->ai_addr, found->ai_addrlen) < 0) {
                r = err_set(err, -EHOSTUNREACH, "%s: %s", api, strerror(errno));
                if (fd >= 0)
                        close(fd);
                fd = r;
        }
        freeaddrinfo(found);
        return fd;
}

/* Reads the hostd's head; what lies behind it stays in c->early. */
static int console_head(struct console *c, struct err *err)
{
        size_t n = 0;
        char *end = NULL;

        while (!end) {
                ssize_t got = recv(c->hostd, c->early + n, sizeof(c->early) - 1 - n, 0);

                if (got < 0 && errno == EINTR)
                        continue;
                if (got <= 0)
                        return err_set(err, -EHOSTUNREACH, "console: its hostd does not answer");
                n += (size_t)got;
                c->early[n] = '\0';
                end = strstr(c->early, "\r\n\r\n");
                if (!end && n == sizeof(c->early) - 1)
                        return err_set(err, -EIO, "console: its hostd's answer has no end");
        }
        if (strncmp(c->early, "HTTP/1.1 101", 12) != 0) {
                const char *body = end + 4;
                _cleanup_(json_decrefpp) json_t *j = json_loads(body, 0, NULL);
                const char *message = json_string_value(json_path(j, "error.message"));
                int status = atoi(c->early + strcspn(c->early, " "));

                return err_set(err,
                               status == 404   ? -ENOENT
                               : status == 409 ? -EBUSY
                                               : -EIO,
                               "console: %s (%d)", message ? message : "its hostd refuses", status);
        }
        end += 4;
        c->n_early = n - (size_t)(end - c->early);
        memmove(c->early, end, c->n_early);
        return 0;
}

static int console_open(struct imaged *im, const struct link *l, struct console *c, struct err *err)
{
        _cleanup_(freep) char *head = NULL;
        struct timeval forever = {0};
        int r;

        c->hostd = dial(l->api, err);
        if (c->hostd < 0)
                return c->hostd;
        head = str_printf(
            "GET /v1/instances/%s/console HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: " PROTOCOL
            "\r\nAuthorization: Bearer %s\r\n\r\n",
            l->id, l->api + strlen("http://"), im->hostd_token ? im->hostd_token : "");
        r = head ? write_full(c->hostd, head, strlen(head)) : -ENOMEM;
        if (r < 0)
                return err_set(err, r, "console: %s", strerror(-r));
        r = console_head(c, err);
        setsockopt(c->hostd, SOL_SOCKET, SO_RCVTIMEO, &forever, sizeof(forever));
        setsockopt(c->hostd, SOL_SOCKET, SO_SNDTIMEO, &forever, sizeof(forever));
        return r;
}

/* 1: bytes went over, 0: that side ended. */
static int pump(int from, int to)
{
        char buf[8192];
        ssize_t n = recv(from, buf, sizeof(buf), 0);

        if (n < 0 && errno == EINTR)
                return 1;
        return n > 0 && write_full(to, buf, (size_t)n) == 0;
}

static void console_run(void *state, int fd, const void *early, size_t n_early)
{
        struct console *c = state;
        struct pollfd p[2] = {{.fd = fd, .events = POLLIN}, {.fd = c->hostd, .events = POLLIN}};

        if (fd >= 0 && write_full(fd, c->early, c->n_early) == 0 &&
            write_full(c->hostd, early, n_early) == 0) {
                for (;;) {
                        if (poll(p, 2, -1) < 0 && errno != EINTR)
                                break;
                        if (p[0].revents && !pump(fd, c->hostd))
                                break;
                        if (p[1].revents && !pump(c->hostd, fd))
                                break;
                }
        }
        close(c->hostd);
        free(c);
}

int instance_on_console(struct http_request *req, void *userdata, struct err *err)
{
        struct imaged *im = userdata;
        struct console *c;
        struct link l;
        int r;

        r = link_find(req, im, &l, err);
        if (r < 0)
                return r;
        c = calloc(1, sizeof(*c));
        if (c)
                c->hostd = -1;
        r = c ? console_open(im, &l, c, err) : err_set(err, -ENOMEM, "out of memory");
        free(l.api);
        if (r < 0)
                r = link_code(r, &l, err);
        else if (http_reply_upgrade(req, PROTOCOL, console_run, c) < 0)
                r = err_set(err, -EINVAL,
                            "console: ask for it with \"Connection: Upgrade\" and \"Upgrade: %s\"",
                            PROTOCOL);
        else
                return 0;
        if (c && c->hostd >= 0)
                close(c->hostd);
        free(c);
        return r;
}
