/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <rados/librados.h>
#include <stdint.h>

/* rbd-op.c. One operation under way; `read` or `write` is given, and owned. Zeroed before its use. */
struct pool_op {
        rados_read_op_t read;
        rados_write_op_t write;
        rados_completion_t done; /* while it is under way */
        int r;
        uint64_t version; /* of the object, after pool_op_wait() */
};
void pool_op_begin(struct pool_op *op, rados_ioctx_t io, const char *oid);
int pool_op_wait(struct pool_op *op);  /* its result; may be asked again */
void pool_op_done(struct pool_op *op); /* for _cleanup_, declared behind the I/O context: waits */

/* Up to `max` omap entries behind `after` ("" from the first) whose key starts with `prefix`. -ENOENT: no
 * such object. */
struct pool_scan {
        struct pool_op op;
        rados_omap_iter_t it;
        unsigned char more;
        int prval;
};
void pool_scan_begin(struct pool_scan *s, rados_ioctx_t io, const char *oid, const char *after,
                     const char *prefix, unsigned max);
int pool_scan_wait(struct pool_scan *s);
void pool_scan_done(struct pool_scan *s); /* for _cleanup_; then it may be begun anew */
