/* SPDX-License-Identifier: Apache-2.0 */
#include "hostd/guests/table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/util.h"
#include "hostd/guests/guest.h"
#include "hostd/self.h"
#include "hostd/tasks.h"
#include "migrate/health.h"

int guests_new(struct guests **ret)
{
        struct guests *t = calloc(1, sizeof(*t));

        if (!t)
                return -ENOMEM;
        pthread_mutex_init(&t->lock, NULL);
        *ret = t;
        return 0;
}

struct guests *guests_free(struct guests *t)
{
        if (!t)
                return NULL;
        free(t->list);
        pthread_mutex_destroy(&t->lock);
        free(t);
        return NULL;
}

struct guest *guests_find(struct guests *t, const char *instance)
{
        for (size_t i = 0; i < t->n; i++)
                if (streq(t->list[i]->id, instance))
                        return t->list[i];
        return NULL;
}

void guests_drop(struct guests *t, const struct guest *g)
{
        for (size_t i = 0; i < t->n; i++)
                if (t->list[i] == g)
                        t->list[i] = t->list[--t->n];
}

/* With the table's lock held: so none is made once guests_wake_all() has seen that hostd ends. Without
 * memory or a thread the next scan tries again. */
static void guest_make(struct context *ctx, const char *id)
{
        struct guests *t = ctx->guests;
        struct guest **more, *g;

        if (ctx->self->quit)
                return;
        more = realloc(t->list, (t->n + 1) * sizeof(*more));
        if (!more)
                return;
        t->list = more;
        if (guest_new(ctx, id, &g) < 0)
                return;
        g->early = !t->scanned;
        t->list[t->n++] = g;
        if (task_spawn(ctx->tasks, guest_run, g) < 0) {
                t->n--;
                guest_free(g);
        }
}

struct guest *guests_get(struct context *ctx, const char *instance)
{
        struct guest *g = guests_find(ctx->guests, instance);

        if (!g) {
                guest_make(ctx, instance);
                return guests_find(ctx->guests, instance);
        }
        pthread_mutex_lock(&g->lock);
        g->wake = true;
        pthread_cond_signal(&g->woken);
        pthread_mutex_unlock(&g->lock);
        return g;
}

void guests_wake(struct context *ctx, const char *instance)
{
        pthread_mutex_lock(&ctx->guests->lock);
        guests_get(ctx, instance);
        pthread_mutex_unlock(&ctx->guests->lock);
}

void guests_leave(struct context *ctx, const char *instance, bool at_once)
{
        struct guest *g;

        pthread_mutex_lock(&ctx->guests->lock);
        g = guests_find(ctx->guests, instance);
        if (g) {
                pthread_mutex_lock(&g->lock);
                g->leave = true;
                g->leave_at_once |= at_once;
                g->wake = true;
                pthread_cond_signal(&g->woken);
                pthread_mutex_unlock(&g->lock);
        }
        pthread_mutex_unlock(&ctx->guests->lock);
}

bool guests_busy(struct context *ctx, const char *instance)
{
        struct guest *g;
        bool busy = false;

        pthread_mutex_lock(&ctx->guests->lock);
        g = guests_find(ctx->guests, instance);
        if (g) {
                pthread_mutex_lock(&g->lock);
                busy = g->busy || g->wake;
                pthread_mutex_unlock(&g->lock);
        }
        pthread_mutex_unlock(&ctx->guests->lock);
        return busy;
}

bool guests_movable(struct context *ctx, const char *instance)
{
        struct guest *g;
        bool runs = false;

        pthread_mutex_lock(&ctx->guests->lock);
        g = guests_find(ctx->guests, instance);
        if (g) {
                pthread_mutex_lock(&g->lock);
                runs = g->runs;
                pthread_mutex_unlock(&g->lock);
        }
        pthread_mutex_unlock(&ctx->guests->lock);
        return runs;
}

void guests_scanned(struct context *ctx)
{
        pthread_mutex_lock(&ctx->guests->lock);
        ctx->guests->scanned = true;
        pthread_mutex_unlock(&ctx->guests->lock);
}

void guests_wake_all(struct context *ctx)
{
        struct guests *t = ctx->guests;

        pthread_mutex_lock(&t->lock);
        for (size_t i = 0; i < t->n; i++) {
                pthread_mutex_lock(&t->list[i]->lock);
                pthread_cond_signal(&t->list[i]->woken);
                pthread_mutex_unlock(&t->list[i]->lock);
        }
        pthread_mutex_unlock(&t->lock);
}

/* With guest->lock held. A panic is followed by the end that it causes. */
static void note_end(struct guest *g, const char *word)
{
        g->ended_event = true;
        if (!streq(g->end_word, "panicked"))
                snprintf(g->end_word, sizeof(g->end_word), "%s", word);
}

/* With guest->lock held. */
static bool end_wished(const struct guest *g, const char *detail)
{
        const struct end_view v = {.word = streq(detail, "host") ? END_SIGNAL : END_POWER_OFF,
                                   .ours = g->ending,
                                   .pressed = g->pressed_ms != 0,
                                   .pressed_ms = clock_ms() - g->pressed_ms,
                                   .host_leaves = g->ctx->self->leaving};

        return health_wished_off(&v);
}

/* With guest->lock held. */
static void note_event(struct guest *g, enum virt_event_kind kind, const char *detail)
{
        switch (kind) {
        case VIRT_STARTED:
                g->powered_off = g->io_error = false;
                g->pressed_ms = 0;
                g->end_word[0] = '\0';
                break;
        case VIRT_RESUMED:
                g->io_error = false;
                break;
        case VIRT_SHUTDOWN:
                note_end(g, "shutdown");
                g->powered_off = end_wished(g, detail);
                break;
        case VIRT_POWERDOWN:
                g->pressed_ms = clock_ms();
                return;
        case VIRT_STOPPED:
                if (!streq(detail, "migrated"))
                        note_end(g, detail);
                else
                        g->ended_event = false;
                break;
        case VIRT_IO_ERROR:
                snprintf(g->io_word, sizeof(g->io_word), "%s", detail);
                if (!g->io_error) /* one stop, however many requests failed */
                        health_stop_error(&g->stop, clock_ms());
                g->io_error = true;
                break;
        case VIRT_JOB_ENDED:
                /* At the destination, whose gate is asked next: a look now would be in the guest's way. */
                if (streq(detail, "completed"))
                        return;
                break;
        default:
                break;
        }
        g->wake = true;
        pthread_cond_signal(&g->woken);
}

void guests_event(struct context *ctx, enum virt_event_kind kind, const char *instance, const char *detail)
{
        struct guests *t = ctx->guests;
        struct guest *g;

        pthread_mutex_lock(&t->lock);
        g = guests_find(t, instance);
        if (g) {
                pthread_mutex_lock(&g->lock);
                note_event(g, kind, detail);
                pthread_mutex_unlock(&g->lock);
        }
        pthread_mutex_unlock(&t->lock);
        if (!g && (kind == VIRT_STARTED || kind == VIRT_RESUMED))
                guests_wake(ctx, instance);
}
