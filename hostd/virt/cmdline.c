/* SPDX-License-Identifier: Apache-2.0 */

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/util.h"
#include "hostd/virt/internal.h"

/*
 * Which guest of ours a process is. libvirt writes into the command line of a QEMU "-name guest=wherry-NAME,..."
 * and "-uuid INSTANCE".
 *
 * /proc/PID/cmdline is memory of that process: a read of it waits for the lock of its address space, and for
 * the page. A process that hangs in storage, or a stranger who wants it so, keeps the reader for ever, even
 * against SIGKILL. So each command line is read once, on a thread of its own; whoever asks waits for READ_MS,
 * and not again for a process that was too slow. /proc/PID/stat needs nothing of the process.
 */

#define CMDLINE_MAX (256 * 1024)
#define READ_MS 1000
#define STUCK_MAX 64 /* readers that wait at the same time; beyond, further processes are not read */
#define READER_STACK (128 * 1024)
#define FORGET_MS 60000     /* an entry that nobody asked for is dropped */
#define PF_KTHREAD 0x200000 /* linux/sched.h: such a process has no memory */

/* What one process is known by: an exec changes the name, and another process has another start. */
struct key {
        pid_t pid;
        unsigned long long start; /* clock ticks since boot */
        char comm[32];
};

enum state { STATE_READING, STATE_OURS, STATE_OTHER, STATE_EMPTY };

struct entry {
        struct entry *next;
        struct cmdlines *owner;
        struct key key;
        enum state state;
        bool listed; /* else only its reader has it, and frees it */
        bool waited; /* somebody has waited for it in vain */
        int64_t seen_ms;
        char instance[UUID_LEN + 1];
};

struct cmdlines {
        pthread_mutex_t lock; /* guards all of it, and the entries but for owner and key */
        pthread_cond_t changed;
        unsigned refs, reading;
        struct entry *entries;
};

struct cmdlines *cmdlines_new(void)
{
        struct cmdlines *c = calloc(1, sizeof *c);
        pthread_condattr_t attr;

        if (!c)
                return NULL;
        c->refs = 1;
        pthread_mutex_init(&c->lock, NULL);
        pthread_condattr_init(&attr);
        pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
        pthread_cond_init(&c->changed, &attr);
        pthread_condattr_destroy(&attr);
        return c;
}

/* With c->lock held, which it unlocks. */
static void unref_unlock(struct cmdlines *c)
{
        unsigned left = --c->refs;

        pthread_mutex_unlock(&c->lock);
        if (left > 0)
                return;
        pthread_cond_destroy(&c->changed);
        pthread_mutex_destroy(&c->lock);
        free(c);
}

/* With c->lock held. Takes *at off the list. */
static void entry_drop(struct entry **at)
{
        struct entry *e = *at;

        *at = e->next;
        e->listed = false;
        if (e->state != STATE_READING)
                free(e);
}

struct cmdlines *cmdlines_free(struct cmdlines *c)
{
        if (!c)
                return NULL;
        pthread_mutex_lock(&c->lock);
        while (c->entries)
                entry_drop(&c->entries);
        unref_unlock(c);
        return NULL;
}

/* -ESRCH: it has ended, or never has a command line. proc(5), /proc/pid/stat. */
static int key_read(pid_t pid, struct key *ret)
{
        _cleanup_(freep) char *text = NULL;
        struct key k = {.pid = pid};
        const char *name, *rest;
        unsigned flags;
        char path[64], state;

        snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
        if (file_read(path, 4096, &text, NULL, NULL) < 0)
                return -ESRCH;
        name = strchr(text, '(');
        rest = name ? strrchr(name, ')') : NULL; /* a name may hold brackets, too */
        if (!rest ||
            sscanf(rest, ") %c %*d %*d %*d %*d %*d %u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu",
                   &state, &flags, &k.start) != 3)
                return -ESRCH;
        if (state == 'Z' || state == 'X' || flags & PF_KTHREAD)
                return -ESRCH;
        snprintf(k.comm, sizeof k.comm, "%.*s", (int)(rest - name - 1), name + 1);
        *ret = k;
        return 0;
}

/* The value after `option` in a NUL-separated command line, or NULL. */
static const char *option_value(const char *cmdline, size_t len, const char *option)
{
        const char *p = cmdline, *end = cmdline + len;

        while (p < end) {
                const char *next = p + strlen(p) + 1;

                if (streq(p, option))
                        return next < end ? next : NULL;
                p = next;
        }
        return NULL;
}

static enum state cmdline_state(pid_t pid, char ret[UUID_LEN + 1])
{
        _cleanup_(freep) char *cmdline = NULL;
        const char *name, *uuid;
        char path[64];
        size_t len;

        snprintf(path, sizeof path, "/proc/%d/cmdline", (int)pid);
        if (file_read(path, CMDLINE_MAX, &cmdline, &len, NULL) < 0 || len == 0)
                return STATE_EMPTY; /* just being executed, or ending: its memory goes first */
        name = option_value(cmdline, len, "-name");
        uuid = option_value(cmdline, len, "-uuid");
        if (!name || !uuid || strncmp(name, "guest=wherry-", 13) != 0 || !uuid_valid(uuid))
                return STATE_OTHER;
        memcpy(ret, uuid, UUID_LEN + 1);
        return STATE_OURS;
}

static void *reader(void *arg)
{
        struct entry *e = arg;
        struct cmdlines *c = e->owner;
        char instance[UUID_LEN + 1] = "";
        enum state state = cmdline_state(e->key.pid, instance);

        pthread_mutex_lock(&c->lock);
        memcpy(e->instance, instance, sizeof e->instance);
        e->state = state;
        c->reading--;
        if (!e->listed)
                free(e);
        pthread_cond_broadcast(&c->changed);
        unref_unlock(c);
        return NULL;
}

/* With c->lock held. NULL: no memory, no thread, or too many that wait. */
static struct entry *entry_new(struct cmdlines *c, const struct key *key)
{
        struct entry *e = c->reading < STUCK_MAX ? calloc(1, sizeof *e) : NULL;
        pthread_attr_t attr;
        pthread_t thread;
        int r;

        if (!e)
                return NULL;
        *e = (struct entry){.next = c->entries, .owner = c, .key = *key, .listed = true};
        pthread_attr_init(&attr);
        pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
        pthread_attr_setstacksize(&attr, READER_STACK);
        r = pthread_create(&thread, &attr, reader, e);
        pthread_attr_destroy(&attr);
        if (r != 0) {
                free(e);
                return NULL;
        }
        c->refs++;
        c->reading++;
        c->entries = e;
        return e;
}

static bool key_equal(const struct key *a, const struct key *b)
{
        return a->pid == b->pid && a->start == b->start && streq(a->comm, b->comm);
}

/* With c->lock held. */
static struct entry *entry_find(struct cmdlines *c, const struct key *key)
{
        struct entry *e = c->entries;

        while (e && !key_equal(&e->key, key))
                e = e->next;
        return e;
}

/* With c->lock held. Drops what is out of date; begins to read that process unless it was read before. */
static void entry_refresh(struct cmdlines *c, const struct key *key)
{
        int64_t now = clock_ms();
        struct entry *e;

        for (struct entry **at = &c->entries; (e = *at);) {
                bool same = key_equal(&e->key, key);

                if (same && e->state != STATE_EMPTY)
                        e->seen_ms = now;
                if (same ? e->state == STATE_EMPTY : e->key.pid == key->pid || now - e->seen_ms > FORGET_MS)
                        entry_drop(at);
                else
                        at = &e->next;
        }
        e = entry_find(c, key);
        if (!e)
                e = entry_new(c, key);
        if (e)
                e->seen_ms = now;
}

int cmdline_instance(struct cmdlines *c, pid_t pid, char ret[UUID_LEN + 1])
{
        struct timespec until;
        struct entry *e;
        struct key key;
        int r = key_read(pid, &key), timeout = 0;

        if (r < 0)
                return r;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += READ_MS / 1000;
        pthread_mutex_lock(&c->lock);
        entry_refresh(c, &key);
        /* Found anew after each wait: another thread may have dropped it. */
        while ((e = entry_find(c, &key)) && e->state == STATE_READING && !e->waited && timeout == 0)
                timeout = pthread_cond_timedwait(&c->changed, &c->lock, &until);
        if (!e || e->state == STATE_READING) {
                r = -ETIMEDOUT;
                if (e && !e->waited)
                        log_warn(
                            "process %d (%s) has not let its command line be read in %d ms: it may be a "
                            "guest's, and is left alone",
                            (int)pid, key.comm, READ_MS);
                if (e)
                        e->waited = true;
        } else {
                r = e->state == STATE_OURS ? 1 : e->state == STATE_OTHER ? 0 : -ESRCH;
                if (r == 1)
                        memcpy(ret, e->instance, UUID_LEN + 1);
        }
        pthread_mutex_unlock(&c->lock);
        return r;
}
