/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/util.h"
#include "imaged/store/fs-nfs.h"

/*
 * What is sent again and what is not, how content is cut into requests, and when a listing is of one moment. The
 * requests are the linker's --wrap; the real server is in tests/store.
 */
static struct {
        int answer[16]; /* of each run of an operation, or of each READDIR */
        bool busy;      /* -EBUSY to each */
        bool breaks;    /* a -ETIMEDOUT breaks its connection */
        unsigned runs, conns, pauses;
        bool broken;
        int64_t now_ms;

        char content[64]; /* of the one file */
        size_t len;
        uint32_t most; /* bytes that a WRITE takes, or a READ gives, at once */
        unsigned writes, removed;
        unsigned ctimes[16]; /* the folder's, at each READDIR; an answer has one name, three are a listing */
        bool created;
        uint64_t verifier; /* another one after each start of the server */
        unsigned sealed;
} server;

static struct fs_nfs nfs;

int64_t __wrap_clock_ms(void);
int64_t __wrap_clock_ms(void)
{
        return server.now_ms;
}

int __wrap_poll(struct pollfd *fds, nfds_t n, int ms);
int __wrap_poll(struct pollfd *fds, nfds_t n, int ms)
{
        server.now_ms += ms;
        server.pauses++;
        return 0;
}

unsigned __wrap_nfs_server_timeout_ms(const struct nfs_server *s);
unsigned __wrap_nfs_server_timeout_ms(const struct nfs_server *s)
{
        return 1000;
}

uint32_t __wrap_nfs_server_write_max(const struct nfs_server *s);
uint32_t __wrap_nfs_server_write_max(const struct nfs_server *s)
{
        return 4;
}

uint32_t __wrap_nfs_server_read_max(const struct nfs_server *s);
uint32_t __wrap_nfs_server_read_max(const struct nfs_server *s)
{
        return 4;
}

const struct nfs_fh *__wrap_nfs_server_root(const struct nfs_server *s);
const struct nfs_fh *__wrap_nfs_server_root(const struct nfs_server *s)
{
        static const struct nfs_fh root = {.len = 1};

        return &root;
}

int __wrap_nfs_conn_get(struct nfs_server *s, struct nfs_conn **ret, struct err *err);
int __wrap_nfs_conn_get(struct nfs_server *s, struct nfs_conn **ret, struct err *err)
{
        server.conns++;
        server.broken = false;
        *ret = (struct nfs_conn *)&server;
        return 0;
}

void __wrap_nfs_conn_put(struct nfs_server *s, struct nfs_conn *c);
void __wrap_nfs_conn_put(struct nfs_server *s, struct nfs_conn *c)
{
        server.conns--;
}

bool __wrap_nfs_conn_broken(const struct nfs_conn *c);
bool __wrap_nfs_conn_broken(const struct nfs_conn *c)
{
        return server.broken;
}

int __wrap_nfs3_lookup(struct nfs_conn *c, const struct nfs_fh *dir, const char *name,
                       struct nfs_found *ret);
int __wrap_nfs3_lookup(struct nfs_conn *c, const struct nfs_fh *dir, const char *name, struct nfs_found *ret)
{
        *ret = (struct nfs_found){
            .fh = {.len = 2}, .has_fh = true, .has_attr = true, .attr = {.size = server.len}};
        return server.created || strcmp(name, "file") != 0 ? 0 : -ENOENT;
}

int __wrap_nfs3_create(struct nfs_conn *c, const struct nfs_fh *dir, const char *name,
                       const struct nfs_change *change, bool exclusive, struct nfs_found *ret);
int __wrap_nfs3_create(struct nfs_conn *c, const struct nfs_fh *dir, const char *name,
                       const struct nfs_change *change, bool exclusive, struct nfs_found *ret)
{
        server.created = true;
        return __wrap_nfs3_lookup(c, dir, name, ret);
}

int __wrap_nfs3_remove(struct nfs_conn *c, const struct nfs_fh *dir, const char *name);
int __wrap_nfs3_remove(struct nfs_conn *c, const struct nfs_fh *dir, const char *name)
{
        server.removed++;
        return 0;
}

int __wrap_nfs3_write(struct nfs_conn *c, const struct nfs_fh *fh, uint64_t offset, const void *buf,
                      uint32_t len, bool sync, uint32_t *ret_len, uint64_t *ret_verifier);
int __wrap_nfs3_write(struct nfs_conn *c, const struct nfs_fh *fh, uint64_t offset, const void *buf,
                      uint32_t len, bool sync, uint32_t *ret_len, uint64_t *ret_verifier)
{
        int r = server.answer[server.writes++];

        assert_in_range(len, 1, 4);
        assert_true(offset + len < sizeof(server.content));
        if (r < 0)
                return r;
        *ret_len = MIN_OF(len, server.most);
        *ret_verifier = server.verifier;
        memcpy(server.content + offset, buf, *ret_len);
        server.len = MAX_OF(server.len, offset + *ret_len);
        return 0;
}

int __wrap_nfs3_read(struct nfs_conn *c, const struct nfs_fh *fh, uint64_t offset, void *buf, uint32_t len,
                     uint32_t *ret_len, bool *ret_eof);
int __wrap_nfs3_read(struct nfs_conn *c, const struct nfs_fh *fh, uint64_t offset, void *buf, uint32_t len,
                     uint32_t *ret_len, bool *ret_eof)
{
        *ret_len = (uint32_t)MIN_OF((size_t)MIN_OF(len, server.most),
                                    server.len - MIN_OF((size_t)offset, server.len));
        memcpy(buf, server.content + offset, *ret_len);
        *ret_eof = offset + *ret_len == server.len;
        return 0;
}

int __wrap_nfs3_commit(struct nfs_conn *c, const struct nfs_fh *fh, uint64_t *ret_verifier);
int __wrap_nfs3_commit(struct nfs_conn *c, const struct nfs_fh *fh, uint64_t *ret_verifier)
{
        *ret_verifier = server.verifier;
        return 0;
}

int __wrap_nfs3_setattr(struct nfs_conn *c, const struct nfs_fh *fh, const struct nfs_change *change,
                        const struct fs_attr *guard);
int __wrap_nfs3_setattr(struct nfs_conn *c, const struct nfs_fh *fh, const struct nfs_change *change,
                        const struct fs_attr *guard)
{
        server.sealed++;
        return 0;
}

int __wrap_nfs3_readdir(struct nfs_conn *c, const struct nfs_fh *dir, struct nfs_listing *listing,
                        fs_name_cb cb, void *arg);
int __wrap_nfs3_readdir(struct nfs_conn *c, const struct nfs_fh *dir, struct nfs_listing *listing,
                        fs_name_cb cb, void *arg)
{
        static const char *const names[] = {"one", "two", "three"};
        unsigned k = server.runs++;
        int r = server.answer[k];

        if (r < 0)
                return r;
        listing->attr.ctime_ns = server.ctimes[k];
        listing->has_attr = true;
        listing->eof = ++listing->cookie == 3;
        return cb(arg, names[listing->cookie - 1]);
}

static int begin(void **state)
{
        memset(&server, 0, sizeof(server));
        server.most = 4;
        server.now_ms = 1000;
        memset(&nfs, 0, sizeof(nfs));
        pthread_mutex_init(&nfs.lock, NULL);
        nfs.fs = (struct fs){.file = &fs_nfs_file_ops};
        nfs.server = nfs.path = (char *)"";
        return 0;
}

static int end(void **state)
{
        nfs_forget(&nfs, NULL);
        assert_int_equal(server.conns, 0);
        return 0;
}

static int run_it(struct fs_nfs *n, struct nfs_conn *c, void *arg)
{
        int r = server.busy ? -EBUSY : server.answer[server.runs];

        server.runs++;
        server.broken = r == -ETIMEDOUT && server.breaks;
        return r;
}

static int run(bool again)
{
        struct err err = {};

        server.runs = 0;
        return nfs_run(&nfs.fs, &(struct nfs_op){.what = "try", .path = "x", .again = again, .run = run_it},
                       &err);
}

/* Unknown is unknown: it may have been done, or may come late. */
static void what_may_have_been_done_is_not_sent_again(void **state)
{
        server.breaks = true;
        server.answer[0] = -ETIMEDOUT;
        assert_int_equal(run(false), -ETIMEDOUT);
        assert_int_equal(server.runs, 1);
        assert_int_equal(run(true), 0); /* where that is harmless: on a new connection, once */
        assert_int_equal(server.runs, 2);
        server.answer[1] = -ETIMEDOUT;
        assert_int_equal(run(true), -ETIMEDOUT);
        assert_int_equal(server.runs, 2);
        server.breaks = false; /* the server said so itself */
        assert_int_equal(run(true), -ETIMEDOUT);
        assert_int_equal(server.runs, 1);
}

static void a_dead_handle_is_looked_up_once(void **state)
{
        const struct nfs_fh fh = {.len = 3};
        struct nfs_fh found;

        nfs_remember(&nfs, "folder", &fh);
        server.answer[0] = -ESTALE;
        assert_int_equal(run(false), 0);
        assert_int_equal(server.runs, 2);
        assert_int_equal(nfs_folder(&nfs, NULL, "folder", &found), 0);
        assert_int_equal(found.len, 2); /* anew */
        server.answer[1] = -ESTALE;
        assert_int_equal(run(false), -ENOENT);
        assert_int_equal(server.runs, 2);
}

static void a_server_that_is_busy_is_waited_for(void **state)
{
        server.answer[0] = server.answer[1] = -EBUSY;
        assert_int_equal(run(false), 0);
        assert_int_equal(server.pauses, 2);
        server.busy = true; /* for ever */
        server.now_ms = 1000;
        assert_int_equal(run(false), -ETIMEDOUT);
        assert_in_range(server.now_ms, 2000, 2050);
}

/* A request has an end, and the server may take less than it is sent. */
static void content_goes_out_in_parts(void **state)
{
        static const struct fs_owner owner = {.mode = 0600};
        struct err err = {};

        for (server.most = 1; server.most <= 4; server.most++) {
                memset(server.content, 0, sizeof(server.content));
                memset(server.answer, 0, sizeof(server.answer));
                server.len = server.writes = 0;
                assert_int_equal(fs_nfs_put(&nfs.fs, "folder/file", "0123456789", 10, &owner, true, &err),
                                 0);
                assert_int_equal(server.len, 10);
                assert_string_equal(server.content, "0123456789");
        }
        assert_int_equal(server.removed, 0);
        server.writes = 0;
        server.answer[1] = -ENOSPC; /* half a file is none */
        assert_int_equal(fs_nfs_put(&nfs.fs, "folder/file", "0123456789", 10, &owner, true, &err), -ENOSPC);
        assert_int_equal(server.removed, 1);
}

static void content_comes_in_parts(void **state)
{
        struct fs_file *f = NULL;
        char got[16] = "";
        uint64_t size = 0;
        struct err err = {};

        server.created = true;
        strcpy(server.content, "0123456789");
        server.len = 10;
        assert_int_equal(fs_nfs_file_ops.open(&nfs.fs, "folder/file", false, &f, &size, &err), 0);
        assert_int_equal(size, 10);
        for (server.most = 1; server.most <= 4; server.most++) {
                memset(got, 0, sizeof(got));
                assert_int_equal(fs_nfs_file_ops.read(f, got, 9, 1, &err), 0);
                assert_string_equal(got, "123456789");
        }
        assert_int_equal(fs_nfs_file_ops.read(f, got, 10, 1, &err), -EIO); /* it ends before */
        fs_nfs_file_ops.close(f);
}

/* It has forgotten what it had not written down, and nobody knows which of it. */
static void a_server_that_starts_anew_may_have_lost_what_was_written(void **state)
{
        static const struct fs_owner owner = {.mode = 0444};
        struct err err = {};

        for (unsigned when = 0; when < 3; when++) {
                const struct fs_file_ops *ops = &fs_nfs_file_ops;
                struct fs_file *f = NULL;
                uint64_t size = 0;

                server.created = true;
                server.sealed = server.writes = 0;
                assert_int_equal(ops->open(&nfs.fs, "folder/file", false, &f, &size, &err), 0);
                assert_int_equal(ops->write(f, "abc", 3, 0, &err), 0);
                server.verifier += when == 1; /* before another write */
                assert_int_equal(ops->write(f, "def", 3, 3, &err), when == 1 ? -EIO : 0);
                server.verifier += when == 2; /* before all is made durable */
                if (when != 1)
                        assert_int_equal(ops->seal(f, &owner, &err), when == 2 ? -EIO : 0);
                assert_int_equal(server.sealed, when == 0);
                ops->close(f);
        }
}

static int count(void *arg, const char *name)
{
        ++*(unsigned *)arg;
        return 0;
}

static void list(unsigned expected_requests)
{
        struct err err = {};
        unsigned n = 0;

        server.runs = 0;
        assert_int_equal(fs_nfs_list(&nfs.fs, "folder", count, &n, &err), 0);
        assert_int_equal(n, 3);
        assert_int_equal(server.runs, expected_requests);
}

/* A folder that changes between two answers is listed again, whichever answer it was, and back again or not. */
static void a_listing_is_of_one_moment(void **state)
{
        list(3);
        server.ctimes[2] = 7;
        list(6);
        memset(server.ctimes, 0, sizeof(server.ctimes));
        server.ctimes[0] = 7;
        list(6);
        memset(server.ctimes, 0, sizeof(server.ctimes));
        server.ctimes[1] = 7;
        list(6);
        server.ctimes[4] = 7;
        list(9);
}

/* One server says so when a file of the folder is removed under the request. */
static void a_listing_that_finds_nothing_looks_again(void **state)
{
        server.answer[1] = -ENOENT;
        list(5);
}

int main(void)
{
#define test(f) cmocka_unit_test_setup_teardown(f, begin, end)
        const struct CMUnitTest tests[] = {
            test(what_may_have_been_done_is_not_sent_again),
            test(a_dead_handle_is_looked_up_once),
            test(a_server_that_is_busy_is_waited_for),
            test(content_goes_out_in_parts),
            test(content_comes_in_parts),
            test(a_server_that_starts_anew_may_have_lost_what_was_written),
            test(a_listing_is_of_one_moment),
            test(a_listing_that_finds_nothing_looks_again),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
