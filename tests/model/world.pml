/* SPDX-License-Identifier: Apache-2.0 */
/* Everything around hostd: libvirt's migration, the guests' writes, and what goes wrong. */

/* QEMU lets the source run on by itself, without asking anybody, when a job fails or is cancelled. */
inline resumes_itself()
{
        if
        :: q[m_src].s == STOP && m_src_id == q[m_src].id && can_run(m_src) -> runs(m_src)
        :: else
        fi
}

/* The destination ends what arrived; or nobody tells it, and it lingers. */
inline arrival_ends()
{
        if
        :: q[m_dst].att == m_att && q[m_dst].s >= COMING && q[m_dst].s <= HERE && !gate_busy[m_dst] && !asks_again[m_dst] -> die(m_dst)
        :: q[m_dst].s != NONE && late > 0 -> late--
        :: q[m_dst].att != m_att || q[m_dst].s == NONE || q[m_dst].s > HERE
        fi
}

#define DRAINED (OFF(NO_DRAIN) || !(w && w_h == m_src))

proctype Migration()
{
        byte m_src_id, k;
        bit told;

        do
        :: atomic { m_src && q[m_src].s == RUN && q[m_dst].s == NONE && !down[m_dst] && !down[m_src] ->
                m_src_id = q[m_src].id;
                q[m_dst].s = COMING; q[m_dst].id = ARRIVAL(m_att); q[m_dst].att = m_att; m_job = 1 };
                if
                :: atomic { q[m_src].s == RUN && q[m_src].id == m_src_id && q[m_dst].s == COMING &&
                        q[m_dst].att == m_att && !m_abort && DRAINED -> q[m_src].s = STOP; paused(m_src) };
                        if
                        :: atomic { q[m_src].s == STOP && q[m_dst].s == COMING && q[m_dst].att == m_att ->
                                q[m_dst].s = HERE; q[m_dst].cur = q[m_src].cur;
                                q[m_dst].want = (OFF(NO_COMPLETED) -> 1 : 0) };
                                if
                                :: atomic { q[m_src].id == m_src_id || true -> m_job = 0; /* COMPLETED */
                                        if
                                        :: q[m_dst].s == HERE && q[m_dst].att == m_att -> q[m_dst].want = 1; told = 1
                                        :: else
                                        fi };
                                        if
                                        :: atomic { told && q[m_dst].s == RUN && q[m_dst].att == m_att ->
                                                if
                                                :: q[m_src].id == m_src_id -> die(m_src)
                                                :: else
                                                fi }
                                        :: atomic { !(q[m_dst].s == HERE && q[m_dst].att == m_att) || late > 0 ->
                                                if /* refused, or the reply is lost: the source is to run on */
                                                :: q[m_dst].att == m_att && q[m_dst].s != NONE && late > 0 -> late--
                                                :: q[m_dst].att != m_att
                                                fi;
                                                if
                                                :: q[m_src].id == m_src_id && q[m_src].s == STOP -> q[m_src].want = 1
                                                :: else
                                                fi }
                                        fi
                                :: atomic { resumes_itself(); arrival_ends() } /* FAILED */
                                fi
                        :: atomic { resumes_itself(); arrival_ends() }
                        fi
                :: atomic { arrival_ends() } /* it fails, or is cancelled, before the switchover */
                fi;
                atomic { m_src = 0; m_dst = 0; m_att = 0; m_src_id = 0; told = 0; m_abort = 0; m_job = 0 }
        :: atomic { m_src && !(q[m_src].s == RUN && q[m_dst].s == NONE && !down[m_dst] && !down[m_src]) ->
                m_src = 0; m_dst = 0; m_att = 0 }
        od
}

#define WRITER(h) \
        :: atomic { writes(h) && (!q[h].cur || CHANGES(h)) -> \
                assert(q[h].cur); /* old memory on a newer disk */ \
                disk_changed(h) } \
        :: atomic { q[h].s == RUN && !may_write(h) -> q[h].s = HALT } \
        :: atomic { q[h].s == RUN && writes_left > 0 && !w -> \
                writes_left--; w = 1; w_cur = q[h].cur; w_h = h; w_on = host_of(h); w_id = q[h].id; \
                w_att = q[h].att }

/* Somebody else's view is still fresh: a write is worth a step. */
#define CHANGES(h) ((w && w_h != h && w_cur) || \
        (h != 1 && q[1].cur) || (h != 2 && q[2].cur) || (h != 3 && q[3].cur) || (HOSTS == 3 && h != 4 && q[4].cur))

/* The disk, and the guests that write to it. */
proctype Disk()
{
        byte k;

        do
        WRITER(1)
        WRITER(2)
        WRITER(3)
#if HOSTS == 3
        WRITER(4)
#endif
        /* The server lets a write through its check, and does it later. */
        :: atomic { OFF(NO_SERVER_ORDER) && w && w_id && takes(w_on, w_id, w_att) -> w_id = 0; w_att = 0 }
        :: atomic { w && w_id == 0 -> goto land }
        :: atomic { w && w_id && takes(w_on, w_id, w_att) ->
land:           assert(w_cur);
                disk_changed(w_h);
                w = 0; w_cur = 0; w_h = 0; w_on = 0; w_id = 0; w_att = 0 }
        :: atomic { w && w_id && !takes(w_on, w_id, w_att) ->
                w = 0; w_cur = 0; w_h = 0; w_on = 0; w_id = 0; w_att = 0 }
        od
}

inline place(except)
{
        if
        :: except != 1 && !LOST(1) -> pl_h = 1
        :: except != 2 && !LOST(2) -> pl_h = 2
        fi;
        pl_e = ne
}

#define TROUBLE(h) \
        :: atomic { crashes > 0 && up[h] -> crashes--; up[h] = 0; known[h] = 0; starting[h] = 0 } \
        :: atomic { !up[h] && !down[h] && !gate_busy[h] && !guest_busy[h] -> up[h] = 1; \
                if /* adopts what runs here, sooner or later */ \
                :: q[h].s == RUN && nh == NUMBER(h) && OWN_EPOCH(h, st_id, st_e) -> known[h] = q[h].id \
                :: true \
                fi } \
        :: atomic { losses > 0 && !down[h] && !gate_busy[h] -> losses--; down[h] = 1; up[h] = 0; die(h); \
                known[h] = 0; starting[h] = 0; \
                if \
                :: forgotten_on == h -> die(FORGOTTEN); forgotten_on = 0 \
                :: else \
                fi } \
        :: atomic { forgets > 0 && q[h].s == RUN && !q[FORGOTTEN].s -> forgets--; forgotten_on = h; \
                q[FORGOTTEN].s = RUN; q[FORGOTTEN].id = q[h].id; q[FORGOTTEN].att = q[h].att; \
                q[FORGOTTEN].cur = q[h].cur; moved(h); \
                if \
                :: w && w_h == h -> w_h = FORGOTTEN \
                :: else \
                fi; \
                q[h].s = NONE; q[h].id = 0; q[h].att = 0; q[h].cur = 0; q[h].want = 0 }

proctype Trouble()
{
        byte k;

        do
        TROUBLE(1)
        TROUBLE(2)
#if HOSTS == 3
        TROUBLE(3)
#endif
        :: atomic { suspicions > 0 -> suspicions--; place(nh) }
        /* Whoever watches sees a dead owner, and a dead one that was to take over. */
        :: atomic { pl_h && PLACED_AT(pl_e) && LOST(pl_h) -> place(0) }
        :: atomic { LOST(nh) && !(pl_h && PLACED_AT(pl_e)) -> place(0) }
        :: atomic { rn_h && ne == rn_e && nh == rn_o -> name_becomes(rn_e + 1, rn_h) }
        :: atomic { rn_h && !(ne == rn_e && nh == rn_o) -> rn_e = 0; rn_o = 0; rn_h = 0 }
        STORAGE
        /* Nothing can happen any more, and no guest runs: the instance is lost for ever. */
        :: atomic { timeout -> assert(ne >= EPOCHS || WRITERS > 0); break }
        od
}

init {
        atomic {
                q[1].s = RUN; q[1].id = 1; q[1].cur = 1; known[1] = 1;
                up[1] = 1; up[2] = 1;
                choose();
                begins();
#if HOSTS == 3 /* its hostd begins at any moment */
                bounds_of_twins();
                run Gate(3); run Guest(3);
#else
                bounds();
#endif
                run Gate(1); run Guest(1); run Gate(2); run Guest(2);
                run Migration(); run Disk(); run Trouble()
        }
}
