// SPDX-License-Identifier: Apache-2.0
#include "vmm/vcpu_thread.hpp"

#include "vmm/prompt_thread.hpp"

#include <chrono>
#include <csignal>
#include <string>
#include <utility>

#include <fmt/format.h>

#include <pthread.h>

namespace wherry::vmm {
namespace {

/// How long a kick is given before it is repeated.
constexpr std::chrono::milliseconds kick_again_after{2};

/// Signals of the process are for its other threads. The kick is opened by the backend that uses
/// a signal for it; SIGPIPE must be an error of the write that caused it.
void block_signals() {
    sigset_t all;
    sigfillset(&all);
    for (const int synchronous : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGPROF}) {
        sigdelset(&all, synchronous);
    }
    ::pthread_sigmask(SIG_BLOCK, &all, nullptr);
}

} // namespace

VcpuThread::VcpuThread(
    std::uint32_t index, std::unique_ptr<Vcpu> vcpu, ExitHandler& handler, Left left)
    : index_{index},
      vcpu_{std::move(vcpu)},
      handler_{handler},
      left_{std::move(left)},
      thread_{[this] {
          work();
      }} {}

VcpuThread::~VcpuThread() {
    end();
}

void VcpuThread::end() {
    {
        const std::scoped_lock held{mutex_};
        ends_ = true;
    }
    request_stop();
    await_stopped();
    changed_.notify_all();
    if (thread_.joinable()) {
        thread_.join();
    }
}

void VcpuThread::start() {
    const std::scoped_lock held{mutex_};
    wants_run_ = true;
    changed_.notify_all();
}

void VcpuThread::request_stop() noexcept {
    {
        const std::scoped_lock held{mutex_};
        wants_run_ = false;
        if (!is_in_guest_) {
            return; // a kick now would only cut short a later run
        }
    }
    vcpu_->kick();
}

void VcpuThread::rest_until(Clock::time_point end) noexcept {
    {
        const std::scoped_lock held{mutex_};
        rests_until_ = end;
        if (!is_in_guest_) {
            changed_.notify_all();
            return;
        }
        if (end <= Clock::now()) {
            return;
        }
    }
    vcpu_->kick();
}

void VcpuThread::await_stopped() {
    std::unique_lock held{mutex_};
    while (!changed_.wait_for(held, kick_again_after, [this] { return !is_in_guest_; })) {
        vcpu_->kick();
    }
}

bool VcpuThread::await_stopped_until(Clock::time_point end) {
    std::unique_lock held{mutex_};
    while (!changed_.wait_for(held, kick_again_after, [this] { return !is_in_guest_; })) {
        if (Clock::now() >= end) {
            return false;
        }
        vcpu_->kick();
    }
    return true;
}

bool VcpuThread::await_work(std::unique_lock<std::mutex>& held) {
    while (true) {
        changed_.wait(held, [this] { return wants_run_ || ends_; });
        if (ends_) {
            return false;
        }
        if (rests_until_ <= Clock::now()) {
            return true;
        }
        changed_.wait_until(held, Clock::time_point{rests_until_});
    }
}

void VcpuThread::work() {
    block_signals();
    ::pthread_setname_np(::pthread_self(), fmt::format("vcpu{}", index_).c_str());
    run_in_short_slices();
    std::unique_lock held{mutex_};
    while (await_work(held)) {
        is_in_guest_ = true;
        held.unlock();
        const auto reason = vcpu_->run(handler_);
        held.lock();
        is_in_guest_ = false;
        if (!reason || *reason != ExitReason::kicked) {
            wants_run_ = false;
        }
        changed_.notify_all();
        held.unlock();
        left_(index_, reason);
        held.lock();
    }
}

} // namespace wherry::vmm
