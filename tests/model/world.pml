// SPDX-License-Identifier: Apache-2.0
// What exists: two processes, their disks, the wire between them, an arbiter, and who executes
// guest code. README.md says what stands for what.

#ifndef NO_JOURNALS
#define NO_JOURNALS 0   /* 1: no journals, no reconnecting, a crash is for good */
#endif
#ifndef ARBITER
#define ARBITER 0    /* 0: local, the source's journal decides; 1: file:DIR or etcd:ENDPOINTS */
#endif
#ifndef HYBRID
#define HYBRID 0     /* 1: the destination starts with PAGES pages still missing */
#endif
#ifndef ATTEMPTS
#define ATTEMPTS 1   /* migrations of this VM, one after another, towards the same host */
#endif
#define PAGES 2
/* How much may go wrong in one run. Spin tries everything up to this, so less is covered too. */
#ifndef CRASHES
#define CRASHES 1    /* of each side */
#endif
#ifndef CUTS
#define CUTS 1       /* of the wire; each loses any of what is under way, and delays the rest */
#endif
#ifndef DUPLICATES
#define DUPLICATES 1
#endif
#ifndef DISK_FAULTS
#define DISK_FAULTS 1
#endif
#ifndef ARBITER_CUTS
#define ARBITER_CUTS 1 /* of each side from the arbiter */
#endif
#ifndef AFTER_RECLAIM
#define AFTER_RECLAIM(offered) ((offered) + 1)
#endif
#define LAST_EPOCH (2 * ATTEMPTS)

mtype = {
    /* SourceState, from where it can hurt; precopy stands for idle to precopy */
    precopy, drain, offer, committed, handed_off, reclaimed, in_doubt,
    /* DestinationState; idle stands for idle to filling. DestinationState::running is `launching` */
    idle, loaded, accepted, done, abandoned,
    /* states to come: post-copy, and what a restarted process finds itself in */
    serving, faulting, split, salvaged, lost,
    /* between two effects of one step, where a crash is different from a crash before or after */
    offering, committing, given_up, reclaiming, resuming, handing_off,
    accepting, starting, launching, abandoning
};
mtype = { /* records, in a journal or at the arbiter; each with an epoch */
    r_none, r_offered, r_committed, r_reclaimed, r_handed_off,
    r_accepted, r_running, r_done, r_abandoned, r_salvaged
};

/* The source. What a crash takes, and what it does not (record). */
bool s_up = true;
mtype s_state = precopy;
byte s_epoch = 0;            /* even: held here; odd: offered */
bool s_memory = true;
bool s_offered = false;      /* the offer of s_epoch left, or may have: a destination may accept it */
bool s_reconnected = false;  /* a new connection is there, nothing was said over it yet */
bool s_sent[PAGES];
mtype s_record = r_none;
byte s_record_epoch = 0;

/* The destination. */
bool d_up = true;
mtype d_state = idle;
byte d_epoch = 0;
bool d_memory = false;
bool d_reconnected = false;
bool d_has[PAGES];
mtype d_record = r_none;
byte d_record_epoch = 0;

/* Only to judge by; nobody in the model decides by these. */
bool s_runs = true, d_runs = false, elsewhere_runs = false;
/* Whether a copy of the guest is the guest as it last stood; memory that runs makes all old. */
bool s_current = false, d_current = false, offer_current[ATTEMPTS];
bool s_gone = false, d_gone = false; /* never to be started again */
byte s_crashes = CRASHES;            /* that may still come */

/* The wire holds a set of messages: any order, any delay. */
#define m_offer 0      /* source: all memory and state, and the offer */
#define m_commit 1     /* source */
#define m_took_back 2  /* source: its `error`, or its answer to who still waits */
#define m_ask 3        /* source: what became of it? */
#define m_accept 4     /* destination: I hold a whole copy and wait */
#define m_running 5    /* destination */
#define m_refused 6    /* destination: I never ran it and never will; its `error` */
#define m_lost 7       /* destination: it ran here and died here */
#define m_complete 8   /* destination: no page is missing any more */
#define m_bitmap 9     /* destination: which pages it has */
#define m_pages_lost 10 /* source: what is missing there is lost here */
#define m_page 11      /* source; and the PAGES - 1 that follow */
#if HYBRID
#define MESSAGES (m_page + PAGES)
#else
#define MESSAGES m_complete
#endif
#define WIRES (MESSAGES * ATTEMPTS)
#define ON_WIRE(message, epoch) wire[(message) * ATTEMPTS + (epoch) / 2]
bool wire[WIRES];
bool link_up = true;
bool bitmap[PAGES];
byte duplicates = DUPLICATES, disk_faults = DISK_FAULTS;

inline send(message, epoch) {
    if
    :: link_up -> ON_WIRE(message, epoch) = true
    :: else
    fi
}
/* Taken from the wire, or a copy of it stays there. */
inline take(message, epoch) {
    if
    :: ON_WIRE(message, epoch) = false
    :: duplicates > 0 -> duplicates--
    fi
}

/* The arbiter's record, changed by compare-and-swap only. A request is under way until it is
   carried out or lost; its sender may have died meanwhile. What came of it is read. */
mtype a_record = r_none;
byte a_epoch = 0;
mtype s_request = r_none, d_request = r_none;
byte s_request_epoch = 0, d_request_epoch = 0;
bool s_reaches = true, d_reaches = true;
#define ARBITER_SAYS(record, epoch) (a_record == (record) && a_epoch == (epoch))

inline source_requests(record, epoch) { s_request = record; s_request_epoch = epoch }
inline destination_requests(record, epoch) { d_request = record; d_request_epoch = epoch }

/* fsync has returned when the step ends. */
inline source_writes(record, epoch) { s_record = record; s_record_epoch = epoch }
inline destination_writes(record, epoch) { d_record = record; d_record_epoch = epoch }

/* NEVER TWO. These are the only places at which a guest begins to run, so that what holds here
   holds at every step. */
inline everything_saved_is_old() {
    s_current = false;
    d_current = false;
    offer_current[0] = false;
    offer_current[ATTEMPTS - 1] = false
}
inline source_starts(is_from_memory) {
    assert(s_up && !s_runs && !d_runs && !elsewhere_runs);
    assert(!is_from_memory || (s_memory && s_current));
    everything_saved_is_old();
    s_memory = true;
    s_runs = true
}
inline destination_starts(is_from_memory) {
    assert(d_up && !s_runs && !d_runs && !elsewhere_runs);
    assert(!is_from_memory || (d_memory && d_current));
    everything_saved_is_old();
    d_memory = true;
    d_runs = true
}
inline starts_elsewhere() {
    assert(!s_runs && !d_runs && !elsewhere_runs);
    everything_saved_is_old();
    elsewhere_runs = true
}
