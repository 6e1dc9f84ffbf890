// SPDX-License-Identifier: Apache-2.0
// What goes wrong, the arbiter, and people.

bool calm = false; /* nothing goes wrong or is repaired by itself any more */

inline lose_some() {
    lost_so_far = 0;
    do
    :: lost_so_far < WIRES && wire[lost_so_far] ->
        if
        :: wire[lost_so_far] = false
        :: skip
        fi;
        lost_so_far++
    :: lost_so_far < WIRES && !wire[lost_so_far] -> lost_so_far++
    :: lost_so_far == WIRES -> break
    od;
    lost_so_far = 0
}
inline heal_link() {
    link_up = true;
    s_reconnected = true;
    d_reconnected = true
}
inline restart_source() {
    s_up = true;
    s_epoch = s_record_epoch;
    s_offered = ARBITER; /* only there it makes a difference */
    heal_link();
    if
    :: s_record == r_none || s_record == r_reclaimed -> s_state = lost
    :: s_record == r_offered || s_record == r_committed -> s_state = in_doubt
    :: s_record == r_handed_off -> s_state = handed_off
    :: s_record == r_salvaged -> s_state = salvaged
    fi
}
inline restart_destination() {
    d_up = true;
    d_epoch = d_record_epoch;
    heal_link();
    if
    :: d_record == r_none -> d_state = idle
    :: d_record == r_accepted -> d_state = abandoning /* never ran, and its copy is gone */
    :: d_record == r_abandoned -> d_state = abandoned
    :: d_record == r_running || d_record == r_done -> d_state = lost
    :: d_record == r_salvaged -> d_state = salvaged
    fi
}

active proctype Faults() {
    byte cuts = CUTS, d_crashes = CRASHES;
    byte s_arbiter_cuts = ARBITER_CUTS, d_arbiter_cuts = ARBITER_CUTS;
    byte lost_so_far = 0;
    do
    :: atomic { cuts > 0 && link_up ->
        cuts--;
        link_up = false;
        lose_some() }
    :: atomic { !link_up && !NO_JOURNALS && s_up && d_up -> heal_link() }
    :: atomic { s_crashes > 0 && s_up ->
        s_crashes--;
        s_up = false;
        s_gone = NO_JOURNALS;
        s_runs = false;
        s_memory = false;
        s_current = false;
        s_reconnected = false;
        s_sent[0] = false;
        s_sent[1] = false;
        s_state = precopy;
        link_up = false;
        lose_some() }
    :: atomic { !s_up && !NO_JOURNALS -> restart_source() }
    :: atomic { d_crashes > 0 && d_up ->
        d_crashes--;
        d_up = false;
        d_gone = NO_JOURNALS;
        d_runs = false;
        d_memory = false;
        d_current = false;
        d_reconnected = false;
        d_has[0] = false;
        d_has[1] = false;
        d_state = idle;
        link_up = false;
        lose_some() }
    :: atomic { !d_up && !NO_JOURNALS -> restart_destination() }
#if ARBITER
    :: atomic { s_arbiter_cuts > 0 && s_reaches ->
        s_arbiter_cuts--;
        s_reaches = false;
        if
        :: s_request = r_none; s_request_epoch = 0 /* lost; else it arrives later */
        :: skip
        fi }
    :: atomic { !s_reaches -> s_reaches = true }
    :: atomic { d_arbiter_cuts > 0 && d_reaches ->
        d_arbiter_cuts--;
        d_reaches = false;
        if
        :: d_request = r_none; d_request_epoch = 0
        :: skip
        fi }
    :: atomic { !d_reaches -> d_reaches = true }
#endif
    :: atomic { calm = true; disk_faults = 0; duplicates = 0; break }
    od
}

#if ARBITER
/* Which change may follow which. Who asks does not matter. */
#define MAY_FOLLOW(record, epoch) \
    (((record) == r_offered && (epoch) % 2 == 1 && a_epoch < (epoch)) || \
     ((record) == r_committed && ARBITER_SAYS(r_offered, epoch)) || \
     ((record) == r_reclaimed && ((a_epoch + 1 < (epoch)) || ARBITER_SAYS(r_offered, (epoch) - 1))))
active proctype Arbiter() {
end:
    do
    :: atomic { s_request != r_none ->
        if
        :: MAY_FOLLOW(s_request, s_request_epoch) -> a_record = s_request; a_epoch = s_request_epoch
        :: else
        fi;
        s_request = r_none;
        s_request_epoch = 0 }
    :: atomic { d_request != r_none ->
        if
        :: MAY_FOLLOW(d_request, d_request_epoch) ||
                /* Only the owner gives back what was committed to it. */
                (d_request == r_reclaimed && ARBITER_SAYS(r_committed, d_request_epoch - 1)) ->
            a_record = d_request;
            a_epoch = d_request_epoch
        :: else
        fi;
        d_request = r_none;
        d_request_epoch = 0 }
    od
}

/* `wherry resolve` on the source with an arbiter, by someone who may be wrong, at any time. (Keeping
   the source is what it tries by itself; destination.pml has the same for the other side.) */
active proctype CarelessOperator() {
end:
    do
    :: atomic { s_up && s_state == in_doubt && s_record == r_offered && s_reaches &&
            s_request == r_none && ARBITER_SAYS(r_offered, s_epoch) ->
        source_requests(r_committed, s_epoch) /* --keep destination */ }
    od
}
#endif

/* What the VM's state is called where no one runs it. */
#define SOURCE_SAYS_WHY (s_up && (s_state == in_doubt || s_state == split || s_state == lost || \
    s_state == salvaged))
#define DESTINATION_SAYS_WHY (d_up && (d_state == in_doubt || d_state == split || d_state == lost || \
    d_state == salvaged))
#define RUNS_ONCE (s_runs + d_runs + elsewhere_runs == 1)
/* A host that is down is a reason too, if it has the VM. */
#define HAD_IT_AT_SOURCE (!s_up && s_record != r_handed_off)
#define HAD_IT_AT_DESTINATION (!d_up && (d_record == r_running || d_record == r_done))
#define NAMED (RUNS_ONCE || SOURCE_SAYS_WHY || DESTINATION_SAYS_WHY || HAD_IT_AT_SOURCE || \
    HAD_IT_AT_DESTINATION)

#ifndef NO_OBSERVER
/* Looks whenever nothing moves by itself any more. */
active proctype Observer() {
    /* Some things are down, unreachable or cut off. */
    atomic { timeout -> assert(NAMED) };
    /* They come back, but what does not. */
    atomic {
        s_reaches = true;
        d_reaches = true;
        if
        :: s_up
        :: !s_up && !NO_JOURNALS -> restart_source()
        :: !s_up -> s_gone = true
        fi;
        if
        :: d_up
        :: !d_up && !NO_JOURNALS -> restart_destination()
        :: !d_up -> d_gone = true
        fi;
        if
        :: s_up && d_up && !link_up && !NO_JOURNALS -> heal_link()
        :: s_up && d_up && link_up
        :: !link_up || !s_up || !d_up
        fi
    };
    atomic { timeout ->
        assert(NAMED);
        /* No one needs to be asked where both sides live and reach each other. */
        assert(NO_JOURNALS || s_gone || d_gone || !link_up || (s_state != in_doubt && d_state != in_doubt));
        assert(NO_JOURNALS || s_gone || d_gone || !link_up || d_state != faulting);
        assert(NO_JOURNALS || HYBRID || s_gone || d_gone || !link_up || RUNS_ONCE)
    };
    careful_operator();
    /* Whatever happened: in one place, and no one else holds anything that could run. */
    atomic { timeout -> assert(RUNS_ONCE);
        assert(!(s_up && s_state == in_doubt) && !(d_up && d_state == in_doubt));
        assert(!(d_up && d_state == faulting) && !(s_up && s_state == split)) }
}
#endif
