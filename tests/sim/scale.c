/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/scale.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "hostd/survey.h"
#include "migrate/failover.h"
#include "tests/sim/world.h"

/*
 * A large site. Hosts 1 to REAL run the real hostd with their instances; the others are there as their
 * records, heartbeats and instances are, which is all that one host ever sees of another. So what one real
 * host asks of the storage is what it would be with all of them real.
 */
#define REAL 4
#define EACH 20 /* instances a host */
#define WARM_NS (12 * SIM_S)
#define MEASURE_NS (20 * SIM_S)
#define FAILOVER_NS (60 * SIM_S)
#define GROWTH 1.3 /* of one host's operations, from 10 hosts to 1,000 */

struct figures {
        unsigned hosts;
        size_t instances;
        double operations, listed; /* of one host, a second */
        double survey_ms, decide_ms, plan_ms;
        double failover_s; /* from power-off until all run elsewhere */
};

int __real_clock_gettime(clockid_t id, struct timespec *ret);

/* Processor time: other work on this machine is not ours. */
static double cpu_ms(void)
{
        struct timespec ts;

        __real_clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
        return (double)ts.tv_sec * 1e3 + (double)ts.tv_nsec / 1e6;
}

static void put(enum record_kind kind, const char *id, char *text)
{
        if (!text || record_put(W.store, kind, id, 0, text, NULL, NULL) < 0)
                abort();
        free(text);
}

/* A host as the others see it. */
static void silent_host(unsigned number)
{
        char id[12];

        snprintf(id, sizeof(id), "%u", number);
        put(RECORD_HOST, id,
            str_printf(
                "{\"id\":\"%u\",\"number\":%u,\"name\":\"h%u\",\"address\":\"10.0.0.%u\",\"api\":"
                "\"http://10.0.0.%u:7070\",\"peer_uri\":\"sim\",\"state\":\"up\",\"epoch\":1,\"nonce\":"
                "\"\",\"cpus\":64,\"memory\":%llu,\"cpu_model\":\"sim\",\"accel\":\"kvm\",\"disarmed_ms\":0,"
                "\"versions\":{\"hostd\":\"0\",\"libvirt\":\"9.0.0\",\"qemu\":\"7.2.0\"},\"drained\":false}",
                number, number, number, number, number, (EACH + 1ULL) << 30));
        for (unsigned i = 0; i < EACH; i++) {
                const struct disk_spec disk = {.name = "disk0", .size = 1 << 20};
                struct lease lease = {0};
                char instance[UUID_LEN + 1];

                uuid_random(instance);
                if (lease_create(W.store, instance, &disk, 1, NULL) < 0 ||
                    lease_claim(W.store, instance, &lease, number, false, &lease, NULL) < 0)
                        abort();
                put(RECORD_INSTANCE, instance,
                    str_printf(
                        "{\"id\":\"%s\",\"name\":\"vm%u-%u\",\"cpus\":1,\"memory\":%llu,\"disk\":1048576,"
                        "\"priority\":0,\"wanted\":\"running\",\"restart\":0,\"network\":{\"mac\":"
                        "\"52:54:00:00:00:01\",\"address\":\"10.1.0.1\"},\"start\":{\"id\":\"%s\","
                        "\"uid\":1,\"gid\":0,\"epoch\":1},\"status\":{\"state\":\"running\",\"host\":%u,"
                        "\"epoch\":1,\"restart\":0}}",
                        instance, number, i, 1ULL << 30, instance, number));
        }
}

static void beats_of_silent(void *arg)
{
        for (unsigned n = REAL + 1; n <= W.n_hosts; n++)
                beat_write(W.store, n, (uint64_t)sched_now(), NULL);
        event_at(sched_now() + WATCH_BEAT_MS * SIM_MS, beats_of_silent, NULL);
}

static size_t running(void)
{
        size_t n = 0;

        for (unsigned k = 0; k < REAL; k++)
                for (const struct qemu *q = W.hosts[k].qemus; q; q = q->next)
                        n += q->alive && q->running;
        return n;
}

static void measure(struct figures *f)
{
        uint64_t operations = 0, listed = 0;
        int64_t begun;

        for (unsigned k = 0; k < REAL; k++)
                host_power_on(&W.hosts[k]);
        co_sleep(WARM_NS);
        while (running() < REAL * EACH && sched_now() < 3 * WARM_NS)
                co_sleep(SIM_S);
        for (unsigned k = 0; k < REAL; k++)
                W.hosts[k].operations = W.hosts[k].listed = 0;
        begun = sched_now();
        co_sleep(MEASURE_NS);
        for (unsigned k = 0; k < REAL; k++) {
                operations += W.hosts[k].operations;
                listed += W.hosts[k].listed;
        }
        f->operations = (double)operations / REAL / ((double)(sched_now() - begun) / SIM_S);
        f->listed = (double)listed / REAL / ((double)(sched_now() - begun) / SIM_S);
        begun = sched_now();
        host_power_off(&W.hosts[REAL - 1]);
        while (running() < REAL * EACH && sched_now() < begun + FAILOVER_NS)
                co_sleep(10 * SIM_MS);
        f->failover_s = running() < REAL * EACH ? -1 : (double)(sched_now() - begun) / SIM_S;
}

static void measure_main(void *arg)
{
        measure(arg);
        sched_stop();
}

/* What the winner of a host's record computes: where each of its instances goes. Then the same for all. */
static void decide(struct figures *f)
{
        struct planner_host *hosts = NULL;
        struct failover_item items[EACH] = {0}, *item;
        struct failover machine = {0};
        struct survey s = {0};
        size_t n_hosts = 0, n = 0;
        double t = cpu_ms();

        if (survey_all(W.store, &s, NULL) < 0)
                abort();
        f->survey_ms = cpu_ms() - t;
        t = cpu_ms();
        if (survey_plan(&s, &hosts, &n_hosts) < 0)
                abort();
        for (size_t i = 0; i < s.n_instances && n < EACH; i++)
                if (s.instances[i].lease.host == f->hosts) {
                        items[n] = (struct failover_item){
                            .cpus = s.instances[i].cpus, .memory = s.instances[i].memory, .epoch = 1};
                        memcpy(items[n++].instance, s.instances[i].id, sizeof(items[0].instance));
                }
        failover_init(&machine, f->hosts, items, n);
        while ((item = failover_next(&machine, hosts, n_hosts, 0)))
                failover_seen(&machine, item, 2, 0);
        f->decide_ms = cpu_ms() - t;
        for (size_t i = 0; i < n_hosts; i++) { /* an empty site, to be filled */
                hosts[i].cpus_used = 0;
                hosts[i].memory_used = 0;
        }
        t = cpu_ms();
        for (size_t i = 0; i < s.n_instances; i++) {
                const struct planner_need need = {.cpus = 1, .memory = 1ULL << 30};
                int k = planner_pick(hosts, n_hosts, &need, NULL);

                if (k >= 0)
                        planner_use(&hosts[k], need.cpus, need.memory);
        }
        f->plan_ms = cpu_ms() - t;
        f->instances = s.n_instances;
        free(hosts);
        survey_done(&s);
}

static bool one_size(struct figures *f)
{
        world_new(1, f->hosts, 0);
        W.kind = FENCE_NFS;
        W.quiet = true;
        W.drop = W.late = W.slow = 0;
        world_hold();
        for (unsigned n = REAL + 1; n <= f->hosts; n++)
                silent_host(n);
        for (unsigned k = 1; k <= REAL; k++)
                for (unsigned i = 0; i < EACH; i++)
                        if (instance_make(k * EACH + i, k) < 0)
                                abort();
        world_release();
        event_at(0, beats_of_silent, NULL);
        co_spawn(W.root, measure_main, f);
        sched_run();
        world_hold();
        decide(f);
        world_release();
        printf("%8u %9zu %12.1f %12.1f %10.0f %10.1f %12.0f %11.2f\n", f->hosts, f->instances, f->operations,
               f->listed, f->survey_ms, f->decide_ms, f->plan_ms, f->failover_s);
        fflush(stdout);
        return !W.violation[0];
}

bool scale_run(void)
{
        struct figures sizes[] = {{.hosts = 10}, {.hosts = 100}, {.hosts = 1000}};
        bool good = true;

        printf("%8s %9s %12s %12s %10s %10s %12s %11s\n", "hosts", "instances", "operations/s", "listed/s",
               "survey ms", "decide ms", "plan all ms", "failover s");
        for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
                struct figures *f = &sizes[i];

                if (!one_size(f)) {
                        printf("%s\n", W.violation);
                        good = false;
                }
                if (f->failover_s < 0) {
                        printf("not all of the dead host's instances run elsewhere\n");
                        good = false;
                }
                if (f->operations > GROWTH * sizes[0].operations) {
                        printf("a host's operations grow with the number of hosts\n");
                        good = false;
                }
                if (f->survey_ms + f->decide_ms >= 1000) {
                        printf("a decision takes a second of processor time\n");
                        good = false;
                }
        }
        return good;
}
