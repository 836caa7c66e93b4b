/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef HAVE_RBD
#include <rados/librados.h>
#include <rbd/librbd.h>
#endif

#include "common/clock.h"
#include "tests/bench/bench.h"

/*
 * Times the making of a copy-on-write disk against the peer's way, one of ours, one of theirs, in turn:
 * dir and nfs: `qemu-img create -b`, made durable; rbd: librbd's own clone call.
 * usage: bench-disk URL ROUNDS [CEPH_CONF CEPH_USER]. Prints {"ours_ms": median, "peer_ms": median, "runs":
 * N}.
 */
#define SIZE (10ULL << 30)
#define WARM_UP 3

struct disks {
        struct bench bench;
        const char *ceph_conf, *ceph_user;
};

static double ours(struct disks *d)
{
        struct disk_spec disk = {.name = "disk0", .image = d->bench.image, .size = SIZE};
        struct lease lease = {0};
        char id[UUID_LEN + 1];
        struct err e = {0};
        int64_t t;

        uuid_random(id);
        t = clock_ns();
        if (lease_create(d->bench.store, id, &disk, 1, &e) < 0)
                bench_die("our disk", &e);
        t = clock_ns() - t;
        if (lease_remove(d->bench.store, id, &lease, &disk, 1, &e) < 0)
                bench_die("removing our disk", &e);
        return (double)t / 1e6;
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

static double peer_qemu_img(struct disks *d)
{
        bool nfs = d->bench.golden.kind == ATTACH_NFS;
        char target[BENCH_PATH_MAX], *slash;
        int64_t t = clock_ns();

        bench_qemu_img_create(&d->bench, target);
        if (!nfs) {
                _cleanup_(freep) char *folder = strdup(target);

                slash = strrchr(folder, '/');
                *slash = '\0';
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
static double peer_rbd(struct disks *d)
{
        static rados_t cluster;
        static rados_ioctx_t io;
        char pool[128], name[64];
        rbd_image_options_t o;
        int64_t t;
        int r = 0;

        snprintf(pool, sizeof(pool), "%.*s", (int)strcspn(d->bench.golden.path, "/"), d->bench.golden.path);
        if (!cluster) {
                r = rados_create(&cluster, d->ceph_user);
                if (r == 0)
                        r = rados_conf_read_file(cluster, d->ceph_conf);
                if (r == 0)
                        r = rados_connect(cluster);
                if (r == 0)
                        r = rados_ioctx_create(cluster, pool, &io);
        }
        rbd_image_options_create(&o);
        rbd_image_options_set_uint64(o, RBD_IMAGE_OPTION_FEATURES,
                                     RBD_FEATURE_LAYERING | RBD_FEATURE_DEEP_FLATTEN);
        rbd_image_options_set_uint64(o, RBD_IMAGE_OPTION_CLONE_FORMAT, 2);
        snprintf(name, sizeof(name), "bench-peer-%llx", (unsigned long long)random_u64());
        t = clock_ns();
        if (r == 0)
                r = rbd_clone3(io, strrchr(d->bench.golden.path, '/') + 1, GOLDEN_SNAPSHOT, io, name, o);
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

int main(int argc, char **argv)
{
        struct disks d = {.ceph_conf = argc > 3 ? argv[3] : NULL, .ceph_user = argc > 4 ? argv[4] : NULL};
        const struct store_options options = {.ceph_conf = d.ceph_conf, .ceph_user = d.ceph_user};
        int rounds = argc > 2 ? atoi(argv[2]) : 0;
        double (*peer)(struct disks *) = peer_qemu_img;
        double *mine, *theirs;

        if (rounds < 1) {
                fprintf(stderr, "usage: bench-disk URL ROUNDS [CEPH_CONF CEPH_USER]\n");
                return 2;
        }
        mine = calloc((size_t)rounds, sizeof(*mine));
        theirs = calloc((size_t)rounds, sizeof(*theirs));
        if (!mine || !theirs)
                return 1;
        bench_begin(&d.bench, argv[1], &options, 64 << 20, 16 << 20);
#ifdef HAVE_RBD
        if (d.bench.golden.kind == ATTACH_RBD)
                peer = peer_rbd;
#endif
        for (int i = -WARM_UP; i < rounds; i++) {
                double x = ours(&d), y = peer(&d);

                if (i >= 0) {
                        mine[i] = x;
                        theirs[i] = y;
                }
        }
        printf("{\"ours_ms\": %.3f, \"peer_ms\": %.3f, \"runs\": %d}\n", bench_median(mine, rounds),
               bench_median(theirs, rounds), rounds);
        bench_end(&d.bench);
        free(mine);
        free(theirs);
        return 0;
}
