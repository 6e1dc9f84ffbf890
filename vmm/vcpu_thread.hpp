// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"
#include "vmm/partition.hpp"

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

namespace wherry::vmm {

/// A vCPU and the thread it runs on. The thread lives as long as the object; between stop and
/// start it waits, and the vCPU may then be used from outside. Thread-safe, but start and stop
/// are one caller's at a time.
class VcpuThread {
public:
    using Clock = std::chrono::steady_clock;
    /// Called on the thread each time the vCPU has left the guest, outside of all locks. Any
    /// reason but `kicked` means that it will not run again until started.
    using Left = std::function<void(std::uint32_t index, const formats::Result<ExitReason>&)>;

    /// `handler` outlives the object.
    VcpuThread(std::uint32_t index, std::unique_ptr<Vcpu> vcpu, ExitHandler& handler, Left left);
    VcpuThread(const VcpuThread&) = delete;
    VcpuThread& operator=(const VcpuThread&) = delete;
    /// Not on the thread itself.
    ~VcpuThread();

    [[nodiscard]] Vcpu& vcpu() noexcept { return *vcpu_; }

    void start();
    /// Asks the vCPU to leave the guest; does not wait. From any thread, this one included.
    void request_stop() noexcept;
    /// Keeps a started vCPU out of the guest until then; a time that has passed ends that. Does not
    /// wait. From any thread.
    void rest_until(Clock::time_point end) noexcept;
    /// Waits until it has, asking again and again: a single kick can be lost. On the thread
    /// itself, where the vCPU has left already, it returns at once.
    void await_stopped();
    /// The same until then at most: whether it has.
    [[nodiscard]] bool await_stopped_until(Clock::time_point end);
    /// Stops for good and waits for the thread to be gone. Not on the thread itself.
    void end();

private:
    void work();
    /// Until the thread has something to do; false: to end.
    bool await_work(std::unique_lock<std::mutex>& held);

    std::uint32_t index_;
    std::unique_ptr<Vcpu> vcpu_;
    ExitHandler& handler_;
    Left left_;
    std::mutex mutex_;
    std::condition_variable changed_;
    bool wants_run_ = false;
    Clock::time_point rests_until_{};
    bool is_in_guest_ = false;
    bool ends_ = false;
    std::thread thread_; // last: started when the rest is there
};

} // namespace wherry::vmm
