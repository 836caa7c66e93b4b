/* SPDX-License-Identifier: Apache-2.0 */

#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "tests/system/virt/lab.h"
#include "tests/system/virt/stories.h"

/* virt-stories FOLDER QEMU-USER [PATTERN]: see run, which makes the hosts. */

static char **arguments; /* cmocka hands nothing to a group's setup */

static int open_lab(void **state)
{
        lab_open(arguments[1], arguments[2]);
        return 0;
}

static int close_lab(void **state)
{
        lab_close();
        return 0;
}

int main(int argc, char **argv)
{
        const struct CMUnitTest stories[] = {
            cmocka_unit_test(libvirtd_without_the_driver_is_refused),
            cmocka_unit_test(nfs_disk_carries_a_user_for_each_layer),
            cmocka_unit_test(nfs_guest_moves_with_a_grant_and_stops_when_fenced),
            cmocka_unit_test(rbd_disk_names_monitors_user_and_secret),
            cmocka_unit_test(host_says_what_it_has),
            cmocka_unit_test(guest_starts_when_the_gate_says_yes),
            cmocka_unit_test(virsh_start_behind_our_back_is_refused_with_our_reason),
            cmocka_unit_test(pause_releases_and_resume_asks_again),
            cmocka_unit_test(guests_of_others_are_let_through),
            cmocka_unit_test(no_hostd_means_no),
            cmocka_unit_test(guest_that_powers_off_tells_so),
            cmocka_unit_test(answer_comes_from_the_lease_of_the_same_guest),
            cmocka_unit_test(killed_qemu_is_seen_and_gone),
            cmocka_unit_test(process_that_cannot_be_read_holds_up_nobody),
            cmocka_unit_test(start_waits_for_the_second_lock_and_gives_up),
            cmocka_unit_test(second_lock_ends_with_its_qemu),
            cmocka_unit_test(second_lock_ends_with_libvirtd),
            cmocka_unit_test(migration_asks_in_order_and_commits_after_the_source_is_done),
            cmocka_unit_test(refused_destination_leaves_the_source_running),
            cmocka_unit_test(both_refused_leaves_nobody_running),
            cmocka_unit_test(guest_of_an_older_hostd_moves_to_a_screen_of_its_own),
            cmocka_unit_test(disk_opened_by_name_dies_of_the_claim_and_by_link_lives),
            cmocka_unit_test(eight_long_moves_leave_the_connection_alive),
            cmocka_unit_test(cancelled_migration_never_has_two_runners),
            cmocka_unit_test(destination_qemu_killed_at_the_switchover),
            cmocka_unit_test(source_libvirtd_killed_at_the_switchover),
            cmocka_unit_test(destination_libvirtd_killed_before_the_claim),
            cmocka_unit_test(destination_libvirtd_killed_after_the_claim),
        };

        if (argc < 3) {
                fprintf(stderr, "usage: virt-stories FOLDER QEMU-USER [PATTERN]\n");
                return 2;
        }
        if (argc > 3)
                cmocka_set_test_filter(argv[3]);
        setvbuf(stdout, NULL, _IOLBF, 0);
        signal(SIGPIPE, SIG_IGN); /* as hostd: libvirt's client writes to a libvirtd that was killed */
        arguments = argv;
        return cmocka_run_group_tests(stories, open_lab, close_lab);
}
