/* SPDX-License-Identifier: Apache-2.0 */
#include "imaged/store/files.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"
#include "imaged/store/record-cache.h"

/*
 * A record is one file per version. Its first line is
 *
 *   wherry-record live|deleted NONCE NONCE...      the writer's own nonce, then those of up to 16 versions
 * before
 *
 * and the text follows. The next version is an exclusive link(). What a bare link() leaves open:
 *
 * - The sleeper: it read version 3, others wrote 4 and 5, and 4 was collected; its link of 4 works but must
 * not count. So the highest version is never removed, a deletion is a version of its own (a tombstone), and
 * after the link the folder is listed: only who is the highest, or stands in the highest's line of nonces,
 * has won.
 * - The retransmitted LINK whose first reply was lost says EEXIST to the winner. Its nonce in the file says
 * who won.
 * - The sleeper's file may also be read by somebody who listed before and reads after: it stands where a
 * collected version stood. So what was read counts only if the same version is still the highest afterwards
 * (it then was the highest all the time, and that one is never removed).
 * - Who is more than 16 versions behind cannot tell any more: unknown.
 *
 * The version before the highest is kept too, so that a reader between its listing and its read is rarely
 * sent back.
 */
#define NONCES 17 /* one's own and 16 before */
#define NONCE_LEN 16
#define HEAD_MAX (32 + NONCES * (NONCE_LEN + 1))

struct version {
        uint64_t number; /* 0: none */
        bool deleted;
        size_t n_nonces;
        char nonce[NONCES][NONCE_LEN + 1];
        char *file;       /* owned: the head's line, then the text */
        const char *text; /* inside file */
};

static void version_done(struct version *v)
{
        free(v->file);
        *v = (struct version){};
}

static bool has_nonce(const struct version *v, const char *nonce)
{
        for (size_t i = 0; i < v->n_nonces; i++)
                if (streq(v->nonce[i], nonce))
                        return true;
        return false;
}

const char *files_record_text(const char *file, bool *ret_deleted)
{
        static const char live[] = "wherry-record live ", deleted[] = "wherry-record deleted ";
        const char *end = strchr(file, '\n');

        if (strncmp(file, live, strlen(live)) == 0)
                *ret_deleted = false;
        else if (strncmp(file, deleted, strlen(deleted)) == 0)
                *ret_deleted = true;
        else
                return NULL;
        return end ? end + 1 : NULL;
}

/* Owns `file` in any case. */
static int version_parse(char *file, uint64_t number, struct version *ret, struct err *err)
{
        _cleanup_(version_done) struct version v = {.number = number, .file = file};
        const char *p;

        v.text = files_record_text(file, &v.deleted);
        if (!v.text)
                return err_set(err, -EIO, "version %" PRIu64 " is not a record's file", number);
        p = strchr(strchr(file, ' ') + 1, ' ');
        while (*p == ' ' && v.n_nonces < NONCES) {
                if (strcspn(p + 1, " \n") != NONCE_LEN)
                        return err_set(err, -EIO, "version %" PRIu64 " has a broken nonce", number);
                memcpy(v.nonce[v.n_nonces++], p + 1, NONCE_LEN);
                p += 1 + NONCE_LEN;
        }
        *ret = v;
        v.file = NULL;
        return 0;
}

/* "<id>.v<N>" with one spelling per number. */
bool files_record_name(const char *name, char ret_id[STORE_ID_MAX + 1], uint64_t *ret)
{
        const char *dot = strrchr(name, '.');
        char digits[24];

        if (!dot || dot[1] != 'v' || (size_t)(dot - name) > STORE_ID_MAX)
                return false;
        *ret = strtoull(dot + 2, NULL, 10);
        snprintf(digits, sizeof(digits), "%" PRIu64, *ret);
        if (*ret == 0 || !streq(digits, dot + 2))
                return false;
        memcpy(ret_id, name, (size_t)(dot - name));
        ret_id[dot - name] = '\0';
        return true;
}

static void name_format(const char *id, uint64_t number, char ret[STORE_ID_MAX + 24])
{
        snprintf(ret, STORE_ID_MAX + 24, "%s.v%" PRIu64, id, number);
}

static void kind_path(enum record_kind kind, const char *id, char ret[FILES_PATH_MAX])
{
        char base[64];

        snprintf(base, sizeof(base), "records/%s", record_kind_name(kind));
        files_shard(base, id, ret);
}

/* --- one record
 * ---------------------------------------------------------------------------------------------------- */

struct scan {
        const char *id;
        uint64_t highest;
        uint64_t old[32]; /* versions below; more are left to the next writer */
        size_t n_old;
};

static int scan_name(void *arg, const char *name)
{
        struct scan *s = arg;
        char id[STORE_ID_MAX + 1];
        uint64_t number, lower;

        if (!files_record_name(name, id, &number) || !streq(id, s->id))
                return 0;
        lower = MIN_OF(number, s->highest);
        s->highest = MAX_OF(number, s->highest);
        if (lower > 0 && s->n_old < ARRAY_SIZE(s->old))
                s->old[s->n_old++] = lower;
        return 0;
}

static int scan_record(struct files *f, const char *folder, const char *id, struct scan *ret,
                       struct err *err)
{
        int r;

        *ret = (struct scan){.id = id};
        r = f->fs->ops->list(f->fs, folder, scan_name, ret, err);
        return r == -ENOENT ? 0 : r; /* no folder yet: no version */
}

static int read_version(struct files *f, const char *folder, const char *id, uint64_t number,
                        struct version *ret, struct err *err)
{
        char name[STORE_ID_MAX + 24];
        char *file;
        int r;

        name_format(id, number, name);
        r = files_read(f, folder, name, FILES_RECORD_MAX, &file, NULL, err);
        if (r < 0)
                return r;
        return version_parse(file, number, ret, err);
}

#define ROUNDS 100 /* each time another writer was quicker */

/* The highest version and what is below it; number 0 where there is none. Not yet proved to be no sleeper's.
 */
static int newest(struct files *f, const char *folder, const char *id, struct scan *ret_scan,
                  struct version *ret, struct err *err)
{
        /* The highest of a listing may have been collected before it is read: then there is a higher one. */
        for (int round = 0; round < ROUNDS; round++) {
                int r = scan_record(f, folder, id, ret_scan, err);

                if (r < 0)
                        return r;
                if (ret_scan->highest == 0) {
                        *ret = (struct version){};
                        return 0;
                }
                r = read_version(f, folder, id, ret_scan->highest, ret, err);
                if (r != -ENOENT)
                        return r;
        }
        return err_set(err, -ETIMEDOUT, "changes faster than it can be read");
}

/* 1: `v` is the highest, so it was when it was read; 0: there is another. */
static int still_newest(struct files *f, const char *folder, const char *id, const struct version *v,
                        struct err *err)
{
        struct scan scan;
        int r = scan_record(f, folder, id, &scan, err);

        return r < 0 ? r : scan.highest == v->number;
}

static int newest_proved(struct files *f, const char *folder, const char *id, struct version *ret,
                         struct err *err)
{
        for (int round = 0; round < ROUNDS; round++) {
                _cleanup_(version_done) struct version v = {};
                struct scan scan;
                int r = newest(f, folder, id, &scan, &v, err);

                if (r >= 0 && v.number > 0)
                        r = still_newest(f, folder, id, &v, err);
                else if (r >= 0)
                        r = 1;
                if (r < 0)
                        return r;
                if (r == 0)
                        continue;
                *ret = v;
                v = (struct version){};
                return 0;
        }
        return err_set(err, -ETIMEDOUT, "changes faster than it can be read");
}

static int files_record_get(struct store *s, enum record_kind kind, const char *id, char **ret_text,
                            uint64_t *ret_version, struct err *err)
{
        _cleanup_(version_done) struct version v = {};
        char folder[FILES_PATH_MAX];
        int r;

        kind_path(kind, id, folder);
        r = newest_proved(files_of(s), folder, id, &v, err);
        if (r < 0)
                return err_wrap(err, r, "%s %s", record_kind_name(kind), id);
        if (v.number == 0 || v.deleted)
                return err_set(err, -ENOENT, "%s %s: no such record", record_kind_name(kind), id);
        *ret_text = strdup(v.text);
        if (!*ret_text)
                return err_set(err, -ENOMEM, "%s %s: out of memory", record_kind_name(kind), id);
        *ret_version = v.number;
        return 0;
}

static int compose(const struct version *before, const char *nonce, const char *text, char **ret,
                   size_t *ret_len)
{
        char head[HEAD_MAX + 1];
        size_t len =
            (size_t)snprintf(head, sizeof(head), "wherry-record %s %s", text ? "live" : "deleted", nonce);

        for (size_t i = 0; i < before->n_nonces && i < NONCES - 1; i++)
                len += (size_t)snprintf(head + len, sizeof(head) - len, " %s", before->nonce[i]);
        *ret = str_printf("%s\n%s", head, text ? text : "");
        if (!*ret)
                return -ENOMEM;
        *ret_len = strlen(*ret);
        return 0;
}

/* What was below the highest but one. Nobody needs it, so failing to remove it is no failure. */
static void collect(struct files *f, const char *folder, const struct scan *scan)
{
        for (size_t i = 0; i < scan->n_old; i++) {
                char path[FILES_PATH_MAX + STORE_ID_MAX + 24], name[STORE_ID_MAX + 24];

                if (scan->old[i] + 1 >= scan->highest)
                        continue;
                name_format(scan->id, scan->old[i], name);
                snprintf(path, sizeof(path), "%s/%s", folder, name);
                f->fs->ops->remove(f->fs, path, NULL);
        }
}

/* The link of a sleeper. What is not the highest may be removed at any time, so nobody else's is hurt. */
static void withdraw(struct files *f, const char *folder, const char *id, uint64_t number, const char *nonce)
{
        _cleanup_(version_done) struct version v = {};
        char path[FILES_PATH_MAX + STORE_ID_MAX + 24], name[STORE_ID_MAX + 24];

        if (read_version(f, folder, id, number, &v, NULL) < 0 || !streq(v.nonce[0], nonce))
                return;
        name_format(id, number, name);
        snprintf(path, sizeof(path), "%s/%s", folder, name);
        f->fs->ops->remove(f->fs, path, NULL);
}

static int cannot_tell(uint64_t number, const char *why, struct err *err)
{
        return err_set(err, -ETIMEDOUT, "cannot tell who wrote version %" PRIu64 ": %s", number, why);
}

/*
 * After the link, whatever it answered: who won? 1: somebody overtook the question, ask again. A nonce that
 * is found proves a win even in a sleeper's file, since that goes on from a true version; that it is missing
 * proves nothing there.
 */
static int judge_once(struct files *f, const char *folder, const char *id, uint64_t number,
                      const char *nonce, struct err *err)
{
        _cleanup_(version_done) struct version v = {};
        struct err looked = {};
        struct scan scan;
        int r = newest(f, folder, id, &scan, &v, &looked);

        if (r < 0)
                return cannot_tell(number, err_text(&looked), err);
        if (v.number >= number && has_nonce(&v, nonce)) {
                collect(f, folder, &scan);
                return 0;
        }
        r = still_newest(f, folder, id, &v, &looked);
        if (r < 0)
                return cannot_tell(number, err_text(&looked), err);
        if (r == 0)
                return 1;
        if (v.number < number)
                return cannot_tell(number, "it is not there", err);
        if (v.number - number >= NONCES)
                return cannot_tell(number, "too many others have followed", err);
        if (v.number > number)
                withdraw(f, folder, id, number, nonce);
        return err_set(err, -ESTALE, "another wrote version %" PRIu64 " first", number);
}

static int judge(struct files *f, const char *folder, const char *id, uint64_t number, const char *nonce,
                 struct err *err)
{
        for (int round = 0; round < ROUNDS; round++) {
                int r = judge_once(f, folder, id, number, nonce, err);

                if (r <= 0)
                        return r;
        }
        return cannot_tell(number, "it changes faster than it can be read", err);
}

static int link_version(struct files *f, const char *folder, const char *from, const char *to,
                        struct err *err)
{
        int r = f->fs->ops->link(f->fs, from, to, err);

        if (r == -ENOENT) {
                r = files_mkdir(f, folder, 0700, err);
                if (r >= 0)
                        r = f->fs->ops->link(f->fs, from, to, err);
        }
        return r;
}

static int write_version(struct files *f, const char *folder, const char *id, const struct version *before,
                         const char *text, struct err *err)
{
        char nonce[NONCE_LEN + 1], temporary[FILES_PATH_MAX], name[STORE_ID_MAX + 24];
        char path[FILES_PATH_MAX + sizeof(name)];
        _cleanup_(freep) char *file = NULL;
        static const struct fs_owner owner = {.mode = 0600};
        const bool live = before->number > 0 && !before->deleted; /* a new one waits until there is room */
        struct scan scan;
        size_t len;
        int r;

        snprintf(nonce, sizeof(nonce), "%016" PRIx64, random_u64());
        if (compose(before, nonce, text, &file, &len) < 0)
                return err_set(err, -ENOMEM, "out of memory");
        snprintf(temporary, sizeof(temporary), "tmp/record-%s", nonce);
        do
                r = f->fs->ops->put(f->fs, temporary, file, len, &owner, true, err);
        while (r == -ENOSPC && live && files_reserve_use(f));
        if (r < 0)
                return r;
        /* Making the text durable took its time; who is late already need not become a sleeper. And it
         * proves `before`. */
        r = scan_record(f, folder, id, &scan, err);
        if (r >= 0 && scan.highest != before->number)
                r = err_set(err, -ESTALE, "another wrote version %" PRIu64 " first", before->number + 1);
        if (r < 0) {
                f->fs->ops->remove(f->fs, temporary, NULL);
                return r;
        }
        name_format(id, before->number + 1, name);
        snprintf(path, sizeof(path), "%s/%s", folder, name);
        do
                r = link_version(f, folder, temporary, path, err);
        while (r == -ENOSPC && live && files_reserve_use(f));
        f->fs->ops->remove(f->fs, temporary, NULL);
        if (r < 0 && r != -EEXIST && r != -ETIMEDOUT)
                return r; /* refused: it did not happen and will not */
        r = judge(f, folder, id, before->number + 1, nonce, err);
        if (r == 0)
                r = files_sync(f, folder, err);
        return r;
}

static int files_record_put(struct store *s, enum record_kind kind, const char *id, uint64_t expected,
                            const char *text, uint64_t *ret_version, struct err *err)
{
        _cleanup_(version_done) struct version before = {};
        char folder[FILES_PATH_MAX];
        struct scan scan;
        bool live;
        int r;

        kind_path(kind, id, folder);
        r = newest(files_of(s), folder, id, &scan, &before, err);
        if (r < 0)
                return err_wrap(err, r, "%s %s", record_kind_name(kind), id);
        live = before.number > 0 && !before.deleted;
        if (expected == 0 ? live : before.number != expected)
                return err_set(err, -ESTALE, "%s %s: newest is version %" PRIu64 ", not %" PRIu64,
                               record_kind_name(kind), id, before.number, expected);
        if (!text && !live)
                return err_set(err, -ENOENT, "%s %s: no such record", record_kind_name(kind), id);
        r = write_version(files_of(s), folder, id, &before, text, err);
        if (r < 0)
                return err_wrap(err, r, "%s %s", record_kind_name(kind), id);
        record_cache_put(s->cache, kind, id, before.number + 1, text ? text : "");
        *ret_version = before.number + 1;
        return 0;
}

static int files_beat_write(struct store *s, unsigned host, uint64_t counter, struct err *err)
{
        char path[64], digits[32];

        snprintf(path, sizeof(path), "beats/%u", host);
        snprintf(digits, sizeof(digits), "%020" PRIu64 "\n", counter);
        return files_of(s)->fs->file->poke(files_of(s)->fs, path, digits, 21, err);
}

static int files_beat_read(struct store *s, unsigned host, uint64_t *ret_counter, struct err *err)
{
        _cleanup_(freep) char *text = NULL;
        char name[16], *end;
        size_t len;
        int r;

        snprintf(name, sizeof(name), "%u", host);
        r = files_read(files_of(s), "beats", name, 64, &text, &len, err);
        if (r < 0)
                return err_wrap(err, r, "heartbeat of host %u", host);
        if (len == 0) /* made, and not written yet */
                return err_set(err, -ENOENT, "heartbeat of host %u: not written yet", host);
        *ret_counter = strtoull(text, &end, 10);
        if (end != text + 20)
                return err_set(err, -EIO, "heartbeat of host %u: not a counter", host);
        return 0;
}

const struct engine_records files_records = {
    .get = files_record_get,
    .put = files_record_put,
    .list = files_record_list,
    .beat_write = files_beat_write,
    .beat_read = files_beat_read,
};
