/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/log.h"
#include "common/util.h"
#include "hostd/guests/guest.h"
#include "hostd/tasks.h"

/*
 * libvirt's call that starts a guest cannot be cancelled, and may never return. So it runs on a thread of
 * its own, which nobody needs to wait for: when its time is over the start is given up. What libvirt starts
 * later the gate refuses, since it is no start of this hostd's any more.
 */
#define LAUNCH_PATIENCE_MS 120000 /* a slow storage is not an error */
#define LAUNCH_END_MS 5000        /* after its QEMU was killed, the call should return */

struct launch {
        struct virt *virt;
        char *xml;

        pthread_mutex_t lock;
        pthread_cond_t ended; /* CLOCK_MONOTONIC */
        unsigned refs;        /* the guest's, and the call's */
        bool done;
        int result;
        struct err err;
};

static struct launch *launch_unref(struct launch *l)
{
        bool last;

        pthread_mutex_lock(&l->lock);
        last = --l->refs == 0;
        pthread_mutex_unlock(&l->lock);
        if (!last)
                return NULL;
        pthread_cond_destroy(&l->ended);
        pthread_mutex_destroy(&l->lock);
        free(l->xml);
        free(l);
        return NULL;
}

static struct launch *launch_new(struct virt *virt, const char *xml)
{
        struct launch *l = calloc(1, sizeof(*l));
        pthread_condattr_t attr;

        if (l)
                l->xml = strdup(xml);
        if (!l || !l->xml) {
                free(l);
                return NULL;
        }
        l->virt = virt;
        l->refs = 2;
        pthread_mutex_init(&l->lock, NULL);
        pthread_condattr_init(&attr);
        pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
        pthread_cond_init(&l->ended, &attr);
        pthread_condattr_destroy(&attr);
        return l;
}

static void launch_main(void *arg)
{
        struct launch *l = arg;
        struct err e = {0};
        int r = virt_start(l->virt, l->xml, &e);

        pthread_mutex_lock(&l->lock);
        l->done = true;
        l->result = r;
        l->err = e;
        pthread_cond_signal(&l->ended);
        pthread_mutex_unlock(&l->lock);
        launch_unref(l);
}

static bool launch_wait(struct launch *l, int64_t ms)
{
        struct timespec until;
        bool done;
        int r = 0;

        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += ms / 1000;
        pthread_mutex_lock(&l->lock);
        while (!l->done && r == 0)
                r = pthread_cond_timedwait(&l->ended, &l->lock, &until);
        done = l->done;
        pthread_mutex_unlock(&l->lock);
        return done;
}

/* It has not returned. 0: the gate has let the QEMU run, so that it is started; else it is ended. */
static int launch_late(struct guest *g, struct launch *l, struct err *err)
{
        struct err ignored = {0};
        bool runs;

        pthread_mutex_lock(&g->lock);
        runs = g->known_pid != 0;
        if (!runs)
                g->starting = (struct start){0}; /* no yes from here on */
        pthread_mutex_unlock(&g->lock);
        if (runs)
                return 0;
        guest_kill_processes(g, &ignored);
        if (launch_wait(l, LAUNCH_END_MS) && l->result < 0)
                return err_set(err, -ETIME, "not started in %d s, and ended: %s", LAUNCH_PATIENCE_MS / 1000,
                               err_text(&l->err));
        return err_set(err, -ETIME, "libvirt has not started it in %d s", LAUNCH_PATIENCE_MS / 1000);
}

int guest_launch(struct guest *g, const char *xml, struct err *err)
{
        struct launch *l = launch_new(g->ctx->virt, xml);
        int r;

        if (!l)
                return err_set(err, -ENOMEM, "out of memory");
        if (task_spawn(g->ctx->tasks, launch_main, l) < 0)
                launch_main(l); /* no thread to be had: here, however long it takes */
        if (!launch_wait(l, LAUNCH_PATIENCE_MS)) {
                r = launch_late(g, l, err);
        } else {
                r = l->result;
                if (r < 0)
                        *err = l->err;
        }
        launch_unref(l);
        return r;
}
