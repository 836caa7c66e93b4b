/* SPDX-License-Identifier: Apache-2.0 */
/*
 * NFS: the server takes a write of the file's owner, and while a group is granted, of that group. The fence is a
 * change of owner, LOOKUP and then SETATTR: imaged/store/files-lease-nfs.c, fs-nfs-own.c. The change time that
 * guards a SETATTR is modelled by the owner and group that it stands for, which can only refuse less.
 */
byte uid = 1, grp;

/* A SETATTR whose caller gave up. su 0: it leaves the owner alone. */
bit sa, sa_guard;
byte sa_su, sa_sg, sa_gu, sa_gg;

#define USER(h, i) (OFF(NO_FRESH_UID) -> NUMBER(h) : (OFF_ID(NO_START_UID) -> EPOCH_OF(i) : i))
/* The owner is not the one whose memory this is: another start has fenced since. */
#define FOREIGN(h) (!OFF_ID(NO_KEPT_UID) && !OFF(NO_FRESH_UID) && b && uid != USER(h, i) && uid != USER(h, b))
/* Of them only one may have changed the owner: the guard has to hold. */
#define HELD(grants) ((grants) || (!OFF_ID(NO_KEPT_UID) && b && su))
#define IN_GROUP(a) (OFF(NO_FRESH_GROUP) -> a != 0 : a == grp)
#define takes(h, i, a) (OFF(NO_FENCE) || uid == USER(h, i) || (grp != 0 && IN_GROUP(a)))
#define may_open(h) (uid == USER(h, request[h]))
#define opened(h) skip
#define closed(h) skip
#define paused(h) skip
#define moved(h) skip
#define can_run(h) true
#define ran(h) skip
#define may_ask(h) true
#define asked(h) skip
#define unasked(h) skip
#define begins() skip

#define FENCE_LOCALS byte su, sg, gu, gg; bit ug;
#define FENCE_FORGET su = 0; sg = 0; gu = 0; gg = 0; ug = 0

#define GUARDED(g) (!OFF(NO_GUARD) && (g))

#include "protocol.pml"

/* Once more, late: only where the rule against retransmission is off. */
inline again(g, s, t)
{
        if
        :: OFF(NO_ONCE) && !sa && late > 0 -> late--; sa = 1; sa_guard = 0; sa_su = s; sa_sg = t
        :: true
        fi
}

inline setattr(g, s, t)
{
        if
        :: s -> uid = s
        :: else
        fi;
        grp = t;
        if /* the change time of a guarded one that is still on its way will not fit any more */
        :: sa && sa_guard -> sa = 0; sa_guard = 0; sa_su = 0; sa_sg = 0; sa_gu = 0; sa_gg = 0
        :: else
        fi
}

/* Writes change the time of change as well. */
#define BUSY (WRITERS > 0)

/* Tries until it holds: guarded, and unguarded once a busy writer has spoilt the guard (ug). */
inline own(h, grants)
{
        do
        :: atomic { !(ne == c && nh == NUMBER(h)) -> r = 1; FENCE_FORGET; break } /* LOOKUP: the name has moved on */
        :: atomic { ne == c && nh == NUMBER(h) && !(grants) && FOREIGN(h) -> r = 1; FENCE_FORGET; break }
        :: atomic { ne == c && nh == NUMBER(h) && ((grants) || !FOREIGN(h)) -> gu = uid; gg = grp;
                if /* who the owner is to be; 0: as it is */
                :: grants || (uid == USER(h, i) && !OFF(NO_OWN_UID)) -> su = 0
                :: else -> su = USER(h, i)
                fi;
                if
                :: grants -> sg = a
                :: !(grants) && OFF(NO_GROUP_RESET) -> sg = grp
                :: else
                fi };
                if
                :: atomic { (ug && !HELD(grants)) || !GUARDED(1) || (uid == gu && grp == gg) ->
                        again(1, su, sg); setattr(1, su, sg); r = 0; FENCE_FORGET; break }
                :: atomic { !ug && GUARDED(1) && (uid != gu || grp != gg || BUSY) -> ug = 1 } /* NOT_SYNC */
                :: atomic { ug && HELD(grants) && (uid != gu || grp != gg) -> r = 1; FENCE_FORGET; break }
                :: atomic { late > 0 && !sa -> late--; sa = 1; sa_guard = GUARDED(!(ug && !HELD(grants))); sa_su = su;
                        sa_sg = sg;
                        if
                        :: sa_guard -> sa_gu = gu; sa_gg = gg
                        :: else
                        fi;
                        r = 1; FENCE_FORGET; break }
                fi
        od
}

inline fence(h)
{
        own(h, false)
}

inline grant(h)
{
        own(h, true)
}

inline gate(h)
{
        atomic { r = (r == 0 && (OFF(NO_GATE) || (ne == c && nh == NUMBER(h) && uid == USER(h, i))) -> 0 : 1) }
}

#define STORAGE \
        :: atomic { sa -> \
                if \
                :: !sa_guard || (uid == sa_gu && grp == sa_gg) -> setattr(1, sa_su, sa_sg) \
                :: else \
                fi; \
                sa = 0; sa_guard = 0; sa_su = 0; sa_sg = 0; sa_gu = 0; sa_gg = 0 }

#include "hostd.pml"
#include "world.pml"
