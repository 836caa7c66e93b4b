/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the three models share: the name, the record, the QEMUs, and the steps of a claim. One instance on HOSTS
 * hosts. README.md says which part of hostd each piece stands for.
 *
 * An engine's model defines, the macros before it includes this file:
 *
 *   takes(h, i, a)       the storage takes a write of start i, attempt a, on host h at this moment
 *   may_open(h)          QEMU's open of the disk for writing works out
 *   opened(h) closed(h)  a fresh start has opened the disk; the process is gone
 *   paused(h)            a source has given its disk up at the switchover
 *   can_run(h) ran(h)    what QEMU does before its vCPUs run works out; it is done
 *   may_ask(h)           the lock driver may ask hostd; asked(h), unasked(h): takes, drops its second lock
 *   moved(h)             libvirtd forgot the QEMU; begins(): the first owner runs
 *   fence(h), gate(h)    lease_fence() and lease_gate() of start i (attempt a, 0: none) at epoch c; set r
 *   grant(h)             lease_grant() of attempt a at epoch c; sets r
 *   FENCE_LOCALS, FENCE_FORGET, STORAGE (alternatives of the environment: what lands late)
 *
 */
#include "rules.pml"

#define OFF_ID(rule) (OFF(rule) || OFF(NO_IDENTITY))

#ifndef HOSTS
#define HOSTS 2
#endif
#ifndef WRITES
#define WRITES 1 /* can a write be on its way? */
#endif
#ifndef EPOCHS
#define EPOCHS 6
#endif

#define PLACED_AT(x) (OFF(NO_PLACEMENT_EPOCH) || x == ne)
/* What is void is forgotten, which saves states; not where its epoch is what is not looked at. */
#define FORGETS (!OFF(NO_EPOCH) && !OFF(NO_ENTRY_EPOCH) && !OFF(NO_ADOPT_EPOCH))

/* Ids of starts: a first start at epoch e; the arrival of attempt a. Two hosts of one number may start at one epoch. */
#define FRESH(h, e) ((h) == 3 -> EPOCHS + ATTEMPTS + (e) : (e))
#define EPOCH_OF(i) ((i) > EPOCHS + ATTEMPTS -> (i) - EPOCHS - ATTEMPTS : (i))
#define ARRIVAL(a) (EPOCHS + (a))
#define ARRIVED(i) ((i) > EPOCHS && (i) <= EPOCHS + ATTEMPTS)
#define ATTEMPTS 2

/* States of a QEMU. OPEN: started, has never run. COMING: takes memory in. HERE: has it all. STOP: stopped at
 * the switchover. HALT: stopped by a refused write. */
#define NONE 0
#define OPEN 1
#define COMING 2
#define HERE 3
#define RUN 4
#define STOP 5
#define HALT 6

typedef Qemu {
        byte s;
        byte id;  /* of the start */
        byte att; /* in its lease; 0: no migration's destination */
        bit cur;  /* its memory, and what it has read of the disk, is not older than the disk */
        bit want  /* libvirt wants it to run, and will ask the gate */
}
#define FORGOTTEN (HOSTS + 1)
Qemu q[HOSTS + 2]; /* libvirt has one domain of a UUID on a host; the last one is what a libvirtd forgot */
byte forgotten_on;

/* The name, and the record. */
byte ne = 1, nh = 1;
byte st_id = 1, st_e = 1;
byte en_s, en_d, en_e, en_a;
byte pl_h, pl_e;

bit up[HOSTS + 2];       /* hostd */
bit down[HOSTS + 2];     /* the host */
bit gate_busy[HOSTS + 2], guest_busy[HOSTS + 2];
byte known[HOSTS + 2];   /* the start that this hostd has let run */
byte starting[HOSTS + 2];
byte asks_again[HOSTS + 2];   /* the start for which the lock driver asks a second time: its hostd died over the first */
byte request[HOSTS + 2]; /* a call to libvirt to start; it may outlive its hostd */
byte m_src, m_dst, m_att; /* the migration that libvirt is to carry out */
bit m_abort, m_job;      /* the source's job runs and may be aborted */

/* A guest's write on its way, of q[w_h] (0: that process is gone). A rename whose caller gave up. */
bit w, w_cur;
byte w_h, w_on, w_id, w_att;
byte rn_e, rn_o, rn_h;

/* What may still happen: attempts to migrate; failovers away from a living host; crashes of a hostd, which is then
 * restarted; losses of a host, for good; operations and answers whose receiver gave up, of which the operations may
 * still land; guests' writes that stay on their way; QEMUs that a libvirtd loses from its list. */
byte migrations, suspicions, crashes, losses, late, writes_left, forgets;

/* The number under which a host claims. With three hosts the third one has another's: they do not know of each other. */
#if HOSTS == 3
byte twin; /* the number of host 3 */
#define NUMBER(h) (((h) == 3) * twin + ((h) != 3) * (h))
#define LOST(n) (down[n] && (twin != (n) || down[3]))
#else
#define NUMBER(h) (h)
#define LOST(n) down[n]
#endif

#define BOUND(n, m, s, c, o, l, w, f) \
        :: (lines & (1 << n)) -> \
                migrations = m; suspicions = s; crashes = c; losses = o; late = l; writes_left = WRITES * w; \
                forgets = f

inline bounds()
{
        if /*      mig sus cra los lat wri for */
        BOUND( 1,  1,  0,  0,  0,  1,  0,  0)
        BOUND( 2,  1,  1,  0,  0,  0,  0,  0)
        BOUND( 3,  1,  0,  1,  0,  0,  0,  0)
        BOUND( 4,  1,  1,  0,  0,  1,  0,  0)
        BOUND( 5,  1,  0,  1,  0,  1,  0,  0)
        BOUND( 6,  1,  1,  1,  0,  0,  0,  0)
        BOUND( 7,  2,  0,  0,  0,  1,  0,  0)
        BOUND( 8,  2,  1,  0,  0,  0,  0,  0)
        BOUND( 9,  1,  1,  0,  0,  0,  1,  0)
        BOUND(10,  1,  0,  0,  1,  1,  0,  0)
        BOUND(11,  0,  2,  0,  0,  1,  1,  0)
        BOUND(12,  0,  1,  1,  0,  1,  1,  0)
        BOUND(13,  0,  1,  1,  1,  0,  0,  0)
        BOUND(14,  0,  2,  0,  0,  0,  1,  1)
        BOUND(15,  1,  0,  1,  0,  0,  1,  1)
        BOUND(16,  1,  1,  0,  1,  0,  0,  0)
        fi
}

#define TWINS(n, t, m, s, c, o, l, w, f) BOUND(n, m, s, c, o, l, w, f); twin = t

/* Host 3 has the number t of another. */
inline bounds_of_twins()
{
#if HOSTS == 3
        if /*       t mig sus cra los lat wri for */
        TWINS( 1,  1,  0,  0,  0,  0,  0,  0,  0)
        TWINS( 2,  1,  0,  0,  0,  0,  1,  0,  0)
        TWINS( 3,  1,  0,  0,  0,  0,  0,  1,  0)
        TWINS( 4,  1,  1,  0,  0,  0,  0,  0,  0)
        TWINS( 5,  2,  1,  0,  0,  0,  0,  0,  0)
        TWINS( 6,  2,  1,  1,  0,  0,  0,  0,  0)
        TWINS( 7,  2,  1,  0,  1,  0,  0,  0,  0)
        TWINS( 8,  2,  1,  0,  0,  0,  1,  0,  0)
        fi
#else
        skip
#endif
}

#define host_of(h) ((h) == FORGOTTEN -> forgotten_on : (h))
#define may_write(h) (takes(host_of(h), q[h].id, q[h].att))
#define writes(h) (q[h].s == RUN && may_write(h))
#if HOSTS == 3
#define WRITERS (writes(1) + writes(2) + writes(3) + writes(4))
#else
#define WRITERS (writes(1) + writes(2) + writes(3))
#endif

/* --- QEMU; all of these inside an atomic step */

inline die(h)
{
        if
        :: w && w_h == h -> w_h = 0
        :: else
        fi;
        if
        :: q[h].s != NONE -> closed(h)
        :: else
        fi;
        if
        :: known[h] == q[h].id -> known[h] = 0
        :: else
        fi;
        q[h].s = NONE; q[h].id = 0; q[h].att = 0; q[h].cur = 0; q[h].want = 0; asks_again[h] = 0
}

/* by 0: nobody who is left. */
inline disk_changed(by)
{
        k = 1;
        do
        :: k > FORGOTTEN -> break
        :: k <= FORGOTTEN ->
                if
                :: k != by -> q[k].cur = 0
                :: else
                fi;
                k++
        od;
        k = 0;
        if
        :: w && w_h != by -> w_cur = 0
        :: else
        fi
}

inline runs(h)
{
        ran(h);
        q[h].s = RUN; q[h].want = 0;
        assert(WRITERS <= 1)
}

/* --- hostd's steps; the locals of a thread are in THREAD_LOCALS */

#define THREAD_LOCALS byte rid, re, es, ed, ee, ea, ph, pe, e, o, c, i, a, b, r, act, k; FENCE_LOCALS

#define REFUSE 1
#define CHECK 2
#define COMMIT 3
#define RECLAIM 4
#define START 5
#define KILL 6
#define MIGRATE 7
#define RESUME 8

inline load()
{
        rid = st_id; re = st_e; es = en_s; ed = en_d; ee = en_e; ea = en_a; ph = pl_h; pe = pl_e
}

inline load_done()
{
        rid = 0; re = 0; es = 0; ed = 0; ee = 0; ea = 0; ph = 0; pe = 0
}

inline forget()
{
        load_done();
        e = 0; o = 0; c = 0; i = 0; a = 0; b = 0; r = 0; act = 0; k = 0;
        FENCE_FORGET
}

/* The name moves on: what the record and a late rename say about an older epoch can never count again. */
inline name_becomes(x, y)
{
        ne = x; nh = y;
        if
        :: !PLACED_AT(pl_e) -> pl_h = 0; pl_e = 0
        :: else
        fi;
        if
        :: FORGETS && en_e + 1 < ne -> en_s = 0; en_d = 0; en_e = 0; en_a = 0
        :: else
        fi;
        if
        :: FORGETS && st_e + 1 < ne -> st_id = 0; st_e = 0
        :: else
        fi;
        if
        :: rn_h && rn_e != ne -> rn_e = 0; rn_o = 0; rn_h = 0
        :: else
        fi
}

/* lease_claim() from the looked-at e.o, one atomic step. r 0: won, c is the new epoch. again: a hostd that is dead may
 * have won it. */
inline claim(h, again)
{
        c = e + 1;
        if
        :: ne == e && nh == o -> name_becomes(c, NUMBER(h)); r = 0
        :: !(ne == e && nh == o) && OFF(NO_EXCLUSIVE) -> name_becomes(c, NUMBER(h)); r = 0
        :: !(ne == e && nh == o) && !OFF(NO_EXCLUSIVE) ->
                r = (ne == c && nh == NUMBER(h) && ((again) || OFF_ID(NO_OWN_TRY)) -> 0 : 1)
        :: late > 0 && rn_h == 0 && ne == e && nh == o ->
                late--; rn_e = e; rn_o = o; rn_h = NUMBER(h);
                r = (OFF(NO_UNKNOWN) -> 0 : 1) /* off: "it will have worked" */
#if HOSTS == 3
        /* No answer, and the look finds e+1.me: it may be the other one's. */
        :: late > 0 && ne == c && nh == NUMBER(h) -> late--; r = 0
#endif
        fi;
        e = 0; o = 0
}

#define RECORDS (OFF_ID(NO_RECORD_COMPARE) || (st_id == i && st_e == c) || (st_e < c && (b == 0 || st_id == b)))

/* Rule 5: who may run at which epoch is stored before the answer. b: the start whose memory it has; 0: none's. */
inline record_start()
{
        if
        :: RECORDS -> st_id = i; st_e = c
        :: else -> r = 1
        fi;
        if
        :: FORGETS && st_e + 1 < ne -> st_id = 0; st_e = 0
        :: else
        fi
}
