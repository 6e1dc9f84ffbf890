#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A stock Debian kernel with two vCPUs moves five times between two wherry processes; its heartbeat must go on.
. /lab/scenario_library.sh

cmdline="console=ttyS0 quiet loglevel=4 tsc=reliable mitigations=off panic=-1"
consoles=/tmp/console.stamped

only_running() {
    wherry ps >/tmp/ps.out || return 1
    awk -v name="$1" -v gone="$2" '
        $1 == gone { bad = 1 }
        $1 == name && /running/ { found = 1 }
        END { exit !(found && !bad) }' /tmp/ps.out
}

migrate_to_next() {
    previous=$1 next=$2 port=$3
    ahead_of_others wherry receive --name "$next" --listen "127.0.0.1:$port" --tls /pki --serial "file:/tmp/$next.log" \
        >"/tmp/$next.out.log" 2>&1 &
    wait_until 120 "listener of $next" listens "$port"
    say "migrating $previous to $next after heartbeat $(newest_beat "$consoles")"
    # An emulated host may be slower than any prediction: the move has to be right here, not quick.
    timeout 300 wherry migrate "$previous" --to "127.0.0.1:$port" --tls /pki --downtime 400ms --on-stall stop \
        >"/tmp/migrate-$next.log" 2>&1
    code=$?
    tail -n 3 "/tmp/migrate-$next.log"
    [ "$code" -ne 143 ] || fail "wherry migrate $previous had not ended after 300 s"
    [ "$code" -eq 0 ] || fail "wherry migrate $previous ended with $code"
    wait_until 120 "sight of $next alone and running in wherry ps" only_running "$next" "$previous"
    wait_until 120 "further heartbeats on $next" beat_reached "$consoles" $(($(newest_beat "$consoles") + 15))
}

wherry pki init /pki --host localhost,127.0.0.1 || fail "wherry pki init ended with $?"
started=$(now)
ahead_of_others wherry run --name a --memory 256M --cpus 2 --kernel /guest/vmlinuz --initrd /guest/initrd --cmdline "$cmdline" \
    --serial file:/tmp/a.log >/tmp/a.out.log 2>&1 &
ahead_of_others /lab/follow_console /tmp/a.log /tmp/b.log /tmp/c.log /tmp/d.log /tmp/e.log /tmp/f.log >"$consoles" &
wait_until 300 "heartbeat of the guest" beat_reached "$consoles" 10
say "guest up; wherry was started at $started"

port=7461
previous=a
for next in b c d e f; do
    migrate_to_next "$previous" "$next" "$port"
    previous=$next
    port=$((port + 1))
done

# The guest reports on its kernel log every few seconds. A gap is a hang here, not a blackout: how long that is depends on
# what else the machine does.
moved_at=$(newest_beat "$consoles")
wait_until 300 "report after the last move" beat_reached "$consoles" $((moved_at + 55))
awk -f /lab/heartbeat.awk -v min_beats=100 -v max_gap=60 -v report_after="$moved_at" "$consoles" ||
    fail "the guest felt the moves"
