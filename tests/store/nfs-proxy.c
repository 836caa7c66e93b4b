/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/store/faults.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/util.h"

/*
 * A TCP proxy before a real NFS server that understands record marking (RFC 5531, 11), the header of a call
 * and which procedure of NFSv3 it asks for. Faults meet the store's own calls only, which come as root: a
 * QEMU sends again for ever what it got no answer to, and is not what is tested here.
 *
 * It listens on the portmapper's port first; every port that an answer of the portmapper names is listened
 * to before that answer is passed on.
 */
#define PORTMAP 111
#define NFS_PROGRAM_NUMBER 100003
#define PORTS_MAX 16
#define RECORD_LIMIT (8u << 20)

static const char *const procedures[] = {"null",   "getattr", "setattr",  "lookup", "access",  "readlink",
                                         "read",   "write",   "create",   "mkdir",  "symlink", "mknod",
                                         "remove", "rmdir",   "rename",   "link",   "readdir", "readdirplus",
                                         "fsstat", "fsinfo",  "pathconf", "commit"};
/* Words behind the status in an answer that says no more than that: all zero. */
static const unsigned failure_words[] = {0, 0, 2, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 4, 3, 1, 1, 1, 1, 1, 2};

struct proxy {
        struct in_addr at, server;
        pthread_mutex_t lock; /* guards the ports */
        unsigned short port[PORTS_MAX];
        size_t n_ports;
};

struct conn {
        struct proxy *proxy;
        unsigned short port;
        int client, server;
        pthread_mutex_t lock; /* guards what follows */
        pthread_cond_t seen;
        unsigned users;
        uint32_t swallow; /* the answer to this call is not passed on */
        bool swallowing, swallowed;
        bool end_then; /* and the connection ends with it */
        bool portmap;
};

struct record {
        uint32_t len; /* with the mark */
        uint8_t *data;
};

static uint32_t word(const struct record *r, size_t i)
{
        uint32_t v;

        if ((i + 1) * 4 > r->len)
                return UINT32_MAX;
        memcpy(&v, r->data + i * 4, 4);
        return ntohl(v);
}

static bool read_all(int fd, void *buf, size_t len)
{
        return read_full(fd, buf, len) == (ssize_t)len;
}

static void record_done(struct record *r)
{
        free(r->data);
        *r = (struct record){};
}

/* A whole record, of all its fragments, each with its mark: it is passed on as it came. */
static bool record_read(int fd, struct record *r)
{
        uint32_t mark = 0;

        *r = (struct record){};
        while (!(mark & 0x80000000u)) {
                uint8_t *bigger;
                uint32_t len;

                if (!read_all(fd, &mark, 4))
                        return false;
                len = ntohl(mark) & 0x7fffffffu;
                if (len > RECORD_LIMIT || r->len + len > RECORD_LIMIT)
                        return false;
                bigger = realloc(r->data, r->len + 4 + len);
                if (!bigger)
                        return false;
                r->data = bigger;
                memcpy(r->data + r->len, &mark, 4);
                if (!read_all(fd, r->data + r->len + 4, len))
                        return false;
                r->len += 4 + len;
                mark = ntohl(mark);
        }
        return true;
}

static bool record_write(int fd, const struct record *r)
{
        for (size_t done = 0; done < r->len;) {
                ssize_t n = send(fd, r->data + done, r->len - done, MSG_NOSIGNAL);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return false;
                done += (size_t)n;
        }
        return true;
}

/* Index of the procedure of the store's own NFS call; 0: any other. Words: mark, xid, type, version of RPC,
 * program, version, procedure, then the credential: flavour, length, stamp, name, uid. */
static unsigned procedure_of(const struct record *r)
{
        uint32_t name, procedure = word(r, 6);

        if (word(r, 2) != 0 || word(r, 4) != NFS_PROGRAM_NUMBER || procedure >= ARRAY_SIZE(procedures))
                return 0;
        if (word(r, 7) != 1 || word(r, 8) < 16 || word(r, 8) > 400)
                return 0;
        name = (word(r, 10) + 3) / 4;
        return name < 64 && word(r, 11 + name) == 0 ? procedure : 0;
}

static int connect_to(const struct proxy *p, unsigned short port)
{
        struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = p->server};
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

        if (fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0) {
                close(fd);
                return -1;
        }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        return fd;
}

static void conn_end(struct conn *c)
{
        shutdown(c->client, SHUT_RDWR);
        shutdown(c->server, SHUT_RDWR);
}

static void conn_put(struct conn *c)
{
        bool last;

        pthread_mutex_lock(&c->lock);
        last = --c->users == 0;
        pthread_mutex_unlock(&c->lock);
        if (!last)
                return;
        close(c->client);
        close(c->server);
        free(c);
}

static bool pass_on(struct conn *c, const struct record *r)
{
        return record_write(c->server, r);
}

/* Sends it, and has its answer swallowed; true once the answer came. */
static bool pass_on_alone(struct conn *c, const struct record *r, bool end_then)
{
        bool came = true;

        pthread_mutex_lock(&c->lock);
        c->swallow = word(r, 1);
        c->swallowing = true;
        c->swallowed = false;
        c->end_then = end_then;
        pthread_mutex_unlock(&c->lock);
        if (!pass_on(c, r))
                return false;
        pthread_mutex_lock(&c->lock);
        while (!c->swallowed && came) {
                struct timespec until;

                clock_gettime(CLOCK_REALTIME, &until);
                until.tv_sec += 10;
                came = pthread_cond_timedwait(&c->seen, &c->lock, &until) == 0;
        }
        pthread_mutex_unlock(&c->lock);
        return came;
}

/* "Try again later", or an I/O error. */
static bool answer_failure(struct conn *c, const struct record *call, unsigned procedure)
{
        uint32_t reply[16] = {};
        uint32_t words = 7 + failure_words[procedure], xid = word(call, 1);
        struct record r = {.len = 4 + words * 4, .data = (uint8_t *)reply};

        reply[0] = htonl(0x80000000u | (words * 4));
        reply[1] = htonl(xid);
        reply[2] = htonl(1);
        reply[7] = htonl(xid % 2 ? 10008 : 5);
        return record_write(c->client, &r);
}

/* As a client sends a call again over a new connection after the first answer was lost. */
static bool send_again(struct conn *c, const struct record *call)
{
        _cleanup_(record_done) struct record reply = {};
        int fd;
        bool ok;

        if (!pass_on_alone(c, call, false))
                return false;
        fd = connect_to(c->proxy, c->port);
        ok = fd >= 0 && record_write(fd, call) && record_read(fd, &reply) && record_write(c->client, &reply);
        if (fd >= 0)
                close(fd);
        return ok;
}

static bool send_late(struct conn *c, const struct record *call)
{
        shutdown(c->client, SHUT_RDWR);
        fault_pause_late();
        pass_on_alone(c, call, true);
        return false;
}

/* One call of the client; false ends the connection. */
static bool handle(struct conn *c, const struct record *call)
{
        unsigned procedure = procedure_of(call);
        bool repeatable = procedure == 2 || procedure == 14 || procedure == 15; /* setattr, rename, link */
        enum fault f = procedure ? fault_next(procedures[procedure]) : FAULT_NONE;

        switch (f) {
        case FAULT_DELAY:
                fault_pause();
                return pass_on(c, call);
        case FAULT_FAIL:
                return answer_failure(c, call, procedure);
        case FAULT_DROP:
                return false;
        case FAULT_MUTE:
                return true;
        case FAULT_LOSE:
                pass_on_alone(c, call, true);
                return false;
        case FAULT_LATE:
                return send_late(c, call);
        case FAULT_TWICE:
                return repeatable ? send_again(c, call) : pass_on(c, call);
        default:
                return pass_on(c, call);
        }
}

static void *calls(void *arg)
{
        struct conn *c = arg;
        bool on = true;

        while (on) {
                _cleanup_(record_done) struct record call = {};

                on = record_read(c->client, &call) && handle(c, &call);
        }
        conn_end(c);
        conn_put(c);
        return NULL;
}

static void listen_on(struct proxy *p, unsigned short port);

/* True: it was for nobody. */
static bool swallow(struct conn *c, const struct record *reply, bool *ret_end)
{
        bool mine;

        pthread_mutex_lock(&c->lock);
        mine = c->swallowing && word(reply, 1) == c->swallow;
        if (mine) {
                c->swallowing = false;
                c->swallowed = true;
                *ret_end = c->end_then;
                pthread_cond_signal(&c->seen);
        }
        pthread_mutex_unlock(&c->lock);
        return mine;
}

static void *answers(void *arg)
{
        struct conn *c = arg;
        bool on = true, end = false;

        while (on) {
                _cleanup_(record_done) struct record reply = {};

                on = record_read(c->server, &reply);
                if (!on)
                        break;
                /* GETPORT's answer is the only one of that length */
                if (c->portmap && reply.len == 32 && word(&reply, 7) > 0 && word(&reply, 7) < 65536)
                        listen_on(c->proxy, (unsigned short)word(&reply, 7));
                if (swallow(c, &reply, &end))
                        on = !end;
                else
                        on = record_write(c->client, &reply);
        }
        conn_end(c);
        conn_put(c);
        return NULL;
}

static void start(void *(*run)(void *), void *arg)
{
        pthread_t thread;

        if (pthread_create(&thread, NULL, run, arg) != 0)
                abort();
        pthread_detach(thread);
}

struct listener {
        struct proxy *proxy;
        unsigned short port;
        int fd;
};

static void *accept_all(void *arg)
{
        const struct listener *l = arg;

        for (;;) {
                int fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC), one = 1;
                struct conn *c = calloc(1, sizeof(*c));

                if (!c || fd < 0)
                        abort();
                setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
                *c = (struct conn){.proxy = l->proxy,
                                   .port = l->port,
                                   .client = fd,
                                   .server = connect_to(l->proxy, l->port),
                                   .users = 2,
                                   .portmap = l->port == PORTMAP};
                pthread_mutex_init(&c->lock, NULL);
                pthread_cond_init(&c->seen, NULL);
                if (c->server < 0) {
                        close(fd);
                        free(c);
                        continue;
                }
                start(calls, c);
                start(answers, c);
        }
        return NULL;
}

static int listen_now(struct proxy *p, unsigned short port)
{
        struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = p->at};
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
        struct listener *l = malloc(sizeof(*l));

        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
        if (!l || fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof(at)) < 0 || listen(fd, 64) < 0) {
                int r = -errno;

                fprintf(stderr, "nfs-proxy: cannot listen on %s:%u: %s\n", inet_ntoa(p->at), port,
                        strerror(-r));
                free(l);
                return r;
        }
        *l = (struct listener){.proxy = p, .port = port, .fd = fd};
        start(accept_all, l);
        return 0;
}

static void listen_on(struct proxy *p, unsigned short port)
{
        bool known = false;

        pthread_mutex_lock(&p->lock);
        for (size_t i = 0; i < p->n_ports; i++)
                known = known || p->port[i] == port;
        if (!known && p->n_ports < PORTS_MAX && listen_now(p, port) == 0)
                p->port[p->n_ports++] = port;
        pthread_mutex_unlock(&p->lock);
}

int nfs_proxy_start(const char *at, const char *server)
{
        static struct proxy p = {.lock = PTHREAD_MUTEX_INITIALIZER};
        int ready[2];
        char up = 0;

        if (inet_pton(AF_INET, at, &p.at) != 1 || inet_pton(AF_INET, server, &p.server) != 1 ||
            pipe2(ready, O_CLOEXEC) < 0)
                return -EINVAL;
        switch (fork()) {
        case -1:
                return -errno;
        case 0:
                prctl(PR_SET_PDEATHSIG, SIGKILL);
                up = listen_now(&p, PORTMAP) == 0;
                if (write(ready[1], &up, 1) != 1 || !up)
                        _exit(1);
                for (;;)
                        pause();
        default:
                close(ready[1]);
                if (read(ready[0], &up, 1) != 1)
                        up = 0;
                close(ready[0]);
                return up ? 0 : -EIO;
        }
}
