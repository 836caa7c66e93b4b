/* SPDX-License-Identifier: Apache-2.0 */
/* fsync-writer: a guest's witness that no acknowledged write is lost.
 *
 *   fsync-writer FILE [--count N] [--rate PER_SECOND] [--direct]
 *   fsync-writer --verify FILE
 *
 * Appends records, numbered from 1, and prints a record's number only once the disk has acknowledged it:
 * whoever read the number may hold the disk to it. A second run goes on after the last whole record.
 * --verify prints one line "records=N highest=H bad=B" and exits 0 when every record from 1 to H is there,
 * whole and in its place.
 *
 * A record is 512 bytes, so that it is one sector and O_DIRECT takes it:
 *
 *   0    8  magic "WHERRYWR"
 *   8    8  number, little-endian, from 1
 *   16   8  microseconds since the writer's start, little-endian
 *   24 480  filling that depends on the number
 *   504  8  FNV-1a 64 over bytes 0..503, little-endian
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define RECORD_SIZE 512
#define SUM_AT 504
static const char MAGIC[8] = {'W', 'H', 'E', 'R', 'R', 'Y', 'W', 'R'};

struct options {
        const char *path;
        uint64_t count; /* 0: until it is ended */
        uint64_t rate;  /* records a second; 0: as fast as the disk acknowledges */
        bool direct, verify;
};

static void put_le64(uint8_t *p, uint64_t v)
{
        for (int i = 0; i < 8; i++)
                p[i] = (uint8_t)(v >> (8 * i));
}

static uint64_t get_le64(const uint8_t *p)
{
        uint64_t v = 0;

        for (int i = 0; i < 8; i++)
                v |= (uint64_t)p[i] << (8 * i);
        return v;
}

static uint64_t record_sum(const uint8_t *record)
{
        uint64_t h = UINT64_C(0xcbf29ce484222325);

        for (size_t i = 0; i < SUM_AT; i++)
                h = (h ^ record[i]) * UINT64_C(0x100000001b3);
        return h;
}

static uint64_t now_us(void)
{
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static void record_fill(uint8_t *record, uint64_t number, uint64_t us)
{
        memcpy(record, MAGIC, sizeof(MAGIC));
        put_le64(record + 8, number);
        put_le64(record + 16, us);
        for (size_t i = 24; i < SUM_AT; i++)
                record[i] = (uint8_t)(number * 31 + i);
        put_le64(record + SUM_AT, record_sum(record));
}

static bool record_valid(const uint8_t *record, uint64_t number)
{
        return memcmp(record, MAGIC, sizeof(MAGIC)) == 0 && get_le64(record + 8) == number &&
               get_le64(record + SUM_AT) == record_sum(record);
}

/* The file's place of each record is fixed by its number, so a gap shows as a record that is not valid where
 * it should be. */
static int verify(const char *path)
{
        uint8_t record[RECORD_SIZE];
        uint64_t slots = 0, highest = 0, bad = 0;
        FILE *f = fopen(path, "re");

        if (!f) {
                fprintf(stderr, "fsync-writer: %s: %s\n", path, strerror(errno));
                return 1;
        }
        while (fread(record, 1, RECORD_SIZE, f) == RECORD_SIZE) {
                slots++;
                if (!record_valid(record, slots))
                        bad++;
                else if (bad == 0)
                        highest = slots;
        }
        fclose(f);
        printf("records=%" PRIu64 " highest=%" PRIu64 " bad=%" PRIu64 "\n", slots, highest, bad);
        return bad == 0 ? 0 : 1;
}

/* The number of whole records at the file's start; what follows them is a torn write of a run that died and
 * is written again. */
static int count_valid(int fd, uint64_t *ret)
{
        uint8_t record[RECORD_SIZE];
        uint64_t n = 0;

        while (pread(fd, record, RECORD_SIZE, (off_t)(n * RECORD_SIZE)) == RECORD_SIZE &&
               record_valid(record, n + 1))
                n++;
        *ret = n;
        return ftruncate(fd, (off_t)(n * RECORD_SIZE)) < 0 ? -errno : 0;
}

/* Waits until the record's turn on a fixed timetable, so that a slow write does not shift all later ones. */
static void wait_turn(uint64_t start, uint64_t index, uint64_t rate)
{
        uint64_t due = start + index * 1000000 / rate;
        struct timespec t = {.tv_sec = (time_t)(due / 1000000), .tv_nsec = (long)(due % 1000000) * 1000};

        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
                ;
}

static int append(int fd, uint8_t *record, uint64_t first, const struct options *o)
{
        uint64_t start = now_us();

        for (uint64_t i = 0; o->count == 0 || i < o->count; i++) {
                uint64_t number = first + i;
                ssize_t n;

                if (o->rate)
                        wait_turn(start, i, o->rate);
                record_fill(record, number, now_us() - start);
                n = pwrite(fd, record, RECORD_SIZE, (off_t)((number - 1) * RECORD_SIZE));
                if (n != RECORD_SIZE)
                        return n < 0 ? -errno : -EIO;
                if (fsync(fd) < 0)
                        return -errno;
                if (printf("%" PRIu64 "\n", number) < 0 || fflush(stdout) != 0)
                        return -EPIPE;
        }
        return 0;
}

static int run_writer(const struct options *o)
{
        uint64_t have = 0;
        void *record = NULL;
        int fd, r;

        fd = open(o->path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
        r = fd < 0 ? -errno : count_valid(fd, &have);
        if (r >= 0 && o->direct && fcntl(fd, F_SETFL, O_DIRECT) < 0)
                r = -errno;
        if (r >= 0)
                r = -posix_memalign(&record, 4096, RECORD_SIZE);
        if (r >= 0)
                r = append(fd, record, have + 1, o);
        if (r < 0)
                fprintf(stderr, "fsync-writer: %s: %s\n", o->path, strerror(-r));
        free(record);
        if (fd >= 0)
                close(fd);
        return r < 0 ? 1 : 0;
}

static bool parse_number(const char *text, uint64_t *ret)
{
        char *end = NULL;

        if (!text || *text < '0' || *text > '9')
                return false;
        errno = 0;
        *ret = strtoull(text, &end, 10);
        return errno == 0 && *end == '\0';
}

static bool parse(int argc, char **argv, struct options *o)
{
        for (int i = 1; i < argc; i++) {
                if (strcmp(argv[i], "--verify") == 0)
                        o->verify = true;
                else if (strcmp(argv[i], "--direct") == 0)
                        o->direct = true;
                else if (strcmp(argv[i], "--count") == 0 || strcmp(argv[i], "--rate") == 0) {
                        if (!parse_number(argv[i + 1], argv[i][2] == 'c' ? &o->count : &o->rate))
                                return false;
                        i++;
                } else if (argv[i][0] != '-' && !o->path)
                        o->path = argv[i];
                else
                        return false;
        }
        return o->path != NULL;
}

int main(int argc, char **argv)
{
        struct options o = {0};

        if (!parse(argc, argv, &o)) {
                fprintf(stderr, "usage: fsync-writer FILE [--count N] [--rate PER_SECOND] [--direct]\n"
                                "       fsync-writer --verify FILE\n");
                return 2;
        }
        return o.verify ? verify(o.path) : run_writer(&o);
}
