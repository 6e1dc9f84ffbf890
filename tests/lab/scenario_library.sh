# SPDX-License-Identifier: Apache-2.0
# What scenarios share. Sourced; works in the lab host's busybox shell.

now() {
    read -r uptime _ </proc/uptime
    echo "$uptime"
}

say() {
    echo "[$(now)] $*"
}

# Ends the scenario, with the end of every log in /tmp.
fail() {
    say "FAILED: $*"
    for log in /tmp/*.log; do
        [ -s "$log" ] || continue
        echo "--- last lines of $log"
        tail -n "${log_lines:-25}" "$log"
    done
    echo "--- last lines of the host's kernel log"
    dmesg | tail -n 10
    exit 1
}

# wait_until SECONDS WHAT COMMAND...: fails the scenario when the command has not succeeded by then.
wait_until() {
    limit=$1 what=$2
    shift 2
    read -r uptime _ </proc/uptime
    deadline=$((${uptime%.*} + limit))
    # A look costs several processes, which are slow here and take time from the guest under test.
    until "$@"; do
        read -r uptime _ </proc/uptime
        [ "${uptime%.*}" -lt "$deadline" ] || fail "no $what within $limit s"
        sleep 0.5
    done
}

# Runs a command ahead of all others: the guest must not wait for the only CPU, nor who observes it.
ahead_of_others() {
    sh -c 'renice -n -19 -p $$ >/dev/null; exec "$@"' sh "$@"
}

listens() {
    grep -q "$(printf ':%04X 00000000:0000 0A' "$1")" /proc/net/tcp
}

# The number of the newest complete heartbeat in a stamped console; 0 before the first.
newest_beat() {
    sed -n 's/^[0-9.]* heartbeat n=\([0-9]*\) uptime=[0-9.]*\r*$/\1/p' "$1" | tail -n 1 | grep . || echo 0
}

beat_reached() {
    [ "$(newest_beat "$1")" -ge "$2" ]
}
