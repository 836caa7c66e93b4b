/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What making an instance's disk costs beside librbd's own clone call, in turns, and what a claim, a fence
 * and a gate cost; then a claim, and librbd's own rename, of a disk whose writer was killed a moment ago.
 * Run by hand: bench-rbd URL CEPH_CONF USER [ROUNDS]
 */
#include <errno.h>
#include <rbd/librbd.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "imaged/store/rbd-gate.h"

#define MIB ((uint64_t)1 << 20)
#define ROUNDS_MAX 200

static void must(int r, const struct err *err, const char *what)
{
        if (r >= 0)
                return;
        fprintf(stderr, "%s: %s\n", what, err ? err_text(err) : strerror(-r));
        exit(1);
}

static int by_size(const void *a, const void *b)
{
        const double x = *(const double *)a, y = *(const double *)b;

        return x < y ? -1 : x > y;
}

static double median(double *v, size_t n)
{
        qsort(v, n, sizeof *v, by_size);
        return v[n / 2];
}

static double since(int64_t ns)
{
        return (double)(clock_ns() - ns) / 1e6;
}

static void own_clone(rados_ioctx_t io, const char *golden, const char *name)
{
        rbd_image_options_t opts;

        rbd_image_options_create(&opts);
        rbd_image_options_set_uint64(opts, RBD_IMAGE_OPTION_FEATURES,
                                     RBD_FEATURE_LAYERING | RBD_FEATURE_DEEP_FLATTEN);
        rbd_image_options_set_uint64(opts, RBD_IMAGE_OPTION_CLONE_FORMAT, 2);
        must(rbd_clone3(io, golden, POOL_SNAP, io, name, opts), NULL, "rbd_clone3");
        rbd_image_options_destroy(opts);
}

/* A client at the gate, as a registration leaves it; the address is nobody's. */
static void record_client(rados_ioctx_t io, const char *instance)
{
        rados_write_op_t op = rados_create_write_op();
        char oid[POOL_NAME_MAX], key[64], val[64];
        const char *k = key, *v = val;
        size_t n_key, n_val;

        n_key = (size_t)snprintf(key, sizeof key, "client.192.0.2.1:0/%u", (unsigned)random_u64());
        n_val = (size_t)snprintf(val, sizeof val, "%016x %s -", 1, instance);
        gate_object(instance, oid);
        rados_write_op_omap_set2(op, &k, &v, &n_key, &n_val, 1);
        must(rados_write_op_operate(op, io, oid, NULL, 0), NULL, "record a client");
        rados_release_write_op(op);
}

static void one_round(struct store *s, rados_ioctx_t io, const char *golden, const char *image,
                      uint64_t size, double ret[5])
{
        struct disk_spec spec = {.name = "disk0", .image = image, .size = size};
        char id[UUID_LEN + 1];
        struct lease lease = {0};
        struct start start;
        struct err err = {0};
        int64_t t;

        uuid_random(id);
        start_init(&start, id, 1, NULL, NULL, 0);
        t = clock_ns();
        own_clone(io, golden, id);
        ret[0] = since(t);
        must(rbd_remove(io, id), NULL, "rbd_remove");
        t = clock_ns();
        must(lease_create(s, id, &spec, 1, &err), &err, "lease_create");
        ret[1] = since(t);
        t = clock_ns();
        must(lease_claim(s, id, &lease, 1, false, &lease, &err), &err, "lease_claim");
        ret[2] = since(t);
        t = clock_ns();
        must(lease_fence(s, id, &lease, &start, &spec, 1, &err), &err, "lease_fence");
        ret[3] = since(t);
        record_client(io, id);
        must(lease_claim(s, id, &lease, 2, false, &lease, &err), &err, "lease_claim");
        start_init(&start, id, lease.epoch, NULL, NULL, 0);
        t = clock_ns();
        must(lease_fence(s, id, &lease, &start, &spec, 1, &err), &err, "lease_fence");
        ret[4] = since(t);
        must(lease_remove(s, id, &lease, &spec, 1, &err), &err, "lease_remove");
}

/* A process that has the image open and has written to it is killed: its watch stays for 30 s. */
static void leave_dead_writer(const struct store_options *options, const char *pool, const char *image)
{
        _cleanup_(freep) char *disk =
            str_printf("rbd:%s/%s:id=%s:conf=%s", pool, image, options->ceph_user, options->ceph_conf);
        int out[2], status;
        char text[512] = "";
        size_t n = 0;
        pid_t pid;

        must(pipe(out) < 0 ? -errno : 0, NULL, "pipe");
        pid = fork();
        if (pid == 0) {
                dup2(out[1], STDOUT_FILENO);
                /* on a pipe it would not say anything before its end */
                execlp("stdbuf", "stdbuf", "-o0", "qemu-io", "-f", "raw", "-c", "write 0 4k", "-c",
                       "sleep 600000", disk, NULL);
                _exit(127);
        }
        close(out[1]);
        while (n < sizeof text - 1 && !strstr(text, "wrote 4096")) {
                ssize_t got = read(out[0], text + n, sizeof text - 1 - n);

                must(got > 0 ? 0 : -EIO, NULL, "qemu-io");
                n += (size_t)got;
        }
        kill(pid, SIGKILL);
        waitpid(pid, &status, 0);
        close(out[0]);
}

enum of_dead { CLAIM, RENAME, OLD_CLAIM, OLD_RENAME, OF_DEAD_MAX };

/* old: a disk of a version before deep-flatten. ret: ms. */
static double take_from_dead(struct store *s, rados_ioctx_t io, const struct store_options *options,
                             const char *golden_image, enum of_dead what)
{
        struct disk_spec spec = {.name = "disk0", .image = golden_image, .size = 16 * MIB};
        char id[UUID_LEN + 1], name[POOL_NAME_MAX], other[POOL_NAME_MAX], pool[128];
        struct lease lease = {0};
        rbd_image_t image = NULL;
        struct err err = {0};
        double ms;
        int64_t t;

        uuid_random(id);
        must(lease_create(s, id, &spec, 1, &err), &err, "lease_create");
        disk_image(id, &lease, &spec, 0, name);
        if (what == OLD_CLAIM || what == OLD_RENAME) {
                must(rbd_open(io, name, &image, NULL), NULL, "rbd_open");
                must(rbd_update_features(image, RBD_FEATURE_DEEP_FLATTEN, 0), NULL, "rbd_update_features");
                rbd_close(image);
        }
        must(rados_ioctx_get_pool_name(io, pool, sizeof pool), NULL, "pool's name");
        leave_dead_writer(options, pool, name);
        snprintf(other, sizeof other, "bench.%s", id);
        t = clock_ns();
        if (what == CLAIM || what == OLD_CLAIM)
                must(lease_claim(s, id, &lease, 1, false, &lease, &err), &err, "lease_claim");
        else
                must(rbd_rename(io, name, other), NULL, "rbd_rename");
        ms = since(t);
        if (what == RENAME || what == OLD_RENAME)
                must(rbd_rename(io, other, name), NULL, "rbd_rename back");
        must(lease_remove(s, id, &lease, &spec, 1, &err), &err, "lease_remove");
        return ms;
}

int main(int argc, char **argv)
{
        const struct store_options options = {.ceph_conf = argc > 2 ? argv[2] : NULL,
                                              .ceph_user = argc > 3 ? argv[3] : NULL};
        size_t rounds = MIN_OF(argc > 4 ? (size_t)atoi(argv[4]) : 20, ROUNDS_MAX);
        double v[6][ROUNDS_MAX], five[5];
        char image[UUID_LEN + 1], golden[POOL_NAME_MAX];
        struct volume *vol = NULL;
        struct store *s = NULL;
        struct err err = {0};
        rados_ioctx_t io;
        rados_t plain;
        uint64_t size;

        must(store_open(argc > 1 ? argv[1] : "rbd:wherry", &options, &s, &err), &err, "store_open");
        must(store_prepare(s, &err), &err, "store_prepare");
        uuid_random(image);
        must(volume_create(s, image, 16 * MIB, &vol, &err), &err, "volume_create");
        must(volume_write(vol, "boot", 4, 0, &err), &err, "volume_write");
        must(volume_seal(vol, &err), &err, "volume_seal");
        volume_close(vol);
        /* librbd's own clone with a client as anybody would set it up. */
        must(rados_create(&plain, options.ceph_user ? options.ceph_user : "admin"), NULL, "rados_create");
        must(rados_conf_read_file(plain, options.ceph_conf), NULL, "rados_conf_read_file");
        must(rados_connect(plain), NULL, "rados_connect");
        must(pool_io_in(s, plain, "", &io, &err), &err, "pool_io_in");
        must(golden_find(io, image, golden, &size, &err), &err, "golden_find");
        for (size_t i = 0; i < rounds; i++) {
                one_round(s, io, golden, image, 16 * MIB, five);
                for (size_t k = 0; k < 5; k++)
                        v[k][i] = five[k];
                one_round(s, io, golden, image, 64 * MIB, five);
                v[5][i] = five[1];
        }
        printf(
            "medians of %zu, ms: rbd_clone3 %.2f, lease_create %.2f, with a larger disk %.2f, claim %.2f, "
            "first fence %.2f, fence of one client %.2f\n",
            rounds, median(v[0], rounds), median(v[1], rounds), median(v[5], rounds), median(v[2], rounds),
            median(v[3], rounds), median(v[4], rounds));
        for (size_t i = 0; i < rounds; i++)
                for (size_t k = 0; k < OF_DEAD_MAX; k++)
                        v[k][i] = take_from_dead(s, io, &options, image, (enum of_dead)k);
        printf("beside a writer killed a moment ago, ms, median and longest:\n");
        for (size_t k = 0; k < OF_DEAD_MAX; k++) {
                static const char *const names[] = {"claim", "rbd_rename", "claim, layering only",
                                                    "rbd_rename, layering only"};
                double mid = median(v[k], rounds); /* orders them */

                printf("  %s: %.2f, %.2f\n", names[k], mid, v[k][rounds - 1]);
        }
        must(volume_remove(s, image, &err), &err, "volume_remove");
        pool_io_donep(&io);
        rados_shutdown(plain);
        store_close(s);
        return 0;
}
