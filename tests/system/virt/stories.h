/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* stories-start.c */
void libvirtd_without_the_driver_is_refused(void **state);
void host_says_what_it_has(void **state);
void guest_starts_when_the_gate_says_yes(void **state);
void virsh_start_behind_our_back_is_refused_with_our_reason(void **state);
void pause_releases_and_resume_asks_again(void **state);
void guests_of_others_are_let_through(void **state);
void no_hostd_means_no(void **state);
void guest_that_powers_off_tells_so(void **state);
void answer_comes_from_the_lease_of_the_same_guest(void **state);
void killed_qemu_is_seen_and_gone(void **state);

/* stories-many.c */
void eight_long_moves_leave_the_connection_alive(void **state);

/* stories-process.c */
void process_that_cannot_be_read_holds_up_nobody(void **state);

/* stories-lock.c */
void start_waits_for_the_second_lock_and_gives_up(void **state);
void second_lock_ends_with_its_qemu(void **state);
void second_lock_ends_with_libvirtd(void **state);

/* stories-migrate.c */
void migration_asks_in_order_and_commits_after_the_source_is_done(void **state);
void refused_destination_leaves_the_source_running(void **state);
void both_refused_leaves_nobody_running(void **state);
void guest_of_an_older_hostd_moves_to_a_screen_of_its_own(void **state);
void disk_opened_by_name_dies_of_the_claim_and_by_link_lives(void **state);

/* stories-crash.c */
void cancelled_migration_never_has_two_runners(void **state);
void destination_qemu_killed_at_the_switchover(void **state);
void source_libvirtd_killed_at_the_switchover(void **state);
void destination_libvirtd_killed_before_the_claim(void **state);
void destination_libvirtd_killed_after_the_claim(void **state);

/* stories-store.c */
void nfs_disk_carries_a_user_for_each_layer(void **state);
void nfs_guest_moves_with_a_grant_and_stops_when_fenced(void **state);
void rbd_disk_names_monitors_user_and_secret(void **state);
