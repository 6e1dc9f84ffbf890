// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>

#include <pthread.h>

namespace wherry::vmm {

/// Gets a thread out of the ioctl that runs a vCPU. On KVM, a signal whose handler raises
/// immediate_exit of the run area closes the gap between the last look at the flag and the entry
/// into the guest: whenever the signal comes, KVM_RUN returns. MSHV has no such flag: there a
/// signal that comes in the gap is lost, and a repeated request is what gets the thread out. The
/// signal is SIGRTMIN + 6 for the whole process.
///
/// A request that repeats one which was not taken yet signals again, in case the first signal came
/// just before a device's blocking call, but at most once in `signal_again_after`: a thread that
/// is signalled faster than it can take signals does nothing else.
class Kick {
public:
    /// While one lives, the calling thread is the one that runs the vCPU, or is about to.
    /// `immediate_exit` may be null.
    class Session {
    public:
        Session(Kick& kick, volatile std::uint8_t* immediate_exit);
        Session(const Session&) = delete;
        Session& operator=(const Session&) = delete;
        ~Session();

    private:
        Kick& kick_;
    };

    /// Any thread. Leaves a mark even when no session is open.
    void request() noexcept;
    /// Was there a request that was not taken yet?
    [[nodiscard]] bool is_requested() const noexcept { return requested_; }
    /// The running thread: was there a request since the last call?
    bool take() noexcept { return requested_.exchange(false); }

private:
    static constexpr std::chrono::milliseconds signal_again_after{1};

    std::atomic<bool> requested_ = false;
    std::mutex lock_; ///< keeps the thread alive while it is being signalled
    bool in_session_ = false;
    std::chrono::steady_clock::time_point signalled_at_;
    pthread_t thread_{};
};

} // namespace wherry::vmm
