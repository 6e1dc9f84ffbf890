// SPDX-License-Identifier: Apache-2.0
#include "vmm/kick.hpp"

#include "formats/error.hpp"

#include <csignal>

namespace wherry::vmm {
namespace {

/// Written by the thread's own handler only; touched by the constructor first, so that the
/// handler never causes its allocation.
constinit thread_local volatile std::uint8_t* volatile immediate_exit_of_thread = nullptr;

int kick_signal() {
    return SIGRTMIN + 6;
}

void on_kick(int /*signal*/) {
    if (volatile std::uint8_t* const flag = immediate_exit_of_thread; flag != nullptr) {
        *flag = 1;
    }
}

void install_handler() {
    struct sigaction action{};
    action.sa_handler = &on_kick;
    sigemptyset(&action.sa_mask);
    action.sa_flags = 0; // without SA_RESTART: the ioctl and blocked writes come back with EINTR
    formats::invariant(
        ::sigaction(kick_signal(), &action, nullptr) == 0, "the kick signal has a handler");
}

} // namespace

Kick::Session::Session(Kick& kick, volatile std::uint8_t* immediate_exit) : kick_{kick} {
    static std::once_flag installed;
    std::call_once(installed, install_handler);
    immediate_exit_of_thread = immediate_exit;
    sigset_t open;
    sigemptyset(&open);
    sigaddset(&open, kick_signal());
    ::pthread_sigmask(SIG_UNBLOCK, &open, nullptr);
    const std::scoped_lock held{kick_.lock_};
    kick_.thread_ = ::pthread_self();
    kick_.in_session_ = true;
}

Kick::Session::~Session() {
    {
        const std::scoped_lock held{kick_.lock_};
        kick_.in_session_ = false;
    }
    immediate_exit_of_thread = nullptr;
}

void Kick::request() noexcept {
    const bool is_new = !requested_.exchange(true);
    const std::scoped_lock held{lock_};
    const auto now = std::chrono::steady_clock::now();
    if (in_session_ && (is_new || now - signalled_at_ >= signal_again_after)) {
        signalled_at_ = now;
        ::pthread_kill(thread_, kick_signal());
    }
}

} // namespace wherry::vmm
