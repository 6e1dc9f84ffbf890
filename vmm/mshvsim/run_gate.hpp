// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/mshvsim/engine.hpp"

#include <condition_variable>
#include <csignal>
#include <mutex>

#include <pthread.h>

namespace wherry::vmm::mshvsim {

/// Who has a VP's registers: RUN_VP, or a hypercall from another thread, which gets them out of a
/// running guest for a moment.
class RunGate {
public:
    explicit RunGate(EngineVcpu& vcpu) : vcpu_{vcpu} {}

    /// Has the registers while it lives; stops the guest for that long.
    class Visit {
    public:
        explicit Visit(RunGate& gate);
        Visit(const Visit&) = delete;
        Visit& operator=(const Visit&) = delete;
        ~Visit();

    private:
        RunGate& gate_;
    };

    /// The runner's side. acquire() waits for visitors.
    void acquire();
    void release();
    /// False: a visitor waits; release() and acquire() first.
    bool enter_guest();
    void leave_guest();

private:
    EngineVcpu& vcpu_;
    std::mutex lock_;
    std::condition_variable changed_;
    bool is_taken_ = false, is_in_guest_ = false;
    unsigned visitors_ = 0;
    pthread_t runner_{};
};

/// A thread in RUN_VP: no signal is delivered until its end, as in a system call.
class RunSignals {
public:
    RunSignals();
    RunSignals(const RunSignals&) = delete;
    RunSignals& operator=(const RunSignals&) = delete;
    ~RunSignals();

    /// What the thread would have delivered now.
    [[nodiscard]] const sigset_t& open() const noexcept { return open_; }
    /// Is one pending that ends a system call? Ignored ones are dropped.
    bool is_pending();
    /// Waits a moment for one.
    void wait_a_moment();

private:
    sigset_t before_{};
    sigset_t open_{};
};

} // namespace wherry::vmm::mshvsim
