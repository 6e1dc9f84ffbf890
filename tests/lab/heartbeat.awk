# SPDX-License-Identifier: Apache-2.0
# Judges a guest's console: lines "<seconds of the observer's clock> <text>", as follow_console writes them.
# Variables: min_beats; max_gap (s), for the guest's clock between two heartbeats, and for how much more than that the
# observer saw pass; report_after, the heartbeat after which the guest must once have reported on its kernel log.
# Exit code 1 when anything is wrong; every finding is printed.

function finding(text) {
    print "heartbeat: " text " (line " NR ": " $0 ")"
    findings++
}

function check_gaps(wall, uptime) {
    guest_gap = uptime - last_uptime
    wall_gap = wall - last_wall
    if (guest_gap < 0) finding("the guest's clock went back by " (-guest_gap) " s")
    if (guest_gap > max_gap) finding("gap of " guest_gap " s on the guest's clock")
    if (wall_gap - guest_gap > max_gap) finding("gap of " wall_gap " s, " guest_gap " s on the guest's clock")
    if (guest_gap > largest_guest_gap) largest_guest_gap = guest_gap
    if (wall_gap > largest_wall_gap) largest_wall_gap = wall_gap
}

{ sub(/\r$/, "") }

/heartbeat/ {
    if ($0 !~ /^[0-9.]+ heartbeat n=[0-9]+ uptime=[0-9]+\.[0-9]+$/) { finding("damaged heartbeat"); next }
    n = substr($3, 3) + 0
    uptime = substr($4, 8) + 0
    if (n != beats + 1) finding("heartbeat " n " follows " beats)
    if (beats > 0) check_gaps($1 + 0, uptime)
    beats = n
    last_wall = $1 + 0
    last_uptime = uptime
    next
}

/ dmesg lines=[0-9]+ complaints=[0-9]+$/ {
    reported_at = beats
    if ($0 !~ / complaints=0$/) finding("the guest's kernel complains")
    next
}

/complaint:|Kernel panic|Call Trace|WARNING: CPU|BUG:|soft lockup|rcu.*stall/ { finding("complaint") }

END {
    if (beats < min_beats) finding("only " beats + 0 " heartbeats, expected " min_beats)
    if (reported_at <= report_after) finding("no report on the kernel log after heartbeat " report_after)
    printf "heartbeat: %d heartbeats, largest gap %.2f s guest, %.2f s observed, %d findings\n",
        beats, largest_guest_gap, largest_wall_gap, findings
    exit findings > 0
}
