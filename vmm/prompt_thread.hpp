// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace wherry::vmm {

/// From here on the calling thread, once woken, runs before whatever computes on its processor.
/// For threads that others wait for and that are soon done with what they do: a kernel that
/// preempts lazily lets them wait for its next tick, 4 ms, otherwise. Takes the lowest real-time
/// priority, round robin, where this process may (CAP_SYS_NICE, RLIMIT_RTPRIO), and short slices
/// of its share elsewhere (Linux 6.12). Without effect where neither is to be had, or somebody has
/// chosen another policy for the thread. Threads that it starts do not inherit the priority.
void answer_promptly() noexcept;

/// From here on the calling thread gets its share of a processor in short slices, where the kernel
/// has them (Linux 6.12): no more of it than before, but sooner, and not only when whatever
/// computes there has used up a slice. For a vCPU, whose guest feels each wait. Without effect on a
/// thread for which somebody has chosen another policy.
void run_in_short_slices() noexcept;

/// answer_promptly() for a while. Made and destroyed by the thread that it is about.
class PromptThread {
public:
    PromptThread() noexcept;
    PromptThread(const PromptThread&) = delete;
    PromptThread& operator=(const PromptThread&) = delete;
    ~PromptThread();

private:
    /// struct sched_attr of linux/sched/types.h in its first version: that header cannot be
    /// included beside <sched.h>. size is 0 where there is nothing to go back to.
    struct Attributes {
        std::uint32_t size;
        std::uint32_t policy;
        std::uint64_t flags;
        std::int32_t nice;
        std::uint32_t priority;
        std::uint64_t runtime; ///< of SCHED_OTHER: the length of a slice, ns; 0 is the kernel's
        std::uint64_t deadline;
        std::uint64_t period;
    };
    friend void answer_promptly() noexcept;
    friend void run_in_short_slices() noexcept;
    static Attributes attributes() noexcept;
    static bool apply(Attributes attributes) noexcept;

    Attributes before_;
};

} // namespace wherry::vmm
