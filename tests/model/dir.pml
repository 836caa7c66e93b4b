/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A directory: the storage takes every write. QEMU's image lock keeps a second QEMU from opening the disk, and the
 * lock driver's second lock of the instance covers the time in which a QEMU that got a yes, or a source, does not
 * have it: imaged/store/files-lease-dir.c, hostd/lock-driver. Writes are the kernel's before a lock is free, so none
 * is ever on its way.
 */
byte image_lock; /* the QEMU that holds it */
byte second;     /* the host whose libvirtd holds it, for its QEMU */
byte points[5];    /* the epoch of the folder to which the symbolic link of each QEMU's start points */

#define takes(h, i, a) true
#define may_open(h) (OFF(NO_IMAGE_LOCK) || image_lock == 0)
#define lockable(h) (OFF(NO_IMAGE_LOCK) || image_lock == 0 || image_lock == h)
/* QEMU opens an image again, by its path, when it activates it. */
#define reopens(h) (OFF(NO_LINK) || q[h].s == OPEN || points[h] == ne)
#define can_run(h) (lockable(h) && reopens(h))
#define may_ask(h) (OFF(NO_SECOND_LOCK) || second == 0 || second == h)
#define asked(h) second = h
#define unasked(h) if :: second == h -> second = 0 :: else fi
#define opened(h) image_lock = h; points[h] = EPOCH_OF(q[h].id)
#define ran(h) image_lock = h
#define unlocks(h) if :: image_lock == h -> image_lock = 0 :: else fi
#define closed(h) unlocks(h); unasked(h); points[h] = 0
#define paused(h) unlocks(h); unasked(h)
#define moved(h) if :: image_lock == h -> image_lock = FORGOTTEN :: else fi; unasked(h); points[h] = 0
#define begins() image_lock = 1; second = 1; points[1] = 1

#define WRITES 0
#define FENCE_LOCALS
#define FENCE_FORGET skip
#define STORAGE

#include "protocol.pml"

inline look_at_name(h)
{
        atomic { r = (r == 0 && ne == c && nh == NUMBER(h) -> 0 : 1) }
}

inline fence(h)
{
        atomic {
                if
                :: r == 0 && q[h].id == i -> points[h] = c
                :: else
                fi };
        look_at_name(h)
}

inline grant(h)
{
        look_at_name(h)
}

inline gate(h)
{
        atomic { r = (r == 0 && (OFF(NO_GATE) || (ne == c && nh == NUMBER(h))) -> 0 : 1) }
}

#include "hostd.pml"
#include "world.pml"
