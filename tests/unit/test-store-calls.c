/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/util.h"
#include "imaged/store/engine.h"

/*
 * What the store checks before its engine is asked, and what it makes of the engine's answer. The engine here notes
 * which of its calls was made, and answers what it is told to.
 */
static struct {
        int answer;
        char called[32];
        uint64_t number;
        uint64_t hole;
        bool was_left;
        unsigned closed;
} engine;

static int called(const char *what, struct err *err)
{
        strcpy(engine.called, what);
        err_set(err, -EIO, "set on the way"); /* as engines do, and still succeed */
        return engine.answer < 0 ? err_set(err, engine.answer, "engine: no") : engine.answer;
}

static int rec_get(struct store *s, enum record_kind kind, const char *id, char **text, uint64_t *version,
                   struct err *err)
{
        *version = 7;
        return called("get", err);
}

static int rec_put(struct store *s, enum record_kind kind, const char *id, uint64_t expected,
                   const char *text, uint64_t *version, struct err *err)
{
        *version = 8;
        engine.number = expected;
        return called(text ? "put" : "delete", err);
}

static int rec_list(struct store *s, enum record_kind kind, record_cb cb, void *arg, struct err *err)
{
        return called("list", err);
}

static int beat_put(struct store *s, unsigned host, uint64_t counter, struct err *err)
{
        engine.number = counter;
        return called("beat_write", err);
}

static int beat_get(struct store *s, unsigned host, uint64_t *counter, struct err *err)
{
        *counter = host;
        return called("beat_read", err);
}

static int vol_begin(struct volume *v, struct err *err)
{
        return called("create", err);
}

static int vol_write(struct volume *v, const void *buf, size_t len, uint64_t offset, struct err *err)
{
        return called("write", err);
}

static int vol_resize(struct volume *v, uint64_t size, struct err *err)
{
        return called("resize", err);
}

static int vol_seal(struct volume *v, struct err *err)
{
        return called("seal", err);
}

static int vol_open(struct volume *v, struct err *err)
{
        v->size = 1000;
        v->sealed = true;
        return called("open", err);
}

static int vol_resume(struct volume *v, bool take, struct err *err)
{
        return called(take ? "take" : "look", err);
}

static int vol_read(struct volume *v, void *buf, size_t len, uint64_t offset, struct err *err)
{
        return called("read", err);
}

static void vol_close(struct volume *v)
{
        engine.closed++;
        engine.was_left = v->left;
}

static int vol_remove(struct store *s, const char *image, struct err *err)
{
        return called("remove", err);
}

static int vol_attach(struct store *s, const char *image, struct attach *ret, struct err *err)
{
        ret->uid = 5;
        return called("attach", err);
}

static int vol_location(struct store *s, const char *image, char **ret, struct err *err)
{
        return called("location", err);
}

static int dsk_open(struct disk_reader *d, const struct lease *lease, const struct disk_spec *disk,
                    struct err *err)
{
        d->size = 1000;
        d->qcow2 = true;
        if (disk->image)
                strcpy(d->backing, disk->image);
        return called("open", err);
}

static int dsk_read(struct disk_reader *d, void *buf, size_t len, uint64_t offset, struct err *err)
{
        return called("read", err);
}

static void dsk_close(struct disk_reader *d)
{
        engine.closed++;
}

static int fgn_open(struct foreign *f, struct err *err)
{
        f->size = 1000;
        return called("open", err);
}

static int fgn_read(struct foreign *f, void *buf, size_t len, uint64_t offset, struct err *err)
{
        return called("read", err);
}

static uint64_t fgn_hole(struct foreign *f, uint64_t offset)
{
        return engine.hole;
}

static int fgn_unchanged(struct foreign *f, struct err *err)
{
        return called("unchanged", err);
}

static void fgn_close(struct foreign *f)
{
        engine.closed++;
}

static const struct engine_records records = {
    .get = rec_get, .put = rec_put, .list = rec_list, .beat_write = beat_put, .beat_read = beat_get};
static struct engine_volumes volumes;
static const struct engine_disks disks = {.open = dsk_open, .read = dsk_read, .close = dsk_close};
static struct engine_foreign foreigns;
static struct engine ops;
static struct store *store;
static const struct engine *mem;

static int begin(void **state)
{
        memset(&engine, 0, sizeof(engine));
        volumes = (struct engine_volumes){.create = vol_begin,
                                          .write = vol_write,
                                          .resize = vol_resize,
                                          .seal = vol_seal,
                                          .open = vol_open,
                                          .resume = vol_resume,
                                          .read = vol_read,
                                          .close = vol_close,
                                          .remove = vol_remove,
                                          .attach = vol_attach,
                                          .location = vol_location};
        foreigns = (struct engine_foreign){.open = fgn_open,
                                           .read = fgn_read,
                                           .hole = fgn_hole,
                                           .unchanged = fgn_unchanged,
                                           .close = fgn_close};
        ops = (struct engine){
            .name = "test", .records = &records, .volumes = &volumes, .disks = &disks, .foreign = &foreigns};
        assert_int_equal(store_open("mem:", NULL, &store, NULL), 0);
        mem = store->engine;
        store->engine = &ops;
        return 0;
}

static int end(void **state)
{
        store->engine = mem;
        store = store_close(store);
        return 0;
}

/* The answer is the engine's, with its message if it failed and with none if not. */
static void check_answer(int r, int answer, const char *call, struct err *err)
{
        assert_int_equal(r, answer);
        assert_string_equal(engine.called, call);
        assert_string_equal(err->text, answer < 0 ? "engine: no" : "");
        assert_int_equal(err->code, answer < 0 ? answer : 0);
        engine.called[0] = '\0';
        *err = (struct err){};
}

/* It was refused before the engine was asked. */
static void check_refused(int r, int answer, struct err *err)
{
        assert_int_equal(r, answer);
        assert_string_equal(engine.called, "");
        assert_int_equal(err->code, answer);
        assert_true(err->text[0]);
        *err = (struct err){};
}

#define ANSWER(call, name)                                                                                  \
        do {                                                                                                \
                engine.answer = 0;                                                                          \
                check_answer(call, 0, name, &err);                                                          \
                engine.answer = -ENOSPC;                                                                    \
                check_answer(call, -ENOSPC, name, &err);                                                    \
                engine.answer = 0;                                                                          \
        } while (0)

static void an_id_has_1_to_64_characters(void **state)
{
        char id[66];

        memset(id, 'a', sizeof(id));
        id[64] = '\0';
        assert_true(store_id_valid(id));
        id[64] = 'a';
        id[65] = '\0';
        assert_false(store_id_valid(id));
        assert_false(store_id_valid(""));
        assert_false(store_id_valid(NULL));
        for (int c = 1; c < 256; c++) {
                char one[] = {(char)c, '\0'};
                bool good = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                            c == '_' || c == '-';

                assert_int_equal(store_id_valid(one), good);
        }
}

static void a_record_has_a_kind_an_id_and_a_text(void **state)
{
        _cleanup_(freep) char *text = malloc(RECORD_MAX + 2);
        struct err err = {};
        uint64_t v = 0;
        char *got;

        ANSWER(record_get(store, RECORD_HOST, "1", &got, NULL, &err), "get");
        ANSWER(record_get(store, RECORD_HOST, "1", &got, &v, &err), "get");
        assert_int_equal(v, 7);
        ANSWER(record_put(store, RECORD_HOST, "1", 3, "x", NULL, &err), "put");
        ANSWER(record_put(store, RECORD_HOST, "1", 4, NULL, &v, &err), "delete");
        assert_int_equal(v, 8);
        assert_int_equal(engine.number, 4);
        ANSWER(record_list(store, RECORD_HOST, NULL, NULL, &err), "list");
        check_refused(record_get(store, RECORD_KIND_MAX, "1", &got, NULL, &err), -EINVAL, &err);
        check_refused(record_get(store, RECORD_HOST, "a.b", &got, NULL, &err), -EINVAL, &err);
        check_refused(record_put(store, RECORD_HOST, "", 3, "x", NULL, &err), -EINVAL, &err);
        check_refused(record_put(store, RECORD_HOST, "1", 3, "", NULL, &err), -EINVAL, &err);
        check_refused(record_list(store, RECORD_KIND_MAX, NULL, NULL, &err), -EINVAL, &err);
        memset(text, 'x', RECORD_MAX + 1);
        text[RECORD_MAX + 1] = '\0';
        check_refused(record_put(store, RECORD_HOST, "1", 3, text, NULL, &err), -EINVAL, &err);
        text[RECORD_MAX] = '\0';
        ANSWER(record_put(store, RECORD_HOST, "1", 3, text, NULL, &err), "put");
        ANSWER(beat_write(store, 2, 9, &err), "beat_write");
        assert_int_equal(engine.number, 9);
        ANSWER(beat_read(store, 2, &v, &err), "beat_read");
        assert_int_equal(v, 2);
        ops.records = &(const struct engine_records){};
        check_refused(beat_write(store, 2, 9, &err), -EOPNOTSUPP, &err);
        check_refused(beat_read(store, 2, &v, &err), -EOPNOTSUPP, &err);
        ops.records = NULL;
        check_refused(beat_write(store, 2, 9, &err), -EOPNOTSUPP, &err);
        check_refused(beat_read(store, 2, &v, &err), -EOPNOTSUPP, &err);
        check_refused(record_get(store, RECORD_HOST, "1", &got, NULL, &err), -EOPNOTSUPP, &err);
}

static void an_image_is_written_within_its_size_until_it_is_sealed(void **state)
{
        const uint64_t most = UINT64_C(1) << 50;
        struct volume *v = NULL;
        struct err err = {};

        check_refused(volume_create(store, "i", 0, &v, &err), -EINVAL, &err);
        check_refused(volume_create(store, "i", most + 1, &v, &err), -EINVAL, &err);
        check_refused(volume_create(store, "a/b", 512, &v, &err), -EINVAL, &err);
        check_answer(volume_create(store, "i", most, &v, &err), 0, "create", &err);
        assert_true(volume_size(v) == most);
        v = volume_close(v);
        assert_false(engine.was_left);
        engine.closed = 0;
        engine.answer = -EIO;
        check_answer(volume_create(store, "i", 1000, &v, &err), -EIO, "create", &err);
        assert_null(v);
        assert_int_equal(engine.closed, 1);
        engine.answer = 0;
        check_answer(volume_create(store, "i", 1000, &v, &err), 0, "create", &err);
        ANSWER(volume_write(v, "x", 1, 999, &err), "write");
        ANSWER(volume_write(v, "x", 1000, 0, &err), "write");
        check_refused(volume_write(v, "x", 1001, 0, &err), -EINVAL, &err);
        check_refused(volume_write(v, "x", 2, 999, &err), -EINVAL, &err);
        check_refused(volume_write(v, "x", 1, 1001, &err), -EINVAL, &err);
        check_refused(volume_write(v, "x", SIZE_MAX, 1, &err), -EINVAL, &err);
        assert_int_equal(volume_write(v, "x", 0, 1000, &err), 0);
        assert_int_equal(volume_resize(v, 1000, &err), 0);
        assert_string_equal(engine.called, "");
        check_refused(volume_resize(v, 0, &err), -EINVAL, &err);
        check_refused(volume_resize(v, most + 1, &err), -EINVAL, &err);
        engine.answer = -EIO;
        check_answer(volume_resize(v, 2000, &err), -EIO, "resize", &err);
        assert_int_equal(volume_size(v), 1000);
        engine.answer = 0;
        check_answer(volume_resize(v, most, &err), 0, "resize", &err);
        assert_true(volume_size(v) == most);
        check_answer(volume_resize(v, 500, &err), 0, "resize", &err);
        engine.answer = -EIO;
        check_answer(volume_seal(v, &err), -EIO, "seal", &err);
        ANSWER(volume_write(v, "x", 1, 0, &err), "write"); /* it is not sealed yet */
        check_answer(volume_seal(v, &err), 0, "seal", &err);
        assert_int_equal(volume_seal(v, &err), 0);
        assert_string_equal(engine.called, "");
        check_refused(volume_write(v, "x", 1, 0, &err), -EROFS, &err);
        check_refused(volume_resize(v, 600, &err), -EROFS, &err);
        ANSWER(volume_read(v, &err, 1, 499, &err), "read");
        check_refused(volume_read(v, &err, 1, 500, &err), -EINVAL, &err);
        assert_int_equal(volume_read(v, &err, 0, 500, &err), 0);
        volume_leave(v);
        assert_true(engine.was_left);
        assert_null(volume_leave(NULL));
        assert_null(volume_close(NULL));
}

static void an_image_is_opened_resumed_and_removed_by_its_id(void **state)
{
        struct attach a = {.uid = 1};
        struct volume *v = NULL;
        char *where = NULL;
        struct err err = {};

        engine.answer = -ENOENT;
        check_answer(volume_open(store, "i", &v, &err), -ENOENT, "open", &err);
        check_answer(volume_resume(store, "i", true, &v, &err), -ENOENT, "take", &err);
        assert_null(v);
        assert_int_equal(engine.closed, 2);
        check_answer(volume_attach(store, "i", &a, &err), -ENOENT, "attach", &err);
        assert_int_equal(a.uid, 1);
        engine.answer = 0;
        check_answer(volume_open(store, "i", &v, &err), 0, "open", &err);
        assert_int_equal(volume_size(v), 1000);
        check_refused(volume_write(v, "x", 1, 0, &err), -EROFS, &err);
        v = volume_close(v);
        check_answer(volume_resume(store, "i", false, &v, &err), 0, "look", &err);
        v = volume_close(v);
        check_answer(volume_attach(store, "i", &a, &err), 0, "attach", &err);
        assert_int_equal(a.uid, 5);
        ANSWER(volume_remove(store, "i", &err), "remove");
        ANSWER(volume_location(store, "i", &where, &err), "location");
        check_refused(volume_open(store, "", &v, &err), -EINVAL, &err);
        check_refused(volume_resume(store, "", true, &v, &err), -EINVAL, &err);
        check_refused(volume_remove(store, "", &err), -EINVAL, &err);
        check_refused(volume_attach(store, "", &a, &err), -EINVAL, &err);
        check_refused(volume_location(store, "", &where, &err), -EINVAL, &err);
        volumes.resume = NULL;
        volumes.location = NULL;
        volumes.attach = NULL;
        check_refused(volume_resume(store, "i", true, &v, &err), -ENOENT, &err);
        check_refused(volume_location(store, "i", &where, &err), -EOPNOTSUPP, &err);
        check_refused(volume_attach(store, "i", &a, &err), -EOPNOTSUPP, &err);
        ops.volumes = NULL;
        check_refused(volume_open(store, "i", &v, &err), -EOPNOTSUPP, &err);
}

static void a_disk_or_anothers_volume_is_read_within_its_size(void **state)
{
        const struct lease lease = {1, 1};
        const struct disk_spec disk = {.name = "disk0", .image = "golden"}, bare = {.name = "disk0"};
        const struct disk_spec bad[] = {{.image = "golden"}, {.name = "disk0", .image = "a.b"}};
        const char *backing = NULL;
        struct disk_reader *d = NULL;
        struct foreign *f = NULL;
        struct err err = {};
        char buf[8];

        engine.answer = -EBUSY;
        check_answer(disk_reader_open(store, "vm", &lease, &disk, &d, &err), -EBUSY, "open", &err);
        check_answer(foreign_open(store, "f", &f, &err), -EBUSY, "open", &err);
        assert_true(!d && !f && engine.closed == 2);
        engine.answer = 0;
        check_refused(disk_reader_open(store, "v.m", &lease, &disk, &d, &err), -EINVAL, &err);
        check_refused(disk_reader_open(store, "vm", &lease, &bad[0], &d, &err), -EINVAL, &err);
        check_refused(disk_reader_open(store, "vm", &lease, &bad[1], &d, &err), -EINVAL, &err);
        check_answer(disk_reader_open(store, "vm", &lease, &bare, &d, &err), 0, "open", &err);
        assert_true(disk_reader_qcow2(d, &backing));
        assert_null(backing);
        disk_reader_close(d);
        check_answer(disk_reader_open(store, "vm", &lease, &disk, &d, &err), 0, "open", &err);
        assert_true(disk_reader_qcow2(d, &backing));
        assert_string_equal(backing, "golden");
        check_answer(foreign_open(store, "f", &f, &err), 0, "open", &err);
        assert_true(disk_reader_size(d) == 1000 && foreign_size(f) == 1000);
        ANSWER(disk_reader_read(d, buf, 1, 999, &err), "read");
        ANSWER(disk_reader_read(d, buf, 1000, 0, &err), "read");
        check_refused(disk_reader_read(d, buf, 1, 1000, &err), -EINVAL, &err);
        check_refused(disk_reader_read(d, buf, 1, 1001, &err), -EINVAL, &err);
        assert_int_equal(disk_reader_read(d, buf, 0, 1000, &err), 0);
        ANSWER(foreign_read(f, buf, 1, 999, &err), "read");
        ANSWER(foreign_read(f, buf, 1000, 0, &err), "read");
        check_refused(foreign_read(f, buf, 1, 1000, &err), -EINVAL, &err);
        check_refused(foreign_read(f, buf, 1, 1001, &err), -EINVAL, &err);
        assert_int_equal(foreign_read(f, buf, 0, 1000, &err), 0);
        assert_string_equal(engine.called, "");
        ANSWER(foreign_unchanged(f, &err), "unchanged");
        engine.hole = 600;
        assert_int_equal(foreign_hole(f, 100), 600);
        assert_int_equal(foreign_hole(f, 500), 500);
        assert_int_equal(foreign_hole(f, 999), 1);
        assert_int_equal(foreign_hole(f, 1000), 0);
        foreigns.hole = NULL;
        assert_int_equal(foreign_hole(f, 0), 0);
        disk_reader_close(d);
        foreign_close(f);
        assert_int_equal(engine.closed, 5);
        assert_null(disk_reader_close(NULL));
        assert_null(foreign_close(NULL));
        ops.disks = NULL;
        ops.foreign = NULL;
        check_refused(disk_reader_open(store, "vm", &lease, &disk, &d, &err), -EOPNOTSUPP, &err);
        check_refused(foreign_open(store, "f", &f, &err), -EOPNOTSUPP, &err);
}

int main(void)
{
#define test(f) cmocka_unit_test_setup_teardown(f, begin, end)
        const struct CMUnitTest tests[] = {
            test(an_id_has_1_to_64_characters),
            test(a_record_has_a_kind_an_id_and_a_text),
            test(an_image_is_written_within_its_size_until_it_is_sealed),
            test(an_image_is_opened_resumed_and_removed_by_its_id),
            test(a_disk_or_anothers_volume_is_read_within_its_size),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
