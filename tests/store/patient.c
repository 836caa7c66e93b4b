/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/store/faults.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * "A timed-out operation is neither done nor failed: read what is there." One wrapper for each call; most
 * may simply be asked again. Only where the answer to the second question differs from what it would have
 * been to the first (exists already, is gone already, was changed already) is it understood, and that only
 * where nobody else could have done it.
 */
#define TRIES 500

static const struct engine *real;
static struct engine patient;

static bool is_unknown(int r)
{
        return r == -ETIMEDOUT || r == -EHOSTUNREACH ||
               (r == -EIO && (faults_kind() == FAULT_FAIL || faults_kind() == FAULT_ANY));
}

/* `doubt` is true once an answer was "unknown". */
#define ASK(doubt, call)                                                                                    \
        __extension__({                                                                                     \
                int r_ = -ETIMEDOUT;                                                                        \
                for (int i_ = 0; i_ < TRIES && is_unknown(r_); i_++) {                                      \
                        if (i_ > 0)                                                                         \
                                (doubt) = true;                                                             \
                        *err = (struct err){};                                                              \
                        r_ = (call);                                                                        \
                }                                                                                           \
                r_;                                                                                         \
        })
#define ASK_AGAIN(call)                                                                                     \
        __extension__({                                                                                     \
                bool doubt_ = false;                                                                        \
                int asked_ = ASK(doubt_, call);                                                             \
                (void)doubt_;                                                                               \
                asked_;                                                                                     \
        })

/* --- records */

static int get(struct store *s, enum record_kind kind, const char *id, char **ret_text,
               uint64_t *ret_version, struct err *err)
{
        return ASK_AGAIN(real->records->get(s, kind, id, ret_text, ret_version, err));
}

/* After an unknown put: 1 it was done, 0 it was not, else -errno. */
static int was_put(struct store *s, enum record_kind kind, const char *id, uint64_t expected,
                   const char *text, uint64_t *ret_version, struct err *err)
{
        _cleanup_(freep) char *now = NULL;
        uint64_t version = 0;
        int r = get(s, kind, id, &now, &version, err);

        if (r < 0 && r != -ENOENT)
                return r;
        if (r == -ENOENT) {
                *ret_version = expected + 1;
                return !text;
        }
        *ret_version = version;
        return text && streq(now, text) && (expected == 0 || version == expected + 1);
}

static int put(struct store *s, enum record_kind kind, const char *id, uint64_t expected, const char *text,
               uint64_t *ret_version, struct err *err)
{
        int r = -ETIMEDOUT;

        for (int i = 0; i < TRIES && is_unknown(r); i++) {
                int was;

                r = real->records->put(s, kind, id, expected, text, ret_version, err);
                /* one that was asked for before may have come late, and before this one */
                if (!is_unknown(r) && !(r == -ESTALE && i > 0))
                        return r;
                if (faults_are_racing())
                        return -ETIMEDOUT;
                was = was_put(s, kind, id, expected, text, ret_version, err);
                if (was != 0)
                        return was < 0 ? was : 0;
        }
        return r;
}

struct records {
        struct item {
                char id[STORE_ID_MAX + 1];
                uint64_t version;
                struct lease lease;
                char *text;
        } * item;
        size_t n;
};

static void records_clear(struct records *l)
{
        for (size_t i = 0; i < l->n; i++)
                free(l->item[i].text);
        free(l->item);
        *l = (struct records){};
}

static struct item *records_add(struct records *l, const char *id)
{
        struct item *bigger = realloc(l->item, (l->n + 1) * sizeof(*bigger));

        if (!bigger)
                abort();
        l->item = bigger;
        bigger[l->n] = (struct item){};
        strcpy(bigger[l->n].id, id);
        return &bigger[l->n++];
}

static int keep_record(void *arg, const char *id, uint64_t version, const char *text)
{
        struct item *i = records_add(arg, id);

        i->version = version;
        i->text = strdup(text);
        return i->text ? 0 : -ENOMEM;
}

static int keep_lease(void *arg, const char *id, const struct lease *lease)
{
        records_add(arg, id)->lease = *lease;
        return 0;
}

static int list(struct store *s, enum record_kind kind, record_cb cb, void *arg, struct err *err)
{
        _cleanup_(records_clear) struct records l = {};
        int r = ASK_AGAIN((records_clear(&l), real->records->list(s, kind, keep_record, &l, err)));

        for (size_t i = 0; r == 0 && i < l.n; i++)
                r = cb(arg, l.item[i].id, l.item[i].version, l.item[i].text);
        return r;
}

static int beat_write_(struct store *s, unsigned host, uint64_t counter, struct err *err)
{
        return ASK_AGAIN(real->records->beat_write(s, host, counter, err));
}

static int beat_read_(struct store *s, unsigned host, uint64_t *ret, struct err *err)
{
        return ASK_AGAIN(real->records->beat_read(s, host, ret, err));
}

/* --- images */

static int again_from_nothing(struct volume *v, int (*call)(struct volume *, struct err *), struct err *err)
{
        if (v->state)
                real->volumes->close(v);
        v->state = NULL;
        v->sealed = false;
        return call(v, err);
}

static int create(struct volume *v, struct err *err)
{
        return ASK_AGAIN(again_from_nothing(v, real->volumes->create, err));
}

static int open_(struct volume *v, struct err *err)
{
        return ASK_AGAIN(again_from_nothing(v, real->volumes->open, err));
}

static int write_(struct volume *v, const void *buf, size_t len, uint64_t offset, struct err *err)
{
        return ASK_AGAIN(real->volumes->write(v, buf, len, offset, err));
}

static int resize(struct volume *v, uint64_t size, struct err *err)
{
        return ASK_AGAIN(real->volumes->resize(v, size, err));
}

static int seal(struct volume *v, struct err *err)
{
        return ASK_AGAIN(real->volumes->seal(v, err));
}

static int read_(struct volume *v, void *buf, size_t len, uint64_t offset, struct err *err)
{
        return ASK_AGAIN(real->volumes->read(v, buf, len, offset, err));
}

static void close_(struct volume *v)
{
        real->volumes->close(v);
}

static int remove_(struct store *s, const char *image, struct err *err)
{
        struct volume before = {.store = s};
        bool doubt = false, was_there;
        int r;

        snprintf(before.image, sizeof(before.image), "%s", image);
        was_there = open_(&before, err) == 0;
        real->volumes->close(&before);
        r = ASK(doubt, real->volumes->remove(s, image, err));
        return r == -ENOENT && doubt && was_there ? 0 : r;
}

static int attach_image(struct store *s, const char *image, struct attach *ret, struct err *err)
{
        return ASK_AGAIN(real->volumes->attach(s, image, ret, err));
}

/* --- reading an instance's disk */

static int disk_again(struct disk_reader *d, const struct lease *lease, const struct disk_spec *disk,
                      struct err *err)
{
        if (d->state)
                real->disks->close(d);
        d->state = NULL;
        return real->disks->open(d, lease, disk, err);
}

static int disk_open_(struct disk_reader *d, const struct lease *lease, const struct disk_spec *disk,
                      struct err *err)
{
        return ASK_AGAIN(disk_again(d, lease, disk, err));
}

static int disk_read_(struct disk_reader *d, void *buf, size_t len, uint64_t offset, struct err *err)
{
        return ASK_AGAIN(real->disks->read(d, buf, len, offset, err));
}

static void disk_close_(struct disk_reader *d)
{
        real->disks->close(d);
}

/* --- leases */

static int find(struct store *s, const char *instance, struct lease *ret, struct err *err)
{
        return ASK_AGAIN(real->leases->find(s, instance, ret, err));
}

static int lease_create_(struct store *s, const char *instance, const struct disk_spec *disks, size_t n,
                         struct err *err)
{
        bool doubt = false;
        struct lease before;
        int r = faults_are_racing() ? -ENOENT : find(s, instance, &before, err);

        if (r == 0)
                return ASK_AGAIN(real->leases->create(s, instance, disks, n, err));
        r = ASK(doubt, real->leases->create(s, instance, disks, n, err));
        if (r != -EEXIST || !doubt)
                return r;
        return faults_are_racing() ? -ETIMEDOUT : 0;
}

static int list_leases(struct store *s, lease_cb cb, void *arg, struct err *err)
{
        _cleanup_(records_clear) struct records l = {};
        int r = ASK_AGAIN((records_clear(&l), real->leases->list(s, keep_lease, &l, err)));

        for (size_t i = 0; r == 0 && i < l.n; i++)
                r = cb(arg, l.item[i].id, &l.item[i].lease);
        return r;
}

/* Here one caller has each number, but in the race of twins; so the new name is its own. */
static int claim(struct store *s, const char *instance, const struct lease *from, unsigned host, bool again,
                 struct lease *ret, struct err *err)
{
        bool doubt = again || (faults_on() && !faults_are_racing());

        return ASK(doubt, real->leases->claim(s, instance, from, host, doubt, ret, err));
}

static int fence(struct store *s, const char *instance, const struct lease *mine, const struct start *start,
                 const struct disk_spec *disks, size_t n, struct err *err)
{
        bool doubt = false;
        int r = ASK(doubt, real->leases->fence(s, instance, mine, start, disks, n, err));

        if (r != -EEXIST || !doubt)
                return r;
        /* A try that was cut off has fenced some of the disks. Each of the others has a request of its own. */
        r = 0;
        for (size_t i = 0; i < n && (r == 0 || r == -EEXIST); i++)
                r = ASK_AGAIN(real->leases->fence(s, instance, mine, start, &disks[i], 1, err));
        return r == -EEXIST ? 0 : r;
}

static int commit(struct store *s, const char *instance, const struct commit_claim *c,
                  const struct disk_spec *disks, size_t n, struct lease *ret, struct err *err)
{
        struct commit_claim asked = *c;

        asked.again = c->again || faults_on();
        return ASK_AGAIN(real->leases->commit(s, instance, &asked, disks, n, ret, err));
}

static int grant(struct store *s, const char *instance, const struct lease *mine, const struct start *start,
                 const struct disk_spec *disks, size_t n, struct err *err)
{
        return ASK_AGAIN(real->leases->grant(s, instance, mine, start, disks, n, err));
}

static int gate(struct store *s, const char *instance, const struct lease *mine, const struct start *start,
                const struct disk_spec *disks, size_t n, struct err *err)
{
        return ASK_AGAIN(real->leases->gate(s, instance, mine, start, disks, n, err));
}

static int may_write(struct store *s, const char *instance, const struct lease *mine,
                     const struct start *start, const struct disk_spec *disks, size_t n, struct err *err)
{
        return ASK_AGAIN(real->leases->may_write(s, instance, mine, start, disks, n, err));
}

static int attach(struct store *s, const char *instance, const struct lease *lease,
                  const struct start *start, const struct disk_spec *disks, size_t n, struct attach *ret,
                  struct err *err)
{
        return ASK_AGAIN(real->starts->attach(s, instance, lease, start, disks, n, ret, err));
}

static int lock_path(struct store *s, const char *instance, char **ret, struct err *err)
{
        return ASK_AGAIN(real->starts->lock_path(s, instance, ret, err));
}

static int remove_lease(struct store *s, const char *instance, const struct lease *mine,
                        const struct disk_spec *disks, size_t n, struct err *err)
{
        return ASK_AGAIN(real->leases->remove(s, instance, mine, disks, n, err));
}

/* --- the store */

static int space(struct store *s, uint64_t *ret_total, uint64_t *ret_free, struct err *err)
{
        return ASK_AGAIN(real->space(s, ret_total, ret_free, err));
}

static int room(struct store *s, struct err *err)
{
        return ASK_AGAIN(real->room(s, err));
}

static int prepare(struct store *s, struct err *err)
{
        return ASK_AGAIN(real->prepare(s, err));
}

static int selftest(struct store *s, struct err *err)
{
        return ASK_AGAIN(real->selftest(s, err));
}

void patient_put_in(struct store *s)
{
        static struct engine_records records = {
            .get = get, .put = put, .list = list, .beat_write = beat_write_, .beat_read = beat_read_};
        static struct engine_volumes volumes = {.create = create,
                                                .resize = resize,
                                                .write = write_,
                                                .seal = seal,
                                                .open = open_,
                                                .read = read_,
                                                .close = close_,
                                                .remove = remove_};
        static struct engine_leases leases = {.create = lease_create_,
                                              .find = find,
                                              .list = list_leases,
                                              .claim = claim,
                                              .fence = fence,
                                              .grant = grant,
                                              .gate = gate,
                                              .may_write = may_write,
                                              .remove = remove_lease};
        static struct engine_starts starts;
        static const struct engine_disks disks = {
            .open = disk_open_, .read = disk_read_, .close = disk_close_};

        real = s->engine;
        patient = *real;
        /* what an engine lacks is lacking here too */
        volumes.attach = real->volumes->attach ? attach_image : NULL;
        if (real->starts) {
                starts.attach = attach;
                starts.lock_path = real->starts->lock_path ? lock_path : NULL;
                starts.forget = real->starts->forget;
                patient.starts = &starts;
        }
        leases.commit = real->leases->commit ? commit : NULL;
        patient.records = &records;
        patient.volumes = &volumes;
        patient.leases = &leases;
        patient.disks = real->disks ? &disks : NULL;
        patient.space = real->space ? space : NULL;
        patient.room = real->room ? room : NULL;
        patient.prepare = real->prepare ? prepare : NULL;
        patient.selftest = real->selftest ? selftest : NULL;
        s->engine = &patient;
}

void patient_take_out(struct store *s)
{
        if (s->engine == &patient)
                s->engine = real;
}
