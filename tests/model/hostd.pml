/* SPDX-License-Identifier: Apache-2.0 */
/* hostd's two threads of an instance, and libvirtd's part of a start: hostd/guest*.c, migrate/instance.c. */

#ifdef NO_ENTRY_EPOCH
#define ENTRY (es != 0)
#else
#define ENTRY (es != 0 && ee == e)
#endif
#ifdef NO_ATTEMPT
#define SAME_ATTEMPT(h) true
#else
#define SAME_ATTEMPT(h) (ea == q[h].att)
#endif
#ifdef NO_SOURCE
#define FROM_SOURCE true
#else
#define FROM_SOURCE (o == es)
#endif
#ifdef NO_DESTINATION
#define FOR_ME(h) true
#else
#define FOR_ME(h) (ed == h)
#endif
#ifdef NO_EPOCH
#define AT_EPOCH(h) true
#else
#define AT_EPOCH(h) ((starting[h] == i -> i : (rid == i -> re : 0)) == e)
#endif
#ifdef NO_RECLAIM_GATE
#define SOURCE_OF(h) false
#else
#define SOURCE_OF(h) (ENTRY && es == h)
#endif
#ifdef NO_KNOWN
#define KNOWN(h) true
#else
#define KNOWN(h) (starting[h] == i || known[h] == i)
#endif

/* gate_answer() and gate_decide(): the record is loaded, the name is read here. */
inline gate_decide(h)
{
        e = ne; o = nh;
        if
        :: q[h].id != i -> act = REFUSE /* it is gone */
        :: q[h].id == i && q[h].att && rid != i ->
                a = q[h].att;
                act = (ENTRY && SAME_ATTEMPT(h) && FOR_ME(h) && FROM_SOURCE -> COMMIT : REFUSE)
        :: q[h].id == i && !(q[h].att && rid != i) ->
                if
                :: o != h || !AT_EPOCH(h) -> act = REFUSE
                :: o == h && AT_EPOCH(h) && SOURCE_OF(h) -> act = RECLAIM
                :: o == h && AT_EPOCH(h) && !SOURCE_OF(h) -> act = (KNOWN(h) -> CHECK : REFUSE)
                fi
        fi;
        load_done()
}

/* A no, or no answer: libvirt ends a start and an arrival; a source stays paused unless hostd said no and killed
 * it. */
inline refused(h, answered)
{
        if
        :: q[h].id != i || q[h].s == RUN -> skip
        :: q[h].id == i && q[h].s == STOP && !(answered) -> q[h].want = 0; unasked(h)
        :: q[h].id == i && q[h].s != RUN && !(q[h].s == STOP && !(answered)) -> die(h)
        fi
}

#define ASKS(h) (q[h].s == OPEN || ((q[h].s == HERE || q[h].s == STOP) && q[h].want))

proctype Gate(byte h)
{
        THREAD_LOCALS

        do
        :: atomic { request[h] && !down[h] && q[h].s == NONE && may_open(h) ->
                q[h].s = OPEN; q[h].id = request[h]; q[h].cur = 1; request[h] = 0; opened(h) }
        :: atomic { request[h] && (down[h] || q[h].s != NONE || !may_open(h)) -> request[h] = 0 }
        :: atomic { ASKS(h) && (!up[h] || !may_ask(h)) -> i = q[h].id; refused(h, 0); i = 0 }
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
                                claim(h);
                                if
                                :: r == 0
                                :: r != 0 -> goto no
                                fi };
                        fence(h);
check:                  gate(h);
#ifndef NO_STORED
                        atomic {
                                if
                                :: r == 0 -> record_start()
                                :: r != 0 -> goto no
                                fi };
#endif
                        atomic {
                                if
                                :: r == 0 && q[h].id == i && ASKS(h) && can_run(h) -> known[h] = i; runs(h)
                                :: r == 0 && q[h].id == i && late > 0 -> late--; known[h] = i; refused(h, 0)
                                :: r != 0 || !(q[h].id == i && ASKS(h) && can_run(h)) -> refused(h, 1)
                                fi;
#ifdef NO_STORED
                                if
                                :: q[h].s == RUN && q[h].id == i -> act = CHECK
                                :: else -> act = REFUSE
                                fi };
                        atomic {
                                if
                                :: act == CHECK -> record_start()
                                :: else
                                fi;
#endif
                                goto done };
no:                     atomic { refused(h, 1) };
done:                   atomic { forget(); gate_busy[h] = 0 }
                } unless {
                        atomic { !up[h] -> refused(h, 0); forget(); gate_busy[h] = 0 }
                }
        od
}

/* --- the guest's thread: guest_look() and instance_decide() */

#define MIGRATES(h) (q[h].s == RUN && migrations > 0 && !m_src)
#ifdef NO_RESUME
#define RESUMES(h) false
#else
#define RESUMES(h) (q[h].s == STOP && !q[h].want && m_src != h)
#endif
#ifdef NO_RECLAIM_LOOK
#define LOOK_RECLAIM false
#else
#define LOOK_RECLAIM true
#endif
#ifdef NO_ADOPT_EPOCH
#define OWN_EPOCH(h, a, b) true
#else
#define OWN_EPOCH(h, a, b) ((a == q[h].id -> b : 0) == ne)
#endif

/* An arrival is waited for, but not where a failover has placed the instance here: its source is dead. */
#ifdef NO_PLACED
#define PLACED(h, x, y) false
#else
#define PLACED(h, x, y) (x == h && y == ne)
#endif
#define ARRIVES(h) (q[h].att && q[h].att == en_a && en_e == ne && en_d == h && !PLACED(h, pl_h, pl_e))
#define TODO(h) (q[h].s != NONE \
        -> (nh == h && OWN_EPOCH(h, st_id, st_e) \
                -> q[h].s == HALT || (LOOK_RECLAIM && en_s == h && en_e == ne && ne < EPOCHS) || MIGRATES(h) || \
                   (RESUMES(h) && !(en_s == h && en_e == ne)) \
                : !ARRIVES(h)) \
        : ne < EPOCHS && (nh == h || pl_h == h) && \
          (pl_e == ne && pl_h -> pl_h == h : nh == h))

inline look_decide(h)
{
        e = ne; o = nh;
        if
        :: q[h].s != NONE && o == h && OWN_EPOCH(h, rid, re) ->
                if
                :: q[h].s == HALT -> act = KILL
                :: q[h].s != HALT && LOOK_RECLAIM && es == h && ee == e -> act = RECLAIM
                :: q[h].s != HALT && !(LOOK_RECLAIM && es == h && ee == e) && MIGRATES(h) -> act = MIGRATE
                :: q[h].s != HALT && !(LOOK_RECLAIM && es == h && ee == e) && RESUMES(h) -> act = RESUME
                :: else
                fi
        :: q[h].s != NONE && !(o == h && OWN_EPOCH(h, rid, re)) ->
                act = (q[h].att && q[h].att == ea && ee == e && ed == h && !PLACED(h, ph, pe) -> 0 : KILL)
        :: q[h].s == NONE && ne < EPOCHS ->
                act = ((pe == e && ph -> ph == h : o == h) -> START : 0)
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

#ifdef NO_KILL
#define kill_before_start(h) skip
#else
#define kill_before_start(h) kill_all(h)
#endif
#ifdef NO_RECHECK
#define UNMOVED(h) true
#else
#define UNMOVED(h) (ne == e && nh == h)
#endif

/* The entry goes into the record; act is the destination from here on. */
inline enter(h)
{
        migrations--;
        a = ATTEMPTS - migrations;
        if
        :: h != 1 -> act = 1
        :: h != 2 -> act = 2
#if HOSTS == 3
        :: h != 3 -> act = 3
#endif
        fi;
        c = e;
        if
        :: ne == e -> en_s = h; en_d = act; en_e = e; en_a = a
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
                                :: act == START -> kill_before_start(h)
#ifdef NO_CLAIM
                                        ;
                                        if
                                        :: o == h -> c = e; e = 0; o = 0; i = FRESH(c); goto fenced
                                        :: else
                                        fi
#endif
                                :: act == RECLAIM -> i = q[h].id;
                                        if
                                        :: m_src == h && m_job -> m_abort = 1
                                        :: else
                                        fi
                                :: act == MIGRATE && migrations > 0 && !m_src -> enter(h); goto granted
                                :: act == RESUME ->
                                        if
                                        :: q[h].s == STOP -> q[h].want = 1
                                        :: else
                                        fi;
                                        goto done
                                :: act == 0 || (act == MIGRATE && !(migrations > 0 && !m_src)) -> goto done
                                fi };
                        atomic {
                                claim(h);
                                if
                                :: r == 0 -> i = (act == START -> FRESH(c) : i)
                                :: r != 0 -> goto done
                                fi };
fenced:                 fence(h);
                        atomic {
                                if
                                :: r != 0 -> goto done
                                :: r == 0 && act == RECLAIM -> record_start(); goto done
                                :: r == 0 && act == START -> starting[h] = i; request[h] = i
                                fi };
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
                                :: nh == act && ne > e -> kill_all(h)
                                :: else ->
#ifdef NO_KEEP
                                        en_s = 0; en_d = 0; en_e = 0; en_a = 0
#else
                                        skip
#endif
                                fi };
done:                   atomic { forget(); guest_busy[h] = 0 }
                } unless {
                        atomic { !up[h] -> forget(); guest_busy[h] = 0 }
                }
        od
}
