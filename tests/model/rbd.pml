/* SPDX-License-Identifier: Apache-2.0 */
/*
 * RBD: the storage takes the writes of every client that is not on the blocklist. The gate object {epoch, recorded
 * clients} says who may have written; the fence raises its epoch, blocklists the clients, and only then drops them:
 * imaged/store/rbd-fence.c, rbd-gate.c. A client is one QEMU, here known by the id of its start.
 */
byte ge = 1, gs = 1; /* the gate object's epoch, and the start that raised it */
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
#define closed(h) if :: OFF(NO_PROOF) -> reg = reg & ~BIT(q[h].id) :: else fi

#define FENCE_LOCALS short out;
#define FENCE_FORGET out = 0

#include "protocol.pml"

#define RAISES (OFF(NO_RAISE_COMPARE) || ge < c || (ge == c && (gs == i || OFF_ID(NO_RAISE_START))))
#define REGISTERS(x, y) (OFF(NO_REGISTER_COMPARE) || (ge == x && (gs == y || OFF_ID(NO_REGISTER_START))))
/* The source of a migration that commits need not be refused: its vCPUs stand, and its gate will say no. */
#define SPARED (!OFF(NO_SPARED) && ARRIVED(i) && !(reg & BIT(i)) -> BIT(newest) : 0)

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
        atomic { r = (ne == c && nh == NUMBER(h) -> 0 : 1) };
        atomic {
                if
                :: r == 0 && RAISES -> ge = c; gs = i; out = reg & ~BIT(i) & ~SPARED;
                        if
                        :: OFF(NO_DROP_LAST) -> drop(out)
                        :: else
                        fi
                :: r == 0 && late > 0 -> late--; r = 1 /* unknown: the epoch is given up */
                :: r != 0 || !RAISES -> r = 1
                fi };
        if
        :: atomic { r == 0 && out ->
                if
                :: OFF(NO_FENCE)
                :: OFF(NO_MAP) -> bl_soon = bl_soon | out
                :: else -> bl = bl | out
                fi };
                atomic { drop(out); out = 0 }
        :: r != 0 || !out
        fi
}

inline grant(h)
{
        atomic { r = (ne == c && nh == NUMBER(h) -> 0 : 1) }
}

inline enrol(x)
{
        if
        :: !OFF(NO_REGISTER) && !(reg & BIT(x)) -> reg = reg | BIT(x); newest = x
        :: else
        fi
}

inline gate(h)
{
        atomic { r = (r == 0 && (OFF(NO_GATE) || (ne == c && nh == NUMBER(h))) -> 0 : 1) };
        atomic {
                if
                :: OFF(NO_GATE)
                :: !OFF(NO_GATE) && r == 0 && q[h].id == i && REGISTERS(c, i) -> enrol(i)
                :: !OFF(NO_GATE) && r == 0 && late > 0 && !rg_i -> late--; rg_e = c; rg_i = i; r = 1
                :: !OFF(NO_GATE) && !(r == 0 && q[h].id == i && REGISTERS(c, i)) -> r = 1
                fi }
}

#define STORAGE \
        :: atomic { rg_i -> \
                if \
                :: REGISTERS(rg_e, rg_i) -> enrol(rg_i) \
                :: else \
                fi; \
                rg_e = 0; rg_i = 0 } \
        :: atomic { bl_soon -> bl = bl | bl_soon; bl_soon = 0 }

#include "hostd.pml"
#include "world.pml"
