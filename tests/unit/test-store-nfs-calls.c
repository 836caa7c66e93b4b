/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <limits.h>
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
 * Which requests each operation on an export is made of, which handles are kept, and what is made of an answer. The
 * requests are the linker's --wrap; the real server is in tests/store.
 */
static struct {
        char log[8192]; /* "request HANDLE name\n"; the root's handle is 0 */
        const char *op; /* the request that meets the fault */
        unsigned skip, times;
        int answer;
        bool breaks, broken;
        unsigned handles, conns;
        struct fs_attr attr; /* of all files */
        bool no_attr;
        const char *content;
        uint32_t most; /* bytes that a READ gives at once */
        struct nfs_change change;
        bool exclusive, sync;
        uint32_t granted, uid, gid;
        int64_t now_ms;
} server;

static struct fs *fs;
static struct err err;

static int step(const char *op, const struct nfs_fh *fh, const char *name)
{
        size_t len = strlen(server.log);

        snprintf(server.log + len, sizeof(server.log) - len, "%s %d %s\n", op, fh ? fh->val[0] : -1, name);
        if (!server.op || !streq(op, server.op) || server.times == 0)
                return 0;
        if (server.skip > 0) {
                server.skip--;
                return 0;
        }
        server.times--;
        server.broken = server.breaks;
        return server.answer;
}

static void found(struct nfs_found *ret)
{
        *ret = (struct nfs_found){.fh = {.len = 1, .val = {(char)++server.handles}},
                                  .has_fh = true,
                                  .has_attr = !server.no_attr,
                                  .attr = server.attr};
}

#define WRAP(type, name, ...)                                                                               \
        type __wrap_##name(__VA_ARGS__);                                                                    \
        type __wrap_##name(__VA_ARGS__)

WRAP(int64_t, clock_ms, void)
{
        return server.now_ms;
}

WRAP(int, poll, void *fds, unsigned long n, int ms)
{
        server.now_ms += ms;
        return 0;
}

WRAP(int, nfs_server_new, const char *name, const char *export, unsigned ms, struct nfs_server **ret,
     struct err *e)
{
        *ret = (struct nfs_server *)&server;
        return 0;
}

WRAP(struct nfs_server *, nfs_server_free, struct nfs_server *s)
{
        return NULL;
}

WRAP(const struct nfs_fh *, nfs_server_root, const struct nfs_server *s)
{
        static const struct nfs_fh root = {.len = 1};

        return &root;
}

WRAP(uint32_t, nfs_server_read_max, const struct nfs_server *s)
{
        return 1 << 20;
}

WRAP(uint32_t, nfs_server_write_max, const struct nfs_server *s)
{
        return 1 << 20;
}

WRAP(unsigned, nfs_server_timeout_ms, const struct nfs_server *s)
{
        return 1000;
}

WRAP(int, nfs_conn_get, struct nfs_server *s, struct nfs_conn **ret, struct err *e)
{
        server.conns++;
        server.broken = false;
        *ret = (struct nfs_conn *)&server;
        return 0;
}

WRAP(void, nfs_conn_put, struct nfs_server *s, struct nfs_conn *c)
{
        server.conns--;
}

WRAP(int, nfs_conn_new, struct nfs_server *s, uint32_t uid, uint32_t gid, struct nfs_conn **ret,
     struct err *e)
{
        server.conns++;
        server.uid = uid;
        server.gid = gid;
        *ret = (struct nfs_conn *)&server;
        return 0;
}

WRAP(struct nfs_conn *, nfs_conn_free, struct nfs_conn *c)
{
        server.conns -= c != NULL;
        return NULL;
}

WRAP(bool, nfs_conn_broken, const struct nfs_conn *c)
{
        return server.broken;
}

WRAP(void, nfs_conn_wait, struct nfs_conn *c, const unsigned *pending)
{
}

WRAP(int, nfs3_lookup, struct nfs_conn *c, const struct nfs_fh *dir, const char *name, struct nfs_found *ret)
{
        int r = step("lookup", dir, name);

        if (r == 0)
                found(ret);
        return r;
}

WRAP(void, nfs3_lookup_start, struct nfs_reply *reply, const struct nfs_fh *dir, const char *name)
{
        reply->r = step("lookup", dir, name);
        found(reply->out);
}

WRAP(int, nfs3_read, struct nfs_conn *c, const struct nfs_fh *fh, uint64_t offset, void *buf, uint32_t len,
     uint32_t *ret_len, bool *ret_eof)
{
        size_t all = strlen(server.content);
        int r = step("read", fh, "");

        *ret_len = (uint32_t)MIN_OF(all - MIN_OF(offset, all), (size_t)MIN_OF(len, server.most));
        memcpy(buf, server.content + offset, *ret_len);
        *ret_eof = offset + *ret_len == all;
        return r;
}

WRAP(void, nfs3_read_start, struct nfs_reply *reply, const struct nfs_fh *fh, uint64_t offset, uint32_t len)
{
        struct nfs_data *d = reply->out;

        assert_in_range(len, 1, d->room);
        reply->r = __wrap_nfs3_read(reply->conn, fh, offset, d->buf, len, &d->len, &d->eof);
}

WRAP(int, nfs3_getattr, struct nfs_conn *c, const struct nfs_fh *fh, struct fs_attr *ret)
{
        *ret = server.attr;
        return step("getattr", fh, "");
}

WRAP(int, nfs3_access, struct nfs_conn *c, const struct nfs_fh *fh, uint32_t wanted, uint32_t *ret)
{
        *ret = server.granted;
        return step("access", fh, "");
}

WRAP(int, nfs3_setattr, struct nfs_conn *c, const struct nfs_fh *fh, const struct nfs_change *change,
     const struct fs_attr *guard)
{
        server.change = *change;
        return step("setattr", fh, "");
}

WRAP(int, nfs3_mkdir, struct nfs_conn *c, const struct nfs_fh *dir, const char *name, uint32_t mode,
     struct nfs_found *ret)
{
        found(ret);
        return step("mkdir", dir, name);
}

WRAP(int, nfs3_create, struct nfs_conn *c, const struct nfs_fh *dir, const char *name,
     const struct nfs_change *change, bool exclusive, struct nfs_found *ret)
{
        server.change = *change;
        server.exclusive = exclusive;
        found(ret);
        return step("create", dir, name);
}

WRAP(int, nfs3_remove, struct nfs_conn *c, const struct nfs_fh *dir, const char *name)
{
        return step("remove", dir, name);
}

WRAP(int, nfs3_rmdir, struct nfs_conn *c, const struct nfs_fh *dir, const char *name)
{
        return step("rmdir", dir, name);
}

WRAP(int, nfs3_rename, struct nfs_conn *c, const struct nfs_fh *from, const char *old,
     const struct nfs_fh *to, const char *new)
{
        step("rename-to", to, new);
        return step("rename", from, old);
}

WRAP(int, nfs3_link, struct nfs_conn *c, const struct nfs_fh *file, const struct nfs_fh *dir,
     const char *name)
{
        step("link-to", dir, name);
        return step("link", file, "");
}

WRAP(int, nfs3_write, struct nfs_conn *c, const struct nfs_fh *fh, uint64_t offset, const void *buf,
     uint32_t len, bool sync, uint32_t *ret_len, uint64_t *ret_verifier)
{
        server.sync = sync;
        *ret_len = len;
        *ret_verifier = 1;
        return step("write", fh, "");
}

WRAP(int, nfs3_commit, struct nfs_conn *c, const struct nfs_fh *fh, uint64_t *ret_verifier)
{
        *ret_verifier = 1;
        return step("commit", fh, "");
}

WRAP(int, nfs3_fsstat, struct nfs_conn *c, const struct nfs_fh *fh, uint64_t *ret_total, uint64_t *ret_free)
{
        *ret_total = 9;
        *ret_free = 4;
        return step("fsstat", fh, "");
}

static int begin(void **state)
{
        memset(&server, 0, sizeof(server));
        server.content = "content";
        server.most = 1000;
        server.attr = (struct fs_attr){.size = 7, .uid = 5, .mode = 0600, .plain = true};
        return fs_nfs_new("server/export/a//", 1000, &fs, &err);
}

static int end(void **state)
{
        assert_int_equal(server.conns, 0);
        fs->ops->close(fs);
        return 0;
}

static void fault(const char *op, int answer, bool breaks)
{
        server.op = op;
        server.skip = 0;
        server.times = 1;
        server.answer = answer;
        server.breaks = breaks;
        server.log[0] = '\0';
        nfs_forget(nfs_of(fs), NULL);
        server.handles = 0;
}

#define LOGGED(text) assert_string_equal(server.log, text)

static void a_place_is_a_server_and_a_path(void **state)
{
        static const char *const bad[] = {"server",        "/export",  "server/", "server/a?b",
                                          "user@server/a", "server/#", ""};
        struct fs *other = NULL;

        assert_string_equal(fs_nfs_server(fs), "server");
        assert_string_equal(fs_nfs_path(fs), "/export/a");
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
                assert_int_equal(fs_nfs_new(bad[i], 1000, &other, &err), -EINVAL);
}

static void folders_are_known_by_handle_until_they_move(void **state)
{
        struct fs_attr a;

        fault(NULL, 0, false);
        assert_int_equal(fs->ops->mkdir(fs, "tmp", 0700, &err), 0);
        assert_int_equal(fs->ops->mkdir(fs, "tmp/a", 0700, &err), 0);
        assert_int_equal(fs->ops->stat(fs, "tmp/a/f", &a, &err), 0);
        assert_int_equal(a.size, 7);
        LOGGED("mkdir 0 tmp\nmkdir 1 a\nlookup 2 f\n");
        server.log[0] = '\0';
        assert_int_equal(fs->ops->rename(fs, "tmp/a", "tmp/b", &err), 0);
        assert_int_equal(fs->ops->remove(fs, "tmp/a/f", &err), 0);
        LOGGED("rename-to 1 b\nrename 1 a\nlookup 1 a\nremove 4 f\n");
        server.log[0] = '\0';
        assert_int_equal(fs->ops->rmdir(fs, "tmp/a", &err), 0);
        assert_int_equal(fs->ops->stat(fs, "tmp/a/f", &a, &err), 0);
        LOGGED("rmdir 1 a\nlookup 1 a\nlookup 5 f\n");
        server.log[0] = '\0';
        for (int i = 0; i < 2; i++) /* a name with a dot changes hands */
                assert_int_equal(fs->ops->stat(fs, "tmp/i.e1.h1/f", &a, &err), 0);
        LOGGED("lookup 1 i.e1.h1\nlookup 7 f\nlookup 1 i.e1.h1\nlookup 9 f\n");
        server.log[0] = '\0';
        assert_int_equal(fs->ops->link(fs, "tmp/from", "tmp/to", &err), 0);
        LOGGED("lookup 1 from\nlink-to 1 to\nlink 11 \n");
        fault("mkdir", -EEXIST, false);
        assert_int_equal(fs->ops->mkdir(fs, "tmp", 0700, &err), -EEXIST);
        assert_int_equal(fs->ops->stat(fs, "tmp/f", &a, &err), 0);
        LOGGED("mkdir 0 tmp\nlookup 0 tmp\nlookup 2 f\n");
}

static void what_changes_something_is_sent_once(void **state)
{
        static const struct fs_owner owner = {.mode = 0600};
        struct fs_file *f = NULL;
        struct fs_attr a;
        uint64_t total = 0, left = 0;

#define ONCE(op, call)                                                                                      \
        fault(op, -ETIMEDOUT, true);                                                                        \
        assert_int_equal(call, -ETIMEDOUT);                                                                 \
        assert_int_equal(server.times, 0)
        ONCE("mkdir", fs->ops->mkdir(fs, "a", 0700, &err));
        ONCE("rmdir", fs->ops->rmdir(fs, "a", &err));
        ONCE("remove", fs->ops->remove(fs, "a", &err));
        ONCE("rename", fs->ops->rename(fs, "a", "b", &err));
        ONCE("link", fs->ops->link(fs, "a", "b", &err));
        ONCE("create", fs->file->create(fs, "a", 9, &f, &err));
        ONCE("write", fs->ops->put(fs, "a", "x", 1, &owner, true, &err));
        LOGGED("create 0 a\nwrite 1 \n"); /* no request more on a connection that is gone */
        ONCE("setattr", fs->file->create(fs, "a", 9, &f, &err));
        LOGGED("create 0 a\nsetattr 1 \n");
        ONCE("write", fs->file->poke(fs, "a", "x", 1, &err));
        fault("lookup", -ETIMEDOUT, true);
        assert_int_equal(fs->ops->stat(fs, "a", &a, &err), 0);
        fault("fsstat", -ETIMEDOUT, true);
        assert_int_equal(fs->ops->space(fs, &total, &left, &err), 0);
        assert_true(total == 9 && left == 4);
        fault("lookup", -ETIMEDOUT, true);
        assert_int_equal(fs->file->open(fs, "a", false, &f, &total, &err), 0);
        fs->file->close(f);
        fault("lookup", -EACCES, false);
        assert_int_equal(fs->ops->stat(fs, "a", &a, &err), -EACCES);
        assert_non_null(strstr(err.text, "no_root_squash"));
        assert_int_equal(fs->ops->sync(fs, NULL, 0, &err), 0);
}

static void a_file_is_made_with_its_size_or_not_at_all(void **state)
{
        static const struct fs_owner owner = {.uid = 3, .gid = 4, .mode = 0640};
        struct fs_file *f = NULL;
        uint64_t size = 0;

        fault("setattr", -ENOSPC, false);
        assert_int_equal(fs->file->create(fs, "a", 9, &f, &err), -ENOSPC);
        LOGGED("create 0 a\nsetattr 1 \nremove 0 a\n");
        fault("create", -EEXIST, false);
        assert_int_equal(fs->file->create(fs, "a", 9, &f, &err), -EEXIST);
        LOGGED("create 0 a\n");
        fault(NULL, 0, false);
        assert_int_equal(fs->file->create(fs, "a", 9, &f, &err), 0);
        assert_true(server.exclusive && server.change.size == 9 && server.change.mode == -1);
        assert_int_equal(fs->file->resize(f, 11, &err), 0);
        assert_true(server.change.size == 11 && server.change.uid == -1 && server.change.mode == -1);
        fault("commit", -EIO, false);
        assert_int_equal(fs->file->seal(f, &owner, &err), -EIO);
        LOGGED("commit 1 \n");
        assert_int_equal(fs->file->seal(f, &owner, &err), 0);
        assert_true(server.change.uid == 3 && server.change.gid == 4 && server.change.mode == 0640 &&
                    server.change.size == -1);
        fs->file->close(f);
        fault(NULL, 0, false);
        assert_int_equal(fs->file->open(fs, "a", true, &f, &size, &err), 0);
        LOGGED("lookup 0 a\ncommit 1 \n"); /* what was written before is durable first */
        assert_int_equal(size, 7);
        fs->file->close(f);
        fault("write", -ENOSPC, false);
        assert_int_equal(fs->ops->put(fs, "a", "x", 1, &owner, false, &err), -ENOSPC);
        LOGGED("create 0 a\nwrite 1 \nremove 0 a\n");
        assert_true(server.sync && server.exclusive && server.change.uid == 3);
        fault(NULL, 0, false);
        assert_int_equal(fs->file->poke(fs, "a", "x", 1, &err), 0);
        LOGGED("lookup 0 a\nwrite 1 \n");
        assert_false(server.sync);
        fault("lookup", -ENOENT, false);
        assert_int_equal(fs->file->poke(fs, "a", "x", 1, &err), 0);
        LOGGED("lookup 0 a\ncreate 0 a\nwrite 1 \n");
        assert_false(server.exclusive);
}

static int got[40];

static int on_text(void *arg, size_t i, int r, const char *text, size_t len)
{
        got[i] = r;
        if (r == 0)
                assert_string_equal(text, server.content);
        return r == 0 && len != strlen(server.content) ? -EIO : 0;
}

static int read_all(size_t n, size_t max)
{
        static const char *names[40];

        for (size_t i = 0; i < 40; i++) {
                names[i] = "f";
                got[i] = 1;
        }
        return fs->ops->read(fs, "d", names, n, max, on_text, NULL, &err);
}

static void small_files_are_read_in_batches(void **state)
{
        fault(NULL, 0, false);
        assert_int_equal(read_all(33, 7), 0);
        for (size_t i = 0; i < 40; i++)
                assert_int_equal(got[i], i < 33 ? 0 : 1);
        assert_int_equal(read_all(2, 6), 0);
        assert_true(got[0] == -EFBIG && got[1] == -EFBIG);
        server.most = 3; /* the rest is asked for */
        assert_int_equal(read_all(2, 7), 0);
        server.no_attr = true; /* its length is known at its end only */
        assert_int_equal(read_all(2, 7), 0);
        assert_true(got[0] == 0 && got[1] == 0);
        assert_int_equal(read_all(1, 6), 0);
        assert_int_equal(got[0], -EFBIG);
        server.no_attr = false;
        server.most = 100;
        server.attr.size = 0;
        server.content = "";
        assert_int_equal(read_all(1, 6), 0);
        assert_int_equal(got[0], 0);
        server.attr.size = 7;
        server.content = "content";
        fault("lookup", -ENOENT, false); /* the folder */
        assert_int_equal(read_all(2, 7), 0);
        assert_true(got[0] == -ENOENT && got[1] == -ENOENT);
        fault("lookup", -ENOENT, false); /* the second file */
        server.skip = 2;
        assert_int_equal(read_all(3, 7), 0);
        assert_true(got[0] == 0 && got[1] == -ENOENT && got[2] == 0);
        fault("read", -ESTALE, false); /* removed since */
        server.skip = 1;
        assert_int_equal(read_all(3, 7), 0);
        assert_true(got[0] == 0 && got[1] == -ENOENT && got[2] == 0);
        fault("read", -EBUSY, false); /* all of it again */
        assert_int_equal(read_all(3, 7), 0);
        assert_true(got[0] == 0 && server.now_ms > 0);
        fault("read", -ETIMEDOUT, true);
        assert_int_equal(read_all(3, 7), 0);
        assert_true(got[0] == 0 && got[2] == 0);
}

static void an_import_is_looked_up_step_by_step(void **state)
{
        char longest[NAME_MAX + 2];
        struct fs_file *f = NULL;
        struct fs_attr a = {};

        for (int i = 0; i < 2; i++) { /* nothing of it is kept */
                fault(NULL, 0, false);
                assert_int_equal(fs->file->open_import(fs, "import/d/f", &f, &a, &err), 0);
                LOGGED("lookup 0 import\nlookup 1 d\nlookup 2 f\n");
                assert_int_equal(a.size, 7);
                server.attr.size = 8;
                server.log[0] = '\0';
                assert_int_equal(fs->file->attr(f, &a, &err), 0);
                LOGGED("getattr 3 \n");
                assert_int_equal(a.size, 8);
                server.attr.size = 7;
                fs->file->close(f);
        }
        server.attr.plain = false;
        assert_int_equal(fs->file->open_import(fs, "import/d", &f, &a, &err), -EINVAL);
        memset(longest, 'a', sizeof(longest));
        longest[NAME_MAX + 1] = '\0';
        server.attr.plain = true;
        assert_int_equal(fs->file->open_import(fs, longest, &f, &a, &err), -ENAMETOOLONG);
        longest[NAME_MAX] = '\0';
        assert_int_equal(fs->file->open_import(fs, longest, &f, &a, &err), 0);
        fs->file->close(f);
}

static int may(uint32_t uid)
{
        const char *path = "a";

        return fs_nfs_may_write(fs, &path, 1, uid, 6, &err);
}

static void who_may_write_is_asked_of_the_server(void **state)
{
        struct fs_nfs_writer w = {};

        server.granted = ACCESS3_MODIFY | ACCESS3_EXTEND | ACCESS3_READ;
        assert_int_equal(may(5), 0);
        assert_true(server.uid == 5 && server.gid == 6);
        server.granted = ACCESS3_MODIFY;
        assert_int_equal(may(4), -EACCES);
        assert_int_equal(may(5), -EROFS); /* it is his, and he may not */
        server.attr.mode = 0400;
        assert_int_equal(may(5), -EACCES);
        server.granted = ACCESS3_EXTEND;
        assert_int_equal(may(4), -EACCES);
        server.granted = ACCESS3_MODIFY | ACCESS3_EXTEND;
        fault("access", -ESTALE, false);
        assert_int_equal(may(5), 0);
        fault("access", -ESTALE, false);
        server.times = 2;
        assert_int_equal(may(5), -ENOENT);
        fault("access", -EIO, false);
        assert_int_equal(may(5), -EIO);
        fault(NULL, 0, false);
        assert_int_equal(fs_nfs_try_write(fs, "a", 8, &w, &err), 0);
        assert_true(server.uid == 8 && server.gid == 0 && server.sync);
        fault("write", -EACCES, false);
        assert_int_equal(fs_nfs_try_write(fs, "a", 9, &w, &err), -EACCES);
        LOGGED("write 1 \n"); /* over the handle and the connection of the first time */
        assert_int_equal(server.conns, 1);
        fs_nfs_writer_done(&w);
        assert_int_equal(server.conns, 0);
}

int main(void)
{
#define test(f) cmocka_unit_test_setup_teardown(f, begin, end)
        const struct CMUnitTest tests[] = {
            test(a_place_is_a_server_and_a_path),       test(folders_are_known_by_handle_until_they_move),
            test(what_changes_something_is_sent_once),  test(a_file_is_made_with_its_size_or_not_at_all),
            test(small_files_are_read_in_batches),      test(an_import_is_looked_up_step_by_step),
            test(who_may_write_is_asked_of_the_server),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
