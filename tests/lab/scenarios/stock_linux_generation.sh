#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# guest needs: CONFIG_VMGENID
# A stock Debian kernel hears that it was restored as another VM, and makes its random numbers anew; a migration it does not
# hear of.
. /lab/scenario_library.sh

cmdline="console=ttyS0 quiet loglevel=4 tsc=reliable mitigations=off panic=-1 random.trust_cpu=on"

# The last number of forks that the guest reported on this console.
forks() {
    [ ! -e "$1" ] || sed -n 's/^forks n=\([0-9]*\)\r*$/\1/p' "$1" | tail -n 1
}

has_forks() {
    [ "$(forks "$1")" = "$2" ]
}

generation_of() {
    wherry status "$1" --json >/tmp/status.out || fail "wherry status $1 ended with $?"
    sed 's/.*"generation_id": *"\([0-9a-f]*\)".*/\1/' /tmp/status.out
}

# Starts a VM of the image under a name of its own, and waits until its kernel has said that it is another one.
restore_as() {
    name=$1
    shift
    ahead_of_others wherry restore /tmp/a.wimg --name "$name" --serial "file:/tmp/$name.log" "$@" >"/tmp/$name.out.log" 2>&1 &
    wait_until 300 "word of $name that it is another VM" has_forks "/tmp/$name.log" 1
    say "$name ($*) has heard: $(grep 'fork: ' "/tmp/$name.log" | tail -n 1)"
    generation_of "$name" >"/tmp/$name.generation"
}

wherry pki init /pki --host localhost,127.0.0.1 || fail "wherry pki init ended with $?"
ahead_of_others wherry run --name a --memory 256M --kernel /guest/vmlinuz --initrd /guest/initrd --cmdline "$cmdline" \
    --serial file:/tmp/a.log >/tmp/a.out.log 2>&1 &
wait_until 300 "report of the guest" has_forks /tmp/a.log 0
generation_of a >/tmp/a.generation
timeout 300 wherry snapshot a /tmp/a.wimg >/tmp/snapshot.log 2>&1 || fail "wherry snapshot ended with $?"

ahead_of_others wherry receive --name m --listen 127.0.0.1:7461 --tls /pki --serial file:/tmp/m.log >/tmp/m.out.log 2>&1 &
wait_until 120 "listener of m" listens 7461
timeout 300 wherry migrate a --to 127.0.0.1:7461 --tls /pki --downtime 400ms --on-stall stop >/tmp/migrate.log 2>&1 ||
    fail "wherry migrate ended with $?"
wait_until 300 "report of the guest that moved" has_forks /tmp/m.log 0
generation_of m | cmp -s - /tmp/a.generation || fail "a move has changed the generation id"
wherry kill m || fail "wherry kill ended with $?"

restore_as b
wherry kill b || fail "wherry kill ended with $?"
restore_as c --lazy
[ "$(cat /tmp/[abc].generation | sort -u | wc -l)" -eq 3 ] || fail "generation ids of different VMs are equal"
