/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "common/clock.h"
#include "common/json.h"
#include "hostd/guests/guest.h"
#include "hostd/self.h"
#include "migrate/start.h"

#define RECEIPTS_MAX 16

static json_t *status_of(json_t *doc)
{
        json_t *status = json_object_get(doc, "status");

        if (!json_is_object(status)) {
                status = json_object();
                json_object_set_new(doc, "status", status);
        }
        return status;
}

static void status_set(json_t *doc, const struct guest_status *s, const struct lease *mine)
{
        json_t *status = status_of(doc);
        const char *reason = s->reason ? s->reason : "";
        char stamp[CLOCK_STAMP_LEN + 1];

        if (strcmp(json_get_str(status, "state", ""), s->state) != 0 ||
            strcmp(json_get_str(status, "reason", ""), reason) != 0)
                json_object_set_new(status, "since", json_string(clock_stamp(stamp)));
        json_object_set_new(status, "state", json_string(s->state));
        json_object_set_new(status, "reason", reason[0] ? json_string(reason) : json_null());
        if (s->tries) {
                json_object_set_new(status, "tries", json_integer(s->tries));
                json_object_set_new(status, "next", json_string(s->next));
        } else {
                json_object_del(status, "tries");
                json_object_del(status, "next");
        }
        json_object_set_new(status, "host", json_integer(mine->host));
        json_object_set_new(status, "epoch", json_integer((json_int_t)mine->epoch));
        json_object_set_new(status, "error", s->error ? json_string(s->error) : json_null());
}

struct status_edit {
        const struct guest_status *status;
        const struct lease *mine;
};

static int edit_status(json_t *doc, void *arg, struct err *err)
{
        const struct status_edit *e = arg;

        status_set(doc, e->status, e->mine);
        if (e->status->restarted)
                json_object_set_new(status_of(doc), "restart",
                                    json_integer(json_get_int(doc, "restart", 0)));
        return 1;
}

int guest_record_status(struct context *ctx, const char *id, const struct guest_status *status,
                        const struct lease *mine, struct err *err)
{
        struct status_edit e = {.status = status, .mine = mine};

        return record_change(ctx->store, RECORD_INSTANCE, id, edit_status, &e, err);
}

static int edit_off(json_t *doc, void *arg, struct err *err)
{
        (void)arg;
        if (strcmp(json_get_str(doc, "wanted", ""), "running") != 0)
                return 0;
        json_object_set_new(doc, "wanted", json_string("stopped"));
        return 1;
}

int guest_record_off(struct context *ctx, const char *id, struct err *err)
{
        return record_change(ctx->store, RECORD_INSTANCE, id, edit_off, NULL, err);
}

static const char *fence_name(struct context *ctx)
{
        const char *engine = store_engine(ctx->store);

        return strcmp(engine, "nfs") == 0   ? "change of owner"
               : strcmp(engine, "rbd") == 0 ? "blocklist"
                                            : "QEMU's image lock";
}

struct start_edit {
        struct context *ctx;
        const struct start *start;
        const struct lease *mine;
        bool fresh;
        const char *last; /* the start on which this was decided; what is not fresh has its memory */
        const struct start_phases *phases;
};

/* The placement of a failover carries what its winner knew, and who has tried since; the start adds its own
 * part. */
static int add_receipt(json_t *doc, const struct start_edit *e, struct err *err)
{
        const json_t *cause = json_path(doc, "placement.failover");
        const struct start_phases *p = e->phases;
        json_t *receipts = json_object_get(doc, "receipts"), *receipt, *tried;
        char stamp[CLOCK_STAMP_LEN + 1];

        if (!cause || !p->failover)
                return 0;
        if (!json_is_array(receipts)) {
                receipts = json_array();
                json_object_set_new(doc, "receipts", receipts);
        }
        tried = json_object_get(cause, "tried");
        receipt = json_pack(
            "{s:s,s:I,s:I,s:I,s:s,s:I,s:I,s:s,s:s,s:s,s:I,s:O?,s:{s:I,s:I,s:I,s:I,s:I}}", "at",
            clock_stamp(stamp), "from", (json_int_t)json_get_int(cause, "from", 0), "to",
            (json_int_t)e->mine->host, "by", (json_int_t)json_get_int(cause, "by", 0), "last_beat",
            json_get_str(cause, "last_beat", ""), "last_beat_ms",
            (json_int_t)json_get_int(cause, "last_beat_ms", 0), "epoch", (json_int_t)e->mine->epoch, "fence",
            fence_name(e->ctx), "fence_since", p->fence_since, "start", e->start->id, "tries",
            (json_int_t)json_get_int(cause, "tries", 0), "tried", tried, "phases", "detect_ms",
            (json_int_t)json_get_int(cause, "detect_ms", 0), "plan_ms",
            (json_int_t)json_get_int(cause, "plan_ms", 0), "claim_ms", (json_int_t)p->claim_ms, "fence_ms",
            (json_int_t)p->fence_ms, "start_ms", (json_int_t)(clock_ms() - p->begun_ms));
        if (!receipt)
                return err_set(err, -ENOMEM, "out of memory");
        json_array_append_new(receipts, receipt);
        while (json_array_size(receipts) > RECEIPTS_MAX)
                json_array_remove(receipts, 0);
        return 0;
}

/* Is the entry that of the move that was asked for last, and is this its serial? */
static bool is_entry_of(const json_t *doc, int64_t serial)
{
        const json_t *entry = json_object_get(doc, "migration"), *asked = json_object_get(doc, "move");

        return json_get_int(asked, "serial", 0) == serial &&
               json_get_int(entry, "epoch", -1) == json_get_int(asked, "epoch", -2) &&
               json_get_int(entry, "destination", -1) == json_get_int(asked, "to", -2);
}

/* Does the record say that the attempt for this move has arrived? */
static bool has_arrived(const json_t *doc, int64_t serial)
{
        const char *attempt = json_get_str(json_object_get(doc, "migration"), "attempt", "");

        return attempt[0] && streq(json_get_str(doc, "arrived", ""), attempt) && is_entry_of(doc, serial);
}

/* Was its asker told that the attempt in the entry has failed? */
static bool was_told_failed(const json_t *doc)
{
        const json_t *told = json_path(doc, "status.move");

        return streq(json_get_str(told, "state", ""), "failed") &&
               is_entry_of(doc, json_get_int(told, "serial", -1));
}

static int edit_start(json_t *doc, void *arg, struct err *err)
{
        const struct start_edit *e = arg;
        json_t *start = json_object_get(doc, "start"), *status;
        const struct start_change change = {.stored = json_get_str(start, "id", ""),
                                            .stored_epoch = (uint64_t)json_get_int(start, "epoch", 0),
                                            .start = e->start->id,
                                            .epoch = e->mine->epoch,
                                            .memory = e->fresh ? NULL : e->last};
        bool arrives;

        if (!start_follows(&change))
                return err_set(err, -EACCES,
                               "start %s may not run at epoch %llu: start %s was let run at %llu",
                               change.start, (unsigned long long)change.epoch, change.stored,
                               (unsigned long long)change.stored_epoch);
        arrives = strcmp(json_get_str(json_path(doc, "migration.start"), "id", ""), e->start->id) == 0;
        /* This gate's claim was won, and its host's number has gone to another machine before the record said more:
         * that one saw no QEMU of the attempt. */
        if (arrives && was_told_failed(doc))
                return err_set(err, -EACCES, "start %s may not run: its move was told failed", change.start);
        start = start_to_json(e->start, e->mine->epoch);
        if (!start)
                return err_set(err, -ENOMEM, "out of memory");
        json_object_set_new(start, "boot", json_string(e->ctx->self->boot));
        json_object_set_new(start, "host", json_integer(e->mine->host));
        json_object_set_new(doc, "start", start);
        if (arrives)
                json_object_set(doc, "arrived", json_path(doc, "migration.attempt"));
        status_set(doc, &(struct guest_status){.state = "running"}, e->mine);
        status = status_of(doc);
        if (e->fresh)
                json_object_set_new(status, "restart", json_integer(json_get_int(doc, "restart", 0)));
        json_object_del(status, "commit_ms"); /* of an earlier run */
        if (e->phases) {
                int r = add_receipt(doc, e, err);

                if (r < 0)
                        return r;
        }
        return 1;
}

int guest_record_start(struct context *ctx, const struct instance *i, const struct start *start,
                       const struct lease *mine, bool fresh, const struct start_phases *phases,
                       struct err *err)
{
        struct start_edit e = {
            .ctx = ctx, .start = start, .mine = mine, .fresh = fresh, .last = i->start.id, .phases = phases};

        return instance_change(ctx->store, i, edit_start, &e, err);
}

static int edit_commit(json_t *doc, void *arg, struct err *err)
{
        const int64_t *ns = arg;
        json_t *status = status_of(doc), *move = json_object_get(status, "move");
        json_t *ms = json_real((double)*ns / 1e6);

        if (!ms)
                return err_set(err, -ENOMEM, "out of memory");
        json_object_set_new(status, "commit_ms", ms);
        /* The source was quicker with its outcome, which has a place for it. */
        if (json_is_object(move) &&
            json_get_int(move, "serial", 0) == json_get_int(json_object_get(doc, "move"), "serial", -1) &&
            strcmp(json_get_str(move, "state", ""), "done") == 0)
                json_object_set(move, "commit_ms", ms);
        return 1;
}

int guest_record_commit(struct context *ctx, const char *id, int64_t commit_ns, struct err *err)
{
        return record_change(ctx->store, RECORD_INSTANCE, id, edit_commit, &commit_ns, err);
}

struct entry_edit {
        const struct lease *mine;
        const char *attempt;
        unsigned destination;
        const struct start *start;
};

static int edit_entry(json_t *doc, void *arg, struct err *err)
{
        const struct entry_edit *e = arg;
        json_t *start = start_to_json(e->start, e->mine->epoch);
        json_t *entry = json_pack("{s:s,s:i,s:i,s:I,s:o}", "attempt", e->attempt, "source",
                                  (int)e->mine->host, "destination", (int)e->destination, "epoch",
                                  (json_int_t)e->mine->epoch, "start", start);

        if (!entry)
                return err_set(err, -ENOMEM, "out of memory");
        json_object_set_new(doc, "migration", entry);
        json_object_del(status_of(doc), "waiting");
        status_set(doc, &(struct guest_status){.state = "migrating"}, e->mine);
        return 1;
}

int guest_record_entry(struct context *ctx, const struct instance *i, const struct lease *mine,
                       const char *attempt, unsigned destination, const struct start *start, struct err *err)
{
        struct entry_edit e = {.mine = mine, .attempt = attempt, .destination = destination, .start = start};

        return instance_change(ctx->store, i, edit_entry, &e, err);
}

struct move_edit {
        const struct move_outcome *o;
        bool told;
};

static json_t *known_ms(int64_t ms)
{
        return ms < 0 ? json_null() : json_integer((json_int_t)ms);
}

static int edit_move(json_t *doc, void *arg, struct err *err)
{
        struct move_edit *e = arg;
        const struct move_outcome *o = e->o;
        json_t *status = status_of(doc), *before = json_object_get(status, "move");
        json_t *commit = json_object_get(status, "commit_ms"), *move;
        int64_t told = json_get_int(before, "serial", 0);

        e->told = told < o->serial;
        if (told > o->serial || (told == o->serial && o->downtime_ms < 0))
                return 0;
        /* It was judged by an older record: a write at its gate that got no answer has reached the storage since. */
        if (!o->done && has_arrived(doc, o->serial)) {
                e->told = false;
                return 0;
        }
        move = json_pack("{s:I,s:s,s:s?,s:o,s:o}", "serial", (json_int_t)o->serial, "state",
                         o->done ? "done" : "failed", "error", o->done ? NULL : o->error, "total_ms",
                         known_ms(o->total_ms), "downtime_ms", known_ms(o->done ? o->downtime_ms : -1));
        if (!move)
                return err_set(err, -ENOMEM, "out of memory");
        if (commit && o->done)
                json_object_set(move, "commit_ms", commit);
        json_object_set_new(status, "move", move);
        json_object_del(status, "waiting");
        return 1;
}

struct waiting_edit {
        int64_t serial;
        const char *why;
};

static int edit_waiting(json_t *doc, void *arg, struct err *err)
{
        const struct waiting_edit *e = arg;
        json_t *status = status_of(doc), *before = json_object_get(status, "waiting"), *now;

        if (json_get_int(before, "serial", 0) == e->serial && streq(json_get_str(before, "why", ""), e->why))
                return 0;
        now = json_pack("{s:I,s:s}", "serial", (json_int_t)e->serial, "why", e->why);
        if (!now)
                return err_set(err, -ENOMEM, "out of memory");
        json_object_set_new(status, "waiting", now);
        return 1;
}

int guest_record_waiting(struct context *ctx, const char *id, int64_t serial, const char *why,
                         struct err *err)
{
        struct waiting_edit e = {.serial = serial, .why = why};

        return record_change(ctx->store, RECORD_INSTANCE, id, edit_waiting, &e, err);
}

int guest_record_move(struct context *ctx, const char *id, const struct move_outcome *o, struct err *err)
{
        struct move_edit e = {.o = o};
        int r = record_change(ctx->store, RECORD_INSTANCE, id, edit_move, &e, err);

        return r < 0 ? r : e.told;
}
