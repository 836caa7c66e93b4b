/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/util.h"
#include "hostd/gate-socket.h"
#include "hostd/lock-driver/driver.h"
#include "hostd/lock-driver/libvirt-lock.h"

/* The driver as libvirt calls it: which guests are asked about, what is locked meanwhile, and what a no leaves. */
#define A "11111111-2222-4333-8444-555555555555"
#define B "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"
#define KEY A ":5:" B ":1:2:-"

extern struct lv_lock_driver virLockDriverImpl;

static const unsigned char raw_a[16] = {0x11, 0x11, 0x11, 0x11, 0x22, 0x22, 0x43, 0x33,
                                        0x84, 0x44, 0x55, 0x55, 0x55, 0x55, 0x55, 0x55};
static char folder[64], socket_path[100], lock_path[100], refused[REASON_LEN];
static struct gate *gate;
static struct gate_request last;
static unsigned asked;
static int answer;
static bool locked_when_asked;

void report_refusal(const char *reason)
{
        snprintf(refused, sizeof(refused), "%s", reason);
}

static bool is_locked(void)
{
        struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
        _cleanup_(closep) int fd = open(lock_path, O_RDWR | O_CLOEXEC);

        return fd >= 0 && fcntl(fd, F_OFD_GETLK, &l) == 0 && l.l_type != F_UNLCK;
}

static int on_question(void *arg, const struct gate_request *req, struct err *err)
{
        last = *req;
        asked++;
        locked_when_asked = is_locked();
        return answer < 0 ? err_set(err, answer, "another host owns the disk") : 0;
}

static int begin(void **state)
{
        struct err err = {0};

        strcpy(folder, "/tmp/wherry-driver.XXXXXX");
        assert_non_null(mkdtemp(folder));
        snprintf(socket_path, sizeof(socket_path), "%s/gate.sock", folder);
        snprintf(lock_path, sizeof(lock_path), "%s/lock", folder);
        refused[0] = '\0';
        asked = 0;
        answer = 0;
        assert_int_equal(gate_new(socket_path, on_question, NULL, &gate, &err), 0);
        setenv("WHERRY_GATE", socket_path, 1);
        setenv("WHERRY_GATE_LOCK_MS", "20", 1);
        return virLockDriverImpl.init(LV_LOCK_VERSION, NULL, 0);
}

static int end(void **state)
{
        virLockDriverImpl.deinit();
        gate = gate_free(gate);
        unlink(socket_path);
        unlink(lock_path);
        return rmdir(folder);
}

static struct lv_lock_manager guest(pid_t pid)
{
        struct lv_param params[] = {{.type = LV_PARAM_UUID, .key = "uuid"},
                                    {.type = LV_PARAM_STRING, .key = "name", .value.cstr = "vm"},
                                    {.type = LV_PARAM_UINT, .key = "pid", .value.i = pid}};
        struct lv_lock_manager m = {.driver = &virLockDriverImpl};

        memcpy(params[0].value.uuid, raw_a, sizeof(raw_a));
        assert_int_equal(virLockDriverImpl.create(&m, LV_OBJECT_DOMAIN, ARRAY_SIZE(params), params, 0), 0);
        return m;
}

static void add(struct lv_lock_manager *m, const char *lockspace, const char *key, const char *path)
{
        struct lv_param params[] = {{.type = LV_PARAM_STRING, .key = "lockspace", .value.cstr = lockspace},
                                    {.type = LV_PARAM_ULONG, .key = "offset"},
                                    {.type = LV_PARAM_STRING, .key = "path", .value.cstr = path}};

        assert_int_equal(
            virLockDriverImpl.add_resource(m, LV_RESOURCE_LEASE, key, ARRAY_SIZE(params), params, 0), 0);
}

static int acquire(struct lv_lock_manager *m, unsigned flags)
{
        int fd = 7, r = virLockDriverImpl.acquire(m, NULL, flags, 0, &fd);

        assert_int_equal(fd, -1);
        return r;
}

static struct lv_lock_manager ours(void)
{
        struct lv_lock_manager m = guest(getpid());

        add(&m, "wherry", KEY, lock_path);
        return m;
}

static void a_guest_of_ours_is_asked_about_with_its_second_lock_held(void **state)
{
        struct lv_lock_manager m = ours();

        assert_int_equal(acquire(&m, LV_ACQUIRE_REGISTER_ONLY), 0);
        assert_int_equal(last.question, GATE_REGISTER);
        assert_false(locked_when_asked); /* nothing runs yet */
        assert_int_equal(acquire(&m, 0), 0);
        assert_int_equal(last.question, GATE_ACQUIRE);
        assert_int_equal(last.pid, getpid());
        assert_string_equal(last.lease.instance, A);
        assert_true(locked_when_asked && is_locked());
        assert_int_equal(virLockDriverImpl.release(&m, NULL, 0), 0);
        assert_int_equal(last.question, GATE_RELEASE);
        assert_false(is_locked());
        virLockDriverImpl.destroy(&m);
        assert_null(m.private_data);
}

static void a_no_frees_the_lock_that_was_taken_for_the_question(void **state)
{
        struct lv_lock_manager m = ours();

        answer = -EACCES;
        assert_int_equal(acquire(&m, 0), -1);
        assert_string_equal(refused, "another host owns the disk");
        assert_true(locked_when_asked);
        assert_false(is_locked());
        virLockDriverImpl.destroy(&m);
}

/* Its QEMU lives, and has the disk: what it held before the question it holds after a no, too. */
static void a_no_leaves_the_lock_of_a_qemu_that_had_it(void **state)
{
        struct lv_lock_manager m = ours();

        assert_int_equal(acquire(&m, 0), 0);
        answer = -EACCES;
        assert_int_equal(acquire(&m, 0), -1);
        assert_true(is_locked());
        virLockDriverImpl.destroy(&m);
}

static void without_the_second_lock_nobody_is_asked(void **state)
{
        struct lv_lock_manager m = ours();
        struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
        _cleanup_(closep) int other = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

        assert_int_equal(fcntl(other, F_OFD_SETLK, &l), 0);
        assert_int_equal(acquire(&m, 0), -1);
        assert_non_null(strstr(refused, "still locked"));
        assert_int_equal(asked, 0);
        virLockDriverImpl.destroy(&m);
}

static void where_the_storage_fences_there_is_no_second_lock(void **state)
{
        struct lv_lock_manager m = guest(getpid());

        add(&m, "wherry", KEY, "/dev/null");
        assert_int_equal(acquire(&m, 0), 0);
        assert_int_equal(asked, 1);
        virLockDriverImpl.destroy(&m);
}

static void what_is_not_ours_is_let_through(void **state)
{
        struct lv_lock_manager m = guest(getpid());

        add(&m, "other", KEY, lock_path);
        assert_int_equal(virLockDriverImpl.add_resource(&m, LV_RESOURCE_DISK, "/disk", 0, NULL, 0), 0);
        assert_int_equal(acquire(&m, 0), 0);
        assert_int_equal(virLockDriverImpl.release(&m, NULL, 0), 0);
        assert_int_equal(asked, 0);
        virLockDriverImpl.destroy(&m);
}

/* Refused where libvirt listens, and without a question: which of two leases would it be about? */
static void a_malformed_lease_is_a_no(void **state)
{
        static char long_key[400];

        memset(long_key, 'k', sizeof(long_key) - 1);
        for (unsigned i = 0; i < 4; i++) {
                struct lv_lock_manager m = guest(getpid());

                add(&m, "wherry", i == 1 ? "a key" : i == 2 ? long_key : KEY, i == 3 ? NULL : lock_path);
                if (i == 0)
                        add(&m, "wherry", KEY, lock_path);
                refused[0] = '\0';
                assert_int_equal(acquire(&m, 0), -1);
                assert_string_equal(refused, "the lease of this guest is malformed");
                assert_false(is_locked());
                assert_int_equal(virLockDriverImpl.release(&m, NULL, 0), 0);
                virLockDriverImpl.destroy(&m);
        }
        assert_int_equal(asked, 0);
}

static void another_interface_or_object_is_refused(void **state)
{
        struct lv_lock_manager m = {.driver = &virLockDriverImpl};

        assert_int_equal(virLockDriverImpl.init(2 * LV_LOCK_VERSION, NULL, 0), -1);
        assert_int_equal(virLockDriverImpl.create(&m, LV_OBJECT_DAEMON, 0, NULL, 0), -1);
        /* A second user of the same process: the locks stay until the last one goes. */
        m = ours();
        assert_int_equal(acquire(&m, 0), 0);
        assert_int_equal(virLockDriverImpl.init(LV_LOCK_VERSION + 1, NULL, 0), 0);
        assert_int_equal(virLockDriverImpl.deinit(), 0);
        assert_true(is_locked());
        virLockDriverImpl.destroy(&m);
}

int main(void)
{
#define test(f) cmocka_unit_test_setup_teardown(f, begin, end)
        const struct CMUnitTest tests[] = {
            test(a_guest_of_ours_is_asked_about_with_its_second_lock_held),
            test(a_no_frees_the_lock_that_was_taken_for_the_question),
            test(a_no_leaves_the_lock_of_a_qemu_that_had_it),
            test(without_the_second_lock_nobody_is_asked),
            test(where_the_storage_fences_there_is_no_second_lock),
            test(what_is_not_ours_is_let_through),
            test(a_malformed_lease_is_a_no),
            test(another_interface_or_object_is_refused),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
