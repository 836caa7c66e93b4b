/* SPDX-License-Identifier: Apache-2.0 */
#include "imaged/account.h"

#include <errno.h>
#include <semaphore.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/json.h"
#include "common/log.h"
#include "imaged/records.h"

/* No account has this name: theirs begin with a letter or digit. */
#define KEY_RECORD "__token-key"
#define SEEN_MS 1000 /* a new password or a removal counts everywhere after so long */
#define SEEN 512
#define HASHES 2 /* at the same time: each takes 64 MiB */

_Static_assert(ACCOUNT_KEY_LEN == crypto_auth_KEYBYTES, "the key fits libsodium's");

struct seen {
        struct account account;
        int64_t at_ms; /* 0: nothing */
};

struct accounts {
        struct store *store;
        uint8_t key[ACCOUNT_KEY_LEN];
        char nobody[crypto_pwhash_STRBYTES]; /* what a password is compared with where there is no account */
        sem_t hashing;

        pthread_mutex_t lock; /* over what follows */
        struct seen seen[SEEN];
};

const uint8_t *accounts_key(const struct accounts *a)
{
        return a->key;
}

bool account_name_valid(const char *name)
{
        size_t n = strlen(name);

        return n >= 1 && n <= ACCOUNT_NAME_MAX && name[0] != '-' && name[0] != '_' &&
               strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_-") == n;
}

static int key_make(struct store *store, struct err *err)
{
        uint8_t key[ACCOUNT_KEY_LEN];
        char text[2 * ACCOUNT_KEY_LEN + 1];
        _cleanup_(json_decrefpp) json_t *record = NULL;
        int r;

        randombytes_buf(key, sizeof(key));
        sodium_bin2hex(text, sizeof(text), key, sizeof(key));
        record = json_pack("{s:s,s:s}", "id", KEY_RECORD, "key", text);
        if (!record)
                return err_set(err, -ENOMEM, "out of memory");
        r = records_save(store, RECORD_ACCOUNT, KEY_RECORD, 0, record, NULL, err);
        return r == -ESTALE ? 0 : r; /* another imaged was first: its key is taken */
}

static int key_load(struct accounts *a, struct err *err)
{
        _cleanup_(json_decrefpp) json_t *record = NULL;
        const char *text;
        size_t n;
        int r = records_load(a->store, RECORD_ACCOUNT, KEY_RECORD, &record, NULL, err);

        if (r == -ENOENT) {
                r = key_make(a->store, err);
                if (r == 0)
                        r = records_load(a->store, RECORD_ACCOUNT, KEY_RECORD, &record, NULL, err);
        }
        if (r < 0)
                return r;
        text = json_get_str(record, "key", "");
        if (sodium_hex2bin(a->key, sizeof(a->key), text, strlen(text), NULL, &n, NULL) < 0 ||
            n != sizeof(a->key))
                return err_set(err, -EIO, "account record %s holds no key", KEY_RECORD);
        return 0;
}

static int hash(struct accounts *a, const char *password, char ret[crypto_pwhash_STRBYTES], struct err *err)
{
        int r;

        while (sem_wait(&a->hashing) < 0)
                ;
        r = crypto_pwhash_str_alg(ret, password, strlen(password), crypto_pwhash_OPSLIMIT_INTERACTIVE,
                                  crypto_pwhash_MEMLIMIT_INTERACTIVE, crypto_pwhash_ALG_ARGON2ID13);
        sem_post(&a->hashing);
        return r < 0 ? err_set(err, -ENOMEM, "password: out of memory") : 0;
}

int accounts_new(struct store *store, struct accounts **ret, struct err *err)
{
        struct accounts *a;
        int r;

        if (sodium_init() < 0)
                return err_set(err, -EIO, "libsodium does not start");
        a = calloc(1, sizeof(*a));
        if (!a)
                return err_set(err, -ENOMEM, "out of memory");
        a->store = store;
        pthread_mutex_init(&a->lock, NULL);
        sem_init(&a->hashing, 0, HASHES);
        r = key_load(a, err);
        if (r == 0)
                r = hash(a, "", a->nobody, err);
        if (r < 0) {
                accounts_free(a);
                return r;
        }
        *ret = a;
        return 0;
}

struct accounts *accounts_free(struct accounts *a)
{
        if (!a)
                return NULL;
        sem_destroy(&a->hashing);
        pthread_mutex_destroy(&a->lock);
        sodium_memzero(a->key, sizeof(a->key));
        free(a);
        return NULL;
}

static struct seen *seen_of(struct accounts *a, const char *name)
{
        uint32_t h = 2166136261u; /* FNV-1a */

        for (; *name; name++)
                h = (h ^ (unsigned char)*name) * 16777619u;
        return &a->seen[h % SEEN];
}

static void forget(struct accounts *a, const char *name)
{
        pthread_mutex_lock(&a->lock);
        seen_of(a, name)->at_ms = 0;
        pthread_mutex_unlock(&a->lock);
}

static void fill(const json_t *record, struct account *ret)
{
        *ret = (struct account){.admin = streq(json_get_str(record, "role", NULL), "admin"),
                                .serial = (uint64_t)json_get_int(record, "serial", 0)};
        snprintf(ret->id, sizeof(ret->id), "%s", json_get_str(record, "id", ""));
        snprintf(ret->name, sizeof(ret->name), "%s", json_get_str(record, "name", ""));
}

static int load_named(struct accounts *a, const char *name, json_t **ret, struct err *err)
{
        int r = account_name_valid(name) ? records_load(a->store, RECORD_ACCOUNT, name, ret, NULL, err)
                                         : -ENOENT;

        return r == -ENOENT ? err_set(err, -ENOENT, "no account %s", name) : r;
}

int account_get(struct accounts *a, const char *name, struct account *ret, struct err *err)
{
        _cleanup_(json_decrefpp) json_t *record = NULL;
        int64_t now = clock_ms();
        struct seen *s;
        bool known;
        int r;

        pthread_mutex_lock(&a->lock);
        s = seen_of(a, name);
        known = s->at_ms && now - s->at_ms < SEEN_MS && streq(s->account.name, name);
        if (known)
                *ret = s->account;
        pthread_mutex_unlock(&a->lock);
        if (known)
                return 0;
        r = load_named(a, name, &record, err);
        if (r < 0)
                return r;
        fill(record, ret);
        pthread_mutex_lock(&a->lock);
        *seen_of(a, name) = (struct seen){.account = *ret, .at_ms = now};
        pthread_mutex_unlock(&a->lock);
        return 0;
}

int account_login(struct accounts *a, const char *name, const char *password, struct account *ret,
                  struct err *err)
{
        _cleanup_(json_decrefpp) json_t *record = NULL;
        const char *stored;
        int wrong, r = load_named(a, name, &record, err);

        if (r < 0 && r != -ENOENT)
                return r;
        stored = json_get_str(record, "password", a->nobody);
        while (sem_wait(&a->hashing) < 0)
                ;
        wrong = strlen(password) > ACCOUNT_PASSWORD_MAX ||
                crypto_pwhash_str_verify(stored, password, strlen(password)) < 0;
        sem_post(&a->hashing);
        if (r < 0 || wrong)
                return err_set(err, -EPERM, "wrong name or password");
        fill(record, ret);
        return 0;
}

struct by_id {
        const char *id;
        char needle[UUID_LEN + 16];
        json_t *found;
};

static int by_id_one(void *arg, const char *name, uint64_t version, const char *text)
{
        struct by_id *b = arg;
        json_t *record = strstr(text, b->needle) ? json_loads(text, 0, NULL) : NULL;

        if (streq(json_get_str(record, "id", NULL), b->id)) {
                b->found = record;
                return 1;
        }
        json_decref(record);
        return 0;
}

int account_load(struct accounts *a, const char *id_or_name, json_t **ret, struct err *err)
{
        struct by_id b = {.id = id_or_name};
        int r;

        if (!uuid_valid(id_or_name))
                return load_named(a, id_or_name, ret, err);
        snprintf(b.needle, sizeof(b.needle), "\"%s\"", id_or_name);
        r = record_list(a->store, RECORD_ACCOUNT, by_id_one, &b, err);
        if (r < 0)
                return err_wrap(err, records_code(r), "list of accounts");
        if (!b.found)
                return err_set(err, -ENOENT, "no account %s", id_or_name);
        *ret = b.found;
        return 0;
}

struct each {
        int (*cb)(void *arg, json_t *record);
        void *arg;
};

static int each_one(void *arg, const char *id, uint64_t version, json_t *record)
{
        struct each *e = arg;

        return id[0] == '_' ? 0 : e->cb(e->arg, record);
}

int account_each(struct accounts *a, int (*cb)(void *arg, json_t *record), void *arg, struct err *err)
{
        struct each e = {.cb = cb, .arg = arg};

        return records_each(a->store, RECORD_ACCOUNT, each_one, &e, err);
}

static int password_check(const char *password, struct err *err)
{
        size_t n = strlen(password);

        if (n < ACCOUNT_PASSWORD_MIN || n > ACCOUNT_PASSWORD_MAX)
                return err_set(err, -EINVAL, "the password has %zu bytes; %d to %d are possible", n,
                               ACCOUNT_PASSWORD_MIN, ACCOUNT_PASSWORD_MAX);
        return 0;
}

static int role_check(const char *role, struct err *err)
{
        return streq(role, "admin") || streq(role, "member")
                   ? 0
                   : err_set(err, -EINVAL, "role \"%.80s\": admin and member are possible", role);
}

int account_add(struct accounts *a, const struct account_new *n, json_t **ret, struct err *err)
{
        _cleanup_(json_decrefpp) json_t *record = NULL;
        char id[UUID_LEN + 1], at[CLOCK_STAMP_LEN + 1], hashed[crypto_pwhash_STRBYTES];
        int r;

        if (!account_name_valid(n->name))
                return err_set(
                    err, -EINVAL,
                    "account name \"%.80s\": 1 to %d characters of a-z, 0-9, - and _, the first a "
                    "letter or digit",
                    n->name, ACCOUNT_NAME_MAX);
        r = role_check(n->role, err);
        if (r == 0)
                r = password_check(n->password, err);
        if (r == 0)
                r = hash(a, n->password, hashed, err);
        if (r < 0)
                return r;
        uuid_random(id);
        record = json_pack("{s:s,s:s,s:s,s:s,s:i,s:s,s:{s:O?},s:{}}", "id", id, "name", n->name, "password",
                           hashed, "role", n->role, "serial", 1, "created", clock_stamp(at), "quota",
                           "image_bytes", n->image_bytes, "images");
        sodium_memzero(hashed, sizeof(hashed));
        if (!record)
                return err_set(err, -ENOMEM, "out of memory");
        r = records_save(a->store, RECORD_ACCOUNT, n->name, 0, record, NULL, err);
        if (r == -ESTALE)
                return err_set(err, -EEXIST, "there is an account %s already", n->name);
        if (r < 0)
                return r;
        forget(a, n->name);
        log_info("account %s (%s): added, role %s", n->name, id, n->role);
        *ret = take(record);
        return 0;
}

static int change_account(json_t *record, void *arg, struct err *err)
{
        const struct account_change *c = arg;

        if (c->role)
                json_object_set_new(record, "role", json_string(c->role));
        if (c->image_bytes)
                json_object_set_new(record, "quota", json_pack("{s:O}", "image_bytes", c->image_bytes));
        return 0;
}

int account_change(struct accounts *a, const char *name, const struct account_change *c, json_t **ret,
                   struct err *err)
{
        struct account_change change = *c;
        int r = account_name_valid(name) ? 0 : -ENOENT;

        if (r == 0 && c->role)
                r = role_check(c->role, err);
        if (r == 0)
                r = records_change(a->store, RECORD_ACCOUNT, name, change_account, &change, ret, err);
        forget(a, name);
        if (r == 0)
                log_info("account %s: role %s, quota %lld", name, json_get_str(*ret, "role", ""),
                         (long long)json_get_int(json_object_get(*ret, "quota"), "image_bytes", -1));
        return r == -ENOENT ? err_set(err, r, "no account %s", name) : r;
}

static int change_password(json_t *record, void *arg, struct err *err)
{
        json_object_set_new(record, "password", json_string(arg));
        json_object_set_new(record, "serial", json_integer(json_get_int(record, "serial", 0) + 1));
        return 0;
}

int account_password(struct accounts *a, const char *name, const char *password, struct err *err)
{
        char hashed[crypto_pwhash_STRBYTES];
        int r = account_name_valid(name) ? 0 : -ENOENT;

        if (r == 0)
                r = password_check(password, err);
        if (r == 0)
                r = hash(a, password, hashed, err);
        if (r == 0)
                r = records_change(a->store, RECORD_ACCOUNT, name, change_password, hashed, NULL, err);
        sodium_memzero(hashed, sizeof(hashed));
        forget(a, name);
        if (r == 0)
                log_info("account %s: new password", name);
        return r == -ENOENT ? err_set(err, r, "no account %s", name) : r;
}

int account_remove(struct accounts *a, const char *name, struct err *err)
{
        _cleanup_(json_decrefpp) json_t *record = NULL;
        uint64_t version;
        int r = account_name_valid(name)
                    ? records_load(a->store, RECORD_ACCOUNT, name, &record, &version, err)
                    : -ENOENT;

        if (r == 0)
                r = records_save(a->store, RECORD_ACCOUNT, name, version, NULL, NULL, err);
        forget(a, name);
        if (r == 0)
                log_info("account %s: removed", name);
        return r == -ENOENT ? err_set(err, r, "no account %s", name) : r;
}

json_t *account_view(const json_t *record)
{
        const json_t *images = json_object_get(record, "images");
        json_t *view = json_copy((json_t *)record), *bytes;
        json_int_t used = 0;
        const char *key;

        json_object_foreach ((json_t *)images, key, bytes)
                used += json_integer_value(bytes);
        json_object_del(view, "password");
        json_object_del(view, "serial");
        json_object_del(view, "images");
        if (json_is_integer(json_path(record, "quota.image_bytes")))
                json_object_set_new(view, "used", json_pack("{s:I}", "image_bytes", used));
        return view;
}
