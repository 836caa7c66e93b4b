/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/store/faults.h"

#include <errno.h>

/*
 * The memory engine has nothing below it that could fail, so the faults lie around the engine itself: what
 * stands on a store can be tried with them without any storage. A late change is one that never comes.
 */
static const struct engine *real;

/* 0: go on; else what the call is to return without having been made. */
static int before(const char *op, enum fault *ret, struct err *err)
{
        *ret = fault_next(op);
        switch (*ret) {
        case FAULT_FAIL:
                return err_set(err, -EIO, "%s: an injected I/O error", op);
        case FAULT_DROP:
        case FAULT_LATE:
                return err_set(err, -ETIMEDOUT, "%s: an injected loss", op);
        case FAULT_DELAY:
                fault_pause();
                return 0;
        default:
                return 0;
        }
}

#define CHANGE(op, call)                                                                                    \
        __extension__({                                                                                     \
                enum fault f_;                                                                              \
                int r_ = before(op, &f_, err);                                                              \
                if (r_ == 0)                                                                                \
                        r_ = (call);                                                                        \
                if (r_ >= 0 && f_ == FAULT_LOSE)                                                            \
                        r_ = err_set(err, -ETIMEDOUT, "%s: an injected loss of the answer", op);            \
                r_;                                                                                         \
        })
/* The loss of a question and of its answer are the same to who only reads. */
#define LOOK(op, call)                                                                                      \
        __extension__({                                                                                     \
                enum fault f_;                                                                              \
                int r_ = before(op, &f_, err);                                                              \
                if (r_ == 0 && f_ == FAULT_LOSE)                                                            \
                        r_ = err_set(err, -ETIMEDOUT, "%s: an injected loss of the answer", op);            \
                r_ == 0 ? (call) : r_;                                                                      \
        })

static int get(struct store *s, enum record_kind kind, const char *id, char **ret_text,
               uint64_t *ret_version, struct err *err)
{
        return LOOK("get", real->records->get(s, kind, id, ret_text, ret_version, err));
}

static int put(struct store *s, enum record_kind kind, const char *id, uint64_t expected, const char *text,
               uint64_t *ret_version, struct err *err)
{
        return CHANGE("put", real->records->put(s, kind, id, expected, text, ret_version, err));
}

static int list(struct store *s, enum record_kind kind, record_cb cb, void *arg, struct err *err)
{
        return LOOK("list", real->records->list(s, kind, cb, arg, err));
}

static int beat_write_(struct store *s, unsigned host, uint64_t counter, struct err *err)
{
        return CHANGE("beat", real->records->beat_write(s, host, counter, err));
}

static int beat_read_(struct store *s, unsigned host, uint64_t *ret, struct err *err)
{
        return LOOK("beat-read", real->records->beat_read(s, host, ret, err));
}

static int create(struct volume *v, struct err *err)
{
        return CHANGE("create", real->volumes->create(v, err));
}

static int write_(struct volume *v, const void *buf, size_t len, uint64_t offset, struct err *err)
{
        return CHANGE("write", real->volumes->write(v, buf, len, offset, err));
}

static int resize(struct volume *v, uint64_t size, struct err *err)
{
        return CHANGE("resize", real->volumes->resize(v, size, err));
}

/* Its answer is never lost: the engine is told once only that an image is sealed. */
static int seal(struct volume *v, struct err *err)
{
        return LOOK("seal", real->volumes->seal(v, err));
}

static int open_(struct volume *v, struct err *err)
{
        return LOOK("open", real->volumes->open(v, err));
}

static int read_(struct volume *v, void *buf, size_t len, uint64_t offset, struct err *err)
{
        return LOOK("read", real->volumes->read(v, buf, len, offset, err));
}

static void close_(struct volume *v)
{
        real->volumes->close(v);
}

static int remove_(struct store *s, const char *image, struct err *err)
{
        return CHANGE("remove", real->volumes->remove(s, image, err));
}

static int lease_create_(struct store *s, const char *instance, const struct disk_spec *disks, size_t n,
                         struct err *err)
{
        return CHANGE("make", real->leases->create(s, instance, disks, n, err));
}

static int find(struct store *s, const char *instance, struct lease *ret, struct err *err)
{
        return LOOK("find", real->leases->find(s, instance, ret, err));
}

static int list_leases(struct store *s, lease_cb cb, void *arg, struct err *err)
{
        return LOOK("list-leases", real->leases->list(s, cb, arg, err));
}

static int claim(struct store *s, const char *instance, const struct lease *from, unsigned host, bool again,
                 struct lease *ret, struct err *err)
{
        return CHANGE("claim", real->leases->claim(s, instance, from, host, again, ret, err));
}

static int fence(struct store *s, const char *instance, const struct lease *mine, const struct start *start,
                 const struct disk_spec *disks, size_t n, struct err *err)
{
        return CHANGE("fence", real->leases->fence(s, instance, mine, start, disks, n, err));
}

static int grant(struct store *s, const char *instance, const struct lease *mine, const struct start *start,
                 const struct disk_spec *disks, size_t n, struct err *err)
{
        return CHANGE("grant", real->leases->grant(s, instance, mine, start, disks, n, err));
}

static int gate(struct store *s, const char *instance, const struct lease *mine, const struct start *start,
                const struct disk_spec *disks, size_t n, struct err *err)
{
        return CHANGE("gate", real->leases->gate(s, instance, mine, start, disks, n, err));
}

static int may_write(struct store *s, const char *instance, const struct lease *mine,
                     const struct start *start, const struct disk_spec *disks, size_t n, struct err *err)
{
        return CHANGE("may-write", real->leases->may_write(s, instance, mine, start, disks, n, err));
}

static int remove_lease(struct store *s, const char *instance, const struct lease *mine,
                        const struct disk_spec *disks, size_t n, struct err *err)
{
        return CHANGE("remove-disks", real->leases->remove(s, instance, mine, disks, n, err));
}

void fault_mem_put_in(struct store *s)
{
        static const struct engine_records records = {
            .get = get, .put = put, .list = list, .beat_write = beat_write_, .beat_read = beat_read_};
        static const struct engine_volumes volumes = {.create = create,
                                                      .write = write_,
                                                      .resize = resize,
                                                      .seal = seal,
                                                      .open = open_,
                                                      .read = read_,
                                                      .close = close_,
                                                      .remove = remove_};
        static const struct engine_leases leases = {.create = lease_create_,
                                                    .find = find,
                                                    .list = list_leases,
                                                    .claim = claim,
                                                    .fence = fence,
                                                    .grant = grant,
                                                    .gate = gate,
                                                    .may_write = may_write,
                                                    .remove = remove_lease};
        static struct engine faulty;

        if (s->engine == &faulty)
                return;
        real = s->engine;
        faulty = *real;
        faulty.records = &records;
        faulty.volumes = &volumes;
        faulty.leases = &leases;
        s->engine = &faulty;
}
