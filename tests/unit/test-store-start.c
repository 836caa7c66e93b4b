/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "imaged/store/engine.h"

/* The random ids of starts are known here: the linker puts this in the place of uuid_random(). */
void __wrap_uuid_random(char ret[UUID_LEN + 1]);
static unsigned drawn;

static void id_of(unsigned n, char ret[UUID_LEN + 1])
{
        snprintf(ret, UUID_LEN + 1, "00000000-0000-4000-8000-%012u", n);
}

void __wrap_uuid_random(char ret[UUID_LEN + 1])
{
        id_of(++drawn, ret);
}

static uint32_t uid_of(unsigned n, uint64_t epoch, const char *attempt)
{
        char id[UUID_LEN + 1];

        id_of(n, id);
        return start_uid("web1", epoch, attempt, id);
}

/* Its own draw decides, so two hosts with one number that start it at one epoch are two users. */
static void a_user_comes_from_instance_epoch_and_start(void **state)
{
        struct start p, q;

        drawn = 0;
        start_init(&p, "web1", 7, NULL, NULL, 0);
        start_init(&q, "web1", 7, NULL, NULL, 0);
        assert_int_equal(p.uid, uid_of(1, 7, NULL));
        assert_int_equal(q.uid, uid_of(2, 7, NULL));
        assert_true(p.uid != q.uid);
        assert_true(uid_of(1, 7, NULL) != uid_of(1, 8, NULL));
        assert_true(start_uid("web2", 7, NULL, p.id) != p.uid);
        assert_int_equal(p.gid, 0);
        start_init(&p, "web1", 7, "attempt", NULL, 0);
        start_init(&q, "web1", 7, "attempt", NULL, 0);
        assert_true(p.uid != q.uid && p.gid == p.uid && q.gid == q.uid);
}

static void a_user_that_an_earlier_start_has_is_drawn_anew(void **state)
{
        const uint32_t taken[] = {uid_of(1, 7, NULL), 0, uid_of(2, 7, NULL)};
        const uint32_t arrived[] = {uid_of(1, 7, "attempt")};
        struct start st;

        drawn = 0;
        start_init(&st, "web1", 7, NULL, taken, ARRAY_SIZE(taken));
        assert_int_equal(drawn, 3);
        assert_int_equal(st.uid, uid_of(3, 7, NULL));
        drawn = 0;
        start_init(&st, "web1", 7, "attempt", arrived, ARRAY_SIZE(arrived));
        assert_int_equal(drawn, 2);
        assert_int_equal(st.uid, uid_of(2, 7, "attempt"));
}

/* Golden images lie below, and no server or library takes them for a negative number or for "nobody". */
static void users_stay_in_their_ranges(void **state)
{
        for (unsigned n = 0; n < 100000; n++) {
                assert_in_range(uid_of(n, n % 7, NULL), 0x40000000u, 0x5ffffffeu);
                assert_in_range(uid_of(n, n % 7, "attempt"), 0x60000000u, 0x7ffffffeu);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
            cmocka_unit_test(a_user_comes_from_instance_epoch_and_start),
            cmocka_unit_test(a_user_that_an_earlier_start_has_is_drawn_anew),
            cmocka_unit_test(users_stay_in_their_ranges),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
