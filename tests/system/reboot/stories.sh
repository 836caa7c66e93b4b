# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash

story_a_button_pressed_on_the_host_is_nobodys_wish() {
        local before
        given web h1
        before=$(where web)
        on h1 virsh -q shutdown wherry-web
        soon "another QEMU of it runs: $(where web)" 90 another_runs_on web h1 "$before"
        wanted_is web running
}

story_the_guests_own_poweroff_is_its_wish() {
        given web h1
        in_guest web h1 poweroff || :
        soon "it is wanted stopped" 60 wanted_is web stopped
        stays 4 no_qemu web
        wherry start web >/dev/null
}

story_a_users_stop_is_a_wish() {
        given web h1
        wherry stop web --timeout 120 >/dev/null
        no_qemu web
        wanted_is web stopped
        stays 4 no_qemu web
        wherry start web >/dev/null
}

story_a_restart_of_hostd_leaves_its_guests_alone() {
        local before
        given web h1
        before=$(where web)
        on h1 systemctl restart hostd
        stays 4 test "$(where web)" = "$before"
        [[ $(events host-leaving) == 0 ]]
        soon "both hosts are alive" 20 hosts_alive 2
}

move_is_done() {
        [[ $(instance_field "$1" '.status.move.state') == "done" ]]
}

# One with so much memory that it cannot be sent in time: it stops here and starts there.
story_a_reboot_hands_the_guests_on() {
        local boot
        given web h1
        given big h1 --memory 3G
        boot=$(boot_of h1)
        on h1 systemctl reboot
        soon "web runs on h2" 60 runs_on web h2
        soon "big runs on h2" 90 runs_on big h2
        soon "web has moved live" 10 move_is_done web
        [[ $(instance_field big '.status.move.serial // 0') == 0 ]] || fail "big was to be stopped and started"
        wanted_is web running
        wanted_is big running
        soon "h1 is back" 120 booted_anew h1 "$boot"
        soon "both hosts are alive" 60 hosts_alive 2
        stays 5 runs_on web h2
        [[ $(events instance-off) -le 1 ]] || fail "a guest was taken for switched off" # the story above had one
}

story_a_host_in_maintenance_keeps_its_guests() {
        local boot
        given web h2
        given big h2 --memory 3G
        boot=$(boot_of h2)
        wherry host maintenance h2 on >/dev/null
        on h2 systemctl reboot
        soon "h2 is back" 180 booted_anew h2 "$boot"
        soon "web runs there again" 60 runs_on web h2
        soon "big runs there again" 60 runs_on big h2
        wherry host maintenance h2 off >/dev/null
        soon "both hosts are alive" 60 hosts_alive 2
}

story_a_host_that_is_alone_has_its_guests_back_after_its_reboot() {
        local boot
        given web h2
        given big h2 --memory 3G
        on h1 systemctl poweroff
        soon "h1 is off" 60 not leader h1
        boot=$(boot_of h2)
        on h2 systemctl reboot
        soon "h2 is back" 180 booted_anew h2 "$boot"
        soon "web runs there again" 60 runs_on web h2
        soon "big runs there again" 60 runs_on big h2
        wanted_is web running
        wanted_is big running
}
