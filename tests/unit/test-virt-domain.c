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

#include <libvirt/virterror.h>

#include "hostd/virt/internal.h"

/* What libvirt's answers about one guest mean; the answers are made up. */
#define A "aaaaaaaa-1111-4111-8111-111111111111"
#define START "aaaaaaaa-0000-4000-8000-000000000001"
#define XML                                                                                                 \
        "<domain><devices><lease><lockspace>wherry</lockspace><key>" A ":5:" START                          \
        ":7:8:-</key></lease></devices></domain>"

static struct {
        const char *xml;
        int lookup, state, reason, job, processes;
        bool process;
} libvirt;

int __wrap_virt_lookup(struct virt *v, const char *instance, virDomainPtr *ret, struct err *err);
int __wrap_virt_lookup(struct virt *v, const char *instance, virDomainPtr *ret, struct err *err)
{
        return libvirt.lookup < 0 ? err_set(err, libvirt.lookup, "lookup: error") : 0;
}

int __wrap_virt_processes(struct virt *v, struct virt_domain **ret, size_t *ret_n, struct err *err);
int __wrap_virt_processes(struct virt *v, struct virt_domain **ret, size_t *ret_n, struct err *err)
{
        if (libvirt.processes < 0)
                return err_set(err, libvirt.processes, "processes: error");
        *ret = calloc(2, sizeof(**ret));
        strcpy((*ret)[0].lease.instance, START);
        (*ret)[0].pid = 1;
        strcpy((*ret)[1].lease.instance, A);
        (*ret)[1].pid = 4711;
        *ret_n = 1 + libvirt.process;
        return 0;
}

const char *__wrap_virDomainGetName(virDomainPtr dom);
const char *__wrap_virDomainGetName(virDomainPtr dom)
{
        return "wherry-vm";
}

char *__wrap_virDomainGetXMLDesc(virDomainPtr dom, unsigned flags);
char *__wrap_virDomainGetXMLDesc(virDomainPtr dom, unsigned flags)
{
        return strdup(libvirt.xml);
}

int __wrap_virDomainGetState(virDomainPtr dom, int *state, int *reason, unsigned flags);
int __wrap_virDomainGetState(virDomainPtr dom, int *state, int *reason, unsigned flags)
{
        *state = libvirt.state;
        *reason = libvirt.reason;
        return 0;
}

int __wrap_virDomainGetJobInfo(virDomainPtr dom, virDomainJobInfoPtr info);
int __wrap_virDomainGetJobInfo(virDomainPtr dom, virDomainJobInfoPtr info)
{
        if (libvirt.job < 0)
                return -1;
        info->type = libvirt.job;
        return 0;
}

static int destroyed, code, active; /* what virDomainDestroy() and the calls after it say */

int __wrap_virt_lookup_own(struct virt *v, const char *instance, virDomainPtr *ret, struct err *err);
int __wrap_virt_lookup_own(struct virt *v, const char *instance, virDomainPtr *ret, struct err *err)
{
        return libvirt.lookup < 0 ? err_set(err, libvirt.lookup, "lookup: error") : 0;
}

int __wrap_virDomainDestroy(virDomainPtr dom);
int __wrap_virDomainDestroy(virDomainPtr dom)
{
        return destroyed;
}

virErrorPtr __wrap_virGetLastError(void);
virErrorPtr __wrap_virGetLastError(void)
{
        static virError e;

        e.code = code;
        e.message = (char *)"no";
        return &e;
}

int __wrap_virDomainIsActive(virDomainPtr dom);
int __wrap_virDomainIsActive(virDomainPtr dom)
{
        return active;
}

static int begin(void **state)
{
        memset(&libvirt, 0, sizeof(libvirt));
        libvirt.xml = XML;
        libvirt.state = VIR_DOMAIN_RUNNING;
        libvirt.reason = VIR_DOMAIN_RUNNING_BOOTED;
        libvirt.process = true;
        return 0;
}

static int find(struct virt_domain *ret)
{
        struct err err = {0};

        return virt_find(NULL, A, ret, &err);
}

static void a_guest_of_ours_is_known_by_its_lease(void **state)
{
        struct virt_domain d;

        assert_int_equal(find(&d), 0);
        assert_string_equal(d.lease.instance, A);
        assert_string_equal(d.lease.start.id, START);
        assert_int_equal(d.lease.epoch, 5);
        assert_int_equal(d.pid, 4711);
        assert_true(d.running);
        assert_string_equal(d.reason, "booted");
        libvirt.process = false; /* not executed yet */
        assert_int_equal(find(&d), 0);
        assert_int_equal(d.pid, 0);
}

static void what_is_not_ours_is_not_there(void **state)
{
        struct virt_domain d;

        libvirt.xml = "<domain/>";
        assert_int_equal(find(&d), -ENOENT);
        libvirt.xml = "<domain><lease><lockspace>wherry</lockspace><key>nonsense</key></lease></domain>";
        assert_int_equal(find(&d), -EINVAL);
        libvirt.lookup = -ENOENT;
        assert_int_equal(find(&d), -ENOENT);
        libvirt.lookup = -ENOTCONN;
        assert_int_equal(find(&d), -ENOTCONN);
        libvirt.lookup = 0;
        libvirt.processes = -EIO;
        assert_int_equal(find(&d), -EIO);
}

/* Only a guest whose vCPUs run is running. */
static void a_state_means_what_it_says(void **state)
{
        static const struct {
                int state, reason;
                bool running;
                const char *word;
        } states[] = {
            {VIR_DOMAIN_RUNNING, VIR_DOMAIN_RUNNING_MIGRATED, true, "migrated"},
            {VIR_DOMAIN_RUNNING, VIR_DOMAIN_RUNNING_UNPAUSED, true, "unpaused"},
            {VIR_DOMAIN_RUNNING, 99, true, "unknown"},
            {VIR_DOMAIN_RUNNING, -1, true, "unknown"},
            {VIR_DOMAIN_PAUSED, VIR_DOMAIN_PAUSED_IOERROR, false, "ioerror"},
            {VIR_DOMAIN_PAUSED, VIR_DOMAIN_PAUSED_USER, false, "user"},
            {VIR_DOMAIN_PAUSED, VIR_DOMAIN_PAUSED_MIGRATION, false, "migration"},
            {VIR_DOMAIN_PAUSED, VIR_DOMAIN_PAUSED_CRASHED, false, "crashed"},
            {VIR_DOMAIN_PAUSED, VIR_DOMAIN_PAUSED_STARTING_UP, false, "starting-up"},
            {VIR_DOMAIN_PAUSED, 99, false, "unknown"},
            {VIR_DOMAIN_SHUTDOWN, 0, false, "shutdown"},
            {VIR_DOMAIN_SHUTOFF, 0, false, "unknown"},
            {VIR_DOMAIN_CRASHED, 0, false, "unknown"},
        };
        struct virt_domain d;

        for (size_t i = 0; i < ARRAY_SIZE(states); i++) {
                libvirt.state = states[i].state;
                libvirt.reason = states[i].reason;
                assert_int_equal(find(&d), 0);
                assert_int_equal(d.running, states[i].running);
                assert_string_equal(d.reason, states[i].word);
        }
}

static void only_a_job_that_is_under_way_is_one(void **state)
{
        struct virt_domain d;

        for (int type = -1; type <= VIR_DOMAIN_JOB_CANCELLED; type++) {
                libvirt.job = type;
                assert_int_equal(find(&d), 0);
                assert_int_equal(d.job, type == VIR_DOMAIN_JOB_BOUNDED || type == VIR_DOMAIN_JOB_UNBOUNDED);
        }
}

/* One that has ended by itself meanwhile is as dead as one that was ended. */
static void an_end_that_has_come_already_is_one(void **state)
{
        struct err err = {0};

        destroyed = 0;
        assert_int_equal(virt_kill(NULL, A, &err), 0);
        destroyed = -1;
        code = VIR_ERR_NO_DOMAIN;
        assert_int_equal(virt_kill(NULL, A, &err), 0);
        code = VIR_ERR_OPERATION_INVALID;
        active = 0;
        assert_int_equal(virt_kill(NULL, A, &err), 0);
        active = 1; /* it is there, and was not ended */
        assert_true(virt_kill(NULL, A, &err) < 0);
        code = VIR_ERR_INTERNAL_ERROR;
        active = 0;
        assert_true(virt_kill(NULL, A, &err) < 0);
        libvirt.lookup = -ENOENT;
        assert_int_equal(virt_kill(NULL, A, &err), 0);
        libvirt.lookup = -ENOTCONN;
        assert_int_equal(virt_kill(NULL, A, &err), -ENOTCONN);
}

static void no_answer_is_another_thing_than_a_no(void **state)
{
        assert_true(virt_unanswered(-ENOTCONN));
        assert_true(virt_unanswered(-ETIMEDOUT));
        assert_false(virt_unanswered(0) || virt_unanswered(-ENOENT) || virt_unanswered(-EIO));
}

int main(void)
{
#define test(f) cmocka_unit_test_setup(f, begin)
        const struct CMUnitTest tests[] = {
            test(a_guest_of_ours_is_known_by_its_lease),
            test(what_is_not_ours_is_not_there),
            test(a_state_means_what_it_says),
            test(only_a_job_that_is_under_way_is_one),
            test(an_end_that_has_come_already_is_one),
            test(no_answer_is_another_thing_than_a_no),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
