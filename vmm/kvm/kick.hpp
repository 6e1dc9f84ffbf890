// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>

#include <pthread.h>

namespace wherry::vmm::kvm {

/// Gets a thread out of KVM_RUN. A signal whose handler raises immediate_exit of the run area
/// closes the gap between the last look at the flag and the entry into the guest: whenever the
/// signal comes, KVM_RUN returns. The signal is SIGRTMIN + 6 for the whole process.
class Kick {
public:
    /// While one lives, the calling thread is the one that is in, or about to enter, KVM_RUN.
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
    /// The running thread: was there a request since the last call?
    bool take() noexcept { return requested_.exchange(false); }

private:
    std::atomic<bool> requested_ = false;
    std::mutex lock_; ///< keeps the thread alive while it is being signalled
    bool in_session_ = false;
    pthread_t thread_{};
};

} // namespace wherry::vmm::kvm
