// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/vcpu_thread.hpp"

#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace wherry::vmm {

/// Slows a guest down: in each period it keeps all vCPUs out of the guest for a share of it. All at
/// once, so that none of them spins for a lock that a resting one holds. Has a thread of its own
/// while it has anything to do. Thread-safe.
class VcpuThrottle {
public:
    /// `vcpus` outlives the object and does not change while it is set.
    explicit VcpuThrottle(const std::vector<std::unique_ptr<VcpuThread>>& vcpus) : vcpus_{vcpus} {}
    VcpuThrottle(const VcpuThrottle&) = delete;
    VcpuThrottle& operator=(const VcpuThrottle&) = delete;
    ~VcpuThrottle();

    /// 0 to 99 percent. With 0 the vCPUs are free and the thread is gone when it returns.
    void set(unsigned percent);

private:
    void work();
    void rest_all_until(VcpuThread::Clock::time_point end) const;

    const std::vector<std::unique_ptr<VcpuThread>>& vcpus_;
    std::mutex setting_; ///< one caller of set() at a time
    std::mutex mutex_;
    std::condition_variable changed_;
    unsigned percent_ = 0;
    std::thread thread_;
};

} // namespace wherry::vmm
