/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef HAVE_RBD
#include <rados/librados.h>
#include <rbd/librbd.h>
#endif

#include "common/clock.h"
#include "common/util.h"
#include "imaged/store/store.h"

/*
 * Times the making of a copy-on-write disk against the peer's way, one of ours, one of theirs, in turn:
 * dir and nfs: `qemu-img create -b`, made durable; rbd: librbd's own clone call.
 * usage: bench-disk URL ROUNDS [CEPH_CONF CEPH_USER]. Prints {"ours_ms": median, "peer_ms": median, "runs":
 * N}.
 */
#define SIZE (10ULL << 30)
#define WARM_UP 3

struct bench {
        struct store *store;
        const char *url, *ceph_conf, *ceph_user;
        char image[UUID_LEN + 1];
        struct attach golden;
};

static int die(const char *what, const struct err *e)
{
        fprintf(stderr, "bench-disk: %s: %s\n", what, err_text(e));
        exit(1);
}

static void make_golden(struct bench *b)
{
        static char block[1 << 20];
        struct volume *v;
        struct err e = {0};

        memset(block, 0x5a, sizeof(block));
        uuid_random(b->image);
        if (volume_create(b->store, b->image, 64 << 20, &v, &e) < 0)
                die("golden image", &e);
        for (uint64_t at = 0; at < 16 << 20; at += sizeof(block))
                if (volume_write(v, block, sizeof(block), at, &e) < 0)
                        die("golden image", &e);
        if (volume_seal(v, &e) < 0)
                die("golden image", &e);
        volume_close(v);
        if (volume_attach(b->store, b->image, &b->golden, &e) < 0)
                die("golden image", &e);
}

static double ours(struct bench *b)
{
        struct disk_spec disk = {.name = "disk0", .image = b->image, .size = SIZE};
        struct lease lease = {0};
        char id[UUID_LEN + 1];
        struct err e = {0};
        int64_t t;

        uuid_random(id);
        t = clock_ns();
        if (lease_create(b->store, id, &disk, 1, &e) < 0)
                die("our disk", &e);
        t = clock_ns() - t;
        if (lease_remove(b->store, id, &lease, &disk, 1, &e) < 0)
                die("removing our disk", &e);
        return (double)t / 1e6;
}

static void run(const char *const argv[])
{
        extern char **environ;
        pid_t pid;
        int status;

        if (posix_spawnp(&pid, argv[0], NULL, NULL, (char *const *)argv, environ) != 0 ||
            waitpid(pid, &status, 0) < 0 || status != 0) {
                fprintf(stderr, "bench-disk: %s failed\n", argv[0]);
                exit(1);
        }
}

static void sync_path(const char *path, int flags)
{
        int fd = open(path, flags | O_CLOEXEC);

        if (fd < 0 || fsync(fd) < 0) {
                fprintf(stderr, "bench-disk: fsync %s: %s\n", path, strerror(errno));
                exit(1);
        }
        close(fd);
}

static double peer_qemu_img(struct bench *b)
{
        bool nfs = b->golden.kind == ATTACH_NFS;
        char backing[1100], target[1200], folder[600];
        int64_t t;

        snprintf(folder, sizeof(folder), "%.*s", (int)(strrchr(b->golden.path, '/') - b->golden.path),
                 b->golden.path);
        snprintf(backing, sizeof(backing), "%s%s%s", nfs ? "nfs://" : "", nfs ? b->golden.server : "",
                 b->golden.path);
        snprintf(target, sizeof(target), "%s%s%s/bench-peer-%llx.qcow2", nfs ? "nfs://" : "",
                 nfs ? b->golden.server : "", folder, (unsigned long long)random_u64());
        t = clock_ns();
        run((const char *[]){"qemu-img", "create", "-q", "-f", "qcow2", "-b", backing, "-F", "raw", target,
                             "10G", NULL});
        if (!nfs) {
                sync_path(target, O_RDWR);
                sync_path(folder, O_RDONLY | O_DIRECTORY);
        }
        t = clock_ns() - t;
        if (!nfs)
                unlink(target);
        return (double)t / 1e6;
}

#ifdef HAVE_RBD
/* One connection, as a program has that makes clones one after the other. */
static double peer_rbd(struct bench *b)
{
        static rados_t cluster;
        static rados_ioctx_t io;
        char pool[128], name[64];
        rbd_image_options_t o;
        int64_t t;
        int r = 0;

        snprintf(pool, sizeof(pool), "%.*s", (int)strcspn(b->golden.path, "/"), b->golden.path);
        if (!cluster) {
                r = rados_create(&cluster, b->ceph_user);
                if (r == 0)
                        r = rados_conf_read_file(cluster, b->ceph_conf);
                if (r == 0)
                        r = rados_connect(cluster);
                if (r == 0)
                        r = rados_ioctx_create(cluster, pool, &io);
        }
        rbd_image_options_create(&o);
        rbd_image_options_set_uint64(o, RBD_IMAGE_OPTION_FEATURES, RBD_FEATURE_LAYERING);
        rbd_image_options_set_uint64(o, RBD_IMAGE_OPTION_CLONE_FORMAT, 2);
        snprintf(name, sizeof(name), "bench-peer-%llx", (unsigned long long)random_u64());
        t = clock_ns();
        if (r == 0)
                r = rbd_clone3(io, strrchr(b->golden.path, '/') + 1, GOLDEN_SNAPSHOT, io, name, o);
        t = clock_ns() - t;
        rbd_image_options_destroy(o);
        if (r == 0)
                r = rbd_remove(io, name);
        if (r < 0) {
                fprintf(stderr, "bench-disk: rbd_clone3: %s\n", strerror(-r));
                exit(1);
        }
        return (double)t / 1e6;
}
#endif

static int by_value(const void *a, const void *b)
{
        double x = *(const double *)a, y = *(const double *)b;

        return x < y ? -1 : x > y;
}

static double median(double *v, int n)
{
        qsort(v, (size_t)n, sizeof(*v), by_value);
        return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

int main(int argc, char **argv)
{
        struct bench b = {.url = argc > 1 ? argv[1] : NULL,
                          .ceph_conf = argc > 3 ? argv[3] : NULL,
                          .ceph_user = argc > 4 ? argv[4] : NULL};
        struct store_options options = {.ceph_conf = b.ceph_conf, .ceph_user = b.ceph_user};
        int rounds = argc > 2 ? atoi(argv[2]) : 0;
        double (*peer)(struct bench *) = peer_qemu_img;
        double *mine, *theirs;
        struct err e = {0};

        if (rounds < 1) {
                fprintf(stderr, "usage: bench-disk URL ROUNDS [CEPH_CONF CEPH_USER]\n");
                return 2;
        }
        mine = calloc((size_t)rounds, sizeof(*mine));
        theirs = calloc((size_t)rounds, sizeof(*theirs));
        if (!mine || !theirs || store_open(b.url, &options, &b.store, &e) < 0 ||
            store_prepare(b.store, &e) < 0)
                die(b.url, &e);
        make_golden(&b);
#ifdef HAVE_RBD
        if (b.golden.kind == ATTACH_RBD)
                peer = peer_rbd;
#endif
        for (int i = -WARM_UP; i < rounds; i++) {
                double x = ours(&b), y = peer(&b);

                if (i >= 0) {
                        mine[i] = x;
                        theirs[i] = y;
                }
        }
        printf("{\"ours_ms\": %.3f, \"peer_ms\": %.3f, \"runs\": %d}\n", median(mine, rounds),
               median(theirs, rounds), rounds);
        if (volume_remove(b.store, b.image, &e) < 0)
                die("removing the golden image", &e);
        store_close(b.store);
        free(mine);
        free(theirs);
        return 0;
}
