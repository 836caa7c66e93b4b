/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/util.h"
#include "imaged/store/files.h"

/*
 * What the directory engine has made durable when it says so: fsync() is wrapped by the linker and notes which
 * files it was called for, from whatever thread.
 */
static struct store *store;
static struct fs *fs;
static char folder[64];
static char synced[4096]; /* "NAME NAME ", relative to the store */
static unsigned n_synced;
static int fail_sync;

int __real_fsync(int fd);
int __wrap_fsync(int fd);
int __wrap_fsync(int fd)
{
        static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
        char link[32], path[PATH_MAX] = "";
        size_t root = strlen(folder);

        snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
        if (readlink(link, path, sizeof(path) - 1) < 0)
                return -1;
        pthread_mutex_lock(&lock);
        n_synced++;
        if (strncmp(path, folder, root) == 0 && strlen(synced) + strlen(path) < sizeof(synced) - 2) {
                strcat(synced, path[root] ? path + root + 1 : ".");
                strcat(synced, " ");
        }
        pthread_mutex_unlock(&lock);
        if (fail_sync) {
                errno = fail_sync;
                return -1;
        }
        return __real_fsync(fd);
}

static unsigned changes; /* of the folder that is listed, while it is: a name comes in each time */

static int count_name(void *arg, const char *name)
{
        ++*(unsigned *)arg;
        return 0;
}

/* The folder's change time, before and after its names were read; the real one is no finer than the kernel's tick. */
int __real_fstat64(int fd, struct stat64 *ret);
int __wrap_fstat64(int fd, struct stat64 *ret);
int __wrap_fstat64(int fd, struct stat64 *ret)
{
        static bool after;
        int r = __real_fstat64(fd, ret);

        if (r < 0 || !S_ISDIR(ret->st_mode))
                return r;
        if (changes > 0 && after) {
                char path[100];

                snprintf(path, sizeof(path), "%s/tmp/name-%u", folder, changes--);
                assert_int_equal(mkdir(path, 0700), 0);
                ret->st_ctim.tv_nsec ^= 1; /* within the same second */
        }
        after = !after;
        return 0;
}

static void forget(void)
{
        synced[0] = '\0';
        n_synced = 0;
}

static bool was_synced(const char *path)
{
        char word[PATH_MAX];

        snprintf(word, sizeof(word), "%s ", path);
        for (const char *at = strstr(synced, word); at; at = strstr(at + 1, word))
                if (at == synced || at[-1] == ' ')
                        return true;
        return false;
}

static int begin(void **state)
{
        struct err err = {};
        char url[80];

        strcpy(folder, "/tmp/test-store-dir-XXXXXX");
        assert_non_null(mkdtemp(folder));
        snprintf(url, sizeof(url), "dir:%s", folder);
        assert_int_equal(store_open(url, NULL, &store, &err), 0);
        fail_sync = 0;
        forget();
        assert_int_equal(store_prepare(store, &err), 0);
        fs = files_of(store)->fs;
        return 0;
}

static int end(void **state)
{
        char command[96];

        store = store_close(store);
        snprintf(command, sizeof(command), "rm -rf %s", folder);
        return system(command);
}

static void a_prepared_store_is_durable(void **state)
{
        assert_true(was_synced("."));
        assert_true(was_synced("records"));
}

static void a_put_syncs_its_content_if_asked_to(void **state)
{
        static const struct fs_owner owner = {.mode = 0640};
        struct fs_attr a;
        struct err err = {};

        forget();
        assert_int_equal(fs->ops->put(fs, "tmp/later", "x", 1, &owner, false, &err), 0);
        assert_int_equal(n_synced, 0);
        assert_int_equal(fs->ops->put(fs, "tmp/now", "x", 1, &owner, true, &err), 0);
        assert_true(was_synced("tmp/now"));
        assert_int_equal(fs->ops->stat(fs, "tmp/now", &a, &err), 0);
        assert_int_equal(a.mode, 0640);
        assert_int_equal(a.size, 1);
        assert_true(a.plain);
        assert_int_equal(fs->ops->put(fs, "tmp/now", "y", 1, &owner, true, &err), -EEXIST);
        fail_sync = EIO;
        assert_int_equal(fs->ops->put(fs, "tmp/failed", "x", 1, &owner, true, &err), -EIO);
        fail_sync = 0;
        assert_int_equal(fs->ops->stat(fs, "tmp/failed", &a, &err), -ENOENT); /* no half of it stays */
}

static void a_sync_is_one_of_each(void **state)
{
        static const char *const paths[] = {"tmp", "images", "records", "."};
        static const char *const missing[] = {"tmp", "nowhere", "images"};
        struct err err = {};

        forget();
        assert_int_equal(fs->ops->sync(fs, paths, ARRAY_SIZE(paths), &err), 0);
        assert_int_equal(n_synced, ARRAY_SIZE(paths));
        for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
                assert_true(was_synced(paths[i]));
        assert_int_equal(fs->ops->sync(fs, missing, 3, &err), -ENOENT);
        assert_non_null(strstr(err.text, "nowhere"));
        fail_sync = EIO;
        assert_int_equal(fs->ops->sync(fs, paths, 1, &err), -EIO);
        assert_int_equal(fs->ops->sync(fs, paths, 2, &err), -EIO);
}

static void a_record_is_durable_with_its_name(void **state)
{
        struct err err = {};

        assert_int_equal(record_put(store, RECORD_HOST, "1", 0, "one", NULL, &err), 0);
        assert_true(was_synced("records/host"));
        forget();
        assert_int_equal(record_put(store, RECORD_HOST, "1", 1, "two", NULL, &err), 0);
        assert_int_equal(n_synced, 2); /* the text, and the folder that has its name */
        assert_true(was_synced("records/host/1"));
        assert_non_null(strstr(synced, "tmp/record-"));
        assert_true(strstr(synced, "tmp/record-") < strstr(synced, "records/host/1"));
        forget();
        assert_int_equal(record_put(store, RECORD_HOST, "1", 2, NULL, NULL, &err), 0);
        assert_true(was_synced("records/host/1"));
        fail_sync = EIO;
        assert_int_equal(record_put(store, RECORD_HOST, "1", 0, "more", NULL, &err), -EIO);
}

static void an_image_is_durable_before_it_has_its_name(void **state)
{
        struct volume *v = NULL;
        struct err err = {};

        assert_int_equal(volume_create(store, "golden", 8192, &v, &err), 0);
        assert_int_equal(volume_write(v, "x", 1, 0, &err), 0);
        forget();
        fail_sync = EIO;
        assert_int_equal(volume_seal(v, &err), -EIO);
        assert_int_equal(n_synced, 1);
        fail_sync = 0;
        forget();
        assert_int_equal(volume_seal(v, &err), 0);
        assert_int_equal(n_synced, 2);
        assert_non_null(strstr(synced, ".part images "));
        assert_true(was_synced("images"));
        volume_close(v);
        forget();
        assert_int_equal(volume_remove(store, "golden", &err), 0);
        assert_true(was_synced("images"));
}

static void disks_are_durable_with_their_names(void **state)
{
        const struct disk_spec disks[] = {{.name = "disk0", .size = 1 << 20},
                                          {.name = "seed", .content = "seed", .n_content = 4}};
        struct lease one = {};
        struct err err = {};

        forget();
        assert_int_equal(lease_create(store, "vm", disks, 2, &err), 0);
        assert_int_equal(n_synced, 5);
        assert_true(was_synced("instances/vm/vm.e0.h0/disk0.qcow2"));
        assert_true(was_synced("instances/vm/vm.e0.h0/seed.iso"));
        assert_true(was_synced("instances/vm/vm.e0.h0"));
        assert_true(was_synced("instances/vm"));
        assert_true(was_synced("instances"));
        forget();
        assert_int_equal(lease_claim(store, "vm", &(struct lease){}, 1, false, &one, &err), 0);
        assert_true(was_synced("instances/vm"));
        forget();
        assert_int_equal(lease_remove(store, "vm", &one, disks, 2, &err), 0);
        assert_true(was_synced("instances/vm"));
}

/* More disks than one call of sync takes. */
static void many_disks_are_durable_too(void **state)
{
        struct disk_spec disks[11];
        char name[11][8], path[64];
        struct err err = {};

        for (size_t i = 0; i < 11; i++) {
                snprintf(name[i], sizeof(name[i]), "d%zu", i);
                disks[i] = (struct disk_spec){.name = name[i], .size = 1 << 20};
        }
        forget();
        assert_int_equal(lease_create(store, "vm", disks, 11, &err), 0);
        assert_int_equal(n_synced, 11 + 3);
        for (size_t i = 0; i < 11; i++) {
                snprintf(path, sizeof(path), "instances/vm/vm.e0.h0/d%zu.qcow2", i);
                assert_true(was_synced(path));
        }
}

/* docs/ownership.md, "Directory": the link of a start leads to its disks under the name of now. */
static void a_fence_points_the_starts_link_to_the_new_name(void **state)
{
        const struct disk_spec disk = {.name = "disk0", .size = 1 << 20};
        char path[200], target[200], want[220];
        struct lease one = {}, two = {};
        struct start start, other;
        struct attach a = {};
        struct err err = {};
        ssize_t n;

        assert_int_equal(lease_create(store, "vm", &disk, 1, &err), 0);
        assert_int_equal(lease_claim(store, "vm", &(struct lease){}, 1, false, &one, &err), 0);
        start_init(&start, "vm", 1, NULL, NULL, 0);
        assert_int_equal(lease_fence(store, "vm", &one, &start, &disk, 1, &err), 0);
        snprintf(path, sizeof(path), "%s/starts/%.2s/%s", folder, start.id, start.id);
        n = readlink(path, target, sizeof(target));
        assert_true(n > 0);
        assert_memory_equal(target, "../../instances/vm/vm.e1.h1", (size_t)n);
        assert_int_equal(lease_attach(store, "vm", &one, &start, &disk, 1, &a, &err), 0);
        snprintf(want, sizeof(want), "%s/disk0.qcow2", path);
        assert_string_equal(a.path, want);
        assert_true(a.qcow2 && !a.has_backing && !a.read_only && a.kind == ATTACH_FILE);
        assert_int_equal(access(a.path, F_OK), 0);
        assert_int_equal(lease_claim(store, "vm", &one, 2, false, &two, &err), 0);
        assert_int_equal(access(a.path, F_OK), -1);
        assert_int_equal(lease_fence(store, "vm", &one, &start, &disk, 1, &err), -ESTALE);
        assert_int_equal(lease_grant(store, "vm", &one, &start, &disk, 1, &err), -ESTALE);
        assert_int_equal(lease_gate(store, "vm", &one, &start, &disk, 1, &err), -EACCES);
        assert_int_equal(lease_fence(store, "vm", &two, &start, &disk, 1, &err), 0);
        assert_int_equal(access(a.path, F_OK), 0);
        assert_int_equal(lease_gate(store, "vm", &two, &start, &disk, 1, &err), 0);
        start_init(&other, "vm", 2, "attempt", NULL, 0);
        assert_int_equal(lease_grant(store, "vm", &two, &other, &disk, 1, &err), 0);
        snprintf(path, sizeof(path), "%s/starts/%.2s/%s/disk0.qcow2", folder, other.id, other.id);
        assert_int_equal(access(path, F_OK), 0);
        start_forget(store, "vm", &other);
        assert_int_equal(access(path, F_OK), -1);
        assert_int_equal(access(a.path, F_OK), 0);
}

static void the_locks_file_goes_with_the_disks(void **state)
{
        const struct disk_spec disk = {.name = "disk0", .size = 1 << 20};
        _cleanup_(freep) char *path = NULL, *again = NULL;
        struct stat st;
        struct err err = {};

        assert_int_equal(lease_create(store, "vm", &disk, 1, &err), 0);
        assert_int_equal(lease_lock_path(store, "vm", &path, &err), 0);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0600);
        assert_int_equal(lease_lock_path(store, "vm", &again, &err), 0);
        assert_string_equal(path, again);
        assert_int_equal(lease_remove(store, "vm", &(struct lease){1, 1}, &disk, 1, &err), -ESTALE);
        assert_int_equal(access(path, F_OK), 0);
        assert_int_equal(lease_remove(store, "vm", &(struct lease){}, &disk, 1, &err), 0);
        assert_int_equal(access(path, F_OK), -1);
}

/* Names that come, or go, between two pieces of a listing may be missed: it is made again. */
static void a_listing_is_of_one_moment(void **state)
{
        struct err err = {};
        unsigned n = 0;

        changes = 2;
        assert_int_equal(fs->ops->list(fs, "tmp", count_name, &n, &err), 0);
        assert_int_equal(n, 2);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
            cmocka_unit_test_setup_teardown(a_prepared_store_is_durable, begin, end),
            cmocka_unit_test_setup_teardown(a_put_syncs_its_content_if_asked_to, begin, end),
            cmocka_unit_test_setup_teardown(a_sync_is_one_of_each, begin, end),
            cmocka_unit_test_setup_teardown(a_record_is_durable_with_its_name, begin, end),
            cmocka_unit_test_setup_teardown(an_image_is_durable_before_it_has_its_name, begin, end),
            cmocka_unit_test_setup_teardown(disks_are_durable_with_their_names, begin, end),
            cmocka_unit_test_setup_teardown(many_disks_are_durable_too, begin, end),
            cmocka_unit_test_setup_teardown(a_fence_points_the_starts_link_to_the_new_name, begin, end),
            cmocka_unit_test_setup_teardown(the_locks_file_goes_with_the_disks, begin, end),
            cmocka_unit_test_setup_teardown(a_listing_is_of_one_moment, begin, end),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
