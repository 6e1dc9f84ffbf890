// SPDX-License-Identifier: Apache-2.0
#include "vmm/mshvsim/run_gate.hpp"

namespace wherry::vmm::mshvsim {

RunGate::Visit::Visit(RunGate& gate) : gate_{gate} {
    std::unique_lock held{gate_.lock_};
    ++gate_.visitors_;
    if (gate_.is_in_guest_) {
        gate_.vcpu_.kick(gate_.runner_);
    }
    gate_.changed_.wait(held, [this] { return !gate_.is_taken_; });
    gate_.is_taken_ = true;
    --gate_.visitors_;
}

RunGate::Visit::~Visit() {
    gate_.release();
}

void RunGate::acquire() {
    std::unique_lock held{lock_};
    changed_.wait(held, [this] { return !is_taken_ && visitors_ == 0; });
    is_taken_ = true;
    runner_ = ::pthread_self();
}

void RunGate::release() {
    {
        const std::scoped_lock held{lock_};
        is_taken_ = false;
    }
    changed_.notify_all();
}

bool RunGate::enter_guest() {
    const std::scoped_lock held{lock_};
    is_in_guest_ = visitors_ == 0;
    return is_in_guest_;
}

void RunGate::leave_guest() {
    const std::scoped_lock held{lock_};
    is_in_guest_ = false;
}

namespace {

/// Faults of this thread's own must reach it.
void keep_synchronous(sigset_t& set) {
    for (const int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP}) {
        sigdelset(&set, signal);
    }
}

bool is_dropped(int signal) {
    struct sigaction action{};
    if (::sigaction(signal, nullptr, &action) != 0) {
        return false;
    }
    const bool has_no_effect =
        signal == SIGCHLD || signal == SIGCONT || signal == SIGURG || signal == SIGWINCH;
    return action.sa_handler == SIG_IGN || (action.sa_handler == SIG_DFL && has_no_effect);
}

} // namespace

RunSignals::RunSignals() {
    sigset_t closed;
    sigfillset(&closed);
    keep_synchronous(closed);
    ::pthread_sigmask(SIG_SETMASK, &closed, &before_);
    sigfillset(&open_);
    for (int signal = 1; signal < NSIG; ++signal) {
        if (::sigismember(&before_, signal) == 1) {
            sigdelset(&open_, signal);
        }
    }
}

RunSignals::~RunSignals() {
    ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
}

bool RunSignals::is_pending() {
    sigset_t pending;
    sigemptyset(&pending);
    ::sigpending(&pending);
    sigset_t dropped;
    sigemptyset(&dropped);
    for (int signal = 1; signal < NSIG; ++signal) {
        if (::sigismember(&pending, signal) != 1 || ::sigismember(&open_, signal) != 1) {
            continue;
        }
        if (!is_dropped(signal)) {
            return true;
        }
        sigaddset(&dropped, signal);
    }
    // A signal that is blocked is kept even where it is ignored.
    const timespec now{};
    while (::sigtimedwait(&dropped, nullptr, &now) > 0) {
    }
    return false;
}

void RunSignals::wait_a_moment() {
    const timespec moment{.tv_sec = 0, .tv_nsec = 2'000'000};
    ::nanosleep(&moment, nullptr);
}

} // namespace wherry::vmm::mshvsim
