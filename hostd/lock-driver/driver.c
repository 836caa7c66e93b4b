/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The gate inside libvirt. libvirt asks this driver before it lets a guest's vCPUs run, for whatever reason,
 * and tells it when it has stopped them; the driver asks hostd and obeys. What it must not do is guess: no
 * answer is a no. Guests without a lease of ours are not ours and are let through. See docs/architecture.md.
 */

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "hostd/lock-driver/driver.h"
#include "hostd/lock-driver/libvirt-lock.h"

/* RELEASE is a hint, and the guest's clock stands still while it is given: hostd gets little time to take
 * note. */
#define RELEASE_ANSWER_MS 1000

/* libvirt's interface hands no handle to init(), so the state of this one plugin in this one process sits
 * here. */
static struct {
        pthread_mutex_t lock; /* guards users; the rest is set by the first init and read-only after */
        unsigned users;       /* a plugin may be initialised once for each of libvirt's drivers */
        struct settings settings;
        struct holds *holds;
} state = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* One call of libvirt's: which guest, and which lease of ours it has. */
struct guest {
        char uuid[37];
        pid_t pid;
        bool ours;
        bool bad; /* two leases, or one that is too long: refused at acquire, where libvirt listens */
        char key[KEY_LEN], path[PATH_LEN];
};

int64_t now_ms(void)
{
        struct timespec ts;

        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static int driver_init(unsigned int version, const char *config_file, unsigned int flags)
{
        char reason[REASON_LEN];
        int r = -1;

        /* The same major version promises the same table. */
        if (version / 1000000 != LV_LOCK_VERSION / 1000000) {
                snprintf(reason, sizeof reason, "libvirt asks for lock interface %u, this driver has %u",
                         version, LV_LOCK_VERSION);
                report_refusal(reason);
                return -1;
        }
        pthread_mutex_lock(&state.lock);
        if (state.users > 0) {
                state.users++;
                r = 0;
        } else if (settings_load(config_file, &state.settings, reason) < 0) {
                report_refusal(reason);
        } else if (!(state.holds = holds_new())) {
                report_refusal("cannot start the watcher of second locks");
        } else {
                state.users = 1;
                r = 0;
        }
        pthread_mutex_unlock(&state.lock);
        return r;
}

static int driver_deinit(void)
{
        pthread_mutex_lock(&state.lock);
        if (state.users > 0 && --state.users == 0)
                state.holds = holds_free(state.holds);
        pthread_mutex_unlock(&state.lock);
        return 0;
}

static void uuid_text(const unsigned char *raw, char ret[37])
{
        char *p = ret;

        for (int i = 0; i < 16; i++) {
                if (i == 4 || i == 6 || i == 8 || i == 10)
                        *p++ = '-';
                p += sprintf(p, "%02x", raw[i]);
        }
}

static int driver_create(struct lv_lock_manager *man, unsigned int type, size_t n_params,
                         struct lv_param *params, unsigned int flags)
{
        struct guest *g = calloc(1, sizeof *g);

        if (!g)
                return -1;
        if (type != LV_OBJECT_DOMAIN) {
                free(g);
                report_refusal("libvirt asks for a lock on something that is no guest");
                return -1;
        }
        for (size_t i = 0; i < n_params; i++) {
                if (strcmp(params[i].key, "uuid") == 0 && params[i].type == LV_PARAM_UUID)
                        uuid_text(params[i].value.uuid, g->uuid);
                else if (strcmp(params[i].key, "pid") == 0)
                        g->pid = params[i].value.i;
        }
        man->private_data = g;
        return 0;
}

static void driver_destroy(struct lv_lock_manager *man)
{
        if (!man)
                return;
        free(man->private_data);
        man->private_data = NULL;
}

static int driver_add_resource(struct lv_lock_manager *man, unsigned int type, const char *name,
                               size_t n_params, struct lv_param *params, unsigned int flags)
{
        struct guest *g = man->private_data;
        const char *lockspace = NULL, *path = NULL;

        if (type != LV_RESOURCE_LEASE)
                return 0;
        for (size_t i = 0; i < n_params; i++) {
                if (params[i].type != LV_PARAM_STRING && params[i].type != LV_PARAM_CSTRING)
                        continue;
                if (strcmp(params[i].key, "lockspace") == 0)
                        lockspace = params[i].value.cstr;
                else if (strcmp(params[i].key, "path") == 0)
                        path = params[i].value.cstr;
        }
        if (!lockspace || strcmp(lockspace, "wherry") != 0)
                return 0;
        if (!name)
                name = "";
        if (g->ours || !path || strlen(path) >= sizeof g->path || strlen(name) >= sizeof g->key ||
            strpbrk(name, " \t\r\n"))
                g->bad = true;
        g->ours = true;
        snprintf(g->key, sizeof g->key, "%s", name);
        snprintf(g->path, sizeof g->path, "%s", path ? path : "");
        return 0;
}

static bool has_second_lock(const struct guest *g)
{
        return strcmp(g->path, "/dev/null") != 0;
}

static int driver_acquire(struct lv_lock_manager *man, const char *lock_state, unsigned int flags,
                          int lost_action, int *ret_fd)
{
        struct guest *g = man->private_data;
        bool runs = !(flags & LV_ACQUIRE_REGISTER_ONLY), fresh = false;
        char reason[REASON_LEN] = "the lease of this guest is malformed";
        int r = -1;

        if (ret_fd)
                *ret_fd = -1;
        if (!g->ours)
                return 0;
        /* The second lock comes first: once hostd has said yes, nobody else may get a yes until QEMU has
         * locked its image. */
        if (!g->bad &&
            (!runs || !has_second_lock(g) ||
             holds_take(state.holds, g->path, g->pid, state.settings.lock_ms, &fresh, reason) == 0))
                r = gate_ask(state.settings.gate, runs ? "ACQUIRE" : "REGISTER", g->uuid, g->pid, g->key,
                             state.settings.answer_ms, reason);
        if (r < 0 && fresh)
                holds_drop(state.holds, g->path, g->pid);
        if (r < 0)
                report_refusal(reason);
        return r;
}

static int driver_release(struct lv_lock_manager *man, char **ret_state, unsigned int flags)
{
        struct guest *g = man->private_data;
        char reason[REASON_LEN];

        if (ret_state)
                *ret_state = NULL;
        if (!g->ours || g->bad)
                return 0;
        /* The vCPUs have stopped already, whatever hostd thinks of it. */
        (void)gate_ask(state.settings.gate, "RELEASE", g->uuid, g->pid, g->key, RELEASE_ANSWER_MS, reason);
        if (has_second_lock(g))
                holds_drop(state.holds, g->path, g->pid);
        return 0;
}

static int driver_inquire(struct lv_lock_manager *man, char **ret_state, unsigned int flags)
{
        if (ret_state)
                *ret_state = NULL;
        return 0;
}

extern struct lv_lock_driver virLockDriverImpl;
__attribute__((visibility("default"))) struct lv_lock_driver virLockDriverImpl = {
    .version = LV_LOCK_VERSION,
    .init = driver_init,
    .deinit = driver_deinit,
    .create = driver_create,
    .destroy = driver_destroy,
    .add_resource = driver_add_resource,
    .acquire = driver_acquire,
    .release = driver_release,
    .inquire = driver_inquire,
};
