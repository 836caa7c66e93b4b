/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "imaged/store/fs.h"

/*
 * A file system in memory that knows what is durable: names of a folder that was synced, content of a file
 * that was synced, sealed or put as durable. power_cut() takes the rest away. Faults are put in by the number of
 * the operation. One thread.
 */
enum power_fault {
        POWER_NONE,
        POWER_FAIL, /* not done, -EIO */
        POWER_FULL, /* not done, -ENOSPC, if it needs room */
        POWER_DROP, /* not done, -ETIMEDOUT */
        POWER_LOSE, /* done, -ETIMEDOUT */
        POWER_OFF,  /* not done, -EIO, as is every later one until power_cut() */
};

enum power_loss {
        LOSE_ALL,     /* names and content that nobody synced */
        LOSE_CONTENT, /* content only: the names happened to reach the disk by themselves */
};

struct fs *power_fs(void); /* the one there is; each test begins with power_reset() */
void power_reset(void);
/* What it says is free; none after power_reset(), so that no store makes a reserve of records' room. */
void power_room(uint64_t bytes);
/* The operation `number` from now on (0: the next) meets `fault`; POWER_NONE: none does. */
void power_aim(enum power_fault fault, unsigned number);
unsigned power_ops(void); /* operations since power_aim() */
void power_cut(enum power_loss what);
/* A file's or folder's owner and mode; -ENOENT. As SETATTR does it. */
int power_own(const char *path, int64_t uid, uint32_t gid, uint32_t mode);
/* What a reader would see; -ENOENT. Never a fault. */
int power_stat(const char *path, struct fs_attr *ret);
/* Names below a folder. -ENOENT. */
int power_count(const char *path);
/* Makes every file older by so many seconds. */
void power_age(int64_t seconds);
