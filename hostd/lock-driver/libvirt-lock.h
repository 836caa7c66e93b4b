/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>

/*
 * libvirt's lock manager plugin interface, version 1.0, as a plugin sees it: libvirt installs no header for
 * it, but its binary layout has stood since 2010. Written down from the interface's description in libvirt's
 * src/locking/lock_driver.h; only what a plugin needs is named. libvirt loads <lock_manager>.so from its
 * lock-driver folder, looks up the symbol virLockDriverImpl, and refuses a plugin whose `version` is newer
 * than its own.
 */

#define LV_LOCK_VERSION 1000000U /* major * 1000000 + minor * 1000 + micro */

enum lv_object_type { LV_OBJECT_DOMAIN = 0, LV_OBJECT_DAEMON = 1 };
enum lv_resource_type { LV_RESOURCE_DISK = 0, LV_RESOURCE_LEASE = 1 };
enum lv_acquire_flag { LV_ACQUIRE_REGISTER_ONLY = 1 << 0, LV_ACQUIRE_RESTRICT = 1 << 1 };
enum lv_param_type {
        LV_PARAM_STRING,
        LV_PARAM_CSTRING,
        LV_PARAM_INT,
        LV_PARAM_LONG,
        LV_PARAM_UINT,
        LV_PARAM_ULONG,
        LV_PARAM_DOUBLE,
        LV_PARAM_UUID,
};

struct lv_param {
        int type; /* enum lv_param_type */
        const char *key;
        union {
                int i;
                long long l;
                unsigned int ui;
                unsigned long long ul;
                double d;
                char *str;
                const char *cstr;
                unsigned char uuid[16];
        } value;
};

struct lv_lock_driver;

/* One per call that libvirt makes: it is made, used once and freed again. */
struct lv_lock_manager {
        struct lv_lock_driver *driver;
        void *private_data; /* the plugin's */
};

/* Every function returns 0, or -1 with an error reported. They are called on libvirtd's worker threads,
 * several at once. */
struct lv_lock_driver {
        unsigned int version; /* of the interface that the plugin was made for */
        unsigned int flags;   /* 1: passes a state string along a migration */
        int (*init)(unsigned int version, const char *config_file, unsigned int flags);
        int (*deinit)(void); /* -1: do not unload */
        int (*create)(struct lv_lock_manager *man, unsigned int type, size_t n_params,
                      struct lv_param *params, unsigned int flags);
        void (*destroy)(struct lv_lock_manager *man);
        int (*add_resource)(struct lv_lock_manager *man, unsigned int type, const char *name,
                            size_t n_params, struct lv_param *params, unsigned int flags);
        int (*acquire)(struct lv_lock_manager *man, const char *state, unsigned int flags, int lost_action,
                       int *ret_fd);
        int (*release)(struct lv_lock_manager *man, char **ret_state, unsigned int flags);
        int (*inquire)(struct lv_lock_manager *man, char **ret_state, unsigned int flags);
};
