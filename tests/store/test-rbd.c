/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What only the rbd engine has: the gate, the blocklist, what crashes inside librbd's rename and clone leave
 * behind, and the rights of its users. Against a real cluster (STORE_URL, STORE_CEPH_CONF); the writer that
 * is fenced is QEMU's own block layer. Host A lives at the client's own address, host B is given another
 * one.
 */
#include <errno.h>
#include <fcntl.h>
#include <rbd/librbd.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/clock.h"
#include "imaged/store/rbd-engine.h"

#define MIB ((uint64_t)1 << 20)
#define OTHER_ADDRESS "192.0.2.7" /* of host B; none of its QEMUs run here */

struct fixture {
        struct store *a, *b;
        rados_ioctx_t io;
        char image[UUID_LEN + 1], instance[UUID_LEN + 1];
        struct disk_spec disks[2];
};

#define ok(call)                                                                                            \
        do {                                                                                                \
                struct err err_ = {0}, *err = &err_;                                                        \
                int r_ = (call);                                                                            \
                if (r_ < 0)                                                                                 \
                        fail_msg("%s: %s", #call, err_text(err));                                           \
        } while (0)

#define fails(code, call)                                                                                   \
        do {                                                                                                \
                struct err err_ = {0}, *err = &err_;                                                        \
                int r_ = (call);                                                                            \
                if (r_ != (code))                                                                           \
                        fail_msg("%s: %d (%s), not %d", #call, r_, err_text(err), code);                    \
                assert_true(err->text[0]);                                                                  \
        } while (0)

static struct store *open_as(const char *user, const char *address)
{
        const struct store_options options = {
            .ceph_conf = getenv("STORE_CEPH_CONF"), .ceph_user = user, .address = address};
        const char *url = getenv("STORE_URL");
        struct store *s = NULL;

        ok(store_open(url ? url : "rbd:wherry", &options, &s, err));
        return s;
}

static int setup(void **state)
{
        struct fixture *f = calloc(1, sizeof *f);
        struct volume *v = NULL;

        f->a = open_as("wherry", NULL);
        f->b = open_as("wherry", OTHER_ADDRESS);
        ok(store_prepare(f->a, err));
        ok(pool_io(f->a, &f->io, err));
        uuid_random(f->image);
        uuid_random(f->instance);
        ok(volume_create(f->a, f->image, 8 * MIB, &v, err));
        ok(volume_write(v, "golden", 6, 4096, err));
        ok(volume_seal(v, err));
        volume_close(v);
        f->disks[0] = (struct disk_spec){.name = "disk0", .image = f->image, .size = 16 * MIB};
        f->disks[1] = (struct disk_spec){.name = "seed", .content = "seed", .n_content = 4};
        *state = f;
        return 0;
}

static int teardown(void **state)
{
        struct fixture *f = *state;
        struct lease l;

        if (lease_find(f->a, f->instance, &l, NULL) == 0)
                ok(lease_remove(f->a, f->instance, &l, f->disks, 2, err));
        ok(volume_remove(f->a, f->image, err));
        pool_io_donep(&f->io);
        store_close(f->a);
        store_close(f->b);
        free(f);
        return 0;
}

/* --- QEMU's block layer as a process that has the image open and does what it is told
 * ------------------------ */

struct writer {
        pid_t pid;
        int to, from;
};

/* Reads until the prompt comes back; the answer without it. */
static const char *writer_wait(struct writer *w)
{
        static char text[4096];
        size_t n = 0;

        for (;;) {
                ssize_t got = read(w->from, text + n, sizeof text - 1 - n);

                if (got <= 0)
                        fail_msg("qemu-io ended");
                n += (size_t)got;
                text[n] = '\0';
                if (n >= 9 && strcmp(text + n - 9, "qemu-io> ") == 0)
                        return text;
        }
}

static const char *writer_say(struct writer *w, const char *command)
{
        assert_int_equal(write_full(w->to, command, strlen(command)), 0);
        return writer_wait(w);
}

static void writer_start(const struct store *s, const char *image, struct writer *w)
{
        _cleanup_(freep) char *file =
            str_printf("rbd:%s/%s:id=wherry:conf=%s", pool_of(s)->name, image, getenv("STORE_CEPH_CONF"));
        int in[2], out[2];

        assert_int_equal(pipe2(in, O_CLOEXEC), 0);
        assert_int_equal(pipe2(out, O_CLOEXEC), 0);
        w->pid = fork();
        if (w->pid == 0) {
                dup2(in[0], 0);
                dup2(out[1], 1);
                dup2(out[1], 2);
                execlp("qemu-io", "qemu-io", "-t", "none", "-f", "raw", file, (char *)NULL);
                _exit(127);
        }
        close(in[0]);
        close(out[1]);
        w->to = in[1];
        w->from = out[0];
        (void)writer_wait(w);
}

static void writer_end(struct writer *w, int signo)
{
        if (signo)
                kill(w->pid, signo);
        else
                assert_int_equal(write_full(w->to, "quit\n", 5), 0);
        close(w->to);
        waitpid(w->pid, NULL, 0);
        close(w->from);
}

static void wrote(const char *answer)
{
        if (!strstr(answer, "wrote"))
                fail_msg("the write failed: %s", answer);
}

static void refused(const char *answer)
{
        if (!strstr(answer, "Cannot send after transport endpoint shutdown"))
                fail_msg("the write was not refused: %s", answer);
}

static size_t recorded(const struct fixture *f)
{
        _cleanup_(gate_done) struct gate gate = {0};

        ok(gate_read(f->io, f->instance, &gate, err));
        return gate.n_clients;
}

/* Creates the disks and brings them to where a QEMU of host A runs. */
static void run_on_a(struct fixture *f, struct lease *lease, struct start *start, struct writer *w)
{
        char image[POOL_NAME_MAX];

        ok(lease_create(f->a, f->instance, f->disks, 2, err));
        *lease = (struct lease){0};
        ok(lease_claim(f->a, f->instance, lease, 1, lease, err));
        start_init(start, f->instance, lease->epoch, NULL);
        ok(lease_fence(f->a, f->instance, lease, start, f->disks, 2, err));
        disk_image(f->instance, lease, f->disks, 0, image);
        writer_start(f->a, image, w);
        ok(lease_gate(f->a, f->instance, lease, start, f->disks, 2, err));
        wrote(writer_say(w, "write -P 0x11 0 4096\n"));
}

static void test_qemu_is_refused_after_a_take_over(void **state)
{
        struct fixture *f = *state;
        struct start a, b;
        struct lease on_a, on_b;
        struct writer w;

        run_on_a(f, &on_a, &a, &w);
        assert_int_equal(recorded(f), 1);
        ok(lease_claim(f->b, f->instance, &on_a, 2, &on_b, err));
        wrote(writer_say(&w, "write -P 0x22 0 4096\n")); /* the rename alone stops nobody */
        start_init(&b, f->instance, on_b.epoch, NULL);
        ok(lease_fence(f->b, f->instance, &on_b, &b, f->disks, 2, err));
        refused(writer_say(&w, "write -P 0x33 0 4096\n"));
        refused(writer_say(&w, "write -P 0x33 8192 4096\n"));
        fails(-EACCES, lease_gate(f->a, f->instance, &on_a, &a, f->disks, 2, err));
        assert_int_equal(recorded(f), 0);
        writer_end(&w, SIGKILL);

        /* What the old one was told is written is there, what was refused is not. */
        char image[POOL_NAME_MAX];
        disk_image(f->instance, &on_b, f->disks, 0, image);
        writer_start(f->b, image, &w);
        assert_null(strstr(writer_say(&w, "read -P 0x22 0 4096\n"), "verification failed"));
        assert_null(strstr(writer_say(&w, "read -P 0 8192 4096\n"), "verification failed"));
        writer_end(&w, 0);
}

/* A client that registered late, after the raise, is refused; one that is not there at all is refused. */
static void test_the_gate_wants_an_open_image_at_its_own_epoch(void **state)
{
        struct fixture *f = *state;
        struct start a;
        struct lease on_a = {0}, on_b;
        struct writer w;
        char image[POOL_NAME_MAX];

        ok(lease_create(f->a, f->instance, f->disks, 2, err));
        ok(lease_claim(f->a, f->instance, &on_a, 1, &on_a, err));
        start_init(&a, f->instance, on_a.epoch, NULL);
        ok(lease_fence(f->a, f->instance, &on_a, &a, f->disks, 2, err));
        fails(-EACCES, lease_gate(f->a, f->instance, &on_a, &a, f->disks, 2, err));
        disk_image(f->instance, &on_a, f->disks, 0, image);
        writer_start(f->a, image, &w);
        /* It runs on another host than B. */
        fails(-EACCES, lease_gate(f->b, f->instance, &on_a, &a, f->disks, 2, err));
        /* The gate is raised, though the name has not moved: a fence that ran ahead of A's look at the name.
         */
        _cleanup_(gate_done) struct gate gate = {0};
        ok(gate_raise(f->io, f->instance, on_a.epoch + 1, &gate, err));
        fails(-EACCES, lease_gate(f->a, f->instance, &on_a, &a, f->disks, 2, err));
        assert_int_equal(recorded(f), 0);
        /* And it never goes down again. */
        fails(-ESTALE, lease_fence(f->a, f->instance, &on_a, &a, f->disks, 2, err));
        ok(lease_claim(f->b, f->instance, &on_a, 2, &on_b, err));
        writer_end(&w, 0);
}

static void test_a_commit_spares_the_stopped_source_until_the_next_fence(void **state)
{
        struct fixture *f = *state;
        struct start a, b, c;
        struct lease on_a, on_b, on_c;
        struct writer src, dst;
        char image[POOL_NAME_MAX];

        run_on_a(f, &on_a, &a, &src);
        disk_image(f->instance, &on_a, f->disks, 0, image);
        writer_start(f->a, image, &dst);
        start_init(&b, f->instance, on_a.epoch, "attempt-1");
        ok(lease_grant(f->a, f->instance, &on_a, &b, f->disks, 2, err));
        ok(lease_claim(f->a, f->instance, &on_a, 2, &on_b, err));
        ok(lease_fence(f->a, f->instance, &on_b, &b, f->disks, 2, err));
        assert_int_equal(recorded(f), 1);
        ok(lease_gate(f->a, f->instance, &on_b, &b, f->disks, 2, err));
        assert_int_equal(recorded(f), 2);
        wrote(writer_say(&dst, "write -P 0x44 0 4096\n"));
        /* The next take-over meets both. */
        ok(lease_claim(f->b, f->instance, &on_b, 3, &on_c, err));
        start_init(&c, f->instance, on_c.epoch, NULL);
        ok(lease_fence(f->b, f->instance, &on_c, &c, f->disks, 2, err));
        refused(writer_say(&src, "write -P 0x55 0 4096\n"));
        refused(writer_say(&dst, "write -P 0x55 0 4096\n"));
        assert_int_equal(recorded(f), 0);
        writer_end(&src, SIGKILL);
        writer_end(&dst, SIGKILL);
}

static void test_a_source_that_runs_on_is_not_fenced_by_itself(void **state)
{
        struct fixture *f = *state;
        struct start a;
        struct lease on_a, again;
        struct writer w;

        run_on_a(f, &on_a, &a, &w);
        ok(lease_claim(f->a, f->instance, &on_a, 1, &again, err));
        ok(lease_fence(f->a, f->instance, &again, &a, f->disks, 2, err));
        ok(lease_gate(f->a, f->instance, &again, &a, f->disks, 2, err));
        wrote(writer_say(&w, "write -P 0x66 0 4096\n"));
        assert_int_equal(recorded(f), 1);
        writer_end(&w, 0);
}

static void test_a_clean_end_clears_the_record_and_a_kill_does_not(void **state)
{
        struct fixture *f = *state;
        struct start a, b;
        struct lease lease;
        struct writer w;
        char image[POOL_NAME_MAX];

        run_on_a(f, &lease, &a, &w);
        start_forget(f->a, f->instance, &a); /* too early: it still has the image open */
        assert_int_equal(recorded(f), 1);
        writer_end(&w, 0);
        start_forget(f->a, f->instance, &a);
        assert_int_equal(recorded(f), 0);

        ok(lease_claim(f->a, f->instance, &lease, 1, &lease, err));
        start_init(&b, f->instance, lease.epoch, NULL);
        ok(lease_fence(f->a, f->instance, &lease, &b, f->disks, 2, err));
        disk_image(f->instance, &lease, f->disks, 0, image);
        writer_start(f->a, image, &w);
        ok(lease_gate(f->a, f->instance, &lease, &b, f->disks, 2, err));
        writer_end(&w, SIGKILL);
        start_forget(f->a, f->instance, &b);
        assert_int_equal(recorded(f), 1);
        /* The disks of a QEMU that was killed a moment ago can be removed all the same. */
        ok(lease_remove(f->a, f->instance, &lease, f->disks, 2, err));
        fails(-ENOENT, lease_find(f->a, f->instance, &lease, err));
}

static void test_a_claim_steps_over_a_name_that_a_crash_left_occupied(void **state)
{
        struct fixture *f = *state;
        struct lease got, from = {0}, next = {.epoch = 1, .host = 1};
        char name[LEASE_NAME_MAX + 1], oid[POOL_NAME_MAX];

        ok(lease_create(f->a, f->instance, f->disks, 2, err));
        lease_name_format(f->instance, &next, name);
        snprintf(oid, sizeof oid, "rbd_id.%s", name);
        assert_int_equal(rados_write_full(f->io, oid, "\4\0\0\0dead", 8), 0);
        ok(lease_claim(f->a, f->instance, &from, 1, &got, err));
        assert_int_equal(got.epoch, 2);
        assert_int_equal(got.host, 1);
        fails(-ESTALE, lease_claim(f->b, f->instance, &from, 2, &next, err));
        /* The loser left nothing behind that would occupy its next try. */
        ok(lease_claim(f->b, f->instance, &got, 2, &got, err));
        assert_int_equal(got.epoch, 3);
        (void)rados_remove(f->io, oid);
}

/* A rename whose every step was done, but whose reply was lost; and one that was cut off before its last
 * step. */
static void test_a_claim_whose_reply_was_lost_is_a_win(void **state)
{
        struct fixture *f = *state;
        struct lease got, from = {0};
        struct lease first = {.epoch = 1, .host = 1};
        char oid[POOL_NAME_MAX], id[64], name[LEASE_NAME_MAX + 1], old[LEASE_NAME_MAX + 1];
        int n;

        ok(lease_create(f->a, f->instance, f->disks, 2, err));
        lease_name_format(f->instance, &from, old);
        lease_name_format(f->instance, &first, name);
        snprintf(oid, sizeof oid, "rbd_id.%s", old);
        n = rados_read(f->io, oid, id, sizeof id, 0);
        assert_true(n > 4);
        assert_int_equal(disk_rename(f->io, old, name), 0);
        ok(lease_claim(f->a, f->instance, &from, 1, &got, err));
        assert_int_equal(got.epoch, 1);
        /* The old name still resolves; the directory has moved on. */
        assert_int_equal(rados_write_full(f->io, oid, id, (size_t)n), 0);
        fails(-ESTALE, lease_claim(f->b, f->instance, &from, 2, &got, err));
        ok(lease_claim(f->a, f->instance, &from, 1, &got, err));
        assert_int_equal(got.epoch, 1);
        ok(lease_find(f->b, f->instance, &got, err));
        assert_int_equal(got.epoch, 1);
        (void)rados_remove(f->io, oid);
}

static int count_lease(void *arg, const char *instance, const struct lease *lease)
{
        const struct fixture *f = arg;

        return streq(instance, f->instance) ? 77 : 0;
}

static void test_half_made_disks_do_not_exist_and_can_be_made_again(void **state)
{
        struct fixture *f = *state;
        struct lease lease = {0};
        char image[POOL_NAME_MAX];

        /* As a crash leaves them: the images are there, nothing says that they are complete. */
        disk_image(f->instance, &lease, f->disks, 0, image);
        ok(disk_make(f->io, image, &f->disks[0], err));
        fails(-ENOENT, lease_find(f->a, f->instance, &lease, err));
        fails(-ESTALE, lease_claim(f->a, f->instance, &lease, 1, &lease, err));
        ok(lease_list(f->a, count_lease, f, err));
        ok(lease_create(f->a, f->instance, f->disks, 2, err));
        ok(lease_find(f->a, f->instance, &lease, err));
        assert_int_equal(lease_list(f->a, count_lease, f, NULL), 77);
        fails(-EEXIST, lease_create(f->b, f->instance, f->disks, 2, err));
}

static void test_a_user_without_the_right_to_blocklist_is_told_so(void **state)
{
        struct fixture *f = *state;
        struct store *weak = open_as("wherry-weak", NULL);
        struct err err = {0};

        assert_int_equal(store_selftest(f->a, &err), 1);
        assert_int_equal(store_selftest(weak, &err), 0);
        assert_non_null(strstr(err.text, "blocklist"));
        assert_non_null(strstr(err.text, "profile rbd"));
        store_close(weak);
}

static void test_a_host_cannot_reach_accounts(void **state)
{
        struct fixture *f = *state;
        struct store *host = open_as("wherry-host", NULL);
        _cleanup_(freep) char *text = NULL;
        uint64_t version, none;

        ok(record_put(f->a, RECORD_ACCOUNT, f->instance, 0, "{}", &version, err));
        fails(-EACCES, record_get(host, RECORD_ACCOUNT, f->instance, &text, &none, err));
        fails(-EACCES, record_put(host, RECORD_ACCOUNT, f->instance, version, "{\"x\":1}", &none, err));
        ok(record_put(host, RECORD_INSTANCE, f->instance, 0, "{}", &none, err));
        ok(record_put(host, RECORD_INSTANCE, f->instance, none, NULL, &none, err));
        ok(record_put(f->a, RECORD_ACCOUNT, f->instance, version, NULL, &version, err));
        assert_int_equal(store_selftest(host, NULL), 1);
        store_close(host);
}

/* Clones go through QEMU and back, of the size that was asked for, and what opens them is told where the
 * monitors are. */
static void test_attach_names_what_qemu_opens(void **state)
{
        struct fixture *f = *state;
        struct attach at[2];
        struct lease lease = {0};
        struct start start;
        struct writer w;

        start_init(&start, f->instance, 1, NULL);
        ok(lease_create(f->a, f->instance, f->disks, 2, err));
        ok(lease_attach(f->a, f->instance, &lease, &start, f->disks, 2, at, err));
        assert_int_equal(at[0].kind, ATTACH_RBD);
        assert_false(at[0].read_only);
        assert_true(at[1].read_only);
        assert_non_null(strstr(at[0].server, ":3300"));
        assert_non_null(strchr(at[0].path, '/'));
        writer_start(f->a, strchr(at[0].path, '/') + 1, &w);
        assert_non_null(strstr(writer_say(&w, "length\n"), "16 MiB"));
        wrote(writer_say(&w, "write -P 0x77 12M 4096\n"));
        assert_non_null(strstr(writer_say(&w, "read -v 4096 512\n"), "golden"));
        writer_end(&w, 0);
        writer_start(f->a, strchr(at[1].path, '/') + 1, &w);
        assert_non_null(strstr(writer_say(&w, "read -v 0 512\n"), "seed"));
        writer_end(&w, 0);
        fails(-EBUSY, volume_remove(f->a, f->image, err));
}

/* --- a full pool
 * -------------------------------------------------------------------------------------------------- */

/* Only an administrator may; 0 takes the limit away. */
static void set_quota(const char *pool, uint64_t bytes)
{
        _cleanup_(freep) char *cmd = str_printf("{\"prefix\": \"osd pool set-quota\", \"pool\": \"%s\", "
                                                "\"field\": \"max_bytes\", \"val\": \"%llu\"}",
                                                pool, (unsigned long long)bytes);
        const char *cmds[] = {cmd};
        rados_t admin;

        assert_int_equal(rados_create(&admin, "admin"), 0);
        assert_int_equal(rados_conf_read_file(admin, getenv("STORE_CEPH_CONF")), 0);
        assert_int_equal(rados_connect(admin), 0);
        assert_int_equal(rados_mon_command(admin, cmds, 1, "", 0, NULL, NULL, NULL, NULL), 0);
        rados_shutdown(admin);
}

static int put_big(struct store *s, const char *id)
{
        _cleanup_(freep) char *text = malloc(100001);
        uint64_t version;
        int r;

        memset(text, 'y', 100000);
        text[100000] = '\0';
        r = record_put(s, RECORD_EVENT, id, 0, text, &version, NULL);
        return r < 0 ? r : record_put(s, RECORD_EVENT, id, version, NULL, &version, NULL);
}

/* The monitors notice a full pool, and one that is no longer full, with a delay of some seconds; so the
 * limit is met some time while an image is written, and its room comes back some time after it was given up.
 */
static void test_a_full_pool_is_an_error_and_not_a_hang(void **state)
{
        struct fixture *f = *state;
        _cleanup_(freep) uint8_t *block = malloc(MIB);
        char id[UUID_LEN + 1];
        const int64_t deadline = clock_ms() + 60000;
        struct volume *v = NULL;
        struct err err = {0};
        int r = 0;

        uuid_random(id);
        memset(block, 0xa5, MIB);
        set_quota(pool_of(f->a)->name, 64 * MIB);
        ok(volume_create(f->a, id, 4096 * MIB, &v, err));
        for (uint64_t i = 0; i < 4096 && r >= 0 && clock_ms() < deadline; i++)
                r = volume_write(v, block, MIB, i * MIB, &err);
        assert_int_equal(r, -ENOSPC);
        assert_int_equal(put_big(f->a, id), -ENOSPC);
        assert_int_equal(lease_create(f->a, f->instance, f->disks, 2, &err), -ENOSPC);
        volume_close(v);
        do
                r = put_big(f->a, id);
        while (r == -ENOSPC && clock_ms() < deadline && usleep(200000) == 0);
        set_quota(pool_of(f->a)->name, 0);
        assert_int_equal(r, 0);
        fails(-ENOENT, volume_open(f->a, id, &v, err));
        do
                r = lease_create(f->a, f->instance, f->disks, 2, &err);
        while (r == -ENOSPC && clock_ms() < deadline && usleep(200000) == 0);
        assert_int_equal(r, 0);
}

#define with_fixture(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
            with_fixture(test_qemu_is_refused_after_a_take_over),
            with_fixture(test_the_gate_wants_an_open_image_at_its_own_epoch),
            with_fixture(test_a_commit_spares_the_stopped_source_until_the_next_fence),
            with_fixture(test_a_source_that_runs_on_is_not_fenced_by_itself),
            with_fixture(test_a_clean_end_clears_the_record_and_a_kill_does_not),
            with_fixture(test_a_claim_steps_over_a_name_that_a_crash_left_occupied),
            with_fixture(test_a_claim_whose_reply_was_lost_is_a_win),
            with_fixture(test_half_made_disks_do_not_exist_and_can_be_made_again),
            with_fixture(test_a_user_without_the_right_to_blocklist_is_told_so),
            with_fixture(test_a_host_cannot_reach_accounts),
            with_fixture(test_attach_names_what_qemu_opens),
            with_fixture(test_a_full_pool_is_an_error_and_not_a_hang),
        };

        signal(SIGPIPE, SIG_IGN);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
