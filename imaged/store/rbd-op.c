/* SPDX-License-Identifier: Apache-2.0 */
/* Operations under way: begun one after the other, waited for together, they cost one round trip. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "imaged/store/rbd-engine.h"

void pool_op_begin(struct pool_op *op, rados_ioctx_t io, const char *oid)
{
        int r = rados_aio_create_completion2(NULL, NULL, &op->done);

        if (r < 0) {
                op->done = NULL;
                op->r = r;
                return;
        }
        r = op->write ? rados_aio_write_op_operate(op->write, io, op->done, oid, NULL, 0)
                      : rados_aio_read_op_operate(op->read, io, op->done, oid, 0);
        if (r < 0) { /* never sent: nothing will complete it */
                rados_aio_release(op->done);
                op->done = NULL;
                op->r = r;
        }
}

int pool_op_wait(struct pool_op *op)
{
        if (!op->done)
                return op->r;
        rados_aio_wait_for_complete(op->done);
        op->r = rados_aio_get_return_value(op->done);
        op->version = rados_aio_get_version(op->done);
        rados_aio_release(op->done);
        op->done = NULL;
        return op->r;
}

void pool_op_done(struct pool_op *op)
{
        (void)pool_op_wait(op);
        pool_read_op_donep(&op->read);
        pool_write_op_donep(&op->write);
}

void pool_scan_begin(struct pool_scan *s, rados_ioctx_t io, const char *oid, const char *after,
                     const char *prefix, unsigned max)
{
        s->op.read = rados_create_read_op();
        rados_read_op_omap_get_vals2(s->op.read, after, prefix, max, &s->it, &s->more, &s->prval);
        pool_op_begin(&s->op, io, oid);
}

int pool_scan_wait(struct pool_scan *s)
{
        int r = pool_op_wait(&s->op);

        return r < 0 ? r : s->prval;
}

void pool_scan_done(struct pool_scan *s)
{
        pool_op_done(&s->op);
        pool_iter_donep(&s->it);
        *s = (struct pool_scan){0};
}
