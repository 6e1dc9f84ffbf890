// SPDX-License-Identifier: Apache-2.0
// The same with one rule broken, chosen by a -D. Each must be found. Where a rule is broken a
// process does beside the model what the rule forbids.
#if defined(EPOCH_DOES_NOT_ADVANCE)
/* RECLAIMED gives the VM the epoch back that it had. */
#define AFTER_RECLAIM(offered) ((offered) - 1)
#endif
#if defined(RESUMES_BEFORE_ITS_RECORD)
/* Only what must hold at each step is looked at. */
#define NO_OBSERVER 1
#endif

#include "handover.pml"

#if defined(STARTS_ON_TIMEOUT)
/* A destination that waited long enough takes the VM for its own. */
active proctype Weakened() {
end:
    do
    :: atomic { d_up && d_state == accepted -> d_state = starting }
    od
}
#elif defined(RESUMES_AFTER_COMMIT)
/* A source that never hears `running` takes the VM back. */
active proctype Weakened() {
end:
    do
    :: atomic { s_up && s_state == committed -> s_state = reclaiming }
    od
}
#elif defined(COMMIT_BEFORE_ITS_RECORD)
/* `commit` leaves before COMMITTED is on the disk. */
active proctype Weakened() {
end:
    do
    :: atomic { s_up && s_state == committing && !ON_WIRE(m_commit, s_epoch) ->
        send(m_commit, s_epoch) }
    od
}
#elif defined(FORGETS_ON_TIMEOUT)
/* A source that gave the VM up and hears nothing counts it as handed off. */
active proctype Weakened() {
end:
    do
    :: atomic { s_up && s_state == committed ->
        source_writes(r_handed_off, s_epoch);
        s_memory = false;
        s_state = handed_off }
    od
}
#elif defined(DROPS_MEMORY_AT_COMMIT)
/* The source gives its memory back at the commit point, not when the destination runs. */
active proctype Weakened() {
end:
    do
    :: atomic { s_up && s_state == committed && s_memory -> s_memory = false }
    od
}
#elif defined(RESUMES_BEFORE_ITS_RECORD)
/* The guest goes on before RECLAIMED is on the disk. */
active proctype Weakened() {
end:
    do
    :: atomic { s_up && s_state == reclaiming && s_memory ->
        s_epoch = s_epoch + 1;
        source_starts(true);
        s_state = reclaimed }
    od
}
#elif defined(RUNS_BEFORE_ITS_RECORD)
/* The guest starts before RUNNING is on the disk. */
active proctype Weakened() {
end:
    do
    :: atomic { d_up && d_state == starting ->
        destination_starts(true);
        send(m_running, d_epoch);
        d_state = done }
    od
}
#elif defined(OLD_PAGE_OVERWRITES)
/* Post-copy: a page that comes twice is placed twice. */
active proctype Weakened() {
end:
    do
    :: atomic { d_up && d_state == faulting && ON_WIRE(m_page, d_epoch) ->
        take(m_page, d_epoch);
        destination_places(0) }
    od
}
#elif defined(FORGETS_AFTER_LAST_PAGE)
/* Post-copy: the source lets go of its pages when all are sent, not when all have arrived. */
active proctype Weakened() {
end:
    do
    :: atomic { s_up && s_state == serving && s_sent[0] && s_sent[1] -> s_memory = false;
        s_state = handed_off }
    od
}
#elif defined(RESUMES_WITHOUT_ARBITER)
/* A source that cannot reach the arbiter takes the VM back. */
active proctype Weakened() {
end:
    do
    :: atomic { s_up && s_state == reclaiming && !s_reaches ->
        source_writes(r_reclaimed, s_epoch + 1);
        s_state = resuming }
    od
}
#elif defined(GIVES_BACK_AFTER_RUNNING)
/* A destination that restarts with RUNNING gives the VM back, as if it had never run. */
active proctype Weakened() {
end:
    do
    :: atomic { d_up && d_state == lost -> d_state = abandoning }
    od
}
#elif defined(RESOLVES_SOURCE_UNFENCED)
/* Without journals: `wherry status` on the destination does not say that it runs, so it is taken for
   gone, and `resolve --keep source` is said on the source alone. */
active proctype Weakened() {
end:
    do
    :: atomic { s_up && s_state == in_doubt && d_state != done ->
        s_epoch = s_epoch + 1;
        source_starts(true);
        s_state = reclaimed }
    od
}
#elif defined(RESOLVES_DESTINATION_BLINDLY)
/* Without journals: the VM "is gone there" (the source's process is), so `resolve --keep destination`. */
active proctype Weakened() {
end:
    do
    :: atomic { d_up && d_state == in_doubt && s_gone ->
        destination_starts(true);
        d_state = done }
    od
}
#elif !defined(EPOCH_DOES_NOT_ADVANCE)
#error "say with -D which rule is broken"
#endif
