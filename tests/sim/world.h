/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "common/http-server.h"
#include "common/machine.h"
#include "hostd/config.h"
#include "hostd/domain/domain.h"
#include "hostd/gate-socket.h"
#include "hostd/virt/virt.h"
#include "imaged/store/engine.h"
#include "tests/sim/schedule.h"

/*
 * The simulated world: hosts with a hostd (the real one), a libvirtd and QEMUs (models), one storage that
 * delays, loses and repeats as the seed says, and what is true about every disk, for the checks.
 */
#define HOSTS_MAX 1100
#define DISKS_MAX 512
#define CLIENTS_MAX 64

enum fence_kind { FENCE_NFS, FENCE_DIR, FENCE_RBD, FENCE_KIND_MAX };

/* Parts of the world that a test may break, to see that the checks notice. */
enum sim_break {
        BREAK_NOTHING,
        BREAK_FENCE,    /* the fence changes nothing */
        BREAK_GATE,     /* the lock driver lets everything run, and asks nobody */
        BREAK_CLAIM,    /* whoever claims wins, from whatever epoch */
        BREAK_CAS,      /* a record's compare-and-swap does not compare */
        BREAK_UID,      /* nfs: every start of an instance has the same user */
        BREAK_LOCK,     /* dir: neither QEMU's image lock nor the second lock */
        BREAK_SWITCH,   /* QEMU tells the destination "complete" though the source goes on */
        BREAK_TAKEOVER, /* the store's self-test fails: nobody is failed over */
        BREAK_PROOF, /* rbd: a fenced client counts as dead, whichever host is asked and whatever it says */
        BREAK_GRACE, /* rbd: it is let go as soon as it is known to be dead */
        BREAK_PLUG,  /* a guest that was cut off the network can be reached all the same */
        BREAK_ERRNO, /* three disk errors in a row count as the storage's refusal */
        BREAK_IDENTITY, /* any machine may join with a number, whoever lives with it */
        BREAK_RETURN,   /* after a loss of all power nobody waits for the others */
        BREAK_MAX
};

struct disk;

enum qemu_phase { QEMU_ALONE, QEMU_INCOMING };

struct qemu {
        struct qemu *next; /* of its host */
        struct host *host;
        struct disk *disk;
        struct proc *proc; /* its vCPUs and its requests */
        pid_t pid;
        struct domain_lease lease;
        enum qemu_phase phase;
        bool alive, running;
        bool ran;       /* its vCPUs have run */
        bool known;     /* to libvirtd */
        bool asked;     /* the gate has been asked whether it may run */
        bool asking;    /* libvirtd holds the domain's lock and waits for hostd */
        bool job;       /* a migration goes out */
        bool abort_job; /* asked to end it */
        bool completed; /* the outgoing migration sent everything: it never runs again by itself */
        bool writing;   /* a request is under way */
        bool second_lock, image_lock;
        bool off_asked; /* the power button was pressed */
        int64_t pressed_ns, ended_ns;
        bool off;                /* it ended because its guest powered off: libvirt's log says so */
        bool shut;               /* its tap passes nothing */
        int64_t beside_since_ns; /* since when it can be reached beside another guest; 0: it cannot */
        bool beside_cut;         /* while its host was cut off the storage */
        int64_t suspended_ns;    /* until when somebody has suspended it; 0: nobody has */
        char reason[32];
        uint64_t memory_n; /* the guest's own idea: the last block that it wrote */
        pid_t booted;      /* the QEMU in which this memory began */
};

/* What a Ceph cluster knows of a client that has opened the image. */
struct client {
        pid_t pid;
        uint64_t epoch;
        char start[UUID_LEN + 1];
        bool recorded, blocked;
        bool fenced;           /* was recorded until it was blocked */
        unsigned host;         /* that let it run */
        struct machine ran_on; /* as that host says */
};

/* On a directory: the symbolic link of one QEMU start, and the name that it leads to. */
#define LINKS_MAX 64
struct start_link {
        char start[UUID_LEN + 1];
        struct lease lease;
};

struct disk {
        char id[UUID_LEN + 1];
        /* nfs */
        uint32_t uid, gid;
        bool group_writes;
        uint64_t ctime;
        /* dir */
        struct qemu *image_locked, *second_locked;
        struct start_link links[LINKS_MAX]; /* the newest */
        size_t n_links;
        /* rbd */
        uint64_t gate_epoch;
        char gate_start[UUID_LEN + 1]; /* that raised it */
        struct client clients[CLIENTS_MAX];
        size_t n_clients;
        /* truth */
        uint64_t n;        /* the last block written */
        uint64_t acked;    /* the last one that a guest was told is on disk */
        pid_t session;     /* the QEMU that began to run last, of those that could write */
        pid_t last_booted; /* whose memory wrote it */
        bool deleted;      /* a user wants it gone */
        bool may_stop;     /* a user, or the guest itself, has wanted it off at some time */
        char name[16];
        /* moves, by their attempt: the last one that was let run at its destination; that was told failed */
        char arrived[UUID_LEN + 1], told_failed[UUID_LEN + 1];
        int64_t told_serial;
        int64_t restarts; /* the last one asked for that was acknowledged */
        int64_t progress_ns;
};

struct virt {
        struct host *host;
        virt_event_cb event;
        void *arg;
        struct virt_note *notes, **notes_end;
        unsigned long thread;
        bool stop, connected;
};

struct gate {
        struct host *host;
        gate_cb cb;
        void *arg;
        unsigned busy;
};

struct http_server {
        struct host *host;
        const struct http_route *routes;
        size_t n_routes;
        void *userdata;
        unsigned busy;
        bool stop;
};

struct host {
        unsigned number;
        unsigned boots;                                       /* how often it was switched on again */
        char name[16], hostname[16], listen[24], address[24]; /* name: of the story */
        struct config config;
        int64_t offset_ns; /* of its clock */
        uint64_t memory;   /* bytes, for guests and their QEMUs */
        char memory_text[24];
        bool powered;
        int64_t powered_ns; /* since when */
        bool said_dead;     /* by its record */
        int64_t
            late_ns; /* when it was last written by itself, and reached the storage after its loss of power */
        int64_t
            listed_since_ns; /* since when the record of its number names it, and says that it is up; 0: it does not */
        bool storage_cut, network_cut;
        bool uplink_cut; /* its guests' network, while hosts can still talk */
        /* what the checks of plug.c know; 0: it is not so */
        int64_t well_since_ns; /* its hostd can be asked */
        int64_t up_since_ns;   /* it has a hostd */
        int64_t cut_since_ns;  /* off the storage */
        bool cut_had_peer;     /* it had a peer in its list then that was up */
        /* hostd: NULL while there is none */
        struct proc *hostd;
        struct context *context;
        bool term;          /* it was asked to end */
        int64_t ending_ns;  /* since when it ends in order; 0: it does not */
        bool going_down;    /* the whole host was: no daemon is started again before it boots */
        int64_t stopped_ns; /* since when its record says that it ended in order; 0: it does not */
        int64_t restart_ns;
        struct virt *virt;
        struct gate *gate;
        struct http_server *http;
        /* libvirtd */
        struct proc *libvirtd;
        struct call *calls; /* that somebody waits for */
        int64_t libvirtd_again_ns;
        bool no_libvirtd; /* for good */
        struct qemu *qemus;
        /* what its hostd did to the storage */
        uint64_t operations, listed;
};

struct stats {
        uint64_t operations, writes, refused, starts, migrations, commits, failovers, faults, requests,
            lifts, again, shut, left;
};

/* One world in a process: what is wrapped and linked in place of the real thing knows no handle. */
struct world {
        uint64_t seed;
        bool verbose;
        enum sim_break broken;
        enum fence_kind kind;
        unsigned n_hosts;    /* numbers */
        unsigned n_machines; /* one more where two machines have the same name and number */
        struct host hosts[HOSTS_MAX];
        struct disk disks[DISKS_MAX];
        size_t n_disks;
        struct store *store; /* names and records: the memory engine */
        struct host outside; /* whoever is on none of them: users, imaged */
        struct proc *root;
        bool chaos;                /* faults have begun */
        bool quiet;                /* faults have stopped */
        bool full;                 /* the storage has no room for what guests write */
        unsigned drop, late, slow; /* of storage calls, per million */
        bool slow_lists;           /* a listing takes 1 to 3 s, also when the faults are over */
        unsigned stuck_beat;       /* nobody can read this host's heartbeat; 0: all can be read */
        int64_t faults_ns;         /* until when there are any */
        int64_t away_since_ns;     /* the storage is away for everybody; 0: it is not */
        int64_t was_away_since_ns; /* likewise, until BACK_NS after its return */
        int64_t back_ns;           /* its last return */
        bool site_lost;            /* every host was without power at one moment */
        int64_t site_back_ns;      /* when the first of them had power again; 0: not yet */
        unsigned n_instances;
        pid_t pids;
        unsigned held; /* while it is not 0 nothing else runs */
        struct stats stats;
        char violation[512];
};
extern struct world W;

void violated(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* A line of the story, with --verbose. */
void tell(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* wrap.c: between these nothing else runs */
void world_hold(void);
void world_release(void);
int64_t host_clock_ns(const struct host *h);

/* store.c */
void store_reset(void); /* an empty one */
/* As `h` sees it. */
struct store *sim_store_open(struct host *h, unsigned timeout_ms);
bool storage_reachable(const struct host *h);

/* disk.c */
struct disk *disk_of(const char *instance);
struct disk *disk_new(const char *instance, const char *name);
/* Would the storage take a write of this QEMU's? */
void disk_link(struct disk *d, const char *start, const struct lease *lease);
bool disk_link_holds(const struct disk *d, const struct qemu *q);
bool disk_writable(const struct disk *d, const struct qemu *q);
void disk_check(const struct disk *d);
/* The gate has said yes to a QEMU that a move brought. */
void disk_arrived(struct disk *d, const struct qemu *q);
/* A write reaches the storage: 0 or -EACCES. */
int disk_write(struct disk *d, struct qemu *q, uint64_t n);
/* The vCPUs begin to run, from the disk or with a memory that has come from elsewhere. */
void disk_begin(struct disk *d, struct qemu *q, bool boot);
void disk_open(struct disk *d, const struct qemu *q);
/* hostd ends a QEMU, for whatever reason. */
void disk_check_kill(const struct disk *d, const struct qemu *q);

/* qemu.c */
struct qemu *qemu_new(struct host *h, const char *xml, enum qemu_phase phase);
#define SIM_GUEST_MEMORY (1ULL << 30)                         /* of every instance; each has one core */
struct qemu *qemu_find(struct host *h, const char *instance); /* that libvirtd knows */
struct qemu *qemu_alive(pid_t pid);
void qemu_run(struct qemu *q, bool boot);
void qemu_stop(struct qemu *q, const char *reason);
void qemu_kill(struct qemu *q);
void qemu_guest(struct qemu *q);
void qemu_press(struct qemu *q); /* its power button */
/* Takes QEMU's lock of its image (dir). */
bool qemu_activate(struct qemu *q);

/* libvirt.c, libvirt-migrate.c: what one libvirtd does */
struct call {
        struct call *next;
        struct host *host;
        int (*run)(struct call *c);
        char *xml, instance[UUID_LEN + 1];
        unsigned to;
        bool done, abandoned;
        int result;
        struct err err;
};
void virt_note(struct host *h, enum virt_event_kind kind, const char *instance, const char *detail);
bool libvirt_may_run(struct qemu *q, struct proc *asker); /* asks the gate, and takes the second lock */
void libvirt_ask(struct qemu *q, enum gate_question question, int *ret, struct err *err);
int libvirt_migrate(struct call *c);
void libvirt_recover(struct host *h);
void libvirt_resume(struct qemu *q); /* as `virsh resume` asks for it; nobody waits */
void libvirtd_start(struct host *h);
void libvirtd_kill(struct host *h, bool forgets);

/* net.c */
bool hosts_connected(const struct host *a, const struct host *b);

/* host.c */
/* machine: from 1 on; its number as well, unless it is a clone. */
void host_init(unsigned machine, unsigned number, const char *store_url);
void host_power_on(struct host *h);
void host_power_off(struct host *h);
void host_go_down(struct host *h); /* `systemctl reboot` */
void hostd_start(struct host *h);
void hostd_kill(struct host *h);

/* chaos.c: what goes wrong, until W.faults_ns; then everything is mended */
void chaos_run(void *arg);
void suspenders_run(void *arg); /* who has suspended a guest lets it go on some time later */
void chaos_hint(struct host *h, unsigned one_in);

/* users.c: what people ask for, as imaged would write it, and imaged's own clearing up */
void users_run(void *arg);
void imaged_run(void *arg);
int instance_make(unsigned index, unsigned host); /* at once, and without faults */

/* plug.c: checks who can be reached from the network */
void plug_check_run(void *arg);

/* settled.c: whether every instance is as its record wants it, else what is missing */
bool world_settled(char *ret_why, size_t n);

/* world.c */
void world_new(uint64_t seed, unsigned n_hosts, unsigned n_instances);
/* One seed from beginning to end. False: W.violation says what went wrong. */
bool world_run(uint64_t seed, enum sim_break broken, bool verbose);
