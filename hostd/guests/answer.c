/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/util.h"
#include "hostd/events.h"
#include "hostd/guests/admission.h"
#include "hostd/guests/guest.h"
#include "hostd/guests/table.h"
#include "hostd/self.h"

/*
 * The gate's answers. It runs on a thread of the gate while libvirtd waits, so it asks the storage only.
 * What it decides on: the name, the record, and what the QEMU's own lease element says; the decision itself
 * is migrate's gate_decide().
 */

/* Is that QEMU the one being started, or the one that was let run before? */
static bool gate_known(struct context *ctx, const struct gate_request *req, const struct instance *i,
                       uint64_t *ret_epoch)
{
        bool known = false;
        struct guest *g;

        pthread_mutex_lock(&ctx->guests->lock);
        g = guests_find(ctx->guests, req->lease.instance);
        if (g) {
                pthread_mutex_lock(&g->lock);
                if (streq(g->starting.id, req->lease.start.id)) {
                        *ret_epoch = g->starting_epoch;
                        known = true;
                } else if (streq(i->start.id, req->lease.start.id)) {
                        *ret_epoch = i->start_epoch;
                        known = req->pid != 0 && g->known_pid == req->pid;
                }
                pthread_mutex_unlock(&g->lock);
        }
        pthread_mutex_unlock(&ctx->guests->lock);
        return known;
}

/*
 * A claim moves the name first and the record later. Whoever looks in between sees a QEMU that is too old
 * for its name, and would end a guest that has just arrived. So the guest's thread knows when a question is
 * being answered. It is not woken for that: a look would be worth nothing, and its calls to libvirt would be
 * in the way of the guest that waits for the answer.
 */
static void gate_begin(struct context *ctx, const char *id)
{
        struct guest *g;

        pthread_mutex_lock(&ctx->guests->lock);
        g = guests_find(ctx->guests, id);
        if (!g) {
                pthread_mutex_unlock(&ctx->guests->lock);
                guests_wake(ctx, id); /* makes the guest of a migration that arrives */
                pthread_mutex_lock(&ctx->guests->lock);
                g = guests_find(ctx->guests, id);
        }
        if (g) {
                pthread_mutex_lock(&g->lock);
                g->gates++;
                g->gate_serial++;
                pthread_mutex_unlock(&g->lock);
        }
        pthread_mutex_unlock(&ctx->guests->lock);
}

/* After a yes libvirt's event wakes the thread, as soon as the vCPUs run. */
static void gate_end(struct context *ctx, const char *id, bool yes)
{
        struct guest *g;

        pthread_mutex_lock(&ctx->guests->lock);
        g = guests_find(ctx->guests, id);
        if (g) {
                pthread_mutex_lock(&g->lock);
                if (g->gates > 0)
                        g->gates--;
                g->gate_serial++;
                if (!yes) {
                        g->wake = true;
                        pthread_cond_signal(&g->woken);
                }
                pthread_mutex_unlock(&g->lock);
        }
        pthread_mutex_unlock(&ctx->guests->lock);
}

/* commit_ns: what a migration's commit took, else 0. */
static void gate_admit(struct context *ctx, const struct gate_request *req, int64_t commit_ns)
{
        struct guest *g;

        pthread_mutex_lock(&ctx->guests->lock);
        g = guests_find(ctx->guests, req->lease.instance);
        if (g) {
                pthread_mutex_lock(&g->lock);
                g->known_pid = req->pid;
                if (commit_ns)
                        g->commit_ns = commit_ns;
                pthread_mutex_unlock(&g->lock);
        }
        pthread_mutex_unlock(&ctx->guests->lock);
}

/* What the start under way has taken so far; false where it is none of this hostd's. */
static bool gate_phases(struct context *ctx, const struct gate_request *req, struct start_phases *ret)
{
        bool found = false;
        struct guest *g;

        pthread_mutex_lock(&ctx->guests->lock);
        g = guests_find(ctx->guests, req->lease.instance);
        if (g) {
                pthread_mutex_lock(&g->lock);
                found = streq(g->starting.id, req->lease.start.id);
                *ret = g->phases;
                pthread_mutex_unlock(&g->lock);
        }
        pthread_mutex_unlock(&ctx->guests->lock);
        return found;
}

/* claim, fence where asked; the engine's gate; the epoch into the record: then yes. */
static int gate_carry_out(struct context *ctx, const struct gate_request *req, const struct instance *i,
                          struct lease lease, enum gate_action action, struct err *err)
{
        const struct start *start = &req->lease.start;
        struct disk_spec disks[INSTANCE_DISKS];
        size_t n = instance_disks(i, disks);
        bool fresh = action == GATE_CHECK && !streq(i->start.id, start->id);
        struct start_phases phases;
        int r = 0;

        if (action == GATE_CHECK)
                r = lease_gate(ctx->store, i->id, &lease, start, disks, n, err);
        else
                r = lease_commit(ctx->store, i->id,
                                 &(struct commit_claim){.from = lease,
                                                        .host = ctx->number,
                                                        .again = req->again,
                                                        .last = &i->start,
                                                        .start = start},
                                 disks, n, &lease, err);
        if (r == 0 && (action != GATE_CHECK || fresh))
                r = guest_record_start(ctx, i, start, &lease, fresh,
                                       fresh && gate_phases(ctx, req, &phases) ? &phases : NULL, err);
        return r;
}

static bool unknown(int r)
{
        return r < 0 && r != -EACCES && r != -ESTALE && r != -ENOENT;
}

/*
 * Whether that QEMU may run, and for REGISTER (before QEMU is even executed) whether it might: a plain
 * message then, in place of QEMU's own about files that it may not open. ret_spare: after a no it may stand.
 */
static int gate_answer(struct context *ctx, const struct gate_request *req, bool *ret_spare, struct err *err)
{
        const char *id = req->lease.instance, *why = NULL;
        struct instance i = {0};
        struct gate_view v = {.me = ctx->number};
        struct lease lease;
        enum gate_action action;
        int r;

        if (ctx->self->replaced) {
                *ret_spare = true; /* its guest's thread ends it once its name has moved on */
                return err_set(err, -EACCES,
                               "instance %s must not run here: another machine has host number %u", id,
                               ctx->number);
        }
        r = instance_load(ctx->store, id, &i, err);
        if (r == 0)
                r = lease_find(ctx->store, id, &lease, err);
        if (r < 0) {
                *ret_spare = unknown(r);
                instance_done(&i);
                return r;
        }
        v.epoch = lease.epoch;
        v.host = lease.host;
        v.entry_source = i.entry_attempt[0] ? i.entry_source : 0;
        v.entry_destination = i.entry_destination;
        v.entry_epoch = i.entry_epoch;
        v.known = gate_known(ctx, req, &i, &v.qemu_epoch);
        v.again = req->again;
        v.run_epoch = i.start_epoch;
        v.run_last = streq(i.start.id, req->lease.start.id);
        v.destination = req->lease.attempt[0] && !v.run_last;
        v.attempt_equal =
            streq(req->lease.attempt, i.entry_attempt) && streq(req->lease.start.id, i.entry_start.id);
        action = gate_decide(&v, &why);
        if (action == GATE_REFUSE)
                r = err_set(err, -EACCES,
                            "instance %s must not run on host %s: %s (disk at epoch %llu of host %u, this "
                            "start at %llu); use `wherry start %s`",
                            i.name, ctx->config->name, why, (unsigned long long)lease.epoch, lease.host,
                            (unsigned long long)(v.qemu_epoch ? v.qemu_epoch : req->lease.epoch), i.name);
        else if (action == GATE_COMMIT) /* asked again, it is past that already, which the claim finds */
                lease = (struct lease){.epoch = i.entry_epoch, .host = i.entry_source};
        if (r == 0 && req->question == GATE_ACQUIRE && action == GATE_COMMIT)
                r = guests_admit_commit(ctx, &i, err);
        if (r == 0 && req->question == GATE_ACQUIRE)
                r = gate_carry_out(ctx, req, &i, lease, action, err);
        *ret_spare = gate_spares(&v, action, unknown(r));
        if (r < 0 || req->question == GATE_ACQUIRE)
                log_info("instance %s: gate%s: pid %d, start %s: %s%s", id,
                         req->again ? ", asked again" : "", (int)req->pid, req->lease.start.id,
                         r == 0 ? "yes" : "no: ", r == 0 ? "" : err_text(err));
        if (r == 0 && req->question == GATE_ACQUIRE)
                gate_admit(ctx, req, action == GATE_COMMIT ? clock_ns() - req->asked_ns : 0);
        else if (r < 0)
                event_add(ctx, "gate-refused", id, i.name, "%s", err_text(err));
        instance_done(&i);
        return r;
}

/* Is it the QEMU of a start that is being carried out? That ends it itself. */
static bool gate_starting(struct context *ctx, const struct gate_request *req)
{
        bool starting = false;
        struct guest *g;

        pthread_mutex_lock(&ctx->guests->lock);
        g = guests_find(ctx->guests, req->lease.instance);
        if (g) {
                pthread_mutex_lock(&g->lock);
                starting = streq(g->starting.id, req->lease.start.id);
                pthread_mutex_unlock(&g->lock);
        }
        pthread_mutex_unlock(&ctx->guests->lock);
        return starting;
}

int guest_gate(void *arg, const struct gate_request *req, struct err *err)
{
        struct context *ctx = arg;
        bool spare = false;
        int r;

        if (req->question == GATE_RELEASE)
                return 0; /* vCPUs stand: a hint only */
        if (req->question == GATE_ACQUIRE)
                gate_begin(ctx, req->lease.instance);
        r = gate_answer(ctx, req, &spare, err);
        /* A no kills the QEMU: libvirt might leave it behind, paused. One that is spared the next look sees.
         */
        if (r < 0 && req->pid > 0 && req->question == GATE_ACQUIRE && !(spare && !gate_starting(ctx, req))) {
                struct err ignored = {0};

                virt_kill_pid(ctx->virt, req->pid, req->lease.instance, &ignored);
        }
        if (req->question == GATE_ACQUIRE)
                gate_end(ctx, req->lease.instance, r >= 0);
        return r;
}
