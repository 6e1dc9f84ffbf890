// SPDX-License-Identifier: Apache-2.0
// The source. Each atomic is one step that a crash cannot split; a wait may end at any time, which
// is how time-outs, cancels and lost connections look from here.

/* Given up or about to know: the destination's word counts. */
#define SOURCE_LISTENS (s_up && (s_state == committed || (!NO_JOURNALS && s_state == in_doubt) || \
    (ARBITER && (s_state == offer || s_state == reclaiming))))
/* Wants the VM back, and with an arbiter has to ask for it. */
#define WANTS_BACK (s_up && (s_state == reclaiming || (s_state == in_doubt && s_record != r_committed)))

/* Asks as well: they may have come there since, or be lost there too. */
inline source_tells_pages_lost() {
    send(m_pages_lost, s_epoch);
    send(m_ask, s_epoch)
}

inline source_answers_old(epoch) {
    atomic { s_up && !NO_JOURNALS && ON_WIRE(m_accept, epoch) && s_epoch > epoch ->
        take(m_accept, epoch);
        send(m_took_back, epoch) }
}

active proctype Source() {
end:
    do
    /* The guest stops; from here to the commit point every failure leads to `reclaiming`. */
    :: atomic { s_up && s_runs && (s_state == precopy || s_state == reclaimed) && link_up &&
            s_epoch < LAST_EPOCH ->
        s_runs = false;
        s_current = true;
        s_offered = false;
        s_state = drain }
    :: atomic { s_up && s_state == drain ->
        s_epoch = s_epoch + 1;
        source_writes(r_offered, s_epoch);
        s_state = offering }
    :: atomic { s_up && s_state == drain && disk_faults > 0 ->
        disk_faults--;
        s_epoch = s_epoch + 1;
        if
        :: source_writes(r_offered, s_epoch)
        :: skip
        fi;
        s_state = reclaiming }
    :: atomic { ARBITER && s_up && s_state == offering && s_reaches && s_request == r_none &&
            a_epoch < s_epoch ->
        source_requests(r_offered, s_epoch) }
    :: atomic { s_up && s_state == offering &&
            (!ARBITER || (s_reaches && ARBITER_SAYS(r_offered, s_epoch))) ->
        offer_current[s_epoch / 2] = s_current;
        send(m_offer, s_epoch);
        s_offered = ARBITER;
        s_state = offer }
    :: atomic { s_up && (s_state == offer || (ARBITER && s_state == offering)) ->
        s_state = reclaiming }
    :: atomic { s_up && s_state == offer && ON_WIRE(m_refused, s_epoch) ->
        take(m_refused, s_epoch);
        s_state = reclaiming }

    /* THE COMMIT POINT with arbiter local: COMMITTED(e) is on this disk before anyone is told. */
    :: atomic { !ARBITER && s_up && ON_WIRE(m_accept, s_epoch) &&
            (s_state == offer ||
             /* Restarted: nothing ran since the offer, so that the copy there is the guest. Where
                pages are missing there it is not. */
             (!NO_JOURNALS && !HYBRID && s_state == in_doubt && s_record == r_offered)) ->
        take(m_accept, s_epoch);
        s_state = committing }
    :: atomic { s_up && s_state == committing ->
        source_writes(r_committed, s_epoch);
        s_state = given_up }
    :: atomic { s_up && s_state == committing && disk_faults > 0 ->
        /* On the disk or not: nobody was told, and RECLAIMED(e+1) overrules it. */
        disk_faults--;
        if
        :: source_writes(r_committed, s_epoch)
        :: skip
        fi;
        s_state = reclaiming }
    :: atomic { s_up && s_state == given_up ->
        send(m_commit, s_epoch);
        s_state = committed }
    :: atomic { s_up && s_state == committed -> s_state = in_doubt }

    /* Taking it back: the transition is made impossible first, then the guest goes on. */
    :: atomic { !ARBITER && s_up && s_state == reclaiming ->
        source_writes(r_reclaimed, AFTER_RECLAIM(s_epoch));
        s_state = resuming }
    :: atomic { !ARBITER && s_up && s_state == reclaiming && disk_faults > 0 ->
        disk_faults--;
        if
        :: source_writes(r_reclaimed, AFTER_RECLAIM(s_epoch))
        :: skip
        fi }
    :: atomic { ARBITER && WANTS_BACK && s_reaches && s_request == r_none &&
            (a_epoch < s_epoch || ARBITER_SAYS(r_offered, s_epoch)) ->
        source_requests(r_reclaimed, s_epoch + 1) }
    :: atomic { ARBITER && WANTS_BACK && !s_reaches && s_state == reclaiming && s_offered ->
        s_state = in_doubt }
    /* Nobody was offered it, so that nobody can commit it, whatever the arbiter says or will say. */
    :: atomic { ARBITER && WANTS_BACK && !s_reaches && s_state == reclaiming && !s_offered ->
        source_writes(r_reclaimed, AFTER_RECLAIM(s_epoch));
        s_state = resuming }
    :: atomic { ARBITER && WANTS_BACK && !s_reaches && s_state == reclaiming && !s_offered &&
            disk_faults > 0 ->
        disk_faults--;
        if
        :: source_writes(r_reclaimed, AFTER_RECLAIM(s_epoch))
        :: skip
        fi }
    :: atomic { ARBITER && s_up && s_reaches && a_epoch > s_epoch && a_record == r_reclaimed &&
            (SOURCE_LISTENS || WANTS_BACK) ->
        source_writes(r_reclaimed, s_epoch + 1);
        s_state = resuming }
    :: atomic { ARBITER && s_up && s_reaches && ARBITER_SAYS(r_committed, s_epoch) &&
            (s_state == offer || WANTS_BACK) ->
        source_writes(r_committed, s_epoch);
        s_state = committed;
        s_reconnected = true }
    :: atomic { s_up && s_state == resuming ->
        send(m_took_back, s_epoch);
        s_epoch = s_record_epoch;
        if
        :: s_memory -> source_starts(true); s_state = reclaimed
        :: !s_memory ->
            assert(s_crashes < CRASHES); /* not for want of keeping it */
            s_state = lost
        fi }
    /* Restarted before COMMITTED: only this side could commit, so that it may always reclaim. By a
       person (resolve --keep source), or because the destination does not answer. */
    :: atomic { !ARBITER && !NO_JOURNALS && s_up && s_state == in_doubt && s_record == r_offered ->
        s_state = reclaiming }

    /* The destination's word. */
    :: atomic { SOURCE_LISTENS && ON_WIRE(m_running, s_epoch) ->
        take(m_running, s_epoch);
        if
        :: !HYBRID -> s_state = handing_off
        :: HYBRID && s_memory ->
            source_writes(r_committed, s_epoch);
            s_state = serving
#if HYBRID
        :: !s_memory ->
            source_writes(r_committed, s_epoch);
            source_tells_pages_lost();
            s_state = split
#endif
        fi }
    :: atomic { SOURCE_LISTENS && ON_WIRE(m_lost, s_epoch) ->
        take(m_lost, s_epoch);
        if
        /* It died there, and nothing is here either: it is booted there. */
        :: !HYBRID || !s_memory -> s_state = handing_off
        :: HYBRID && s_memory ->
            source_writes(r_committed, s_epoch);
            s_state = split
        fi }
    :: atomic { !ARBITER && SOURCE_LISTENS && ON_WIRE(m_refused, s_epoch) ->
        take(m_refused, s_epoch);
        if
        :: NO_JOURNALS -> s_state = in_doubt
        :: !NO_JOURNALS -> s_state = reclaiming
        fi }
    :: atomic { s_up && s_state == handing_off ->
        /* NEVER NONE. This side forgets the VM only when the other's disk says that it has it. */
        assert(d_record_epoch == s_epoch && (d_record == r_running || d_record == r_done));
        source_writes(r_handed_off, s_epoch);
        s_memory = false;
        s_current = false;
        s_state = handed_off }

    /* After a cut, and to who asks late. */
    :: atomic { s_up && s_reconnected && link_up ->
        s_reconnected = false;
        if
        :: !ARBITER && (s_state == committed || (s_state == in_doubt && s_record == r_committed)) ->
            send(m_commit, s_epoch)
        :: s_state == offer || s_state == serving || (s_state == in_doubt && s_record == r_offered) ||
                (ARBITER && (s_state == committed || s_state == in_doubt)) ->
            send(m_ask, s_epoch)
#if HYBRID
        :: s_state == split && !s_memory -> source_tells_pages_lost()
#endif
        :: else
        fi }
    :: atomic { !ARBITER && s_up && ON_WIRE(m_accept, s_epoch) && !NO_JOURNALS &&
            (s_state == committed || (s_state == in_doubt && s_record == r_committed)) ->
        take(m_accept, s_epoch);
        send(m_commit, s_epoch) }
    :: source_answers_old(1)
#if ATTEMPTS > 1
    :: source_answers_old(3)
#endif

    /* The VM died here with its process, and is this side's: it is booted again. */
    :: atomic { s_up && !NO_JOURNALS && s_state == lost ->
        source_starts(false);
        s_state = reclaimed }

#if HYBRID
    :: atomic { s_up && link_up && s_state == serving && !s_sent[0] ->
        s_sent[0] = true;
        send(m_page, s_epoch) }
    :: atomic { s_up && link_up && s_state == serving && !s_sent[1] ->
        s_sent[1] = true;
        send(m_page + 1, s_epoch) }
    :: atomic { s_up && s_state == serving && ON_WIRE(m_bitmap, s_epoch) ->
        take(m_bitmap, s_epoch);
        s_sent[0] = bitmap[0];
        s_sent[1] = bitmap[1] }
    :: atomic { s_up && s_state == serving && ON_WIRE(m_lost, s_epoch) ->
        take(m_lost, s_epoch);
        s_state = split }
    :: atomic { s_up && s_state == split && !s_memory && ON_WIRE(m_lost, s_epoch) ->
        take(m_lost, s_epoch);
        s_state = handing_off }
    :: atomic { (SOURCE_LISTENS || (s_up && (s_state == serving || s_state == split))) &&
            ON_WIRE(m_complete, s_epoch) ->
        take(m_complete, s_epoch);
        s_state = handing_off }
#endif
    od
}
