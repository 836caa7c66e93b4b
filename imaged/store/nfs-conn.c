/* SPDX-License-Identifier: Apache-2.0 */
#include "imaged/store/nfs3.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <nfsc/libnfs-raw-mount.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "common/clock.h"
#include "common/util.h"

#define IDLE_MAX 8 /* connections kept between calls */

struct nfs_conn {
        struct nfs_conn *next;
        struct rpc_context *rpc; /* NULL once broken */
        unsigned timeout_ms;
        unsigned connecting; /* here and not on a stack: libnfs may call again when the connection ends */
        int connect_status;
};

struct nfs_server {
        char *server, *export; /* these five never change after nfs_server_new() */
        unsigned timeout_ms;
        struct nfs_fh root;
        uint32_t read_max, write_max;

        pthread_mutex_t lock; /* guards what follows */
        struct nfs_conn *idle;
        unsigned n_idle;
};

struct nfs_conn *nfs_conn_free(struct nfs_conn *c)
{
        if (!c)
                return NULL;
        if (c->rpc)
                rpc_destroy_context(c->rpc);
        free(c);
        return NULL;
}

static void nfs_conn_freep(struct nfs_conn **c)
{
        nfs_conn_free(*c);
}

bool nfs_conn_broken(const struct nfs_conn *c)
{
        return !c->rpc;
}

struct rpc_context *nfs_conn_rpc(struct nfs_conn *c)
{
        return c->rpc;
}

/* Destroying the context cancels what is pending: each callback runs now, while the caller's variables still
 * live. */
static void break_off(struct nfs_conn *c)
{
        struct rpc_context *rpc = take(c->rpc);

        if (rpc)
                rpc_destroy_context(rpc);
}

void nfs_conn_wait(struct nfs_conn *c, const unsigned *pending)
{
        int64_t deadline = clock_ms() + c->timeout_ms;

        while (*pending > 0 && c->rpc) {
                struct pollfd p = {.fd = rpc_get_fd(c->rpc), .events = (short)rpc_which_events(c->rpc)};
                int64_t left = deadline - clock_ms();
                int n;

                if (left <= 0 || p.fd < 0) {
                        break_off(c);
                        return;
                }
                n = poll(&p, 1, (int)left);
                if (n < 0 && errno != EINTR)
                        break_off(c);
                else if (n > 0 && rpc_service(c->rpc, p.revents) < 0)
                        break_off(c);
        }
}

/* --- connecting
 * ---------------------------------------------------------------------------------------------------- */

static void connected(struct rpc_context *rpc, int status, void *data, void *private_data)
{
        struct nfs_conn *c = private_data;

        if (c->connecting == 0)
                return;
        c->connecting = 0;
        c->connect_status = status;
}

static int connect_program(struct nfs_server *s, int program, int version, uint32_t uid, uint32_t gid,
                           struct nfs_conn **ret, struct err *err)
{
        _cleanup_(nfs_conn_freep) struct nfs_conn *c = calloc(1, sizeof(*c));
        int one = 1;

        if (c)
                c->rpc = rpc_init_context();
        if (!c || !c->rpc)
                return err_set(err, -ENOMEM, "nfs://%s%s: out of memory", s->server, s->export);
        c->timeout_ms = s->timeout_ms;
        c->connecting = 1;
        rpc_set_uid(c->rpc, (int)uid);
        rpc_set_gid(c->rpc, (int)gid);
        if (rpc_connect_program_async(c->rpc, s->server, program, version, connected, c) < 0)
                return err_set(err, -EHOSTUNREACH, "nfs://%s%s: cannot connect: %s", s->server, s->export,
                               rpc_get_error(c->rpc));
        nfs_conn_wait(c, &c->connecting);
        if (!c->rpc || c->connecting > 0 || c->connect_status != RPC_STATUS_SUCCESS) {
                break_off(c);
                return err_set(err, -ETIMEDOUT,
                               "nfs://%s%s: cannot connect to %s; is the server up, rpcbind too?", s->server,
                               s->export,
                               program == MOUNT_PROGRAM ? "its mount service" : "its NFS service");
        }
        setsockopt(rpc_get_fd(c->rpc), IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        *ret = take(c);
        return 0;
}

int nfs_conn_new(struct nfs_server *s, uint32_t uid, uint32_t gid, struct nfs_conn **ret, struct err *err)
{
        return connect_program(s, NFS_PROGRAM, NFS_V3, uid, gid, ret, err);
}

struct mounting {
        unsigned pending;
        int r;
        struct nfs_fh fh;
};

static void mounted(struct rpc_context *rpc, int status, void *data, void *private_data)
{
        struct mounting *m = private_data;
        const struct mountres3 *res = data;
        const fhandle3 *fh;

        m->pending = 0;
        if (status != RPC_STATUS_SUCCESS) {
                m->r = -ETIMEDOUT;
                return;
        }
        fh = &res->mountres3_u.mountinfo.fhandle;
        if (res->fhs_status != MNT3_OK) {
                m->r = res->fhs_status == MNT3ERR_NOENT ? -ENOENT : -EACCES;
        } else if (fh->fhandle3_len > NFS_FH_MAX) {
                m->r = -EIO;
        } else {
                m->fh.len = fh->fhandle3_len;
                memcpy(m->fh.val, fh->fhandle3_val, fh->fhandle3_len);
        }
}

static int mount_export(struct nfs_server *s, struct err *err)
{
        _cleanup_(nfs_conn_freep) struct nfs_conn *c = NULL;
        struct mounting m = {.pending = 1};
        int r = connect_program(s, MOUNT_PROGRAM, MOUNT_V3, 0, 0, &c, err);

        if (r < 0)
                return r;
        if (rpc_mount3_mnt_async(c->rpc, mounted, s->export, &m) < 0)
                return err_set(err, -EIO, "nfs://%s%s: cannot ask for the export", s->server, s->export);
        nfs_conn_wait(c, &m.pending);
        if (m.r == -ENOENT)
                return err_set(err, m.r, "nfs://%s%s: the server has no such export", s->server, s->export);
        if (m.r == -EACCES)
                return err_set(
                    err, m.r,
                    "nfs://%s%s: the server refuses this host; add it to the export, with the option "
                    "insecure on the kernel's server",
                    s->server, s->export);
        if (m.r < 0)
                return err_set(err, m.r, "nfs://%s%s: the mount service did not answer", s->server,
                               s->export);
        s->root = m.fh;
        return 0;
}

/* --- the server
 * ---------------------------------------------------------------------------------------------------- */

static void nfs_server_freep(struct nfs_server **s)
{
        nfs_server_free(*s);
}

int nfs_server_new(const char *server, const char *export, unsigned timeout_ms, struct nfs_server **ret,
                   struct err *err)
{
        _cleanup_(nfs_server_freep) struct nfs_server *s = calloc(1, sizeof(*s));
        struct nfs_conn *c = NULL;
        int r;

        if (!s)
                return err_set(err, -ENOMEM, "nfs://%s%s: out of memory", server, export);
        pthread_mutex_init(&s->lock, NULL);
        s->timeout_ms = timeout_ms;
        s->server = strdup(server);
        s->export = strdup(export);
        if (!s->server || !s->export)
                return err_set(err, -ENOMEM, "nfs://%s%s: out of memory", server, export);
        r = mount_export(s, err);
        if (r < 0)
                return r;
        r = nfs_conn_get(s, &c, err);
        if (r < 0)
                return r;
        r = nfs3_fsinfo(c, &s->root, &s->read_max, &s->write_max);
        nfs_conn_put(s, c);
        if (r < 0)
                return err_set(err, r, "nfs://%s%s: does not answer FSINFO", server, export);
        *ret = take(s);
        return 0;
}

struct nfs_server *nfs_server_free(struct nfs_server *s)
{
        if (!s)
                return NULL;
        while (s->idle) {
                struct nfs_conn *c = s->idle;

                s->idle = c->next;
                nfs_conn_free(c);
        }
        pthread_mutex_destroy(&s->lock);
        free(s->server);
        free(s->export);
        free(s);
        return NULL;
}

const struct nfs_fh *nfs_server_root(const struct nfs_server *s)
{
        return &s->root;
}

uint32_t nfs_server_read_max(const struct nfs_server *s)
{
        return s->read_max;
}

uint32_t nfs_server_write_max(const struct nfs_server *s)
{
        return s->write_max;
}

unsigned nfs_server_timeout_ms(const struct nfs_server *s)
{
        return s->timeout_ms;
}

/* Nothing is pending on an idle connection, so whatever there is to read is its end. */
static bool is_up(struct nfs_conn *c)
{
        struct pollfd p = {.fd = rpc_get_fd(c->rpc), .events = POLLIN | POLLRDHUP};

        return p.fd >= 0 && poll(&p, 1, 0) == 0;
}

int nfs_conn_get(struct nfs_server *s, struct nfs_conn **ret, struct err *err)
{
        for (;;) {
                struct nfs_conn *c;

                pthread_mutex_lock(&s->lock);
                c = s->idle;
                if (c) {
                        s->idle = c->next;
                        s->n_idle--;
                }
                pthread_mutex_unlock(&s->lock);
                if (!c)
                        return nfs_conn_new(s, 0, 0, ret, err);
                if (is_up(c)) {
                        *ret = c;
                        return 0;
                }
                nfs_conn_free(c);
        }
}

void nfs_conn_put(struct nfs_server *s, struct nfs_conn *c)
{
        if (!c)
                return;
        if (!nfs_conn_broken(c)) {
                pthread_mutex_lock(&s->lock);
                if (s->n_idle < IDLE_MAX) {
                        c->next = s->idle;
                        s->idle = c;
                        s->n_idle++;
                        c = NULL;
                }
                pthread_mutex_unlock(&s->lock);
        }
        nfs_conn_free(c);
}
