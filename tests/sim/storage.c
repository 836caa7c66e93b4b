/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/storage.h"

bool storage_reachable(const struct host *h)
{
        return h->powered && !h->storage_cut && !W.away_since_ns;
}

static int64_t delay(void)
{
        if (!W.quiet && rnd_chance(W.slow))
                return rnd_between(20 * SIM_MS, 7 * SIM_S);
        return rnd_between(100, rnd(20) == 0 ? 30000 : 1500) * SIM_US;
}

/* Races are about claims: theirs take long more often than others. */
static int64_t claim_delay(void)
{
        return !W.quiet && rnd(8) == 0 ? rnd_between(100, 4500) * SIM_MS : delay();
}

struct snapshot *snapshot_unref(struct snapshot *s)
{
        if (s && --s->refs == 0) {
                for (size_t i = 0; i < s->n; i++)
                        free(s->items[i].text);
                free(s->items);
                free(s);
        }
        return NULL;
}

void op_unref(struct op *op)
{
        if (!op || --op->refs > 0)
                return;
        free(op->text);
        free(op->ret_clients);
        snapshot_unref(op->list);
        free(op);
}

static void op_reply(void *arg)
{
        struct op *op = arg;

        if (!storage_reachable(op->host))
                op->lost = true;
        if (!op->lost) {
                op->replied = true;
                co_wake(op, true);
        }
        op_unref(op);
}

static void op_apply(void *arg)
{
        struct op *op = arg;

        world_hold();
        op->apply(op);
        world_release();
        event_at(sched_now() + delay(), op_reply, op);
}

struct op *op_new(struct store *s, void (*apply)(struct op *op), const char *id)
{
        struct op *op = calloc(1, sizeof(*op));

        assert(op);
        op->host = s->state;
        op->asked_ns = sched_now();
        op->apply = apply;
        op->refs = 1;
        snprintf(op->id, sizeof(op->id), "%s", id ? id : "");
        return op;
}

int op_call(struct store *s, struct op **pop, struct err *err)
{
        struct op *op = *pop;
        int64_t timeout = (int64_t)s->options.timeout_ms * SIM_MS, deadline = sched_now() + timeout;
        bool sent = storage_reachable(op->host) && !op->stuck;

        W.stats.operations++;
        op->host->operations++;
        if (sent && !W.quiet && rnd_chance(W.drop))
                sent = false;
        if (sent) {
                int64_t way = !W.quiet && rnd_chance(W.late) ? timeout + rnd_between(0, 10 * SIM_S)
                              : op->claims                   ? claim_delay()
                              : op->lists && W.slow_lists    ? rnd_between(1000, 3000) * SIM_MS
                                                             : delay();

                op->lost = !W.quiet && rnd_chance(W.drop);
                op->refs++;
                event_at(sched_now() + way, op_apply, op);
        }
        while (!op->replied)
                if (co_wait(op, deadline) < 0)
                        break;
        if (!op->replied) {
                op_unref(op);
                *pop = NULL;
                return err_set(err, -ETIMEDOUT, "the storage did not answer in %u ms",
                               s->options.timeout_ms);
        }
        if (op->result < 0 && err)
                *err = op->err;
        return op->result;
}
