/* SPDX-License-Identifier: Apache-2.0 */
#include "common/http-internal.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/util.h"

/* Of a connection's thread. Handlers may run librbd and libcurl, which keep buffers on the stack. */
#define STACK_SIZE (512 * 1024)
#define CONNECTION_MEMORY (128 * 1024)

static enum MHD_Result on_request(void *cls, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *data, size_t *n_data,
                                  void **con_cls)
{
        struct http_request *req = *con_cls;

        if (!req) {
                req = *con_cls = http_request_new(cls, connection, url, method);
                return req ? http_request_begin(req) : MHD_NO;
        }
        if (*n_data > 0)
                return http_request_data(req, data, n_data);
        return req->replied ? MHD_YES : http_request_end(req);
}

static void on_completed(void *cls, struct MHD_Connection *connection, void **con_cls,
                         enum MHD_RequestTerminationCode how)
{
        if (*con_cls)
                http_request_free(*con_cls);
        *con_cls = NULL;
}

void http_upgrade_add(struct http_upgrade *u)
{
        struct http_server *s = u->server;

        pthread_mutex_lock(&s->lock);
        u->next = s->upgrades;
        s->upgrades = u;
        if (s->stopping)
                shutdown(u->fd, SHUT_RDWR);
        pthread_mutex_unlock(&s->lock);
}

void http_upgrade_remove(struct http_upgrade *u)
{
        struct http_server *s = u->server;

        pthread_mutex_lock(&s->lock);
        for (struct http_upgrade **p = &s->upgrades; *p; p = &(*p)->next) {
                if (*p == u) {
                        *p = u->next;
                        break;
                }
        }
        pthread_cond_broadcast(&s->idle);
        pthread_mutex_unlock(&s->lock);
}

static int listen_bind(struct http_server *s, const struct addrinfo *ai, const char *listen_on,
                       struct err *err)
{
        _cleanup_(closep) int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        struct sockaddr_storage name;
        socklen_t n = sizeof(name);
        int one = 1;

        if (fd < 0)
                return err_set(err, -errno, "listen on %s: %s", listen_on, strerror(errno));
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
        if (bind(fd, ai->ai_addr, ai->ai_addrlen) < 0 || listen(fd, 128) < 0 ||
            getsockname(fd, (struct sockaddr *)&name, &n) < 0)
                return err_set(err, -errno, "listen on %s: %s", listen_on, strerror(errno));
        s->port = ntohs(name.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&name)->sin6_port
                                                   : ((struct sockaddr_in *)&name)->sin_port);
        s->fd = take_fd(&fd);
        return 0;
}

/* "HOST:PORT" or "[HOST]:PORT" */
static int listen_open(struct http_server *s, const char *listen_on, struct err *err)
{
        _cleanup_(freep) char *copy = strdup(listen_on);
        struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *found = NULL;
        char *colon = copy ? strrchr(copy, ':') : NULL, *host = copy;
        int r;

        if (!colon || colon == copy || strspn(colon + 1, "0123456789") != strlen(colon + 1) || !colon[1] ||
            atol(colon + 1) > 65535)
                return err_set(err, -EINVAL, "listen on \"%s\": not of the form ADDRESS:PORT", listen_on);
        *colon = '\0';
        if (host[0] == '[' && colon[-1] == ']') {
                colon[-1] = '\0';
                host++;
        }
        r = getaddrinfo(host, colon + 1, &hints, &found);
        if (r != 0)
                return err_set(err, -EINVAL, "listen on %s: %s", listen_on, gai_strerror(r));
        r = listen_bind(s, found, listen_on, err);
        freeaddrinfo(found);
        return r;
}

unsigned http_server_port(const struct http_server *s)
{
        return s->port;
}

int http_server_start(struct http_server *s, struct err *err)
{
        s->daemon =
            MHD_start_daemon(MHD_USE_THREAD_PER_CONNECTION | MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL |
                                 MHD_ALLOW_UPGRADE | MHD_USE_ITC,
                             0, NULL, NULL, on_request, s, MHD_OPTION_LISTEN_SOCKET, s->fd,
                             MHD_OPTION_NOTIFY_COMPLETED, on_completed, NULL, MHD_OPTION_CONNECTION_LIMIT,
                             s->options.max_connections, MHD_OPTION_CONNECTION_TIMEOUT,
                             (unsigned)HTTP_IDLE_S, MHD_OPTION_THREAD_STACK_SIZE, (size_t)STACK_SIZE,
                             MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_MEMORY, MHD_OPTION_END);
        if (!s->daemon)
                return err_set(err, -EIO, "listen on %s: the HTTP library did not start", s->options.listen);
        s->fd = -1;
        return 0;
}

int http_server_new(const struct http_server_options *options, struct http_server **ret, struct err *err)
{
        struct http_server *s = calloc(1, sizeof(*s));
        int r = -ENOMEM;

        if (!s)
                return err_set(err, -ENOMEM, "out of memory");
        pthread_mutex_init(&s->lock, NULL);
        pthread_cond_init(&s->idle, NULL);
        s->fd = -1;
        s->options = *options;
        if (s->options.max_connections == 0)
                s->options.max_connections = 256;
        s->routes = calloc(options->n_routes + 1, sizeof(*s->routes));
        s->token = options->token ? strdup(options->token) : NULL;
        if (!s->routes || (options->token && !s->token)) {
                err_set(err, -ENOMEM, "out of memory");
                goto fail;
        }
        memcpy(s->routes, options->routes, options->n_routes * sizeof(*s->routes));
        r = listen_open(s, options->listen, err);
        if (r < 0)
                goto fail;
        *ret = s;
        return 0;
fail:
        http_server_free(s);
        return r;
}

struct http_server *http_server_free(struct http_server *s)
{
        if (!s)
                return NULL;
        pthread_mutex_lock(&s->lock);
        s->stopping = true;
        for (struct http_upgrade *u = s->upgrades; u; u = u->next)
                shutdown(u->fd, SHUT_RDWR);
        while (s->upgrades)
                pthread_cond_wait(&s->idle, &s->lock);
        pthread_mutex_unlock(&s->lock);
        if (s->daemon)
                MHD_stop_daemon(s->daemon);
        if (s->fd >= 0)
                close(s->fd);
        pthread_cond_destroy(&s->idle);
        pthread_mutex_destroy(&s->lock);
        free(s->token);
        free(s->routes);
        free(s);
        return NULL;
}
