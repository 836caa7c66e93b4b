/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/machine.h"
#include "common/util.h"

/*
 * The shared storage, the only source of truth: records, golden images, instance disks and who owns them.
 * Engines: "dir:PATH", "nfs://SERVER/EXPORT[/PATH]", "rbd:POOL[/NAMESPACE]", "mem:" (unit tests).
 *
 * A store may be used by many threads at once; every call blocks until the storage answered or the time
 * limit passed (then -ETIMEDOUT, which means UNKNOWN: neither done nor failed; look before acting on it).
 * Further error codes, the same in all engines: -ENOENT not there; -EEXIST there already; -ESTALE the
 * compare of a compare-and-swap, or a claim, was lost; -EACCES fenced or refused; -EBUSY in use; -ENOSPC
 * full; -EROFS; -EIO; -EINVAL bad argument.
 */
struct store;

struct store_options {
        const char *ceph_conf; /* rbd: NULL is /etc/ceph/ceph.conf */
        const char *ceph_user; /* rbd: NULL is "admin"; without "client." */
        const char *address; /* rbd: this host's address on the storage network, by which its QEMUs' clients
                                are told from others; NULL: the address of the store's own client */
        unsigned timeout_ms; /* of one storage operation; 0: 5000 */
        bool small;          /* rbd: all requests are small, so one thread for the network is enough */
};

int store_open(const char *url, const struct store_options *options, struct store **ret, struct err *err);
struct store *store_close(struct store *s); /* returns NULL; no call may be running */
const char *store_url(const struct store *s);
const char *store_engine(const struct store *s); /* "dir", "nfs", "rbd", "mem" */

/* Bytes in all and still free; 0 and 0 where the storage does not say. */
int store_space(struct store *s, uint64_t *ret_total, uint64_t *ret_free, struct err *err);

/*
 * Whether there is room for what guests write. STORE_FULL: their writes fail; STORE_FULL_WAITS: they get no
 * answer until there is room (rbd). Negative: not known.
 */
enum store_room { STORE_ROOM, STORE_FULL, STORE_FULL_WAITS };
int store_room(struct store *s, struct err *err);

/* Makes the folders, objects and settings that an empty store needs; harmless on one that has them. */
int store_prepare(struct store *s, struct err *err);
/* Now and then: keeps the room that changes of records have once the storage is full (dir, nfs). */
int store_upkeep(struct store *s, struct err *err);

/* Proves on scratch objects that a take-over stops the previous writer. Returns 1: it does; 0: it does not,
 * and err says in one sentence why and what to change; negative: could not be tried. */
int store_selftest(struct store *s, struct err *err);

/*
 * How the storage is set up, where that may go wrong without the self-test noticing it: each finding says in
 * plain words what was found and what to do. many_machines: the hosts that use this store run on more than
 * one machine. Strings are borrowed; cb returns 0, or a value that ends it and is returned.
 */
struct store_finding {
        const char *code; /* "local-locks", "privileged-port", "exclusive-lock", "old-clients", "no-lift" */
        const char *text, *advice;
};
typedef int (*store_finding_cb)(void *arg, const struct store_finding *f);
int store_diagnose(struct store *s, bool many_machines, store_finding_cb cb, void *arg, struct err *err);

/* The same for what is wrong with the rights of this user, if it is a host's: imaged's needs fewer. */
int store_diagnose_host(struct store *s, store_finding_cb cb, void *arg, struct err *err);

/* The key with which QEMU opens the disks (rbd: cephx, base64), for libvirt's secret. -EOPNOTSUPP: none is
 * needed. The caller wipes and frees *ret; it must never reach a log or a file. */
int store_secret(struct store *s, char **ret, struct err *err);

/* --- records: small JSON documents, at most 256 KiB, changed by compare-and-swap only
 * --------------------------- */

enum record_kind {
        RECORD_IMAGE,
        RECORD_INSTANCE,
        RECORD_HOST,
        RECORD_NETWORK,
        RECORD_ACCOUNT,
        RECORD_EVENT,
        RECORD_MANIFEST,
        RECORD_KIND_MAX
};
const char *record_kind_name(enum record_kind k);

/* The newest version; the caller frees *ret_text. -ENOENT: never was, or deleted. */
int record_get(struct store *s, enum record_kind kind, const char *id, char **ret_text,
               uint64_t *ret_version, struct err *err);

/*
 * Writes `text` if the newest version is still `expected` (0: there must be none, or a deleted one), durable
 * when it returns. text NULL deletes. -ESTALE: another was first. -ETIMEDOUT: unknown. A reply that got lost
 * is found out, not repeated. id: 1 to 64 characters of [A-Za-z0-9_-].
 */
int record_put(struct store *s, enum record_kind kind, const char *id, uint64_t expected, const char *text,
               uint64_t *ret_version, struct err *err);

/* Every record of a kind, in no order. cb returns 0, or a value that ends the list and is returned. `text`
 * is borrowed. The store keeps texts by version in memory (bounded), so that a second list reads only what
 * changed. */
typedef int (*record_cb)(void *arg, const char *id, uint64_t version, const char *text);
int record_list(struct store *s, enum record_kind kind, record_cb cb, void *arg, struct err *err);

/* A host's heartbeat: one counter, overwritten in place. read: -ENOENT where that host never wrote one. */
int beat_write(struct store *s, unsigned host, uint64_t counter, struct err *err);
int beat_read(struct store *s, unsigned host, uint64_t *ret_counter, struct err *err);

/* --- golden images: raw and sparse, written once, then read-only
 * ------------------------------------------------- */

struct volume; /* one thread at a time, but for volume_write() */

/* A new image being written, invisible until sealed. -EEXIST when that id is sealed; an unsealed left-over
 * is replaced. size: bytes; holes are what is never written. */
int volume_create(struct store *s, const char *image, uint64_t size, struct volume **ret, struct err *err);
/* Several threads may write one volume at once, each its own bytes; beside them no other call. */
int volume_write(struct volume *v, const void *buf, size_t len, uint64_t offset, struct err *err);
/* Before the seal, where the size was not known at first. Bytes, as for volume_create(). */
int volume_resize(struct volume *v, uint64_t size, struct err *err);
/* Durable and read-only from here on; may be repeated. The handle then reads. */
int volume_seal(struct volume *v, struct err *err);

/*
 * What a writer that is gone left unsealed, with all that it wrote. take: it is ours from here on, to be
 * written and sealed as after volume_create(); else only to be read. Should that writer not be gone after
 * all, it cannot take the volume away any more, but a write that it had begun may still land: so only who
 * writes the same bytes goes on with it, and who seals asks its record first. -ENOENT: there is none.
 */
int volume_resume(struct store *s, const char *image, bool take, struct volume **ret, struct err *err);

int volume_open(struct store *s, const char *image, struct volume **ret,
                struct err *err); /* sealed images only */
int volume_read(struct volume *v, void *buf, size_t len, uint64_t offset, struct err *err);
uint64_t volume_size(const struct volume *v);
struct volume *volume_close(struct volume *v); /* an unsealed one is removed; returns NULL */
/* As volume_close(), but an unsealed one stays as a writer's death would leave it. */
struct volume *volume_leave(struct volume *v);

/* A URL by which OpenStack's other services clone a sealed image without copying it,
 * "rbd://FSID/POOL/IMAGE/SNAPSHOT"; the caller frees it. -EOPNOTSUPP: the engine has none. */
int volume_location(struct store *s, const char *image, char **ret, struct err *err);

/* Removes a sealed image or an unsealed left-over. -EBUSY with the number of disks where the engine knows
 * that some use it; -ENOENT is fine to ignore. */
int volume_remove(struct store *s, const char *image, struct err *err);

/* --- volumes of others: what lies on the same storage and is not the store's
 * --------------------------------------------------------------------------------------- */

/*
 * One of them for reading, to make an image of it. name: on dir and nfs a path below the folder "import" of
 * the store, on which no link is followed; on RBD "[POOL/[NAMESPACE/]]IMAGE[@SNAPSHOT]" of the same cluster,
 * in the store's own pool and namespace where none is named. What the store keeps itself cannot be named:
 * -EINVAL. -EBUSY: somebody has it open for writing (where the engine can tell: dir, and RBD without a
 * snapshot). Nothing is ever written to it. One thread at a time.
 */
struct foreign;
int foreign_open(struct store *s, const char *name, struct foreign **ret, struct err *err);
uint64_t foreign_size(const struct foreign *f); /* bytes */
int foreign_read(struct foreign *f, void *buf, size_t len, uint64_t offset, struct err *err);
/* How many bytes from offset (below its size) on are known to be zeros; 0: not known. */
uint64_t foreign_hole(struct foreign *f, uint64_t offset);
/* 0: it is what it was when it was opened, and nobody has it open for writing now. Who has read asks this
 * last: before that nothing that was read counts. -ESTALE: it was changed or removed; -EBUSY. */
int foreign_unchanged(struct foreign *f, struct err *err);
struct foreign *foreign_close(struct foreign *f); /* returns NULL */

/* --- instance disks and their ownership: see docs/architecture.md
 * ----------------------------------------------- */

/* Who owns an instance's disks: read from the name `<instance>.e<epoch>.h<host>`. host 0 is nobody. */
struct lease {
        uint64_t epoch;
        unsigned host;
};

struct disk_spec {
        const char *name;  /* "disk0", "seed": [a-z0-9], at most 15; the first one carries the name on RBD */
        const char *image; /* id of the golden image to copy on write, or NULL: empty */
        uint64_t size;     /* bytes, a multiple of 512, at least the image's; ignored with content */
        const void *content; /* a small read-only disk (the seed ISO), or NULL */
        size_t n_content;
};

/*
 * One start of one QEMU: what the storage knows it by. Kept in the domain's XML and in the instance record,
 * so that a hostd that was restarted finds it again.
 */
struct start {
        char id[UUID_LEN + 1]; /* random; dir: the name of this start's symbolic link */
        uint32_t uid, gid; /* nfs: this start's own user, and for a migration's destination its own group */
};
/*
 * A new start. attempt NULL: a first start or restart at `epoch`. Else: the destination's QEMU of that
 * migration attempt. taken: users that it must not get, because an earlier start of this instance has them:
 * those of the record's `start` and of its migration entry.
 */
void start_init(struct start *ret, const char *instance, uint64_t epoch, const char *attempt,
                const uint32_t *taken, size_t n_taken);

/* How QEMU is to open one disk; filled by lease_attach(). */
enum attach_kind { ATTACH_FILE, ATTACH_NFS, ATTACH_RBD };
struct attach {
        enum attach_kind kind;
        char path[512];    /* file: absolute path; nfs: path with the export; rbd: "pool/image" or
                              "pool/namespace/image" */
        char server[512];  /* nfs: server; rbd: monitors "host:port,host:port" */
        uint32_t uid, gid; /* nfs */
        bool qcow2;        /* else raw */
        bool read_only;
        bool has_backing; /* then: a raw file of the same kind and server */
        char backing_path[512];
        uint32_t backing_uid, backing_gid;
};

/* Makes all disks of an instance at epoch 0, owned by nobody; durable, all or nothing. -EEXIST: the instance
 * has disks. */
int lease_create(struct store *s, const char *instance, const struct disk_spec *disks, size_t n_disks,
                 struct err *err);
/* Reads the name. -ENOENT: no such disks. Two names (a crash inside a claim) are resolved as docs/ownership.md says.
 */
int lease_find(struct store *s, const char *instance, struct lease *ret, struct err *err);
/* Every instance's lease. cb as in record_list. */
typedef int (*lease_cb)(void *arg, const char *instance, const struct lease *lease);
int lease_list(struct store *s, lease_cb cb, void *arg, struct err *err);

/*
 * The atomic rename from → {from.epoch + 1, host}. -ESTALE: lost. -ETIMEDOUT: unknown, look. If the rename
 * of this very call got no answer and the new name is there, the claim is won. If it was answered "not
 * there", it is lost even then: another process with this host's number has won, or an earlier call. again:
 * the lock driver asks AGAIN, so a hostd of this host that is dead may have won: then the new name is a win.
 */
int lease_claim(struct store *s, const char *instance, const struct lease *from, unsigned host, bool again,
                struct lease *ret, struct err *err);
/*
 * Makes the storage refuse every write but that of `start`, for all disks; returns when it is in force. Only
 * for the owner, and for a start from the disk: a guest that brings its memory along uses lease_commit().
 * -EEXIST (nfs): the disks belong to that user already, so it is another start's; draw a new one.
 */
int lease_fence(struct store *s, const char *instance, const struct lease *mine, const struct start *start,
                const struct disk_spec *disks, size_t n_disks, struct err *err);
/* Lets the QEMU of `destination` open the disks beside the owner's, until the next fence. */
int lease_grant(struct store *s, const char *instance, const struct lease *mine,
                const struct start *destination, const struct disk_spec *disks, size_t n_disks,
                struct err *err);
/* The last look before vCPUs run: 0 the name is still mine, and (rbd) this start's client is registered at
 * this epoch. -EACCES: no longer. */
int lease_gate(struct store *s, const char *instance, const struct lease *mine, const struct start *start,
               const struct disk_spec *disks, size_t n_disks, struct err *err);
/*
 * Does the storage take the writes of that start's QEMU? Asked of the storage itself, with no write. 0: it
 * does, there being room or not. -EACCES: it refuses this start, or the name is no longer `mine`. -EROFS:
 * the disks are this start's, and the storage takes nobody's writes. Any error but -EACCES: not known.
 */
int lease_may_write(struct store *s, const char *instance, const struct lease *mine,
                    const struct start *start, const struct disk_spec *disks, size_t n_disks,
                    struct err *err);
/*
 * lease_claim(), fence and lease_gate() in one, for a guest that brings its memory along: an arrival, or a
 * source that runs on. `last`: the start that was let run last, says the record; it is the source's, and for
 * a source that runs on `start` itself. -ESTALE: the claim is lost, or another start has fenced since
 * `last`. Failed: the claim may have been won all the same.
 */
struct commit_claim {
        struct lease from;
        unsigned host; /* that claims */
        bool again;    /* as for lease_claim() */
        const struct start *last, *start;
};
int lease_commit(struct store *s, const char *instance, const struct commit_claim *c,
                 const struct disk_spec *disks, size_t n_disks, struct lease *ret, struct err *err);
/* Fills ret[n_disks]; `lease` is what the name is now (a migration's destination opens under the source's).
 */
int lease_attach(struct store *s, const char *instance, const struct lease *lease, const struct start *start,
                 const struct disk_spec *disks, size_t n_disks, struct attach *ret, struct err *err);
/* A golden image as a read-only disk (an installer's ISO). */
int volume_attach(struct store *s, const char *image, struct attach *ret, struct err *err);
/* The path for the lock driver's second lock (dir), or "/dev/null" where the engine needs none. Caller
 * frees. */
int lease_lock_path(struct store *s, const char *instance, char **ret, struct err *err);
/* That QEMU is gone: drop what was kept for it (dir: its link). Never fails loudly. */
void start_forget(struct store *s, const char *instance, const struct start *start);
/*
 * What earlier fences of an instance left on the storage's list of those it refuses (rbd: an entry of Ceph's
 * blocklist for each client), where it is known whose it was. -EOPNOTSUPP: the engine has no such list. cb
 * returns 0, or a value that ends it and is returned; `client` is borrowed.
 */
struct fenced_client {
        char address[64];
        char start[UUID_LEN + 1]; /* of the QEMU */
        uint64_t epoch;           /* at which it was let run */
        unsigned host;            /* that let it run */
        struct machine ran_on;
};
typedef int (*fenced_cb)(void *arg, const struct fenced_client *client);
int lease_fenced(struct store *s, const char *instance, fenced_cb cb, void *arg, struct err *err);
/* Takes that client off the list: ONLY for who has proof that its process is dead, and has waited since for
 * what it may have left under way (migrate/lift.h). May be repeated. -EPERM: this user may not. */
int lease_lift(struct store *s, const char *instance, const struct fenced_client *client, struct err *err);
/*
 * One disk of an instance for reading, for who knows that nobody runs it: that is so while the name stays
 * the same, since every run is a claim. So who has read asks lease_find() once more, and what was read
 * counts only if the lease is still `lease`. -ESTALE: it is another one already; -EBUSY: a QEMU has it open
 * for writing (where the engine can tell). One thread at a time.
 */
struct disk_reader;
int disk_reader_open(struct store *s, const char *instance, const struct lease *lease,
                     const struct disk_spec *disk /* the first one */, struct disk_reader **ret,
                     struct err *err);
uint64_t disk_reader_size(const struct disk_reader *d); /* bytes of what is read */
/* They are those of a qcow2 overlay, as qcow2_overlay() made it over `ret_backing` (NULL: over nothing;
 * borrowed); else the guest's own. */
bool disk_reader_qcow2(const struct disk_reader *d, const char **ret_backing);
int disk_reader_read(struct disk_reader *d, void *buf, size_t len, uint64_t offset, struct err *err);
struct disk_reader *disk_reader_close(struct disk_reader *d); /* returns NULL */
/* Removes all disks; only for the owner of `mine` (or host 0). May be repeated. */
int lease_remove(struct store *s, const char *instance, const struct lease *mine,
                 const struct disk_spec *disks, size_t n_disks, struct err *err);
