/* SPDX-License-Identifier: Apache-2.0 */
/* hostd's two threads of an instance, and libvirtd's part of a start: hostd/guest*.c, migrate/instance.c. */

#define ENTRY (es != 0 && (OFF(NO_ENTRY_EPOCH) || ee == e))
#define SAME_ATTEMPT(h) (OFF(NO_ATTEMPT) || ea == q[h].att)
#define FROM_SOURCE (OFF(NO_SOURCE) || o == es)
#define FOR_ME(h) (OFF(NO_DESTINATION) || ed == NUMBER(h))
#define AT_EPOCH(h) (OFF(NO_EPOCH) || (starting[h] == i -> EPOCH_OF(i) : (rid == i -> re : 0)) == e)
/* The claim of a source that runs on was won, and then its hostd died: the QEMU is still who ran last. */
#define HALF_RECLAIMED(h, s, x, y, z) (s == NUMBER(h) && z + 1 == ne && nh == NUMBER(h) && y == z && x == q[h].id)
#define SOURCE_OF(h) (!OFF(NO_RECLAIM_GATE) && ENTRY && es == NUMBER(h))
#define KNOWN(h) (OFF(NO_KNOWN) || starting[h] == i || known[h] == i || asks_again[h] == i)
/* A hostd died between the claim of a commit and its answer, and nobody has been let run at that epoch. */
#define COMMITTED(h) (asks_again[h] == i && es != 0 && ee + 1 == e && o == NUMBER(h) && (OFF(NO_UNRUN) || re <= ee))

/* gate_answer() and gate_decide(): the record is loaded, the name is read here. */
inline gate_decide(h)
{
        e = ne; o = nh;
        if
        :: q[h].id != i -> act = REFUSE /* it is gone */
        :: q[h].id == i && q[h].att && rid != i ->
                a = q[h].att;
                if
                :: ENTRY && SAME_ATTEMPT(h) && FOR_ME(h) && FROM_SOURCE -> act = COMMIT
                :: else -> act = (COMMITTED(h) && SAME_ATTEMPT(h) && FOR_ME(h) -> COMMIT : REFUSE);
                        if
                        :: act == COMMIT -> e = ee; o = es /* which the claim finds won */
                        :: else
                        fi
                fi;
                b = rid
        :: q[h].id == i && !(q[h].att && rid != i) ->
                if
                :: o == NUMBER(h) && HALF_RECLAIMED(h, es, rid, re, ee) -> act = RECLAIM; b = i
                :: o != NUMBER(h) || !(AT_EPOCH(h) || HALF_RECLAIMED(h, es, rid, re, ee)) -> act = REFUSE
                :: o == NUMBER(h) && AT_EPOCH(h) && SOURCE_OF(h) -> act = RECLAIM; b = i
                :: o == NUMBER(h) && AT_EPOCH(h) && !SOURCE_OF(h) -> act = (KNOWN(h) -> CHECK : REFUSE)
                fi
        fi;
        load_done()
}

/* A no, or no answer: libvirt ends a start and an arrival; a guest that ran before stays paused unless hostd said
 * no and killed it. */
#define STANDS(h) (q[h].s == STOP || q[h].s == HALT)

inline refused(h, answered)
{
        if
        :: q[h].id != i || q[h].s == RUN -> skip
        :: q[h].id == i && STANDS(h) && !(answered) -> q[h].want = 0; unasked(h)
        :: q[h].id == i && q[h].s != RUN && !(STANDS(h) && !(answered)) -> die(h)
        fi
}

#define ASKS(h) (q[h].s == OPEN || ((q[h].s == HERE || STANDS(h)) && q[h].want))

proctype Gate(byte h)
{
        THREAD_LOCALS

        do
        :: atomic { request[h] && !down[h] && q[h].s == NONE && may_open(h) ->
                q[h].s = OPEN; q[h].id = request[h]; q[h].cur = 1; request[h] = 0; opened(h) }
        :: atomic { request[h] && (down[h] || q[h].s != NONE || !may_open(h)) -> request[h] = 0 }
        :: atomic { ASKS(h) && (!up[h] || !may_ask(h)) -> i = q[h].id; refused(h, 0); asks_again[h] = 0; i = 0 }
        :: atomic { ASKS(h) && up[h] && may_ask(h) -> asked(h); i = q[h].id; gate_busy[h] = 1; load() };
                {
                        atomic {
                                gate_decide(h);
                                if
                                :: act == COMMIT || act == RECLAIM
                                :: act == CHECK -> c = e; e = 0; o = 0; goto check
                                :: act == REFUSE -> goto no
                                fi };
                        atomic {
                                claim(h, asks_again[h] == i);
                                if
                                :: r == 0
                                :: r != 0 -> goto no
                                fi };
                        fence(h);
check:                  gate(h);
                        atomic {
                                if
                                :: OFF(NO_STORED)
                                :: !OFF(NO_STORED) && r == 0 && act == CHECK && st_id == i /* it was let run before */
                                :: !OFF(NO_STORED) && r == 0 && !(act == CHECK && st_id == i) -> record_start()
                                :: !OFF(NO_STORED) && r != 0 -> goto no
                                fi };
                        atomic {
                                if
                                :: r == 0 && q[h].id == i && ASKS(h) && can_run(h) -> known[h] = i; runs(h)
                                :: r == 0 && q[h].id == i && late > 0 -> late--; known[h] = i; refused(h, 0)
                                :: r != 0 || !(q[h].id == i && ASKS(h) && can_run(h)) -> refused(h, 1)
                                fi;
                                if /* only then, and later */
                                :: OFF(NO_STORED) && q[h].s == RUN && q[h].id == i
                                :: else -> goto done
                                fi };
                        atomic { record_start(); goto done };
no:                     atomic {
                                if
                                :: refused(h, 1)
                                :: act == RECLAIM -> refused(h, 0) /* no answer of the storage's: the next look decides */
                                fi };
done:                   atomic { forget(); asks_again[h] = 0; gate_busy[h] = 0 }
                } unless {
                        atomic { !up[h] ->
                                if
                                :: refused(h, 0)
                                :: q[h].id == i && ASKS(h) -> asks_again[h] = i /* and waits for the next hostd */
                                fi;
                                forget(); gate_busy[h] = 0 }
                }
        od
}

/* --- the guest's thread: guest_look() and instance_decide() */

#define MIGRATES(h) (q[h].s == RUN && migrations > 0 && !m_src)
#define RESUMES(h) (!OFF(NO_RESUME) && q[h].s == STOP && !q[h].want && m_src != h)
#define LOOK_RECLAIM (!OFF(NO_RECLAIM_LOOK))
#define OWN_EPOCH(h, a, b) (OFF(NO_ADOPT_EPOCH) || (a == q[h].id -> b : 0) == ne)

/* An arrival is waited for, but not where a failover has placed the instance here: its source is dead. */
#define PLACED(h, x, y) (!OFF(NO_PLACED) && x == NUMBER(h) && PLACED_AT(y))
#define ARRIVES(h) (q[h].att && q[h].att == en_a && en_e == ne && en_d == NUMBER(h) && !PLACED(h, pl_h, pl_e))
#define TODO(h) (q[h].s != NONE \
        -> (nh == NUMBER(h) && OWN_EPOCH(h, st_id, st_e) \
                -> (q[h].s == HALT && !q[h].want) || (LOOK_RECLAIM && en_s == NUMBER(h) && en_e == ne && ne < EPOCHS) || \
                   MIGRATES(h) || (RESUMES(h) && !(en_s == NUMBER(h) && en_e == ne)) \
                : (HALF_RECLAIMED(h, en_s, st_id, st_e, en_e) -> ne < EPOCHS : !ARRIVES(h))) \
        : ne < EPOCHS && (nh == NUMBER(h) || pl_h == NUMBER(h)) && \
          (pl_h && PLACED_AT(pl_e) -> pl_h == NUMBER(h) : nh == NUMBER(h)))

inline look_decide(h)
{
        e = ne; o = nh;
        if
        :: q[h].s != NONE && o == NUMBER(h) && !OWN_EPOCH(h, rid, re) && HALF_RECLAIMED(h, es, rid, re, ee) -> act = RECLAIM
        :: q[h].s != NONE && o == NUMBER(h) && OWN_EPOCH(h, rid, re) ->
                if
                :: q[h].s == HALT -> act = KILL /* the error came back right after each resume */
                :: LOOK_RECLAIM && es == NUMBER(h) && ee == e -> act = RECLAIM
                :: q[h].s == HALT && !(LOOK_RECLAIM && es == NUMBER(h) && ee == e) -> known[h] = q[h].id; act = RESUME
                :: q[h].s != HALT && !(LOOK_RECLAIM && es == NUMBER(h) && ee == e) && MIGRATES(h) -> act = MIGRATE
                :: q[h].s != HALT && !(LOOK_RECLAIM && es == NUMBER(h) && ee == e) && RESUMES(h) -> act = RESUME
                :: else
                fi
        :: q[h].s != NONE && !(o == NUMBER(h) && (OWN_EPOCH(h, rid, re) || HALF_RECLAIMED(h, es, rid, re, ee))) ->
                act = (q[h].att && q[h].att == ea && ee == e && ed == NUMBER(h) && !PLACED(h, ph, pe) -> 0 : KILL)
        :: q[h].s == NONE && ne < EPOCHS ->
                act = ((ph && PLACED_AT(pe) -> ph == NUMBER(h) : o == NUMBER(h)) -> START : 0)
        :: q[h].s == NONE && ne >= EPOCHS
        fi;
        load_done()
}

inline kill_all(h)
{
        die(h);
        if
        :: forgotten_on == h -> die(FORGOTTEN); forgotten_on = 0
        :: else
        fi
}

inline kill_before_start(h)
{
        if
        :: !OFF(NO_KILL) -> kill_all(h)
        :: else
        fi
}

#define UNMOVED(h) (OFF(NO_RECHECK) || (ne == e && nh == NUMBER(h)))

/* The entry goes into the record; act is the destination from here on. */
inline enter(h)
{
        migrations--;
        a = ATTEMPTS - migrations;
        if
        :: NUMBER(h) != 1 -> act = 1
        :: NUMBER(h) != 2 -> act = 2
#if HOSTS == 3
        :: NUMBER(h) != twin -> act = 3
#endif
        fi;
        c = e;
        if
        :: ne == e -> en_s = NUMBER(h); en_d = NUMBER(act); en_e = e; en_a = a
        :: else
        fi
}

proctype Guest(byte h)
{
        THREAD_LOCALS

        do
        :: atomic { up[h] && TODO(h) -> guest_busy[h] = 1; load() };
                {
                        atomic {
                                look_decide(h);
                                if
                                :: act == KILL -> kill_all(h); goto done
                                :: act == START -> kill_before_start(h);
                                        if
                                        :: OFF(NO_CLAIM) && o == NUMBER(h) -> c = e; e = 0; o = 0; i = FRESH(h, c); goto fenced
                                        :: else
                                        fi
                                :: act == RECLAIM -> i = q[h].id; b = i;
                                        if
                                        :: m_src == h && m_job -> m_abort = 1
                                        :: else
                                        fi
                                :: act == MIGRATE && migrations > 0 && !m_src -> enter(h); goto granted
                                :: act == RESUME ->
                                        if
                                        :: STANDS(h) -> q[h].want = 1
                                        :: else
                                        fi;
                                        goto done
                                :: act == 0 || (act == MIGRATE && !(migrations > 0 && !m_src)) -> goto done
                                fi };
                        atomic {
                                claim(h, false);
                                if
                                :: r == 0 -> i = (act == START -> FRESH(h, c) : i)
                                :: r != 0 -> goto done
                                fi };
fenced:                 fence(h);
                        atomic {
                                if
                                :: r != 0 -> goto done
                                :: r == 0 && act == RECLAIM
                                :: r == 0 && act == START -> starting[h] = i; request[h] = i; goto started
                                fi };
                        gate(h);
                        atomic {
                                if
                                :: r == 0 -> record_start()
                                :: r != 0
                                fi;
                                goto done };
started:
                        atomic { !request[h] && q[h].s != OPEN -> starting[h] = 0;
                                if
                                :: q[h].s != RUN -> kill_all(h)
                                :: else
                                fi;
                                goto done };
granted:                grant(h);
                        atomic {
                                if
                                :: r == 0 && UNMOVED(h) -> m_src = h; m_dst = act; m_att = a
                                :: !(r == 0 && UNMOVED(h)) -> goto done
                                fi };
                        atomic { m_src != h -> /* the call returns */
                                if
                                :: nh == NUMBER(act) && ne > e -> kill_all(h)
                                :: !(nh == NUMBER(act) && ne > e) && OFF(NO_KEEP) -> en_s = 0; en_d = 0; en_e = 0; en_a = 0
                                :: else
                                fi };
done:                   atomic { forget(); guest_busy[h] = 0 }
                } unless {
                        atomic { !up[h] -> forget(); guest_busy[h] = 0 }
                }
        od
}
