# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# shellcheck disable=SC2034 # read by the demo's other parts
#
# Steps of the demo: each is a function that either ends well or ends the program; one line on the terminal and one entry in the
# JSON document for each. A step's function sets `detail`, what was checked and found.

steps_json=            # file for the document; empty: none
steps_failed=0
steps_list=()          # one JSON object a step
declare -A steps_figure=([failover_s]=null [downtime_ms]=null [migrate_s]=null [launch_s]=null)
step_name='' step_title='' step_start=0
detail=''

# Milliseconds of the clock that only goes forward.
now_ms() {
        local up
        read -r up _ </proc/uptime
        echo $((10#${up/./} * 10))
}

# seconds MS: with two decimals.
seconds() {
        printf '%d.%02d' $(($1 / 1000)) $(($1 % 1000 / 10))
}

# step NAME TITLE FUNCTION. The function runs under `set -e` in this shell; the trap on EXIT sees a step that was cut short.
step() {
        step_name=$1 step_title=$2 step_start=$(now_ms) detail=''
        "$3"
        step_end true ok
}

step_end() {
        local took
        took=$(seconds $(($(now_ms) - step_start)))
        printf '%-4s  %-32s %6s s   %s\n' "$2" "$step_title" "$took" "$detail"
        steps_list+=("$(jq -n --arg name "$step_name" --argjson ok "$1" --argjson seconds "$took" --arg detail "$detail" \
                '{name: $name, ok: $ok, seconds: $seconds, detail: $detail}')")
        step_name=''
}

# fail TEXT: a check did not hold.
fail() {
        detail=$*
        exit 1
}

# For the trap on EXIT: whatever ended the program ended the step that was running.
steps_fail() {
        steps_failed=1
        [[ -n $step_name ]] || return 0
        [[ -n $detail ]] || detail="cut short"
        step_end false FAIL
}

# figure NAME NUMBER: a measured value of the document.
figure() {
        steps_figure[$1]=$2
}

steps_write() {
        [[ -n $steps_json ]] || return 0
        printf '%s\n' "${steps_list[@]}" | jq -s --arg store "$1" --argjson failover_s "${steps_figure[failover_s]}" \
                --argjson downtime_ms "${steps_figure[downtime_ms]}" --argjson migrate_s "${steps_figure[migrate_s]}" \
                --argjson launch_s "${steps_figure[launch_s]}" \
                '{store: $store, failover_s: $failover_s, downtime_ms: $downtime_ms, migrate_s: $migrate_s, launch_s: $launch_s,
                        steps: .}' >"$steps_json.new"
        mv "$steps_json.new" "$steps_json"
}

# wait_until SECONDS COMMAND...: until it succeeds; 1 when the time is over.
wait_until() {
        local deadline=$(($(now_ms) + $1 * 1000))
        shift
        until "$@" >/dev/null 2>&1; do
                (($(now_ms) < deadline)) || return 1
                sleep 0.05
        done
}
