/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rules that can be turned off, one at a time. RULES and REDUNDANT say what each is worth. A number, and not an
 * #ifdef, so that one compiled search serves all of them: it reads the rule from its environment, and the bounds.
 */
#define NO_EXCLUSIVE          1 /* claim: of two that claim the same epoch one wins */
#define NO_UNKNOWN            2 /* a claim whose reply is lost counts as lost until the name says otherwise */
#define NO_CLAIM              3 /* every start is a claim, also of what is ours already */
#define NO_FENCE              4 /* after a claim everybody else is refused */
#define NO_GATE               5 /* before the vCPUs run the name and the engine are asked once more */
#define NO_STORED             6 /* the start's epoch is stored before the answer yes */
#define NO_KNOWN              7 /* only what this hostd started, or has let run before, may be resumed */
#define NO_KILL               8 /* before a start every QEMU of the instance that is left here is killed */
#define NO_EPOCH              9 /* gate: a QEMU runs at the name's epoch only */
#define NO_ADOPT_EPOCH       10 /* look: a QEMU of another epoch is not ours to keep */
#define NO_ENTRY_EPOCH       11 /* an entry is void once the name has moved on */
#define NO_PLACEMENT_EPOCH   12 /* so is a placement */
#define NO_ATTEMPT           13 /* commit: by the attempt in the QEMU's own lease */
#define NO_SOURCE            14 /* commit: from the entry's source only */
#define NO_DESTINATION       15 /* commit: by the entry's destination only */
#define NO_KEEP              16 /* an entry is never removed */
#define NO_RECHECK           17 /* the name is read again between the grant and libvirt's call */
#define NO_RECLAIM_GATE      18 /* a source that libvirt lets run on claims first */
#define NO_RECLAIM_LOOK      19 /* a source that runs on by itself claims at once */
#define NO_RESUME            20 /* a source that libvirt left paused is resumed */
#define NO_PLACED            21 /* an arrival is ended when a failover has placed the instance here */
#define NO_DRAIN             22 /* the source's writes are finished before the destination hears of the switchover */
#define NO_COMPLETED         23 /* libvirt tells the destination of success after COMPLETED only */
#define NO_FRESH_UID         24 /* a user of its own for each start, not one for each host */
#define NO_FRESH_GROUP       25 /* a group of its own for each attempt */
#define NO_GUARD             26 /* SETATTR is guarded by the change time */
#define NO_ONCE              27 /* SETATTR is never sent twice */
#define NO_OWN_UID           28 /* the owner is not set where it is right already */
#define NO_GROUP_RESET       29 /* the fence takes the group back */
#define NO_SERVER_ORDER      30 /* what the server let through before the fence's reply has landed by then */
#define NO_RAISE_COMPARE     31 /* raise: only if the gate's epoch is lower */
#define NO_REGISTER_COMPARE  32 /* register: only at the gate's epoch */
#define NO_REGISTER          33 /* who may write is recorded */
#define NO_DROP_LAST         34 /* a client's record goes only after it is on the blocklist */
#define NO_MAP               35 /* the fence waits for the new OSD map */
#define NO_PROOF             36 /* a dead client's record goes only on proof that nothing of it is on its way */
#define NO_SPARED            37 /* a commit does not wait for the source's blocklisting */
#define NO_IMAGE_LOCK        38 /* QEMU locks its image */
#define NO_SECOND_LOCK       39 /* the lock driver's second lock */
#define NO_LINK              40 /* a link of its own for each start, which follows the claims */
#define NO_UNRUN             41 /* a commit whose answer was lost is repeated only while nobody has been let run since */
#define NO_OWN_TRY           42 /* claim: e+1.me is a win only after an unanswered try of this claim, or asked again */
#define NO_RECORD_COMPARE    43 /* the record takes one start an epoch, and one with memory only on top of that memory's */
#define NO_START_UID         44 /* two starts at one epoch have two users */
#define NO_KEPT_UID          45 /* who brings memory takes the disk from the start whose memory it is, and nobody else */
#define NO_RAISE_START       46 /* raise: of two starts at one epoch the second has lost */
#define NO_REGISTER_START    47 /* register: only the start that has raised */
#define NO_IDENTITY          48 /* all of 42 to 47: what the protocol was before two hosts could have one number */

#define OFF(rule) (off == rule)

byte off;
int lines; /* bit n: line n of bounds() is searched; all in one search */

/* A replay by spin itself cannot run C, and has its rule compiled in. */
inline choose()
{
#ifdef RULE
        off = RULE; lines = LINES
#else
        c_code { now.off = atoi(getenv("RULE")); now.lines = atoi(getenv("LINES")); }
#endif
}
