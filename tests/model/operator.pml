// SPDX-License-Identifier: Apache-2.0
// The last resort: `resolve`, `salvage` and booting again, by a person who knows what README.md
// assumes of him.

/* resolve --keep source, on the source; the destination is dead, or has been resolved or salvaged
   before. */
inline keep_source() {
    atomic {
        assert(d_gone || !d_memory || d_state == salvaged);
        source_writes(r_reclaimed, s_epoch + 1);
        s_epoch = s_epoch + 1;
        if
        :: ARBITER -> a_record = r_reclaimed; a_epoch = s_epoch /* with --fenced */
        :: !ARBITER
        fi;
        if
        :: s_memory && s_current -> source_starts(true)
        /* It ran on the dead host for a while: what is here is older, and he knows. */
        :: s_memory && !s_current -> source_starts(false)
        :: !s_memory -> source_starts(false)
        fi;
        s_state = reclaimed
    }
}
/* resolve --keep source, on the destination. */
inline give_up_destination() {
    atomic {
        d_memory = false;
        d_current = false;
        destination_writes(r_abandoned, d_epoch);
        d_state = abandoned
    }
}
/* resolve --keep destination, on the destination; the source is dead and did not go on after it
   stopped for the hand-over, or has been resolved before. */
inline keep_destination() {
    atomic {
        assert(!ARBITER && (s_gone || !s_memory));
        destination_writes(r_running, d_epoch);
        destination_starts(true);
        d_state = done
    }
}
/* resolve --keep destination, on the source. */
inline give_up_source() {
    atomic {
        source_writes(r_handed_off, s_epoch);
        s_memory = false;
        s_current = false;
        s_state = handed_off
    }
}
/* salvage: a side's half is written only after its disk says that it never runs again. */
inline salvage_source() {
    atomic {
        source_writes(r_salvaged, s_epoch + 1);
        s_state = salvaged
    }
}
inline salvage_destination() {
    atomic {
        d_runs = false;
        destination_writes(r_salvaged, d_epoch + 1);
        d_state = salvaged
    }
}

#define HAS_ONLY_ITS_NAME (s_up && !s_memory && s_record == r_committed && \
    (s_state == in_doubt || s_state == split))
inline careful_operator() {
    do
#if HYBRID
    :: atomic { d_up && (d_state == faulting || d_state == split || d_state == lost) } ->
        salvage_destination()
    :: atomic { s_up && s_memory && (s_state == serving || s_state == split) &&
            (d_gone || d_state == salvaged) } ->
        salvage_source()
    :: atomic { s_up && s_memory && s_state == in_doubt && s_record == r_committed &&
            d_state == salvaged } ->
        salvage_source()
    /* Of the VM nothing is here but its name. */
    :: atomic { HAS_ONLY_ITS_NAME && d_up &&
            (d_state == split || d_state == salvaged || d_state == done) } ->
        give_up_source()
    :: atomic { HAS_ONLY_ITS_NAME && !elsewhere_runs && (d_gone || d_state == salvaged) } ->
        keep_source()
    /* One image of both halves, or the source's alone (as it was at the switch), or booted again. */
    :: atomic { !elsewhere_runs && (s_gone || s_state == salvaged || s_state == handed_off) &&
            (d_gone || d_state == salvaged) && (s_state == salvaged || d_state == salvaged) } ->
        atomic { starts_elsewhere() }
#endif
    :: atomic { s_up && s_state == in_doubt && d_up && d_state == done } -> give_up_source()
    :: atomic { s_up && s_state == in_doubt && d_gone } -> keep_source()
    :: atomic { d_up && d_state == in_doubt && s_up && s_runs } -> give_up_destination()
    :: atomic { d_up && d_state == in_doubt && s_gone && d_current } -> keep_destination()
    :: atomic { d_up && d_state == in_doubt && s_gone && !d_current } -> give_up_destination()
    /* Both stand still and cannot hear each other: he keeps either, and tells the other one first. */
    :: atomic { (NO_JOURNALS || !link_up) && d_up && d_state == in_doubt && s_up && s_state == in_doubt } ->
        if
        :: give_up_destination()
        :: give_up_source();
            keep_destination()
        fi
    :: atomic { (NO_JOURNALS || !link_up) && s_up && s_state == in_doubt && d_up &&
            (d_state == idle || d_state == abandoned) } ->
        keep_source()
    /* The VM died with its host. It is booted elsewhere. */
    :: atomic { !elsewhere_runs && s_gone && (d_gone || d_state == idle || d_state == abandoned) } ->
        atomic { starts_elsewhere() }
    :: atomic { !elsewhere_runs && d_gone && s_up && s_state == handed_off } ->
        atomic { starts_elsewhere() }
    :: timeout -> break
    od
}
