/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/util.h"
#include "imaged/store/fs-nfs.h"

/*
 * The SETATTR of the fence and of the grant: what is asked of the server, with which guard, how often, and over which
 * connection. The calls are the linker's --wrap; the real server is in tests/store.
 */
static struct {
        struct fs_attr now; /* the file, as the server has it */
        unsigned lookups, tries, guarded, unguarded, conns, forgotten;
        int lookup_answer, getattr_answer;
        int setattr_answer[8];  /* of each try; 0: done */
        unsigned busy_writes;   /* so many guards fail: a writer changes the file in between */
        bool no_owner, no_mode; /* the server does all but that, once */
        struct nfs_change last; /* what was asked for last */
        int64_t now_ms;
} server;

int64_t __wrap_clock_ms(void);
int64_t __wrap_clock_ms(void)
{
        return server.now_ms;
}

bool __wrap_nfs_pause(int64_t deadline);
bool __wrap_nfs_pause(int64_t deadline)
{
        server.now_ms += 100;
        return server.now_ms < deadline;
}

unsigned __wrap_nfs_server_timeout_ms(const struct nfs_server *s);
unsigned __wrap_nfs_server_timeout_ms(const struct nfs_server *s)
{
        return 1000;
}

int __wrap_nfs_conn_new(struct nfs_server *s, uint32_t uid, uint32_t gid, struct nfs_conn **ret,
                        struct err *err);
int __wrap_nfs_conn_new(struct nfs_server *s, uint32_t uid, uint32_t gid, struct nfs_conn **ret,
                        struct err *err)
{
        assert_true(uid == 0 && gid == 0);
        server.conns++;
        *ret = (struct nfs_conn *)&server;
        return 0;
}

struct nfs_conn *__wrap_nfs_conn_free(struct nfs_conn *c);
struct nfs_conn *__wrap_nfs_conn_free(struct nfs_conn *c)
{
        server.conns--;
        return NULL;
}

void __wrap_nfs_forget(struct fs_nfs *n, const char *path);
void __wrap_nfs_forget(struct fs_nfs *n, const char *path)
{
        server.forgotten++;
}

int __wrap_nfs_fail(struct fs *fs, const char *what, const char *path, int r, struct err *err);
int __wrap_nfs_fail(struct fs *fs, const char *what, const char *path, int r, struct err *err)
{
        return err_set(err, r, "%s: %s", path, what);
}

int __wrap_nfs_lookup_path(struct fs_nfs *n, struct nfs_conn *c, const char *path, struct nfs_found *ret);
int __wrap_nfs_lookup_path(struct fs_nfs *n, struct nfs_conn *c, const char *path, struct nfs_found *ret)
{
        server.lookups++;
        assert_ptr_equal(c, &server);
        if (server.lookup_answer < 0) {
                int r = server.lookup_answer;

                if (r == -ESTALE && server.forgotten) /* looked up anew */
                        r = 0;
                if (r < 0)
                        return r;
        }
        *ret = (struct nfs_found){.has_fh = true, .has_attr = true, .attr = server.now};
        return 0;
}

int __wrap_nfs3_setattr(struct nfs_conn *c, const struct nfs_fh *fh, const struct nfs_change *change,
                        const struct fs_attr *guard);
int __wrap_nfs3_setattr(struct nfs_conn *c, const struct nfs_fh *fh, const struct nfs_change *change,
                        const struct fs_attr *guard)
{
        int r = server.tries < 8 ? server.setattr_answer[server.tries] : 0;

        server.tries++;
        server.guarded += guard != NULL;
        server.unguarded += guard == NULL;
        server.last = *change;
        if (r < 0)
                return r;
        if (server.busy_writes > 0) {
                server.busy_writes--;
                server.now.ctime_ns++;
        }
        if (guard && (guard->ctime_s != server.now.ctime_s || guard->ctime_ns != server.now.ctime_ns))
                return -EAGAIN;
        if (change->uid >= 0 && !server.no_owner)
                server.now.uid = (uint32_t)change->uid;
        if (change->gid >= 0)
                server.now.gid = (uint32_t)change->gid;
        if (change->mode >= 0 && !server.no_mode)
                server.now.mode = (uint32_t)change->mode;
        server.no_owner = server.no_mode = false;
        server.now.ctime_ns++;
        return 0;
}

int __wrap_nfs3_getattr(struct nfs_conn *c, const struct nfs_fh *fh, struct fs_attr *ret);
int __wrap_nfs3_getattr(struct nfs_conn *c, const struct nfs_fh *fh, struct fs_attr *ret)
{
        *ret = server.now;
        return server.getattr_answer;
}

static int begin(void **state)
{
        memset(&server, 0, sizeof(server));
        server.now = (struct fs_attr){.uid = 10, .gid = 3, .mode = 0640};
        return 0;
}

static int own(enum fs_take take, uint32_t uid, uint32_t gid, uint32_t mode)
{
        static struct fs_nfs n;
        const struct fs_taking t = {.take = take, .uid = uid, .from = 10, .gid = gid, .mode = mode};
        const char *path = "disk0";
        struct err err = {};
        int r = fs_nfs_own(&n.fs, &path, 1, &t, &err);

        assert_int_equal(server.conns, 0);
        if (r < 0)
                assert_int_not_equal(err.text[0], 0);
        return r;
}

static void a_fence_is_one_guarded_request(void **state)
{
        assert_int_equal(own(FS_TAKE_ANY, 7, 0, 0600), 0);
        assert_int_equal(server.tries, 1);
        assert_int_equal(server.guarded, 1);
        assert_true(server.now.uid == 7 && server.now.gid == 0 && server.now.mode == 0600);
        assert_int_equal(server.last.size, -1);
}

/* A writer that is busy changes the guard: looked up again each time, and at last without one. */
static void a_busy_writer_cannot_keep_it_off(void **state)
{
        server.busy_writes = 3;
        assert_int_equal(own(FS_TAKE_ANY, 7, 0, 0600), 0);
        assert_int_equal(server.tries, 4);
        assert_int_equal(server.lookups, 4);
        assert_int_equal(server.unguarded, 0);
        begin(state);
        server.busy_writes = 100;
        assert_int_equal(own(FS_TAKE_ANY, 7, 0, 0600), 0);
        assert_int_equal(server.tries, 5);
        assert_int_equal(server.unguarded, 1);
        assert_int_equal(server.now.uid, 7);
}

/* Never without its guard: a late one would open the disks after the next fence. */
static void a_grant_stays_guarded(void **state)
{
        server.busy_writes = 50;
        assert_int_equal(own(FS_TAKE_NOTHING, 0, 9, 0660), 0);
        assert_int_equal(server.unguarded, 0);
        assert_true(server.now.uid == 10 && server.now.gid == 9 && server.now.mode == 0660);
        begin(state);
        server.busy_writes = 1000;
        assert_int_equal(own(FS_TAKE_NOTHING, 0, 9, 0660), -EBUSY);
        assert_int_equal(server.unguarded, 0);
        assert_int_equal(server.now.gid, 3);
}

/* The owner that is the right one already is left out: late, it would take the disks back. */
static void the_right_owner_is_not_asked_for(void **state)
{
        server.now.uid = 7;
        server.busy_writes = 100;
        assert_int_equal(own(FS_TAKE_FROM, 7, 0, 0600), 0);
        assert_int_equal(server.last.uid, -1);
        assert_int_equal(server.unguarded, 1); /* and so it may come without its guard */
        assert_true(server.now.uid == 7 && server.now.gid == 0 && server.now.mode == 0600);
}

static void memory_takes_it_from_its_own_start_only(void **state)
{
        server.busy_writes = 3;
        assert_int_equal(own(FS_TAKE_FROM, 7, 0, 0600), 0);
        assert_int_equal(server.now.uid, 7);
        begin(state);
        server.busy_writes = 100; /* never without its guard: another start may have it by then */
        assert_int_equal(own(FS_TAKE_FROM, 7, 0, 0600), -EBUSY);
        assert_int_equal(server.unguarded, 0);
        assert_int_equal(server.now.uid, 10);
        begin(state);
        server.now.uid = 11;
        assert_int_equal(own(FS_TAKE_FROM, 7, 0, 0600), -EPERM);
        assert_int_equal(server.tries, 0);
}

static void a_user_that_has_it_is_another_starts(void **state)
{
        assert_int_equal(own(FS_TAKE_ANY, 10, 0, 0600), -EEXIST);
        assert_int_equal(server.tries, 0);
}

/* An answer that is lost is not asked for again: it may run twice, and late. */
static void without_an_answer_it_is_given_up(void **state)
{
        server.setattr_answer[0] = -ETIMEDOUT;
        assert_int_equal(own(FS_TAKE_ANY, 7, 0, 0600), -ETIMEDOUT);
        assert_int_equal(server.tries, 1);
        begin(state);
        server.setattr_answer[0] = -EACCES;
        assert_int_equal(own(FS_TAKE_ANY, 7, 0, 0600), -EACCES);
        assert_int_equal(server.tries, 1);
        begin(state);
        server.getattr_answer = -ETIMEDOUT;
        assert_int_equal(own(FS_TAKE_ANY, 7, 0, 0600), -ETIMEDOUT);
        assert_int_equal(server.tries, 1);
}

static void what_the_server_did_only_a_part_of_is_asked_again(void **state)
{
        server.no_owner = true;
        assert_int_equal(own(FS_TAKE_ANY, 7, 0, 0600), 0);
        assert_int_equal(server.tries, 2);
        assert_int_equal(server.now.uid, 7);
        begin(state);
        server.no_mode = true; /* the owner is this start by its own request, and no other's */
        assert_int_equal(own(FS_TAKE_ANY, 7, 0, 0600), 0);
        assert_int_equal(server.tries, 2);
        assert_int_equal(server.now.mode, 0600);
}

/* "Try again later" is no try, and has an end. */
static void a_server_that_is_busy_is_waited_for(void **state)
{
        for (int i = 0; i < 7; i++)
                server.setattr_answer[i] = -EBUSY;
        assert_int_equal(own(FS_TAKE_ANY, 7, 0, 0600), 0);
        assert_int_equal(server.tries, 8);
        assert_int_equal(server.unguarded, 0);
        begin(state);
        server.lookup_answer = -EBUSY;
        assert_int_equal(own(FS_TAKE_ANY, 7, 0, 0600), -EBUSY);
        assert_in_range(server.now_ms, 1000, 1100);
}

static void a_name_that_has_moved_on_is_gone(void **state)
{
        server.lookup_answer = -ENOENT;
        assert_int_equal(own(FS_TAKE_ANY, 7, 0, 0600), -ENOENT);
        assert_int_equal(server.tries, 0);
        begin(state);
        server.lookup_answer = -ESTALE; /* a handle of before the server's restart */
        assert_int_equal(own(FS_TAKE_ANY, 7, 0, 0600), 0);
        assert_int_equal(server.forgotten, 1);
        begin(state);
        server.forgotten = 0;
        server.setattr_answer[0] = server.setattr_answer[1] = -ESTALE;
        assert_int_equal(own(FS_TAKE_ANY, 7, 0, 0600), -ENOENT);
}

int main(void)
{
#define test(f) cmocka_unit_test_setup(f, begin)
        const struct CMUnitTest tests[] = {
            test(a_fence_is_one_guarded_request),
            test(a_busy_writer_cannot_keep_it_off),
            test(a_grant_stays_guarded),
            test(the_right_owner_is_not_asked_for),
            test(memory_takes_it_from_its_own_start_only),
            test(a_user_that_has_it_is_another_starts),
            test(without_an_answer_it_is_given_up),
            test(what_the_server_did_only_a_part_of_is_asked_again),
            test(a_server_that_is_busy_is_waited_for),
            test(a_name_that_has_moved_on_is_gone),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
