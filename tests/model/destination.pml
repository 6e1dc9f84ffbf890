// SPDX-License-Identifier: Apache-2.0
// The destination.

#define WAITS (d_up && (d_state == accepted || (!NO_JOURNALS && d_state == in_doubt)))
#define HAS_RUN_IT (d_up && (d_state == done || d_state == faulting || d_state == split))

/* Someone asks about an epoch of which there is no copy here: no, durably, before it is said. */
inline destination_hears_of(message, epoch) {
    atomic { !NO_JOURNALS && d_up && ON_WIRE(message, epoch) && epoch >= d_epoch &&
            (d_state == idle || d_state == abandoned) ->
        take(message, epoch);
        if
        :: d_record == r_abandoned && d_record_epoch == epoch -> send(m_refused, epoch)
        :: else -> d_epoch = epoch; d_state = abandoning
        fi }
}
inline destination_is_offered(epoch) {
    atomic { d_up && ON_WIRE(m_offer, epoch) ->
        take(m_offer, epoch);
        if
        :: (d_state == idle || d_state == abandoned) && epoch > d_record_epoch ->
            d_epoch = epoch;
            d_memory = true;
            d_current = offer_current[epoch / 2];
            d_state = loaded
        :: (d_state == accepted || d_state == in_doubt) && epoch > d_epoch ->
            d_state = abandoning /* a newer offer proves that the old one was taken back */
        :: else
        fi }
}

inline destination_tells() {
    if
    :: d_state == faulting ->
        send(m_running, d_epoch);
#if HYBRID
        send(m_bitmap, d_epoch);
        bitmap[0] = d_has[0];
        bitmap[1] = d_has[1]
#endif
    :: HYBRID && d_state == done -> send(m_complete, d_epoch)
    :: else -> send(m_running, d_epoch)
    fi
}
#if HYBRID
/* A page is placed once: a second one is older than what the guest has written since. */
inline destination_places(page) {
    assert(!d_has[page]);
    d_has[page] = true
}
inline destination_takes_page(page) {
    atomic { d_up && d_state == faulting && ON_WIRE(m_page + page, d_epoch) ->
        take(m_page + page, d_epoch);
        if
        :: !d_has[page] -> destination_places(page)
        :: else
        fi }
}
#endif

active proctype Destination() {
end:
    do
    :: destination_is_offered(1)
#if ATTEMPTS > 1
    :: destination_is_offered(3)
#endif
    /* Loaded. A failure, a cancel and a time-out lead to `abandoning`, until it has accepted. */
    :: atomic { d_up && d_state == loaded -> d_state = abandoning }
    :: atomic { d_up && d_state == loaded ->
        destination_writes(r_accepted, d_epoch);
        d_state = accepting }
    :: atomic { d_up && d_state == loaded && disk_faults > 0 ->
        disk_faults--;
        if
        :: destination_writes(r_accepted, d_epoch)
        :: skip
        fi;
        d_state = abandoning }
    :: atomic { d_up && d_state == accepting ->
        send(m_accept, d_epoch);
        d_state = accepted }
    :: atomic { d_up && d_state == accepted -> d_state = in_doubt }

    /* COMMITTED(e) is known: by the source's word, or (the commit point with an arbiter) by a
       compare-and-swap of our own. */
    :: atomic { !ARBITER && WAITS && d_memory && ON_WIRE(m_commit, d_epoch) ->
        take(m_commit, d_epoch);
        d_state = starting }
    :: atomic { ARBITER && WAITS && d_reaches && d_request == r_none &&
            ARBITER_SAYS(r_offered, d_epoch) ->
        destination_requests(r_committed, d_epoch) }
    :: atomic { ARBITER && WAITS && d_reaches && ARBITER_SAYS(r_committed, d_epoch) ->
        d_state = starting }
    :: atomic { d_up && d_state == starting ->
        destination_writes(r_running, d_epoch);
        d_state = launching }
    :: atomic { d_up && d_state == starting && disk_faults > 0 ->
        disk_faults--;
        if
        :: destination_writes(r_running, d_epoch)
        :: skip
        fi }
    :: atomic { d_up && d_state == launching ->
        destination_starts(true);
        send(m_running, d_epoch);
        if
        :: !HYBRID -> d_state = done
        :: HYBRID -> d_state = faulting
        fi }

    /* `resolve --keep source`, by anyone at any time: it never ran here, and the source hears so. */
    :: atomic { !NO_JOURNALS && d_up && d_state == in_doubt && d_record == r_accepted ->
        d_state = abandoning }

    /* The source has it: what is here is old, or will be. */
    :: atomic { WAITS && ON_WIRE(m_took_back, d_epoch) ->
        take(m_took_back, d_epoch);
        d_state = abandoning }
    :: atomic { ARBITER && WAITS && d_reaches && a_epoch > d_epoch -> d_state = abandoning }
    :: atomic { d_up && d_state == abandoning ->
        d_memory = false;
        d_current = false;
        destination_writes(r_abandoned, d_epoch);
        send(m_refused, d_epoch);
        d_state = abandoned }
    :: atomic { d_up && d_state == abandoning && disk_faults > 0 ->
        disk_faults--;
        d_memory = false;
        d_current = false;
        if
        :: destination_writes(r_abandoned, d_epoch)
        :: skip
        fi }
    /* With an arbiter what was won and cannot be used is given back. */
    :: atomic { ARBITER && d_up && d_state == abandoned && d_reaches && d_request == r_none &&
            d_record == r_abandoned &&
            (ARBITER_SAYS(r_offered, d_record_epoch) || ARBITER_SAYS(r_committed, d_record_epoch)) ->
        destination_requests(r_reclaimed, d_record_epoch + 1) }

    /* After a cut, and to who asks late. */
    :: atomic { d_up && d_reconnected && link_up ->
        d_reconnected = false;
        if
        :: d_state == accepted || d_state == in_doubt -> send(m_accept, d_epoch)
        :: d_state == lost -> send(m_lost, d_epoch)
        :: else
        fi }
    :: atomic { !NO_JOURNALS && WAITS && ON_WIRE(m_ask, d_epoch) ->
        take(m_ask, d_epoch);
        send(m_accept, d_epoch) }
    :: destination_hears_of(m_commit, 1)
    :: destination_hears_of(m_ask, 1)
#if ATTEMPTS > 1
    :: destination_hears_of(m_commit, 3)
    :: destination_hears_of(m_ask, 3)
#endif
    :: atomic { HAS_RUN_IT && !NO_JOURNALS && (ON_WIRE(m_commit, d_epoch) || ON_WIRE(m_ask, d_epoch)) ->
        if
        :: ON_WIRE(m_commit, d_epoch) -> take(m_commit, d_epoch)
        :: ON_WIRE(m_ask, d_epoch) -> take(m_ask, d_epoch)
        fi;
        destination_tells() }
    :: atomic { d_up && d_state == lost && (ON_WIRE(m_commit, d_epoch) || ON_WIRE(m_ask, d_epoch)) ->
        if
        :: ON_WIRE(m_commit, d_epoch) -> take(m_commit, d_epoch)
        :: ON_WIRE(m_ask, d_epoch) -> take(m_ask, d_epoch)
        fi;
        send(m_lost, d_epoch) }

    /* It ran here and died here with its process. Without pages on two hosts: booted again. */
    :: atomic { d_up && !HYBRID && d_state == lost ->
        destination_starts(false);
        d_state = done }

#if HYBRID
    :: destination_takes_page(0)
    :: destination_takes_page(1)
    :: atomic { d_up && d_state == faulting && d_has[0] && d_has[1] ->
        destination_writes(r_done, d_epoch);
        send(m_complete, d_epoch);
        d_state = done }
    :: atomic { d_up && d_state == faulting && ON_WIRE(m_pages_lost, d_epoch) ->
        take(m_pages_lost, d_epoch);
        d_runs = false;
        d_state = split }
#endif
    od
}
