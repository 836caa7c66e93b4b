/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/http-client.h"
#include "common/json.h"
#include "hostd/ring/ring.h"
#include "migrate/lift.h"
#include "tests/unit/hostd-fixture.h"

/*
 * Rounds over the clients that fences have shut out: who is asked, when one is lifted, and what is forgotten. This host
 * is 2 and owns the instances; what is lifted ran on hosts 1 and 3.
 */
static struct fenced_client clients[4];
static size_t n_clients;

static struct {
        unsigned asked[8], lifted; /* questions to each host; clients that left the list */
        int answer[8];             /* of http_call() to each host */
        unsigned says;             /* the number that it gives as its own; 0: the right one */
        bool here;                 /* that QEMU is there still */
        int lift;                  /* lease_lift()'s answer */
        unsigned host;             /* that is being asked */
        unsigned lists;
} world;

int __wrap_lease_fenced(struct store *s, const char *instance, fenced_cb cb, void *arg, struct err *err);
int __wrap_lease_fenced(struct store *s, const char *instance, fenced_cb cb, void *arg, struct err *err)
{
        world.lists++;
        for (size_t i = 0; i < n_clients && strcmp(instance, fixture_id('a')) == 0; i++)
                assert_int_equal(cb(arg, &clients[i]), 0);
        return 0;
}

int __wrap_lease_lift(struct store *s, const char *instance, const struct fenced_client *client,
                      struct err *err);
int __wrap_lease_lift(struct store *s, const char *instance, const struct fenced_client *client,
                      struct err *err)
{
        if (world.lift < 0)
                return err_set(err, world.lift, "lift: error");
        world.lifted++;
        for (size_t i = 0; i < n_clients; i++)
                if (strcmp(clients[i].address, client->address) == 0)
                        clients[i] = clients[--n_clients];
        return 0;
}

static struct {
        int processes, find; /* the answers of virt_processes() and virt_find() */
        bool process;        /* a QEMU of the instance is here */
        struct virt_domain domain;
} libvirt;

int __wrap_virt_processes(struct virt *v, struct virt_domain **ret, size_t *ret_n, struct err *err);
int __wrap_virt_processes(struct virt *v, struct virt_domain **ret, size_t *ret_n, struct err *err)
{
        if (libvirt.processes < 0)
                return err_set(err, libvirt.processes, "processes: error");
        *ret = calloc(2, sizeof(**ret));
        strcpy((*ret)[0].lease.instance, fixture_id('b'));
        (*ret)[0].pid = 1;
        strcpy((*ret)[1].lease.instance, fixture_id('a'));
        (*ret)[1].pid = 4711;
        *ret_n = 1 + libvirt.process;
        return libvirt.processes;
}

int __wrap_virt_find(struct virt *v, const char *instance, struct virt_domain *ret, struct err *err);
int __wrap_virt_find(struct virt *v, const char *instance, struct virt_domain *ret, struct err *err)
{
        *ret = libvirt.domain;
        return libvirt.find < 0 ? err_set(err, libvirt.find, "libvirt: error") : 0;
}

int __wrap_http_client_new(const char *url, const char *token, int timeout_ms, struct http_client **ret,
                           struct err *err);
int __wrap_http_client_new(const char *url, const char *token, int timeout_ms, struct http_client **ret,
                           struct err *err)
{
        assert_int_equal(sscanf(url, "http://h%u", &world.host), 1);
        *ret = NULL;
        return 0;
}

struct http_client *__wrap_http_client_free(struct http_client *c);
struct http_client *__wrap_http_client_free(struct http_client *c)
{
        return NULL;
}

int __wrap_http_call(struct http_client *c, const char *method, const char *path, const json_t *body,
                     json_t **ret_body, long *ret_status, struct err *err);
int __wrap_http_call(struct http_client *c, const char *method, const char *path, const json_t *body,
                     json_t **ret_body, long *ret_status, struct err *err)
{
        unsigned host = world.host;

        world.asked[host]++;
        if (world.answer[host] < 0)
                return err_set(err, world.answer[host], "no answer");
        *ret_body = json_pack("{s:i,s:s,s:s,s:s,s:b}", "host", (int)(world.says ? world.says : host), "boot",
                              "b", "view", "v", "board", "m", "here", (int)world.here);
        return 0;
}

static int begin(void **state)
{
        fixture_begin(state);
        memset(&world, 0, sizeof(world));
        memset(&libvirt, 0, sizeof(libvirt));
        for (unsigned n = 1; n < 4; n++) {
                char api[32];

                snprintf(api, sizeof(api), ",\"api\":\"http://h%u\"", n);
                fixture_host(n, "up", 1, api);
        }
        fixture_instance('a', "");
        fixture_claim('a', 2);
        n_clients = 0;
        lift_later(&fixture.ctx); /* as hostd begins */
        return 0;
}

static int end(void **state)
{
        free(fixture.ring.lift_proofs);
        return fixture_end(state);
}

static void fenced(const char *address, unsigned host)
{
        struct fenced_client *c = &clients[n_clients++];

        *c = (struct fenced_client){.epoch = 1, .host = host};
        snprintf(c->address, sizeof(c->address), "%s", address);
        strcpy(c->start, "aaaaaaaa-0000-4000-8000-000000000001");
        strcpy(c->ran_on.boot, "b");
        strcpy(c->ran_on.view, "v");
        strcpy(c->ran_on.board, "m");
}

/* As many as are due in so many minutes; the scan asks all the time. */
static void rounds(unsigned minutes)
{
        for (unsigned i = 0; i < minutes; i++) {
                fixture.now_ms += 60000;
                lift_start(&fixture.ctx);
        }
}

static void who_is_dead_is_lifted_an_hour_after_the_proof(void **state)
{
        fenced("a", 1);
        rounds(10);
        assert_int_equal(world.asked[1], 1);
        rounds(59);
        assert_int_equal(world.asked[1], 1); /* once is enough */
        assert_int_equal(world.lifted, 0);
        rounds(1);
        assert_int_equal(world.lifted, 1);
        assert_int_equal(n_clients, 0);
        rounds(20);
        assert_int_equal(fixture.ring.n_lift_proofs, 0); /* nothing is kept of it */
        assert_int_equal(world.asked[1] + world.asked[2] + world.asked[3], 1);
}

static void who_lives_or_cannot_be_told_is_asked_again(void **state)
{
        fenced("a", 1);
        world.here = true;
        rounds(40);
        assert_int_equal(world.asked[1], 4);
        world.here = false;
        world.says = 3; /* another host at that address */
        rounds(40);
        assert_int_equal(world.asked[1], 8);
        assert_int_equal(fixture.ring.n_lift_proofs, 0);
        fixture_set(RECORD_HOST, "1", "state", "\"dead\""); /* its owner lifts it when it is back */
        rounds(40);
        assert_int_equal(world.asked[1], 8);
        rounds(100);
        assert_int_equal(world.lifted, 0);
}

/* Each question may take seconds. */
static void a_silent_host_is_asked_once_a_round(void **state)
{
        fenced("a", 1);
        fenced("b", 1);
        fenced("c", 3);
        world.answer[1] = -ETIMEDOUT;
        rounds(10);
        assert_int_equal(world.asked[1], 1);
        assert_int_equal(world.asked[3], 1);
        rounds(10);
        assert_int_equal(world.asked[1], 2);
        assert_int_equal(fixture.ring.n_lift_proofs, 1);
}

static void a_right_that_is_missing_costs_no_proof(void **state)
{
        fenced("a", 1);
        fenced("b", 1);
        rounds(10);
        assert_int_equal(fixture.ring.n_lift_proofs, 2);
        world.lift = -EPERM;
        rounds(80);
        assert_int_equal(fixture.ring.n_lift_proofs, 2);
        world.lift = 0; /* somebody has given it */
        rounds(10);
        assert_int_equal(world.lifted, 2);
}

/* The next host on the ring lifts what the owner itself ran: of instances of others nobody else looks. */
static void others_instances_are_not_ours_to_look_at(void **state)
{
        fenced("a", 1);
        fixture_claim('a', 3); /* whose next is 1 */
        rounds(10);
        assert_int_equal(world.lists, 0);
        fixture_claim('a', 1); /* whose next is 2 */
        rounds(10);
        assert_int_equal(world.lists, 1);
        assert_int_equal(world.asked[1], 1);
}

#define START "aaaaaaaa-0000-4000-8000-000000000001"
#define OTHER "aaaaaaaa-0000-4000-8000-000000000002"

/* 1: that start is here, 0: it is not. */
static int here(void)
{
        struct err err = {0};
        json_t *answer = NULL;
        int r = lift_answer(&fixture.ctx, fixture_id('a'), START, &answer, &err);

        if (r < 0)
                return r;
        r = json_get_bool(answer, "here", true);
        assert_int_equal(json_get_int(answer, "host", 0), 2);
        assert_string_not_equal(json_get_str(answer, "boot", ""), "");
        json_decref(answer);
        return r;
}

/* Only what is certainly another start counts as one. */
static void a_qemu_that_cannot_be_told_counts_as_the_one_asked_for(void **state)
{
        assert_int_equal(here(), 0); /* no process of that instance */
        libvirt.processes = 1;       /* one does not show what it is */
        assert_int_equal(here(), 1);
        libvirt.processes = -EIO;
        assert_int_equal(here(), -EIO);
        libvirt.processes = 0;
        libvirt.process = true;
        libvirt.domain.pid = 4711;
        strcpy(libvirt.domain.lease.start.id, START);
        assert_int_equal(here(), 1);
        strcpy(libvirt.domain.lease.start.id, OTHER);
        assert_int_equal(here(), 0);
        libvirt.domain.pid = 4712; /* libvirt means another process */
        assert_int_equal(here(), 1);
        libvirt.domain.pid = 4711;
        libvirt.domain.lease.start.id[0] = '\0';
        assert_int_equal(here(), 1);
        strcpy(libvirt.domain.lease.start.id, OTHER);
        libvirt.find = -ENOENT; /* libvirt has forgotten it */
        assert_int_equal(here(), 1);
        libvirt.find = -ENOTCONN;
        assert_int_equal(here(), -ENOTCONN);
}

int main(void)
{
#define test(f) cmocka_unit_test_setup_teardown(f, begin, end)
        const struct CMUnitTest tests[] = {
            test(who_is_dead_is_lifted_an_hour_after_the_proof),
            test(who_lives_or_cannot_be_told_is_asked_again),
            test(a_silent_host_is_asked_once_a_round),
            test(a_right_that_is_missing_costs_no_proof),
            test(a_qemu_that_cannot_be_told_counts_as_the_one_asked_for),
            test(others_instances_are_not_ours_to_look_at),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
