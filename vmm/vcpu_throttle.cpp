// SPDX-License-Identifier: Apache-2.0
#include "vmm/vcpu_throttle.hpp"

#include "formats/error.hpp"

#include <chrono>

#include <pthread.h>

namespace wherry::vmm {
namespace {

/// Short enough for a guest's own time-outs, long enough for kicks to cost little.
constexpr std::chrono::milliseconds period{10};
constexpr unsigned largest_percent = 99;

} // namespace

VcpuThrottle::~VcpuThrottle() {
    set(0);
}

void VcpuThrottle::set(unsigned percent) {
    formats::invariant(percent <= largest_percent, "a throttled guest still runs");
    const std::scoped_lock one_at_a_time{setting_};
    {
        const std::scoped_lock held{mutex_};
        percent_ = percent;
    }
    changed_.notify_all();
    if (percent == 0 && thread_.joinable()) {
        thread_.join();
        rest_all_until({});
    } else if (percent != 0 && !thread_.joinable()) {
        thread_ = std::thread{[this] {
            work();
        }};
    }
}

void VcpuThrottle::rest_all_until(VcpuThread::Clock::time_point end) const {
    for (const auto& vcpu : vcpus_) {
        vcpu->rest_until(end);
    }
}

void VcpuThrottle::work() {
    ::pthread_setname_np(::pthread_self(), "throttle");
    std::unique_lock held{mutex_};
    while (percent_ != 0) {
        const auto begun = VcpuThread::Clock::now();
        const auto rest = period * percent_ / 100;
        held.unlock();
        rest_all_until(begun + rest);
        held.lock();
        changed_.wait_until(held, begun + period, [this] { return percent_ == 0; });
    }
}

} // namespace wherry::vmm
