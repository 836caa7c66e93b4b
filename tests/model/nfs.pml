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

#ifdef NO_FRESH_UID
#define USER(h, i) (1)
#undef USER
#define USER(h, i) (h)
#else
#define USER(h, i) (i)
#endif
#ifdef NO_FRESH_GROUP
#define IN_GROUP(a) (a != 0)
#else
#define IN_GROUP(a) (a == grp)
#endif

#ifdef NO_FENCE
#define takes(h, i, a) true
#else
#define takes(h, i, a) (uid == USER(h, i) || (grp != 0 && IN_GROUP(a)))
#endif
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

#define FENCE_LOCALS byte su, gu, gg; bit ug;
#define FENCE_FORGET su = 0; gu = 0; gg = 0; ug = 0

#ifdef NO_GUARD
#define GUARDED(g) false
#else
#define GUARDED(g) (g)
#endif

#include "protocol.pml"

/* Once more, late: only where the rule against retransmission is off. */
inline again(g, s, t)
{
#ifdef NO_ONCE
        if
        :: !sa && late > 0 -> late--; sa = 1; sa_guard = 0; sa_su = s; sa_sg = t
        :: true
        fi
#else
        skip
#endif
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
inline own(h, owner, group, grants)
{
        do
        :: atomic { !(ne == c && nh == h) -> r = 1; FENCE_FORGET; break } /* LOOKUP: the name has moved on */
        :: atomic { ne == c && nh == h -> gu = uid; gg = grp;
#ifdef NO_OWN_UID
                su = owner
#else
                su = (uid == owner -> 0 : owner)
#endif
                };
                if
                :: atomic { (ug && !(grants)) || !GUARDED(1) || (uid == gu && grp == gg) ->
                        again(1, su, group); setattr(1, su, group); r = 0; FENCE_FORGET; break }
                :: atomic { !ug && GUARDED(1) && (uid != gu || grp != gg || BUSY) -> ug = 1 } /* NOT_SYNC */
                :: atomic { ug && (grants) && (uid != gu || grp != gg) -> r = 1; FENCE_FORGET; break }
                :: atomic { late > 0 && !sa -> late--; sa = 1; sa_guard = GUARDED(!(ug && !(grants))); sa_su = su;
                        sa_sg = group;
                        if
                        :: sa_guard -> sa_gu = gu; sa_gg = gg
                        :: else
                        fi;
                        r = 1; FENCE_FORGET; break }
                fi
        od
}

#ifdef NO_GROUP_RESET
#define CLEARED grp
#else
#define CLEARED 0
#endif

inline fence(h)
{
        own(h, USER(h, i), CLEARED, false)
}

inline grant(h)
{
        own(h, 0, a, true)
}

inline gate(h)
{
#ifdef NO_GATE
        r = r
#else
        atomic { r = (r == 0 && ne == c && nh == h && uid == USER(h, i) -> 0 : 1) }
#endif
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
