/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making and removing the disks of an instance. Whole or not at all: librbd's clone is several steps, so the
 * gate says when all disks are made (it appears, with an epoch), and until then the instance counts as
 * having none. Of two who make the same ones the pool's directory lets one have the name of the first disk;
 * only where that one never finishes does another write into the gate that it takes over. So an orderly
 * creation waits for one short write more than the clone itself.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/clock.h"
#include "imaged/store/rbd-gate.h"

#define MAKING_MS 4000    /* how long somebody else's half-made disks are given to become whole */
#define MAKING_LOOK_MS 50 /* and how often to look */
#define CLEAR_MS 4000     /* how long it is tried to make them in the place of one who is still at it */
#define NONCE_LEN 16

/* One disk being made on a thread of its own: a seed need not wait for the clone. */
struct making {
        rados_ioctx_t io;
        char image[POOL_NAME_MAX];
        const struct disk_spec *spec;
        const struct golden *golden;
        pthread_t thread;
        bool started;
        struct err err;
        int r;
};

static void *making_run(void *arg)
{
        struct making *m = arg;

        m->r = disk_make(m->io, m->image, m->spec, m->golden, &m->err);
        return NULL;
}

static int make_disks(rados_ioctx_t io, const char *instance, const struct disk_spec *disks,
                      const struct golden *golden, size_t n, struct err *err)
{
        const struct lease nobody = {0};
        _cleanup_(freep) struct making *all = calloc(n, sizeof *all);
        int r = 0;

        if (!all)
                return err_set(err, -ENOMEM, "out of memory");
        for (size_t i = 0; i < n; i++) {
                all[i].io = io;
                all[i].spec = &disks[i];
                all[i].golden = &golden[i];
                disk_image(instance, &nobody, disks, i, all[i].image);
                all[i].started = i > 0 && pthread_create(&all[i].thread, NULL, making_run, &all[i]) == 0;
        }
        for (size_t i = 0; i < n; i++)
                if (!all[i].started)
                        making_run(&all[i]);
        for (size_t i = 0; i < n; i++) {
                if (all[i].started)
                        pthread_join(all[i].thread, NULL);
                if (all[i].r < 0 && r == 0) {
                        r = all[i].r;
                        if (err)
                                *err = all[i].err;
                }
        }
        return r;
}

/* Removes what images there are, the one that is the lease last: as long as it is there, the work is not
 * done. */
static int remove_images(rados_ioctx_t io, const char *instance, struct err *err)
{
        _cleanup_(pool_list_done) struct pool_list names = {0};
        char prefix[POOL_NAME_MAX], owner[STORE_ID_MAX + 1];
        struct lease lease;
        int r;

        snprintf(prefix, sizeof prefix, "%s.", instance);
        r = pool_list(io, prefix, &names, err);
        for (int last = 0; last < 2; last++)
                for (size_t i = 0; i < names.n && r == 0; i++)
                        if ((lease_name_parse(names.image[i].name, owner, &lease) == 0) == (last == 1))
                                r = disk_remove(io, names.image[i].name, err);
        return r;
}

static int remove_gate(rados_ioctx_t io, const char *instance, struct err *err)
{
        char oid[POOL_NAME_MAX];
        int r;

        gate_object(instance, oid);
        r = rados_remove(io, oid);
        return r < 0 && r != -ENOENT ? pool_fail(err, r, "remove the gate of instance %s", instance) : 0;
}

static void pause_ms(long ms)
{
        const struct timespec pause = {.tv_nsec = ms * 1000000L};

        clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
}

/*
 * Waits until the disks are complete (-EEXIST), somebody else takes over (-EEXIST), or the time is up: then
 * ret_maker is who said before we came that he makes them, or empty. A nonce that appears later is of one
 * who waited, too, and has just begun.
 */
static int wait_for_maker(rados_ioctx_t io, const char *instance, char ret_maker[NONCE_LEN + 1],
                          struct err *err)
{
        const int64_t deadline = clock_ms() + MAKING_MS;

        *ret_maker = '\0';
        for (bool first = true;; first = false) {
                _cleanup_(gate_done) struct gate gate = {0};
                int r = gate_read(io, instance, &gate, err);

                if (r < 0 && r != -ENOENT)
                        return r;
                if (first && gate.making)
                        snprintf(ret_maker, NONCE_LEN + 1, "%s", gate.making);
                if (gate.complete || (gate.making && !streq(gate.making, ret_maker)))
                        return err_set(err, -EEXIST, "instance %s has disks already", instance);
                if (*ret_maker && !gate.making) { /* he has undone it */
                        *ret_maker = '\0';
                        return 0;
                }
                if (clock_ms() >= deadline)
                        return 0;
                pause_ms(MAKING_LOOK_MS);
        }
}

/* Puts our nonce into the gate: where there is none (maker empty), or in the place of theirs. -EEXIST:
 * another was first. */
static int note_maker(rados_ioctx_t io, const char *instance, const char *nonce, const char *maker,
                      struct err *err)
{
        _cleanup_(pool_write_op_donep) rados_write_op_t op = gate_begin_op(nonce, *maker ? maker : NULL);
        char oid[POOL_NAME_MAX];
        int r;

        gate_object(instance, oid);
        r = rados_write_op_operate(op, io, oid, NULL, 0);
        if (r == -ECANCELED || r == -EEXIST)
                return err_set(err, -EEXIST, "another makes the disks of instance %s", instance);
        return r < 0 ? pool_fail(err, r, "note who makes the disks of instance %s", instance) : 0;
}

/* What there is of the disks, also a name whose maker died before the directory had it. */
static int remove_half_made(rados_ioctx_t io, const char *instance, const struct disk_spec *disks, size_t n,
                            struct err *err)
{
        const struct lease nobody = {0};
        char image[POOL_NAME_MAX];
        int r = remove_images(io, instance, err);

        for (size_t i = 0; i < n && r == 0; i++) {
                disk_image(instance, &nobody, disks, i, image);
                r = disk_name_remove(io, image);
                if (r < 0)
                        return pool_fail(err, r, "remove the name %s", image);
        }
        return r;
}

/* What another who makes the same disks may cause. */
static bool in_the_way(int r)
{
        return r == -EEXIST || r == -ESTALE || r == -ENOENT || r == -EBUSY;
}

/*
 * Somebody makes, or once began to make, the disks. If nothing comes of it they are ours to make, from the
 * beginning. The other may only be slow: then his next steps meet ours, so it is tried until he is through.
 * His last step finds our nonce and fails.
 */
static int take_over(rados_ioctx_t io, const char *instance, const char *nonce,
                     const struct disk_spec *disks, const struct golden *golden, size_t n, struct err *err)
{
        const int64_t deadline = clock_ms() + CLEAR_MS;
        int r;

        for (;;) {
                r = remove_half_made(io, instance, disks, n, err);
                if (r == 0)
                        r = make_disks(io, instance, disks, golden, n, err);
                if (r == 0 || !in_the_way(r) || clock_ms() >= deadline)
                        break;
                pause_ms(MAKING_LOOK_MS);
                r = note_maker(io, instance, nonce, nonce, err);
                if (r < 0)
                        return r;
        }
        return r == -EEXIST
                   ? err_set(err, -EBUSY, "instance %s: its disks are being made by another", instance)
                   : r;
}

/*
 * The last step. taken_over: our nonce is in the gate; else there must be no gate. Meanwhile the clones get
 * their sizes. Where that fails, or is cut off, the gate says what is left to do for the first claim.
 */
static int make_complete(rados_ioctx_t io, const char *instance, const char *nonce, bool taken_over,
                         const struct disk_spec *disks, const struct golden *golden, size_t n,
                         struct err *err)
{
        _cleanup_(pool_op_done) struct pool_op op = {
            .write = gate_complete_op(taken_over ? nonce : NULL, disks, golden, n)};
        const struct lease nobody = {0};
        char oid[POOL_NAME_MAX], image[POOL_NAME_MAX];
        int r;

        gate_object(instance, oid);
        pool_op_begin(&op, io, oid);
        for (size_t i = 0; i < n; i++) {
                if (!disk_grows(&disks[i], &golden[i]))
                        continue;
                disk_image(instance, &nobody, disks, i, image);
                (void)disk_grow_made(io, image, disks[i].size);
        }
        r = pool_op_wait(&op);
        if (r == -ECANCELED || r == -ENOENT || r == -EEXIST)
                return err_set(err, -EEXIST, "another took over making the disks of instance %s", instance);
        return r < 0 ? pool_fail(err, r, "complete the disks of instance %s", instance) : 0;
}

/* After a failure: away with what was made, unless another has taken over. The gate goes only while our
 * nonce is in it: another's may be complete by now. */
static void undo(rados_ioctx_t io, const char *instance, const char *nonce, bool taken_over)
{
        _cleanup_(pool_write_op_donep) rados_write_op_t op = NULL;
        char oid[POOL_NAME_MAX];

        if (note_maker(io, instance, nonce, taken_over ? nonce : "", NULL) < 0 ||
            remove_images(io, instance, NULL) < 0)
                return;
        op = gate_begin_op(nonce, nonce);
        rados_write_op_remove(op);
        gate_object(instance, oid);
        (void)rados_write_op_operate(op, io, oid, NULL, 0);
}

/* What is to be known first. -ENODATA: there is no such name yet; -EEXIST: it is claimed, so its first disk
 * has a name where a clone would not meet it. */
static int create_look(rados_ioctx_t io, const char *instance, const struct disk_spec *disks, size_t n,
                       struct golden *ret_golden, struct lease *ret, struct err *err)
{
        _cleanup_(pool_scan_done) struct pool_scan scan = {0};
        _cleanup_(pool_list_done) struct pool_list images = {0};
        int found = 0, r;

        lease_images_begin(&scan, io, instance);
        for (size_t i = 0; i < n && found == 0; i++)
                if (disks[i].image && !disks[i].content)
                        found =
                            golden_find(io, disks[i].image, ret_golden[i].name, &ret_golden[i].size, err);
        r = lease_images_wait(&scan, io, instance, &images, err);
        if (r < 0)
                return r;
        r = lease_name_of(&images, instance, ret, NULL);
        if (r == 0 && ret->epoch > 0)
                return err_set(err, -EEXIST, "instance %s has disks already", instance);
        return found < 0 ? found : r == -ENOENT ? -ENODATA : r;
}

int rbd_lease_create(struct store *s, const char *instance, const struct disk_spec *disks, size_t n_disks,
                     struct err *err)
{
        _cleanup_(pool_client_putp) struct pool_client *client = NULL;
        _cleanup_(pool_io_donep) rados_ioctx_t io = NULL;
        _cleanup_(freep) struct golden *golden = calloc(n_disks, sizeof *golden);
        bool taken_over = false;
        char nonce[NONCE_LEN + 1];
        struct lease lease;
        int r = pool_io(s, &client, &io, err);

        if (r < 0)
                return r;
        if (!golden)
                return err_set(err, -ENOMEM, "out of memory");
        r = create_look(io, instance, disks, n_disks, golden, &lease, err);
        if (r < 0 && r != -ENODATA)
                return r;
        snprintf(nonce, sizeof nonce, "%016llx", (unsigned long long)random_u64());
        r = r == 0 ? -EEXIST : make_disks(io, instance, disks, golden, n_disks, err);
        if (r == -EEXIST) {
                char maker[NONCE_LEN + 1];

                r = wait_for_maker(io, instance, maker, err);
                if (r == 0)
                        r = note_maker(io, instance, nonce, maker, err);
                if (r < 0)
                        return r;
                taken_over = true;
                r = take_over(io, instance, nonce, disks, golden, n_disks, err);
        }
        if (r == 0) {
                r = make_complete(io, instance, nonce, taken_over, disks, golden, n_disks, err);
                if (r == -EEXIST) /* then what stands there is no longer ours */
                        return r;
        }
        if (r < 0 && r != -ETIMEDOUT)
                undo(io, instance, nonce, taken_over);
        return r;
}

#define EVICT_MAX 64     /* clients in one batch: the QEMUs that were killed within 30 s, an image each */
#define EVICT_TTL 86400U /* seconds: with its disks gone there is nothing left for them to write to */

struct eviction {
        struct gate_client clients[EVICT_MAX];
        size_t n;
};

static int evict_add(void *arg, const char *address)
{
        struct eviction *e = arg;

        if (e->n < EVICT_MAX)
                snprintf(e->clients[e->n++].address, sizeof e->clients[0].address, "%s", address);
        return 0;
}

/* The owner ends the QEMUs first. One that was killed is still a watcher of its images for 30 s, of the
 * read-only ones too, which stands in the way of a removal; on the blocklist it no longer is. Those who are
 * there already, of earlier fences, get the same time: nobody will know of them any more. */
static int evict(const struct store *s, rados_ioctx_t io, const char *own, const char *instance,
                 struct err *err)
{
        _cleanup_(pool_list_done) struct pool_list names = {0};
        _cleanup_(gate_done) struct gate gate = {0};
        const struct gate_client *out[EVICT_MAX];
        struct eviction *e = NULL;
        _cleanup_(freep) void *memory = calloc(1, sizeof *e);
        char prefix[POOL_NAME_MAX];
        int r;

        if (!memory)
                return err_set(err, -ENOMEM, "out of memory");
        e = memory;
        r = gate_read(io, instance, &gate, err);
        if (r < 0 && r != -ENOENT)
                return r;
        for (size_t i = 0; i < gate.n_clients; i++)
                evict_add(e, gate.clients[i].address);
        snprintf(prefix, sizeof prefix, "%s.", instance);
        r = pool_list(io, prefix, &names, err);
        for (size_t i = 0; i < names.n && r >= 0; i++)
                r = disk_watchers(io, names.image[i].name, names.image[i].id, NULL, own, evict_add, e, err);
        if (r < 0 && r != -ENOENT)
                return r;
        for (size_t i = 0; i < gate.n_fenced; i++)
                evict_add(e, gate.fenced[i].address);
        for (size_t i = 0; i < e->n; i++)
                out[i] = &e->clients[i];
        return fence_clients(s, out, e->n, EVICT_TTL,
                             err); /* the gate object with their entries goes, too */
}

int rbd_lease_remove(struct store *s, const char *instance, const struct lease *mine,
                     const struct disk_spec *disks _unused_, size_t n_disks _unused_, struct err *err)
{
        _cleanup_(pool_client_putp) struct pool_client *client = NULL;
        _cleanup_(pool_io_donep) rados_ioctx_t io = NULL;
        int r = pool_io(s, &client, &io, err);

        if (r < 0)
                return r;
        r = lease_look(io, instance, mine, err);
        if (r == 0)
                r = evict(s, io, client->own, instance, err);
        if (r < 0 && r != -ENOENT)
                return r;
        r = remove_images(io, instance, err);
        return r < 0 ? r : remove_gate(io, instance, err);
}
