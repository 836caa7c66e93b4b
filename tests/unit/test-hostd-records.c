/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/json.h"
#include "hostd/guests/guest.h"
#include "hostd/guests/admission.h"
#include "hostd/guests/table.h"
#include "hostd/ring/ring.h"
#include "hostd/self.h"
#include "hostd/survey.h"
#include "migrate/admission.h"
#include "migrate/failover.h"

/* What hostd reads from records and writes into them, on the memory engine. */

#define ONE "11111111-1111-4111-8111-111111111111"
#define TWO "22222222-2222-4222-8222-222222222222"

static void put(struct store *s, enum record_kind kind, const char *id, const char *fmt, ...)
{
        char text[2048];
        uint64_t version = 0;
        va_list ap;

        va_start(ap, fmt);
        vsnprintf(text, sizeof(text), fmt, ap);
        va_end(ap);
        assert_int_equal(record_put(s, kind, id, 0, text, &version, NULL), 0);
}

static void instance(struct store *s, const char *id, const char *more)
{
        const struct disk_spec disk = {.name = "disk0", .size = 1 << 20};

        put(s, RECORD_INSTANCE, id,
            "{\"id\":\"%s\",\"name\":\"%.4s\",\"owner\":\"ann\",\"wanted\":\"running\",\"cpus\":1,"
            "\"memory\":"
            "1048576,\"disk\":1048576%s}",
            id, id, more);
        assert_int_equal(lease_create(s, id, &disk, 1, NULL), 0);
}

static void claim(struct store *s, const char *id, unsigned host)
{
        struct lease l;

        assert_int_equal(lease_find(s, id, &l, NULL), 0);
        assert_int_equal(lease_claim(s, id, &l, host, false, &l, NULL), 0);
}

static int setup(void **state)
{
        struct context *ctx = calloc(1, sizeof(*ctx));

        assert_int_equal(store_open("mem:", NULL, &ctx->store, NULL), 0);
        assert_int_equal(store_prepare(ctx->store, NULL), 0);
        ctx->number = 2;
        *state = ctx;
        return 0;
}

static int teardown(void **state)
{
        struct context *ctx = *state;

        store_close(ctx->store);
        free(ctx);
        return 0;
}

static bool due(const char *placement, uint64_t start_epoch, uint64_t epoch, unsigned host)
{
        struct guest_look l = {.record = true, .lease = {.epoch = epoch, .host = host}};
        char *text =
            str_printf("{\"id\":\"%s\",\"wanted\":\"running\",\"cpus\":1,\"memory\":1,\"placement\":%s,"
                       "\"start\":{\"epoch\":%llu}}",
                       ONE, placement, (unsigned long long)start_epoch);
        json_t *doc = NULL;
        bool ret;

        assert_int_equal(json_parse(text, "test", &doc, NULL), 0);
        assert_int_equal(instance_from_json(doc, &l.instance, NULL), 0);
        ret = guest_failover(&l) != NULL;
        guest_look_done(&l);
        free(text);
        return ret;
}

static void a_failover_is_due_until_its_guest_has_run(void **state)
{
        const char *placed = "{\"host\":2,\"epoch\":4,\"failover\":{\"from\":1}}";

        assert_true(due(placed, 4, 4, 1));  /* named, not claimed */
        assert_true(due(placed, 4, 5, 2));  /* claimed, and hostd was killed or the start failed */
        assert_true(due(placed, 4, 6, 2));  /* twice */
        assert_false(due(placed, 5, 5, 2)); /* it has run */
        assert_false(due(placed, 4, 5, 3)); /* another host has it */
        assert_false(due("{\"host\":2,\"epoch\":4}", 4, 4, 1)); /* a user's wish */
}

static json_t *receipts(struct context *ctx)
{
        json_t *doc = NULL, *list;

        assert_int_equal(record_load(ctx->store, RECORD_INSTANCE, ONE, &doc, NULL, NULL), 0);
        list = json_incref(json_object_get(doc, "receipts"));
        json_decref(doc);
        return list;
}

static void start(struct context *ctx, bool failover, uint64_t epoch)
{
        const struct start_phases phases = {
            .failover = failover, .claim_ms = 5, .fence_ms = 7, .fence_since = "2026-01-31T12:00:00.000Z"};
        const struct lease mine = {.epoch = epoch, .host = 2};
        struct instance i;
        struct start st;

        assert_int_equal(instance_load(ctx->store, ONE, &i, NULL), 0);
        start_init(&st, ONE, epoch, NULL, NULL, 0);
        assert_int_equal(guest_record_start(ctx, &i, &st, &mine, true, &phases, NULL), 0);
        instance_done(&i);
}

static int set_stopped(json_t *doc, void *arg, struct err *err)
{
        json_object_set_new(doc, "wanted", json_string("stopped"));
        return 1;
}

/* What was loaded is only where a change begins: nobody else's change is undone by it. */
static void a_change_keeps_what_others_have_written_since(void **state)
{
        struct context *ctx = *state;
        const struct lease mine = {.epoch = 3, .host = 2};
        struct instance before, after;
        struct start st;

        instance(ctx->store, ONE, "");
        assert_int_equal(instance_load(ctx->store, ONE, &before, NULL), 0);
        assert_int_equal(record_change(ctx->store, RECORD_INSTANCE, ONE, set_stopped, NULL, NULL), 0);
        start_init(&st, ONE, 3, NULL, NULL, 0);
        assert_int_equal(guest_record_start(ctx, &before, &st, &mine, true, NULL, NULL), 0);
        assert_int_equal(instance_load(ctx->store, ONE, &after, NULL), 0);
        assert_int_equal(after.wanted, WANTED_STOPPED);
        assert_string_equal(after.start.id, st.id);
        assert_int_equal(after.version, before.version + 2);
        /* Nobody has written since: one write. */
        assert_int_equal(guest_record_start(ctx, &after, &st, &mine, true, NULL, NULL), 0);
        assert_string_equal(before.state, ""); /* what was loaded stays as it is */
        instance_done(&before);
        instance_done(&after);
}

/* Two hosts with one number: whoever comes second is told no, whatever the engine let through. */
static void of_two_starts_the_record_takes_one(void **state)
{
        struct context *ctx = *state;
        const struct lease mine = {.epoch = 7, .host = 2}, next = {.epoch = 8, .host = 2};
        struct instance before, after;
        struct start p, q, b;

        instance(ctx->store, ONE, "");
        assert_int_equal(instance_load(ctx->store, ONE, &before, NULL), 0);
        start_init(&p, ONE, 7, NULL, NULL, 0);
        start_init(&q, ONE, 7, NULL, NULL, 0);
        start_init(&b, ONE, 7, "attempt", NULL, 0);
        assert_int_equal(guest_record_start(ctx, &before, &p, &mine, true, NULL, NULL), 0);
        assert_int_equal(guest_record_start(ctx, &before, &q, &mine, true, NULL, NULL), -EACCES);
        assert_int_equal(guest_record_start(ctx, &before, &p, &mine, true, NULL, NULL), 0);
        assert_int_equal(instance_load(ctx->store, ONE, &after, NULL), 0);
        assert_string_equal(after.start.id, p.id);
        /* q runs from the disk at the next epoch; b has p's memory, and p is on the way to run on. */
        assert_int_equal(guest_record_start(ctx, &after, &q, &next, true, NULL, NULL), 0);
        assert_int_equal(guest_record_start(ctx, &after, &b, &next, false, NULL, NULL), -EACCES);
        assert_int_equal(
            guest_record_start(ctx, &after, &p, &(struct lease){.epoch = 9, .host = 2}, false, NULL, NULL),
            -EACCES);
        instance_done(&before);
        instance_done(&after);
}

static void the_start_of_a_failover_writes_its_receipt(void **state)
{
        struct context *ctx = *state;
        json_t *list, *last;

        instance(ctx->store, ONE,
                 ",\"placement\":{\"host\":2,\"epoch\":4,\"failover\":{\"from\":1,\"by\":3,\"last_beat\":"
                 "\"2026-01-31T11:59:57.000Z\",\"last_beat_ms\":2100,\"detect_ms\":2100,\"plan_ms\":30,"
                 "\"tries\":1,\"tried\":[3]}}");
        start(ctx, false, 4); /* the placement was void: an ordinary start */
        assert_null(receipts(ctx));
        start(ctx, true, 5);
        list = receipts(ctx);
        assert_int_equal(json_array_size(list), 1);
        last = json_array_get(list, 0);
        assert_int_equal(json_get_int(last, "from", 0), 1);
        assert_int_equal(json_get_int(last, "to", 0), 2);
        assert_int_equal(json_get_int(last, "by", 0), 3);
        assert_int_equal(json_get_int(last, "epoch", 0), 5);
        assert_int_equal(json_get_int(last, "tries", 0), 1);
        assert_string_equal(json_get_str(last, "last_beat", ""), "2026-01-31T11:59:57.000Z");
        assert_string_equal(json_get_str(last, "fence_since", ""), "2026-01-31T12:00:00.000Z");
        assert_int_equal(strlen(json_get_str(last, "start", "")), UUID_LEN);
        assert_int_equal(json_integer_value(json_path(last, "phases.detect_ms")), 2100);
        assert_int_equal(json_integer_value(json_path(last, "phases.claim_ms")), 5);
        assert_int_equal(json_integer_value(json_path(last, "phases.fence_ms")), 7);
        assert_int_equal(json_integer_value(json_array_get(json_object_get(last, "tried"), 0)), 3);
        json_decref(list);
        for (uint64_t epoch = 6; epoch < 26; epoch++)
                start(ctx, true, epoch);
        list = receipts(ctx);
        assert_int_equal(json_array_size(list), 16);
        json_decref(list);
}

static void host(struct store *s, unsigned number, const char *more)
{
        char id[12];

        snprintf(id, sizeof(id), "%u", number);
        put(s, RECORD_HOST, id,
            "{\"id\":\"%u\",\"number\":%u,\"name\":\"h%u\",\"state\":\"up\",\"epoch\":1,\"cpus\":4,"
            "\"memory\":"
            "8388608%s}",
            number, number, number, more);
}

static void a_survey_tells_hosts_groups_and_what_is_used(void **state)
{
        struct context *ctx = *state;
        struct failover_seat *seats = NULL;
        struct planner_host *plan = NULL;
        struct survey s;
        size_t n = 0;

        host(ctx->store, 1, "");
        host(ctx->store, 2, ",\"maintenance\":true");
        instance(ctx->store, ONE, ",\"group\":\"db\"");
        instance(ctx->store, TWO, ",\"group\":\"db\",\"placement\":{\"host\":2,\"epoch\":1}");
        claim(ctx->store, ONE, 1);
        claim(ctx->store, TWO, 1);
        assert_int_equal(survey_all(ctx->store, &s, NULL), 0);
        assert_int_equal(s.n_hosts, 2);
        for (size_t i = 0; i < 2; i++)
                assert_int_equal(s.hosts[i].ring.maintenance, s.hosts[i].ring.number == 2);
        assert_string_equal(s.instances[0].group, "ann/db");
        assert_int_equal(survey_seats(&s, ONE, 0, &seats, &n), 0);
        assert_int_equal(n, 1);
        assert_int_equal(seats[0].host, 2); /* where it was placed, not where it was */
        free(seats);
        assert_int_equal(survey_seats(&s, NULL, 2, &seats, &n), 0);
        assert_int_equal(n, 1);
        assert_int_equal(seats[0].host, 1);
        free(seats);
        assert_int_equal(survey_plan(&s, &plan, &n), 0);
        for (size_t i = 0; i < n; i++)
                assert_int_equal(plan[i].memory_used, planner_memory(1 << 20, 1));
        free(plan);
        survey_done(&s);
}

static struct guest guest(struct context *ctx, const char *id)
{
        struct guest g = {.ctx = ctx, .looked = true};

        snprintf(g.id, sizeof(g.id), "%s", id);
        return g;
}

static void a_group_has_one_seat_on_a_host(void **state)
{
        struct config config = {.name = (char *)"h2"};
        struct context *ctx = *state;
        struct guest one = guest(ctx, ONE), two = guest(ctx, TWO), *both[] = {&one, &two};
        struct instance a = {.group = "ann/db"}, b = {.group = "ann/db"}, c = {.group = "bob/db"},
                        none = {0};
        struct guest_look gone = {.record = true};
        struct err e = {0};
        struct guests table = {.lock = PTHREAD_MUTEX_INITIALIZER, .list = both, .n = 2, .scanned = true};
        struct self self = {0};

        ctx->config = &config;
        ctx->self = &self;
        ctx->guests = &table;
        ctx->capacity = (struct virt_host){.cpus = 8, .memory = 8ULL << 30};
        assert_int_equal(guest_admit(&one, &a, &e), 0);
        assert_int_equal(guest_admit(&one, &a, &e), 0); /* its own */
        assert_int_equal(guest_admit(&two, &b, &e), -EEXIST);
        assert_non_null(strstr(e.text, ONE));
        assert_int_equal(guest_admit(&two, &c, &e), 0);
        assert_int_equal(guest_admit(&two, &none, &e), 0);
        guest_admission_look(&one, &gone); /* no QEMU any more */
        assert_int_equal(guest_admit(&two, &b, &e), 0);
}

static void a_host_promises_no_more_memory_than_it_has(void **state)
{
        struct config config = {.name = (char *)"h2"};
        struct context *ctx = *state;
        struct guest one = guest(ctx, ONE), two = guest(ctx, TWO), *both[] = {&one, &two};
        struct instance i = {.cpus = 1, .memory = 1 << 30},
                        moves = {.id = ONE, .cpus = 1, .memory = 1 << 30};
        struct guest_look look = {
            .record = true,
            .instance = i,
            .view = {.me = 2, .record = true, .host = 2, .epoch = 5, .wanted = WANTED_RUNNING}};
        struct err e = {0};
        struct guests table = {.lock = PTHREAD_MUTEX_INITIALIZER, .list = both, .n = 2};
        struct self self = {0};

        ctx->config = &config;
        ctx->self = &self;
        ctx->guests = &table;
        ctx->capacity = (struct virt_host){.cpus = 8, .memory = 2 * planner_memory(1 << 30, 1) - 1};
        two.early = true;
        two.looked = false;
        assert_int_equal(guest_admit(&one, &i, &e), -EAGAIN); /* before the first scan */
        table.scanned = true;
        assert_int_equal(guest_admit(&one, &i, &e), -EAGAIN); /* the other may run here */
        guest_admission_looked(&two, -ENOTCONN);
        assert_int_equal(guest_admit(&one, &i, &e), -EAGAIN);
        guest_admission_looked(&two, 0);
        assert_int_equal(guest_admit(&one, &i, &e), 0);
        assert_int_equal(guest_admit(&two, &i, &e), -ENOSPC);
        assert_non_null(strstr(e.text, "host h2 has"));
        assert_int_equal(guests_admit_arrival(ctx, &i, false, &e), -ENOSPC);
        assert_int_equal(guest_admit(&one, &i, &e), 0); /* again: it is promised */
        assert_true(guest_admission_look(&one, &look)); /* between a crash and the next start */
        assert_int_equal(guest_admit(&two, &i, &e), -ENOSPC);
        look.view.wanted = WANTED_STOPPED;
        assert_false(guest_admission_look(&one, &look));
        assert_int_equal(guest_admit(&two, &i, &e), 0);
        look.view = (struct instance_view){.me = 2,
                                           .record = true,
                                           .host = 1,
                                           .epoch = 5,
                                           .entry_source = 1,
                                           .entry_destination = 2,
                                           .entry_epoch = 5};
        /* Its source took too long, and its room is the other's. */
        assert_false(guest_admission_look(&one, &look));
        assert_int_equal(guests_admit_commit(ctx, &moves, &e), -ENOSPC);
        one.early = true;
        one.looked = false;
        assert_true(guest_admission_look(&one, &look)); /* on its way here since before this hostd began */
        one.looked = true;
        assert_int_equal(guests_admit_commit(ctx, &moves, &e), 0);
        look.view.epoch = 6;
        assert_false(guest_admission_look(&one, &look)); /* it does not come any more */
        self.quit = true; /* what runs here has left the table, and its memory is in use */
        table.n = 1;
        assert_int_equal(guest_admit(&one, &i, &e), -EAGAIN);
        assert_int_equal(guests_admit_arrival(ctx, &i, false, &e), -EAGAIN);
}

/* From the yes on, for a while, and no longer: its source may have died before it wrote its entry. */
static void an_arrivals_room_is_held_for_a_while(void **state)
{
        struct config config = {.name = (char *)"h2", .moves_in = 1};
        struct context *ctx = *state;
        struct guest one = guest(ctx, ONE), two = guest(ctx, TWO), *both[] = {&one, &two};
        struct instance i = {.id = ONE, .cpus = 1, .memory = 1 << 30},
                        j = {.id = TWO, .cpus = 1, .memory = 1};
        struct guest_look look = {
            .record = true, .instance = i, .view = {.me = 2, .record = true, .host = 1, .epoch = 5}};
        struct guests table = {.lock = PTHREAD_MUTEX_INITIALIZER, .list = both, .n = 2, .scanned = true};
        struct self self = {0};
        struct err e = {0};
        int64_t asked = clock_ms();

        ctx->config = &config;
        ctx->self = &self;
        ctx->guests = &table;
        ctx->capacity = (struct virt_host){.cpus = 8, .memory = 2 * planner_memory(1 << 30, 1) - 1};
        assert_int_equal(guests_admit_arrival(ctx, &i, false, &e), 0); /* asked about only */
        assert_false(one.promise.held || guests_arriving(ctx));
        assert_int_equal(guests_admit_arrival(ctx, &i, true, &e), 0);
        assert_true(one.promise.held && guests_arriving(ctx));
        assert_true(one.wake);
        assert_int_equal(guests_admit_arrival(ctx, &j, true, &e), -EUSERS);
        assert_int_equal(guest_admit(&two, &i, &e), -ENOSPC);
        look.view.now_ms = asked + ADMISSION_ARRIVAL_MS - 1;
        assert_true(guest_admission_look(&one, &look));
        assert_true(guests_arriving(ctx));
        look.view.now_ms = clock_ms() + ADMISSION_ARRIVAL_MS;
        assert_false(guest_admission_look(&one, &look));
        assert_false(guests_arriving(ctx));
        assert_int_equal(guest_admit(&two, &i, &e), 0);
}

static void an_arrival_and_what_an_older_look_asked_for_do_not_meet(void **state)
{
        struct config config = {.name = (char *)"h2", .moves_in = 2};
        struct context *ctx = *state;
        struct guest one = guest(ctx, ONE), *only[] = {&one};
        struct instance i = {.id = ONE, .cpus = 1, .memory = 1 << 30};
        struct guests table = {.lock = PTHREAD_MUTEX_INITIALIZER, .list = only, .n = 1, .scanned = true};
        struct self self = {0};
        struct err e = {0};

        ctx->config = &config;
        ctx->self = &self;
        ctx->guests = &table;
        ctx->capacity = (struct virt_host){.cpus = 8, .memory = 4ULL << 30};
        guest_admission_done(&one);
        assert_true(guest_admission_act(&one, ACTION_START));
        assert_int_equal(guests_admit_arrival(ctx, &i, true, &e), -EUSERS);
        guest_admission_done(&one);
        assert_true(
            guest_admission_act(&one, ACTION_MIGRATE)); /* it may come back before its source has noticed */
        assert_int_equal(guests_admit_arrival(ctx, &i, true, &e), 0);
        assert_false(guest_admission_act(&one, ACTION_KILL)); /* by a look from before that */
        assert_true(guest_admission_act(&one, ACTION_SETTLE));
        guest_admission_done(&one); /* the next look */
        assert_true(guest_admission_act(&one, ACTION_KILL));
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *walk)
{
        return remove(path);
}

static void the_fences_verdict_is_in_the_host_record(void **state)
{
        struct config config = {.name = (char *)"h2"};
        struct context *ctx = *state;
        char folder[] = "/tmp/test-hostd-records-XXXXXX", url[64], text[SELFTEST_TEXT];
        json_t *doc = NULL;
        struct self self = {.fence = -1};

        assert_non_null(mkdtemp(folder));
        snprintf(url, sizeof(url), "dir:%s", folder);
        ctx->config = &config;
        ctx->self = &self;
        assert_int_equal(ring_new(&ctx->ring), 0);
        host(ctx->store, 2, "");
        assert_true(selftest_run(ctx, text) < 0); /* the memory engine has none */
        assert_int_equal(self.fence, -1);
        assert_int_equal(record_load(ctx->store, RECORD_HOST, "2", &doc, NULL, NULL), 0);
        assert_true(json_is_false(json_path(doc, "fence.ok")));
        assert_string_equal(json_string_value(json_path(doc, "fence.text")), text);
        json_decref(doc);
        store_close(ctx->store);
        assert_int_equal(store_open(url, NULL, &ctx->store, NULL), 0);
        assert_int_equal(store_prepare(ctx->store, NULL), 0);
        host(ctx->store, 2, "");
        assert_int_equal(selftest_run(ctx, text), 1);
        assert_int_equal(self.fence, 1);
        assert_int_equal(record_load(ctx->store, RECORD_HOST, "2", &doc, NULL, NULL), 0);
        assert_true(json_is_true(json_path(doc, "fence.ok")));
        assert_int_equal(strlen(json_string_value(json_path(doc, "fence.at"))), CLOCK_STAMP_LEN);
        json_decref(doc);
        ring_free(ctx->ring);
        nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static const char *text_of(struct context *ctx, const char *path)
{
        static char text[64];
        json_t *doc = NULL;

        assert_int_equal(record_load(ctx->store, RECORD_INSTANCE, ONE, &doc, NULL, NULL), 0);
        snprintf(text, sizeof(text), "%s", json_string_value(json_path(doc, path)));
        json_decref(doc);
        return text;
}

static uint64_t version_of(struct context *ctx)
{
        struct instance i;
        uint64_t version;

        assert_int_equal(instance_load(ctx->store, ONE, &i, NULL), 0);
        version = i.version;
        instance_done(&i);
        return version;
}

static int set_deleted(json_t *doc, void *arg, struct err *err)
{
        json_object_set_new(doc, "wanted", json_string("deleted"));
        return 1;
}

/* A guest's wish to be off is no answer to its user's wish to have it deleted. */
static void a_guest_that_goes_off_undoes_no_wish_of_its_user(void **state)
{
        struct context *ctx = *state;

        instance(ctx->store, ONE, "");
        assert_int_equal(guest_record_off(ctx, ONE, NULL), 0);
        assert_string_equal(text_of(ctx, "wanted"), "stopped");
        assert_int_equal(record_change(ctx->store, RECORD_INSTANCE, ONE, set_deleted, NULL, NULL), 0);
        assert_int_equal(guest_record_off(ctx, ONE, NULL), 0);
        assert_string_equal(text_of(ctx, "wanted"), "deleted");
        assert_int_equal(version_of(ctx), 3); /* what changes nothing writes nothing */
}

/* 1: it was told by this; 0: it was told before. */
static void the_outcome_of_an_older_move_is_no_news(void **state)
{
        const struct move_outcome failed = {.serial = 3, .error = "no", .total_ms = 5, .downtime_ms = -1};
        const struct move_outcome done = {.serial = 4, .done = true, .total_ms = 5, .downtime_ms = 30};
        struct context *ctx = *state;

        instance(ctx->store, ONE, "");
        assert_int_equal(guest_record_move(ctx, ONE, &failed, NULL), 1);
        assert_string_equal(text_of(ctx, "status.move.state"), "failed");
        assert_int_equal(guest_record_move(ctx, ONE, &failed, NULL), 0);
        assert_int_equal(guest_record_move(ctx, ONE, &done, NULL), 1);
        assert_int_equal(guest_record_move(ctx, ONE, &failed, NULL), 0);
        assert_string_equal(text_of(ctx, "status.move.state"), "done");
}

/* Whoever tells has judged by a record that is older than the one that it writes into. */
static void what_has_arrived_is_not_told_failed(void **state)
{
        const struct move_outcome failed = {.serial = 4, .error = "no", .total_ms = -1, .downtime_ms = -1};
        const struct move_outcome done = {.serial = 4, .done = true, .total_ms = -1, .downtime_ms = -1};
        struct context *ctx = *state;

        instance(ctx->store, ONE,
                 ",\"move\":{\"serial\":4,\"to\":2,\"epoch\":7},\"arrived\":\"a\",\"migration\":"
                 "{\"attempt\":\"a\",\"source\":1,\"destination\":2,\"epoch\":7}");
        assert_int_equal(guest_record_move(ctx, ONE, &failed, NULL), 0);
        assert_string_equal(text_of(ctx, "wanted"), "running");
        assert_int_equal(guest_record_move(ctx, ONE, &done, NULL), 1);
        assert_string_equal(text_of(ctx, "status.move.state"), "done");
        instance(ctx->store, TWO, /* what has arrived is an earlier attempt */
                 ",\"move\":{\"serial\":4,\"to\":2,\"epoch\":7},\"arrived\":\"a\",\"migration\":"
                 "{\"attempt\":\"b\",\"source\":1,\"destination\":2,\"epoch\":7}");
        assert_int_equal(guest_record_move(ctx, TWO, &failed, NULL), 1);
}

static int move_again(json_t *doc, void *arg, struct err *err)
{
        json_object_set_new(json_object_get(doc, "move"), "serial", json_integer(5));
        return 1;
}

/* The other way round: another machine with this number saw no QEMU and has told; the gate here asks for its yes. */
static void what_was_told_failed_does_not_arrive(void **state)
{
        const struct move_outcome failed = {.serial = 4, .error = "no", .total_ms = -1, .downtime_ms = -1};
        const struct lease mine = {.epoch = 8, .host = 2};
        struct context *ctx = *state;
        struct start source = {.id = ONE}, arrival = {.id = TWO, .uid = 7, .gid = 8};
        struct self self = {0};
        struct instance i;

        ctx->self = &self;
        instance(
            ctx->store, ONE,
            ",\"move\":{\"serial\":4,\"to\":2,\"epoch\":7},\"start\":{\"id\":\"" ONE "\",\"epoch\":7},"
            "\"migration\":{\"attempt\":\"a\",\"source\":1,\"destination\":2,\"epoch\":7,\"start\":{\"id\":"
            "\"" TWO "\"}}");
        assert_int_equal(instance_load(ctx->store, ONE, &i, NULL), 0);
        assert_int_equal(guest_record_move(ctx, ONE, &failed, NULL), 1);
        assert_int_equal(guest_record_start(ctx, &i, &arrival, &mine, false, NULL, NULL), -EACCES);
        assert_int_equal(guest_record_start(ctx, &i, &source, &mine, false, NULL, NULL),
                         0); /* it may run on */
        instance_done(&i);
        /* What failed was an earlier move. */
        assert_int_equal(record_change(ctx->store, RECORD_INSTANCE, ONE, move_again, NULL, NULL), 0);
        assert_int_equal(instance_load(ctx->store, ONE, &i, NULL), 0);
        assert_int_equal(
            guest_record_start(ctx, &i, &arrival, &(struct lease){.epoch = 9, .host = 2}, false, NULL, NULL),
            0);
        assert_string_equal(text_of(ctx, "arrived"), "a");
        instance_done(&i);
        assert_int_equal(instance_load(ctx->store, ONE, &i, NULL), 0);
        assert_string_equal(i.start.id, arrival.id);
        assert_int_equal(i.start.uid, 7);
        assert_int_equal(i.start.gid, 8);
        assert_int_equal(i.start_epoch, 9);
        instance_done(&i);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
            cmocka_unit_test(a_failover_is_due_until_its_guest_has_run),
            cmocka_unit_test_setup_teardown(the_start_of_a_failover_writes_its_receipt, setup, teardown),
            cmocka_unit_test_setup_teardown(a_change_keeps_what_others_have_written_since, setup, teardown),
            cmocka_unit_test_setup_teardown(of_two_starts_the_record_takes_one, setup, teardown),
            cmocka_unit_test_setup_teardown(a_survey_tells_hosts_groups_and_what_is_used, setup, teardown),
            cmocka_unit_test_setup_teardown(a_group_has_one_seat_on_a_host, setup, teardown),
            cmocka_unit_test_setup_teardown(a_host_promises_no_more_memory_than_it_has, setup, teardown),
            cmocka_unit_test_setup_teardown(an_arrival_and_what_an_older_look_asked_for_do_not_meet, setup,
                                            teardown),
            cmocka_unit_test_setup_teardown(an_arrivals_room_is_held_for_a_while, setup, teardown),
            cmocka_unit_test_setup_teardown(the_fences_verdict_is_in_the_host_record, setup, teardown),
            cmocka_unit_test_setup_teardown(a_guest_that_goes_off_undoes_no_wish_of_its_user, setup,
                                            teardown),
            cmocka_unit_test_setup_teardown(the_outcome_of_an_older_move_is_no_news, setup, teardown),
            cmocka_unit_test_setup_teardown(what_has_arrived_is_not_told_failed, setup, teardown),
            cmocka_unit_test_setup_teardown(what_was_told_failed_does_not_arrive, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
