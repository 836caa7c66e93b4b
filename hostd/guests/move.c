/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/clock.h"
#include "common/http-client.h"
#include "common/json.h"
#include "common/log.h"
#include "common/util.h"
#include "hostd/dhcp.h"
#include "hostd/events.h"
#include "hostd/guests/guest.h"
#include "hostd/peers.h"
#include "hostd/plug/plug.h"
#include "hostd/tasks.h"
#include "migrate/move.h"
#include "migrate/preflight.h"

/*
 * A live migration from here, docs/ownership.md's "Migration from A to B" from A's side:
 *
 *   preflight   the destination says what is in the way, all at once
 *   entry       {attempt, source, destination, epoch} into the record, never removed
 *   grant       the storage lets the destination's QEMU open the disks
 *   look again  the name is still ours; then libvirt
 *   ...         the destination's gate commits (answer.c over there)
 *   after       name and record say who has it, whatever libvirt returned or did not; until they do, the
 *               outcome is open (migrate/move.h), and every later look asks again
 */
#define MOVE_CANCEL_MS 1000 /* a move that is to be cancelled is cancelled again */

struct move {
        unsigned to;
        char attempt[UUID_LEN + 1];
        struct start start; /* of the destination's QEMU */
        json_t *host;       /* the destination's record, owned */
        json_t *preflight;  /* its answer, owned */
};

static void move_done(struct move *mv)
{
        json_decref(mv->host);
        json_decref(mv->preflight);
}

/* The destination's answer: 0, -EAGAIN to wait for a turn, -EBUSY with all its reasons. */
static int move_answered(const struct move *mv, struct err *err)
{
        const json_t *problems = json_object_get(mv->preflight, "problems"), *p;
        const char *codes[PREFLIGHT_PROBLEMS];
        size_t n = MIN_OF(json_array_size(problems), (size_t)PREFLIGHT_PROBLEMS);
        char text[400] = "";

        for (size_t k = 0; k < n; k++) {
                p = json_array_get(problems, k);
                codes[k] = json_get_str(p, "code", "");
                snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%s", k ? "; " : "",
                         json_get_str(p, "message", "?"));
        }
        switch (preflight_answer(codes, n)) {
        case PREFLIGHT_GO:
                return 0;
        case PREFLIGHT_WAIT:
                return err_set(err, -EAGAIN, "%s", text);
        default:
                return err_set(err, -EBUSY, "host %s cannot take it: %s",
                               json_get_str(mv->host, "name", "?"), text);
        }
}

static int move_preflight(struct guest *g, const struct guest_look *l, struct move *mv, struct err *err)
{
        const struct instance *i = &l->instance;
        struct http_client *c = NULL;
        json_t *ask;
        int r;

        if (g->ctx->config->migration_tls) {
                r = virt_tls_ready(&g->ctx->capacity, NULL, err);
                if (r < 0)
                        return err_wrap(err, r, "this host cannot encrypt the migration");
        }
        r = peer_record(g->ctx, mv->to, &mv->host, err);
        if (r < 0)
                return r;
        r = http_client_new(json_get_str(mv->host, "api", ""), g->ctx->config->token, 5000, &c, err);
        if (r < 0)
                return r;
        ask = json_pack("{s:s,s:i,s:I,s:i,s:s,s:b}", "instance", g->id, "cpus", (int)i->cpus, "memory",
                        (json_int_t)i->memory, "source", (int)g->ctx->number, "accel",
                        g->ctx->kvm ? "kvm" : "tcg", "tls", g->ctx->config->migration_tls);
        r = http_call(c, "POST", "/v1/preflight", ask, &mv->preflight, NULL, err);
        json_decref(ask);
        http_client_free(c);
        if (r < 0)
                return err_wrap(err, r, "preflight on host %s", json_get_str(mv->host, "name", "?"));
        return move_answered(mv, err);
}

/*
 * libvirt's call blocks for as long as the move takes, so it has a thread of its own. The guest's thread waits for
 * it, and cancels the move where the guest is to stop: its user does not want to wait for that first.
 */
struct move_call {
        struct guest *g;
        const struct virt_migration *vm;
        struct virt_progress *figures;
        struct err *err;
        int result;
        bool done; /* guest->lock */
};

static void call_main(void *arg)
{
        struct move_call *c = arg;
        struct guest *g = c->g;
        int r = virt_migrate(g->ctx->virt, c->vm, c->figures, c->err);

        pthread_mutex_lock(&g->lock);
        c->result = r;
        c->done = true;
        pthread_cond_signal(&g->woken);
        pthread_mutex_unlock(&g->lock); /* c is gone from here on */
}

static bool move_unwanted(struct guest *g)
{
        struct instance i;
        bool unwanted;

        if (instance_load(g->ctx->store, g->id, &i, NULL) < 0)
                return false;
        unwanted = i.wanted != WANTED_RUNNING;
        instance_done(&i);
        return unwanted;
}

/* Until the call has returned, somebody has left a note, or MOVE_CANCEL_MS are over. True: it has returned. */
static bool call_wait(struct move_call *c, bool cancelling)
{
        struct guest *g = c->g;
        struct timespec until;
        bool done;
        int r = 0;

        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += MOVE_CANCEL_MS / 1000;
        pthread_mutex_lock(&g->lock);
        while (!c->done && (cancelling || !g->wake) && r == 0)
                r = cancelling ? pthread_cond_timedwait(&g->woken, &g->lock, &until)
                               : pthread_cond_wait(&g->woken, &g->lock);
        g->wake = false; /* the next look sees all that there is, and it comes when the call has returned */
        done = c->done;
        pthread_mutex_unlock(&g->lock);
        return done;
}

static int move_call(struct guest *g, const struct virt_migration *vm, struct virt_progress *ret,
                     struct err *err)
{
        struct move_call c = {.g = g, .vm = vm, .figures = ret, .err = err};
        bool cancelling = false;

        if (task_spawn(g->ctx->tasks, call_main, &c) < 0)
                return virt_migrate(g->ctx->virt, vm, ret, err); /* no thread to be had: nobody cancels it */
        while (!call_wait(&c, cancelling)) {
                cancelling = cancelling || move_unwanted(g);
                if (cancelling) /* refused before libvirt's job has begun, and after the switchover */
                        virt_migrate_abort(g->ctx->virt, g->id, NULL);
        }
        if (c.result < 0 && cancelling)
                err_set(err, c.result, "cancelled: the instance is to stop");
        return c.result;
}

/* The last look before libvirt is called, then the call. */
static int move_run(struct guest *g, const struct guest_look *l, struct move *mv, struct virt_progress *ret,
                    struct err *err)
{
        struct context *ctx = g->ctx;
        struct domain_lease key = {.epoch = l->lease.epoch, .start = mv->start};
        _cleanup_(freep) char *xml = NULL;
        struct virt_migration vm = {0};
        struct lease now;
        int r;

        plug_quiet(ctx, g->id); /* from the switchover on it would send the guest's frames to the old host */
        snprintf(key.instance, sizeof(key.instance), "%s", g->id);
        snprintf(key.attempt, sizeof(key.attempt), "%s", mv->attempt);
        r = guest_xml(ctx, &l->instance, &l->lease, &key,
                      json_get_str(mv->preflight, "bridge", ctx->config->bridge), &xml, err);
        if (r == 0)
                r = lease_find(ctx->store, g->id, &now, err);
        if (r == 0 && (now.epoch != l->lease.epoch || now.host != l->lease.host))
                r = err_set(err, -ESTALE, "the disk has moved on to epoch %llu of host %u",
                            (unsigned long long)now.epoch, now.host);
        if (r < 0)
                return r;
        vm.instance = g->id;
        vm.destination = json_get_str(mv->preflight, "peer_uri", "");
        vm.migrate_uri = json_get_str(mv->preflight, "migrate_uri", "");
        vm.xml = xml;
        vm.tls = ctx->config->migration_tls;
        return move_call(g, &vm, ret, err);
}

static int move_prepare(struct guest *g, const struct guest_look *l, struct move *mv, struct err *err)
{
        const uint32_t taken[] = {l->instance.start.uid, l->instance.entry_start.uid};
        struct disk_spec disks[INSTANCE_DISKS];
        size_t n = instance_disks(&l->instance, disks);
        int r;

        if (l->view.qemu != QEMU_RUNNING)
                return err_set(err, -EBUSY, "the guest is paused: a paused guest is not migrated");
        r = move_preflight(g, l, mv, err);
        if (r < 0)
                return r;
        uuid_random(mv->attempt);
        start_init(&mv->start, g->id, l->lease.epoch, mv->attempt, taken, ARRAY_SIZE(taken));
        r = guest_record_entry(g->ctx, &l->instance, &l->lease, mv->attempt, mv->to, &mv->start, err);
        if (r == 0)
                r = lease_grant(g->ctx->store, g->id, &l->lease, &mv->start, disks, n, err);
        return r;
}

/* By name and record, read in that order. absent: as in move_view. */
static enum move_verdict verdict_by(const struct guest *g, const struct lease *name,
                                    const struct instance *i, bool absent)
{
        const struct move_view v = {.asked_epoch = i->move_epoch,
                                    .to = i->move_to,
                                    .entry = i->entry_attempt[0] && i->entry_epoch == i->move_epoch &&
                                             i->entry_destination == i->move_to,
                                    .arrived = streq(i->arrived, i->entry_attempt),
                                    .run_epoch = i->start_epoch,
                                    .epoch = name->epoch,
                                    .host = name->host,
                                    .mine = name->host == g->ctx->number,
                                    .absent = absent,
                                    .wanted = i->wanted == WANTED_RUNNING};

        return move_verdict(&v);
}

static int verdict_now(struct guest *g, bool absent, enum move_verdict *ret, struct err *err)
{
        struct lease name;
        struct instance i;
        int r = lease_find(g->ctx->store, g->id, &name, err);

        if (r == 0)
                r = instance_load(g->ctx->store, g->id, &i, err);
        if (r < 0)
                return r;
        *ret = verdict_by(g, &name, &i, absent);
        instance_done(&i);
        return 0;
}

/* A move from here, by the hostd that made it: it alone knows the figures. */
static void tell_own(struct guest *g, const struct guest_look *l, bool done)
{
        struct guest_move *m = &g->move;
        const struct virt_progress *p = &m->figures;
        struct move_outcome o = {.serial = m->serial,
                                 .done = done,
                                 .error = err_text(&m->why),
                                 .total_ms = clock_ms() - m->begun_ms,
                                 .downtime_ms = p->known ? (int64_t)p->downtime_ms : -1};
        const char *name = l->instance.name;
        struct err e = {0};
        int r = guest_record_move(g->ctx, g->id, &o, &e);

        if (r < 0) {
                log_warn("instance %s: outcome of its migration not recorded: %s", g->id, err_text(&e));
                return;
        }
        if (r > 0 && done && p->known)
                event_add(g->ctx, "instance-migrated", g->id, name,
                          "to host %s in %lld ms, downtime %lld ms, %llu bytes sent", m->to_name,
                          (long long)o.total_ms, (long long)o.downtime_ms,
                          (unsigned long long)p->transferred);
        else if (r > 0 && done)
                event_add(g->ctx, "instance-migrated", g->id, name,
                          "to host %s in %lld ms; its downtime is not known", m->to_name,
                          (long long)o.total_ms);
        else if (r > 0)
                event_add(g->ctx, "migration-failed", g->id, name, "to host %s: %s", m->to_name,
                          err_text(&m->why));
        *m = (struct guest_move){0};
}

/* What is left to do here when the outcome is known, and then told. */
static void move_end(struct guest *g, const struct guest_look *l, bool done)
{
        struct guest_move m = g->move;
        struct err ignored = {0};

        if (done) {
                /* libvirt ends the source itself; what it leaves behind is ended by the next look */
                guest_kill(g, &ignored);
                dhcp_remove(g->ctx, g->id);
        }
        tell_own(g, l, done);
        if (done) /* the user need not wait for that */
                start_forget(g->ctx->store, g->id, &l->instance.start);
        else if (m.start.id[0]) {
                start_forget(g->ctx->store, g->id, &m.start);
                /* it prepared for a guest that does not come */
                peer_look(g->ctx, m.to, g->id, false, &ignored);
        }
}

/* It is tried again; so the record is the only one that hears of it. */
static int move_waits(struct guest *g, const struct guest_look *l, const struct err *why, struct err *err)
{
        int r = guest_record_waiting(g->ctx, g->id, l->instance.move_serial, err_text(why), err);

        g->move = (struct guest_move){0};
        return r < 0 ? r : err_set(err, -EAGAIN, "waits for its turn: %s", err_text(why));
}

int guest_migrate(struct guest *g, const struct guest_look *l, struct err *err)
{
        struct move mv = {.to = l->view.move_to};
        struct guest_move *m = &g->move;
        enum move_verdict verdict = MOVE_FAILED;
        struct err why = {0};
        int r = guest_turn_take(g, &why);

        if (r < 0)
                return move_waits(g, l, &why, err);
        *m = (struct guest_move){.serial = l->instance.move_serial, .to = mv.to, .begun_ms = clock_ms()};
        r = move_prepare(g, l, &mv, &m->why);
        if (r == -EAGAIN) {
                guest_turn_back(g);
                why = m->why;
                move_done(&mv);
                return move_waits(g, l, &why, err);
        }
        if (r == 0)
                r = move_run(g, l, &mv, &m->figures, &m->why);
        if (r == 0)
                err_set(&m->why, -EIO,
                        "libvirt reports success, but the destination has not claimed the disk");
        m->start = mv.start;
        snprintf(m->to_name, sizeof(m->to_name), "%s", json_get_str(mv.host, "name", "?"));
        r = 0;
        if (mv.attempt[0]) /* else nothing was begun that could arrive */
                r = verdict_now(g, false, &verdict, err);
        if (r == 0 && verdict != MOVE_OPEN)
                move_end(g, l, verdict == MOVE_DONE);
        guest_turn_end(g);
        move_done(&mv);
        return r; /* an entry at our epoch makes the next decision a RECLAIM, which closes an open one */
}

int guest_reclaim(struct guest *g, const struct guest_look *l, struct err *err)
{
        struct context *ctx = g->ctx;
        const struct start *start = &l->domain.lease.start;
        const struct commit_claim c = {
            .from = l->lease, .host = ctx->number, .last = &l->instance.start, .start = start};
        struct disk_spec disks[INSTANCE_DISKS];
        size_t n = instance_disks(&l->instance, disks);
        struct lease mine;
        int r;

        if (l->domain.job) { /* a hostd before this one was migrating it */
                r = virt_migrate_abort(ctx->virt, g->id, err);
                if (r < 0)
                        return r;
        }
        r = lease_commit(ctx->store, g->id, &c, disks, n, &mine, err);
        if (r == -ESTALE)
                return 0; /* the destination has committed: the next look ends our QEMU */
        if (r == 0)
                r = guest_record_start(ctx, &l->instance, start, &mine, false, NULL, err);
        if (r == 0)
                log_info("instance %s: runs on here at epoch %llu", g->id, (unsigned long long)mine.epoch);
        return r;
}

/* For the source, which is gone or has forgotten it. */
static int tell_for_source(struct guest *g, const struct guest_look *l, bool done)
{
        const struct instance *i = &l->instance;
        bool begun = i->entry_source && i->entry_epoch == i->move_epoch;
        struct move_outcome o = {.serial = i->move_serial,
                                 .done = done,
                                 .error = begun ? "its source was interrupted before the switchover"
                                          : i->wanted != WANTED_RUNNING
                                              ? "the instance was stopped before its turn came"
                                              : "the instance was started anew before it could move",
                                 .total_ms = -1,
                                 .downtime_ms = -1};
        struct err e = {0};
        int r = guest_record_move(g->ctx, g->id, &o, &e);

        if (r < 0)
                log_warn("instance %s: outcome of its migration not recorded: %s", g->id, err_text(&e));
        else if (r > 0 && done)
                event_add(g->ctx, "instance-migrated", g->id, i->name,
                          "from host %u; it does not say how long that took", i->entry_source);
        else if (r > 0)
                event_add(g->ctx, "migration-failed", g->id, i->name, "to host %u: %s", i->move_to, o.error);
        return r;
}

bool guest_move_settle(struct guest *g, const struct guest_look *l)
{
        const struct instance *i = &l->instance;
        const struct move_outlook o = {.record = l->record,
                                       .own =
                                           l->record && g->move.serial && g->move.serial == i->move_serial,
                                       .told = i->move_serial == i->move_serial_done,
                                       .mine = l->lease.host == g->ctx->number,
                                       .wanted = i->wanted == WANTED_RUNNING,
                                       .begun = i->entry_source && i->entry_epoch == i->move_epoch,
                                       .asked_epoch = i->move_epoch,
                                       .epoch = l->lease.epoch};
        enum move_verdict verdict = MOVE_OPEN;
        enum move_teller teller = move_teller(&o);
        struct err e = {0};

        if (teller == MOVE_GIVE_UP)
                return tell_for_source(g, l, false) < 0;
        if (teller == MOVE_NOBODY) {
                g->void_ms = 0;
                return false;
        }
        if (verdict_now(g, l->view.qemu == QEMU_NONE, &verdict, &e) < 0 || verdict == MOVE_OPEN)
                return true;
        if (teller == MOVE_SOURCE) {
                move_end(g, l, verdict == MOVE_DONE);
                return g->move.serial != 0;
        }
        if (!g->void_ms)
                g->void_ms = clock_ms();
        if (move_owner_waits(verdict, g->void_ms, clock_ms()) ||
            tell_for_source(g, l, verdict == MOVE_DONE) < 0)
                return true;
        g->void_ms = 0;
        return false;
}
