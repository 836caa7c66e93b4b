/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <grp.h>
#include <linux/close_range.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/util.h"
#include "imaged/osinfo/helper.h"

#define NOBODY 65534
#define MIB (UINT64_C(1) << 20)

/* A sanitizer's shadow is larger than any limit. */
#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED true
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED true
#endif
#endif
#ifndef SANITIZED
#define SANITIZED false
#endif

/* The database takes 60 MB, and the C library's and GLib's mappings as much again. A limit that is lower
 * already stays. */
static const struct limit {
        int what;
        uint64_t value;
        const char *name;
        bool memory;
} limits[] = {{RLIMIT_AS, 384 * MIB, "memory", true},   {RLIMIT_CPU, 5, "processor time", false},
              {RLIMIT_FSIZE, 0, "file size", false},    {RLIMIT_CORE, 0, "core file", false},
              {RLIMIT_NOFILE, 64, "open files", false}, {RLIMIT_MEMLOCK, 0, "locked memory", false}};

static int limit_set(const struct limit *l, struct err *err)
{
        struct rlimit now, new;

        if (l->memory && SANITIZED)
                return 0;
        if (getrlimit((__rlimit_resource_t)l->what, &now) < 0)
                return err_set(err, -errno, "limit of %s: %s", l->name, strerror(errno));
        new.rlim_cur = new.rlim_max = MIN_OF((rlim_t)l->value, now.rlim_max);
        if (setrlimit((__rlimit_resource_t)l->what, &new) < 0)
                return err_set(err, -errno, "limit of %s: %s", l->name, strerror(errno));
        return 0;
}

/* A network of its own without any interface. Where neither root nor user namespaces may make one, the
 * helper goes on without: it opens no socket by itself. */
static int rights_drop(struct err *err)
{
        if (geteuid() != 0) {
                (void)!unshare(CLONE_NEWUSER | CLONE_NEWNET);
                return 0;
        }
        (void)!unshare(CLONE_NEWNET);
        if (setgroups(0, NULL) < 0 || setresgid(NOBODY, NOBODY, NOBODY) < 0 ||
            setresuid(NOBODY, NOBODY, NOBODY) < 0)
                return err_set(err, -errno, "cannot become nobody: %s", strerror(errno));
        return 0;
}

int sandbox_enter(struct err *err)
{
        int r;

        if (close_range(3, ~0U, 0) < 0)
                return err_set(err, -errno, "close_range: %s", strerror(errno));
        r = rights_drop(err);
        for (size_t i = 0; r == 0 && i < ARRAY_SIZE(limits); i++)
                r = limit_set(&limits[i], err);
        if (r < 0)
                return r;
        /* after the change of user, which clears it */
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
                return err_set(err, -errno, "prctl: %s", strerror(errno));
        return 0;
}
