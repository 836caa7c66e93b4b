/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <nfsc/libnfs.h>
#include <nfsc/libnfs-raw.h>
#include <nfsc/libnfs-raw-nfs.h>

#include "imaged/store/fs.h"

/*
 * NFS version 3 (RFC 1813) over libnfs's raw calls: blocking, with a deadline, and never sent twice.
 * libnfs's path-based calls look up each folder again and send everything again after a reconnection; what
 * may be repeated is decided here.
 */
#define NFS_FH_MAX 64 /* RFC 1813, NFS3_FHSIZE */

struct nfs_fh {
        uint32_t len;
        char val[NFS_FH_MAX];
};

/* --- connections (nfs-conn.c)
 * -------------------------------------------------------------------------------------- */

struct nfs_server; /* one export and its idle connections; any thread */
struct nfs_conn;   /* one thread at a time */

int nfs_server_new(const char *server, const char *export, unsigned timeout_ms, struct nfs_server **ret,
                   struct err *err);
struct nfs_server *nfs_server_free(struct nfs_server *s);
const struct nfs_fh *nfs_server_root(const struct nfs_server *s);
uint32_t nfs_server_read_max(const struct nfs_server *s);
uint32_t nfs_server_write_max(const struct nfs_server *s);
unsigned nfs_server_timeout_ms(const struct nfs_server *s);

/* An idle connection that is still up, or a new one. put: keeps it for the next call; a broken one is
 * closed. */
int nfs_conn_get(struct nfs_server *s, struct nfs_conn **ret, struct err *err);
void nfs_conn_put(struct nfs_server *s, struct nfs_conn *c);
/* A connection for one caller alone; it is never re-established. uid and gid are what the server is told. */
int nfs_conn_new(struct nfs_server *s, uint32_t uid, uint32_t gid, struct nfs_conn **ret, struct err *err);
struct nfs_conn *nfs_conn_free(struct nfs_conn *c);
bool nfs_conn_broken(const struct nfs_conn *c);
struct rpc_context *nfs_conn_rpc(struct nfs_conn *c); /* NULL once broken */
/* Serves the connection until *pending is 0. After the deadline it is broken; callbacks of what was pending
 * have run. */
void nfs_conn_wait(struct nfs_conn *c, const unsigned *pending);

/* --- calls (nfs-call.c): 0 or -errno; -ETIMEDOUT with the connection broken: unknown; -ESTALE: the handle
 * is dead; -EAGAIN: the guard of a SETATTR did not match
 * -------------------------------------------------------------------- */

/* One call under way; several may be, on one connection. */
struct nfs_reply {
        struct nfs_conn *conn;
        unsigned *pending;
        int r;
        void (*copy)(struct nfs_reply *reply, void *res); /* copies what is wanted of a good answer */
        void *out;
};
/* Starts one; nfs_conn_wait() ends it. */
void nfs3_lookup_start(struct nfs_reply *reply, const struct nfs_fh *dir, const char *name);
void nfs3_read_start(struct nfs_reply *reply, const struct nfs_fh *fh, uint64_t offset, uint32_t len);

struct nfs_found { /* nfs_reply.out of a lookup, mkdir or create */
        struct nfs_fh fh;
        bool has_fh, has_attr;
        struct fs_attr attr;
};
struct nfs_data { /* nfs_reply.out of a read */
        void *buf;
        uint32_t room, len;
        bool eof;
};

int nfs3_lookup(struct nfs_conn *c, const struct nfs_fh *dir, const char *name, struct nfs_found *ret);
int nfs3_getattr(struct nfs_conn *c, const struct nfs_fh *fh, struct fs_attr *ret);
/* ACCESS: which of the rights `wanted` (ACCESS3_*) the server would grant to this connection's user now. */
int nfs3_access(struct nfs_conn *c, const struct nfs_fh *fh, uint32_t wanted, uint32_t *ret);
/* -1: as it is. guard: only if the change time is still this one; NULL: in any case. */
struct nfs_change {
        int64_t uid, gid, mode, size;
};
int nfs3_setattr(struct nfs_conn *c, const struct nfs_fh *fh, const struct nfs_change *change,
                 const struct fs_attr *guard);
int nfs3_mkdir(struct nfs_conn *c, const struct nfs_fh *dir, const char *name, uint32_t mode,
               struct nfs_found *ret);
int nfs3_create(struct nfs_conn *c, const struct nfs_fh *dir, const char *name,
                const struct nfs_change *change, bool exclusive, struct nfs_found *ret);
int nfs3_remove(struct nfs_conn *c, const struct nfs_fh *dir, const char *name);
int nfs3_rmdir(struct nfs_conn *c, const struct nfs_fh *dir, const char *name);
int nfs3_rename(struct nfs_conn *c, const struct nfs_fh *from, const char *old, const struct nfs_fh *to,
                const char *new);
int nfs3_link(struct nfs_conn *c, const struct nfs_fh *file, const struct nfs_fh *dir, const char *name);
int nfs3_read(struct nfs_conn *c, const struct nfs_fh *fh, uint64_t offset, void *buf, uint32_t len,
              uint32_t *ret_len, bool *ret_eof);
/* verifier changes when the server was restarted and may have forgotten what was not committed */
int nfs3_write(struct nfs_conn *c, const struct nfs_fh *fh, uint64_t offset, const void *buf, uint32_t len,
               bool sync, uint32_t *ret_len, uint64_t *ret_verifier);
int nfs3_commit(struct nfs_conn *c, const struct nfs_fh *fh, uint64_t *ret_verifier);
/* One READDIR; cookie and verifier 0 at the start. cb as in fs_ops.list. */
struct nfs_listing {
        uint64_t cookie;
        char verifier[8];
        bool eof, has_attr;
        struct fs_attr attr; /* the folder's, at this answer */
};
int nfs3_readdir(struct nfs_conn *c, const struct nfs_fh *dir, struct nfs_listing *listing, fs_name_cb cb,
                 void *arg);
int nfs3_fsstat(struct nfs_conn *c, const struct nfs_fh *fh, uint64_t *ret_total, uint64_t *ret_free);
int nfs3_fsinfo(struct nfs_conn *c, const struct nfs_fh *fh, uint32_t *ret_read_max,
                uint32_t *ret_write_max);
