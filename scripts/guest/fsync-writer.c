/* SPDX-License-Identifier: Apache-2.0 */
/* fsync-writer: a guest's witness that no acknowledged write is lost.
 *
 *   fsync-writer FILE [--count N] [--rate PER_SECOND] [--direct] [--report ADDRESS:PORT]
 *   fsync-writer --verify FILE
 *   fsync-writer --list FILE
 *
 * Appends records, numbered from 1, and prints a record's number only once the disk has acknowledged it:
 * whoever read the number may hold the disk to it. A second run goes on after the last whole record.
 * --report tells the same to a witness outside, in a UDP packet "HOST-NAME BOOT-ID NUMBER SUM" each, SUM
 * being the record's: two records of one number, written by two boots, differ in it.
 * --verify prints one line "records=N highest=H bad=B" and exits 0 when every record from 1 to H is there,
 * whole and in its place. --list does the same after a line "NUMBER SUM" for each of them.
 *
 * A record is 512 bytes, so that it is one sector and O_DIRECT takes it:
 *
 *   0    8  magic "WHERRYWR"
 *   8    8  number, little-endian, from 1
 *   16   8  microseconds since the writer's start, little-endian
 *   24  36  the writing kernel's boot id, as text
 *   60 444  filling that depends on the number
 *   504  8  FNV-1a 64 over bytes 0..503, little-endian
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define RECORD_SIZE 512
#define BOOT_AT 24
#define BOOT_LEN 36
#define FILLING_AT 60
#define SUM_AT 504
static const char MAGIC[8] = {'W', 'H', 'E', 'R', 'R', 'Y', 'W', 'R'};

struct options {
        const char *path;
        uint64_t count; /* 0: until it is ended */
        uint64_t rate;  /* records a second; 0: as fast as the disk acknowledges */
        bool direct, verify, list;
        struct sockaddr_in report; /* sin_family 0: nobody asked for it */
};

struct witness {
        int fd; /* -1: none */
        char name[65];
        char boot[BOOT_LEN + 1];
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

static void record_fill(uint8_t *record, uint64_t number, uint64_t us, const char *boot)
{
        memcpy(record, MAGIC, sizeof(MAGIC));
        put_le64(record + 8, number);
        put_le64(record + 16, us);
        memcpy(record + BOOT_AT, boot, BOOT_LEN);
        for (size_t i = FILLING_AT; i < SUM_AT; i++)
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
static int verify(const char *path, bool list)
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
                if (list && highest == slots)
                        printf("%" PRIu64 " %016" PRIx64 "\n", slots, get_le64(record + SUM_AT));
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

static int read_boot_id(char *ret)
{
        FILE *f = fopen("/proc/sys/kernel/random/boot_id", "re");
        size_t n = f ? fread(ret, 1, BOOT_LEN, f) : 0;

        if (f)
                fclose(f);
        ret[n] = '\0';
        return n == BOOT_LEN ? 0 : -ENODATA;
}

static int witness_init(struct witness *w, const struct options *o)
{
        int r = read_boot_id(w->boot);

        w->fd = -1;
        if (r < 0 || o->report.sin_family == 0)
                return r;
        if (gethostname(w->name, sizeof(w->name) - 1) < 0)
                return -errno;
        w->fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        return w->fd < 0 ? -errno : 0;
}

/* A packet that cannot be sent is lost like one that the network loses: the witness then knows of one record
 * less. */
static void witness_tell(const struct witness *w, const struct options *o, const uint8_t *record)
{
        char text[160];
        int n;

        if (w->fd < 0)
                return;
        n = snprintf(text, sizeof(text), "%s %s %" PRIu64 " %016" PRIx64, w->name, w->boot,
                     get_le64(record + 8), get_le64(record + SUM_AT));
        (void)!sendto(w->fd, text, (size_t)n, 0, (const struct sockaddr *)&o->report, sizeof(o->report));
}

static int append(int fd, uint8_t *record, uint64_t first, const struct options *o, const struct witness *w)
{
        uint64_t start = now_us();

        for (uint64_t i = 0; o->count == 0 || i < o->count; i++) {
                uint64_t number = first + i;
                ssize_t n;

                if (o->rate)
                        wait_turn(start, i, o->rate);
                record_fill(record, number, now_us() - start, w->boot);
                n = pwrite(fd, record, RECORD_SIZE, (off_t)((number - 1) * RECORD_SIZE));
                if (n != RECORD_SIZE)
                        return n < 0 ? -errno : -EIO;
                if (fsync(fd) < 0)
                        return -errno;
                witness_tell(w, o, record);
                if (printf("%" PRIu64 "\n", number) < 0 || fflush(stdout) != 0)
                        return -EPIPE;
        }
        return 0;
}

static int run_writer(const struct options *o)
{
        struct witness w;
        uint64_t have = 0;
        void *record = NULL;
        int fd, r;

        fd = open(o->path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
        r = fd < 0 ? -errno : witness_init(&w, o);
        if (r >= 0)
                r = count_valid(fd, &have);
        if (r >= 0 && o->direct && fcntl(fd, F_SETFL, O_DIRECT) < 0)
                r = -errno;
        if (r >= 0)
                r = -posix_memalign(&record, 4096, RECORD_SIZE);
        if (r >= 0)
                r = append(fd, record, have + 1, o, &w);
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

/* ADDRESS:PORT, IPv4 */
static bool parse_report(const char *text, struct sockaddr_in *ret)
{
        const char *colon = text ? strrchr(text, ':') : NULL;
        char address[INET_ADDRSTRLEN];
        uint64_t port;

        if (!colon || (size_t)(colon - text) >= sizeof(address) || !parse_number(colon + 1, &port) ||
            port == 0 || port > UINT16_MAX)
                return false;
        memcpy(address, text, (size_t)(colon - text));
        address[colon - text] = '\0';
        ret->sin_family = AF_INET;
        ret->sin_port = htons((uint16_t)port);
        return inet_pton(AF_INET, address, &ret->sin_addr) == 1;
}

static bool parse(int argc, char **argv, struct options *o)
{
        for (int i = 1; i < argc; i++) {
                if (strcmp(argv[i], "--verify") == 0)
                        o->verify = true;
                else if (strcmp(argv[i], "--list") == 0)
                        o->verify = o->list = true;
                else if (strcmp(argv[i], "--direct") == 0)
                        o->direct = true;
                else if (strcmp(argv[i], "--count") == 0 || strcmp(argv[i], "--rate") == 0) {
                        if (!parse_number(argv[i + 1], argv[i][2] == 'c' ? &o->count : &o->rate))
                                return false;
                        i++;
                } else if (strcmp(argv[i], "--report") == 0) {
                        if (!parse_report(argv[++i], &o->report))
                                return false;
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
                fprintf(stderr, "usage: fsync-writer FILE [--count N] [--rate PER_SECOND] [--direct] "
                                "[--report ADDRESS:PORT]\n"
                                "       fsync-writer --verify FILE\n"
                                "       fsync-writer --list FILE\n");
                return 2;
        }
        return o.verify ? verify(o.path, o.list) : run_writer(&o);
}
