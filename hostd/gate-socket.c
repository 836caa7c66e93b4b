/* SPDX-License-Identifier: Apache-2.0 */

#include "hostd/gate-socket.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/util.h"

/* The packets are described in lock-driver/ask.c. */
#define PACKET_MAX 512
#define ANSWER_MAX 480
#define QUESTION_WAIT_MS 2000 /* the driver connects and sends at once */
#define BACKLOG 256

struct gate {
        /* fixed after gate_new() */
        gate_cb cb;
        void *arg;
        char *path;
        int listen_fd, stop_fd;
        pthread_t listener;
        /* under the lock: questions being answered */
        pthread_mutex_t lock;
        pthread_cond_t idle;
        unsigned busy;
};

struct question {
        struct gate *gate;
        int fd;
        int64_t asked_ns;
};

static const char *const question_names[GATE_QUESTION_MAX] = {
    [GATE_REGISTER] = "REGISTER",
    [GATE_ACQUIRE] = "ACQUIRE",
    [GATE_RELEASE] = "RELEASE",
};

static int question_parse(const char *packet, struct gate_request *ret, struct err *err)
{
        char word[16], uuid[UUID_LEN + 1], key[DOMAIN_LEASE_KEY_MAX + 1];
        int pid, r;

        if (sscanf(packet, "wherry-gate 1 %15s %36s %d %192s", word, uuid, &pid, key) != 4 || pid < 0)
                return err_set(err, -EPROTO, "the lock driver and hostd are of different versions");
        ret->again = streq(word, "AGAIN");
        for (unsigned i = 0; i < GATE_QUESTION_MAX; i++) {
                if (!streq(ret->again ? "ACQUIRE" : word, question_names[i]))
                        continue;
                ret->question = i;
                ret->pid = pid;
                r = domain_lease_parse(key, &ret->lease, err);
                if (r < 0)
                        return r;
                /* A lease copied into another guest's XML is nobody's. */
                if (!streq(uuid, ret->lease.instance))
                        return err_set(err, -EACCES, "guest %s carries the lease of instance %s", uuid,
                                       ret->lease.instance);
                return 0;
        }
        return err_set(err, -EPROTO, "the lock driver asks an unknown question \"%s\"", word);
}

static int question_read(int fd, char packet[PACKET_MAX], struct err *err)
{
        struct pollfd p = {.fd = fd, .events = POLLIN};
        int64_t deadline = clock_ms() + QUESTION_WAIT_MS, left;
        ssize_t n;
        int r;

        do {
                left = deadline - clock_ms();
                r = left > 0 ? poll(&p, 1, (int)left) : 0;
        } while (r < 0 && errno == EINTR);
        if (r <= 0)
                return err_set(err, -ETIMEDOUT, "no question came in %d ms", QUESTION_WAIT_MS);
        n = recv(fd, packet, PACKET_MAX, 0);
        if (n <= 0 || n == PACKET_MAX)
                return err_set(err, -EPROTO, "a question of %zd bytes", n);
        packet[n] = '\0';
        return 0;
}

/* Only who may command libvirtd anyway may ask. */
static int peer_check(int fd, struct err *err)
{
        struct ucred peer;
        socklen_t len = sizeof peer;

        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
                return err_set(err, -errno, "who asks: %s", strerror(errno));
        if (peer.uid != 0 && peer.uid != geteuid())
                return err_set(err, -EACCES, "user %u may not ask", (unsigned)peer.uid);
        return 0;
}

static void *question_answer(void *arg)
{
        _cleanup_(freep) struct question *q = arg;
        _cleanup_(closep) int fd = q->fd;
        struct gate *g = q->gate;
        char packet[PACKET_MAX], answer[ANSWER_MAX];
        struct gate_request req = {.asked_ns = q->asked_ns};
        struct err err = {0};
        int r;

        r = peer_check(fd, &err);
        if (r >= 0)
                r = question_read(fd, packet, &err);
        if (r >= 0)
                r = question_parse(packet, &req, &err);
        if (r >= 0)
                r = g->cb(g->arg, &req, &err);
        if (r >= 0)
                snprintf(answer, sizeof answer, "yes");
        else
                snprintf(answer, sizeof answer, "no %s", err_text(&err));
        /* A driver that has given up meanwhile has taken that for a no. */
        if (send(fd, answer, strlen(answer), MSG_NOSIGNAL) < 0 && r >= 0 && req.question == GATE_ACQUIRE)
                log_warn("instance %s: the answer yes came too late for libvirt", req.lease.instance);

        pthread_mutex_lock(&g->lock);
        if (--g->busy == 0)
                pthread_cond_broadcast(&g->idle);
        pthread_mutex_unlock(&g->lock);
        return NULL;
}

/* Owns fd. A question without a thread gets no answer, which is a no. */
static void question_begin(struct gate *g, int fd)
{
        struct question *q = calloc(1, sizeof *q);
        pthread_attr_t attr;
        pthread_t thread;
        int r = ENOMEM;

        if (q) {
                *q = (struct question){g, fd, clock_ns()};
                pthread_mutex_lock(&g->lock);
                g->busy++;
                pthread_mutex_unlock(&g->lock);
                pthread_attr_init(&attr);
                pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
                r = pthread_create(&thread, &attr, question_answer, q);
                pthread_attr_destroy(&attr);
        }
        if (r == 0)
                return;
        log_error("gate: cannot answer libvirt: %s", strerror(r));
        close(fd);
        if (q) {
                pthread_mutex_lock(&g->lock);
                g->busy--;
                pthread_mutex_unlock(&g->lock);
                free(q);
        }
}

static void *gate_listen(void *arg)
{
        struct gate *g = arg;
        struct pollfd p[2] = {{.fd = g->listen_fd, .events = POLLIN}, {.fd = g->stop_fd, .events = POLLIN}};

        for (;;) {
                int fd;

                if (poll(p, 2, -1) < 0 && errno != EINTR)
                        log_error("gate: poll: %s", strerror(errno));
                if (p[1].revents)
                        return NULL;
                if (!p[0].revents)
                        continue;
                fd = accept4(g->listen_fd, NULL, NULL, SOCK_CLOEXEC);
                if (fd >= 0) {
                        question_begin(g, fd);
                } else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
                        /* Nothing to be had at the moment; wait a little for it, or for the end. */
                        log_error("gate: accept: %s", strerror(errno));
                        poll(&p[1], 1, 100);
                }
        }
}

static int socket_bind(const char *path, int *ret_fd, struct err *err)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        _cleanup_(closep) int fd = -1;

        if (strlen(path) >= sizeof address.sun_path)
                return err_set(err, -ENAMETOOLONG, "gate socket %s: longer than %zu bytes", path,
                               sizeof address.sun_path - 1);
        strcpy(address.sun_path, path);
        fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return err_set(err, -errno, "gate socket: %s", strerror(errno));
        /* That there is one hostd a host is the host record's business (its boot's nonce); a left-over
         * socket is nobody's. */
        if (unlink(path) < 0 && errno != ENOENT)
                return err_set(err, -errno, "gate socket %s: %s", path, strerror(errno));
        if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || chmod(path, 0600) < 0 ||
            listen(fd, BACKLOG) < 0)
                return err_set(err, -errno, "gate socket %s: %s", path, strerror(errno));
        *ret_fd = take_fd(&fd);
        return 0;
}

int gate_new(const char *socket_path, gate_cb cb, void *arg, struct gate **ret, struct err *err)
{
        struct gate *g = calloc(1, sizeof *g);
        int r;

        if (!g)
                return err_set(err, -ENOMEM, "gate: out of memory");
        g->cb = cb;
        g->arg = arg;
        g->listen_fd = -1;
        g->stop_fd = eventfd(0, EFD_CLOEXEC);
        g->path = strdup(socket_path);
        pthread_mutex_init(&g->lock, NULL);
        pthread_cond_init(&g->idle, NULL);
        r = g->stop_fd >= 0 && g->path ? socket_bind(socket_path, &g->listen_fd, err)
                                       : err_set(err, -ENOMEM, "gate: out of memory");
        if (r == 0) {
                r = -pthread_create(&g->listener, NULL, gate_listen, g);
                if (r < 0)
                        err_set(err, r, "gate: %s", strerror(-r));
        }
        if (r < 0) {
                closep(&g->listen_fd);
                closep(&g->stop_fd);
                free(g->path);
                free(g);
                return r;
        }
        *ret = g;
        return 0;
}

struct gate *gate_free(struct gate *g)
{
        if (!g)
                return NULL;
        eventfd_write(g->stop_fd, 1);
        pthread_join(g->listener, NULL);
        /* Whoever still waits in the backlog is cut off with the socket: a no. */
        closep(&g->listen_fd);
        pthread_mutex_lock(&g->lock);
        while (g->busy > 0)
                pthread_cond_wait(&g->idle, &g->lock);
        pthread_mutex_unlock(&g->lock);
        closep(&g->stop_fd);
        pthread_cond_destroy(&g->idle);
        pthread_mutex_destroy(&g->lock);
        free(g->path);
        free(g);
        return NULL;
}
