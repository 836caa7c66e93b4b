/* SPDX-License-Identifier: Apache-2.0 */
/*
 * RBD: the storage takes the writes of every client that is not on the blocklist. The gate object {epoch, recorded
 * clients} says who may have written; the fence raises its epoch, blocklists the clients, and only then drops them:
 * imaged/store/rbd-fence.c, rbd-gate.c. A client is one QEMU, here known by the id of its start.
 */
byte ge = 1;     /* the gate object's epoch */
short reg, bl;   /* recorded clients; the blocklist */
byte newest = 1; /* who was registered last */

/* A registration whose caller gave up. Only with NO_MAP: what will be on the blocklist. */
byte rg_e, rg_i;
short bl_soon;

#define BIT(i) (1 << (i))
#define takes(h, i, a) (!(bl & BIT(i)))
#define may_open(h) true
#define opened(h) skip
#define paused(h) skip
#define moved(h) skip
#define can_run(h) true
#define ran(h) skip
#define may_ask(h) true
#define asked(h) skip
#define unasked(h) skip
#define begins() reg = BIT(1)

/* A killed QEMU's requests may still be on their way: it stays recorded. */
#ifdef NO_PROOF
#define closed(h) reg = reg & ~BIT(q[h].id)
#else
#define closed(h) skip
#endif

#define FENCE_LOCALS short out;
#define FENCE_FORGET out = 0

#include "protocol.pml"

#ifdef NO_RAISE_COMPARE
#define RAISES true
#else
#define RAISES (ge <= c)
#endif
#ifdef NO_REGISTER_COMPARE
#define REGISTERS(x) true
#else
#define REGISTERS(x) (ge == x)
#endif
/* The source of a migration that commits need not be refused: its vCPUs stand, and its gate will say no. */
#ifdef NO_SPARED
#define SPARED 0
#else
#define SPARED (i > EPOCHS && !(reg & BIT(i)) -> BIT(newest) : 0)
#endif

inline drop(x)
{
        reg = reg & ~(x);
        if
        :: !(reg & BIT(newest)) -> newest = (reg & BIT(i) -> i : 0)
        :: else
        fi
}

inline fence(h)
{
        atomic { r = (ne == c && nh == h -> 0 : 1) };
        atomic {
                if
                :: r == 0 && RAISES -> ge = c; out = reg & ~BIT(i) & ~SPARED;
#ifdef NO_DROP_LAST
                        drop(out)
#endif
                :: r == 0 && late > 0 -> late--; r = 1 /* unknown: the epoch is given up */
                :: r != 0 || !RAISES -> r = 1
                fi };
        if
        :: atomic { r == 0 && out ->
#ifdef NO_FENCE
                skip
#elif defined(NO_MAP)
                bl_soon = bl_soon | out
#else
                bl = bl | out
#endif
                };
                atomic { drop(out); out = 0 }
        :: r != 0 || !out
        fi
}

inline grant(h)
{
        atomic { r = (ne == c && nh == h -> 0 : 1) }
}

inline enrol(x)
{
#ifdef NO_REGISTER
        skip
#else
        if
        :: !(reg & BIT(x)) -> reg = reg | BIT(x); newest = x
        :: else
        fi
#endif
}

inline gate(h)
{
#ifdef NO_GATE
        r = r;
#else
        atomic { r = (r == 0 && ne == c && nh == h -> 0 : 1) };
        atomic {
                if
                :: r == 0 && q[h].id == i && REGISTERS(c) -> enrol(i)
                :: r == 0 && late > 0 && !rg_i -> late--; rg_e = c; rg_i = i; r = 1
                :: !(r == 0 && q[h].id == i && REGISTERS(c)) -> r = 1
                fi }
#endif
}

#define STORAGE \
        :: atomic { rg_i -> \
                if \
                :: REGISTERS(rg_e) -> enrol(rg_i) \
                :: else \
                fi; \
                rg_e = 0; rg_i = 0 } \
        :: atomic { bl_soon -> bl = bl | bl_soon; bl_soon = 0 }

#include "hostd.pml"
#include "world.pml"
