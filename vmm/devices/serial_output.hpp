// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"
#include "vmm/unique_fd.hpp"

#include <condition_variable>
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string_view>
#include <thread>
#include <vector>

namespace wherry::vmm {

/// Where a serial port's bytes end. A vCPU never waits for a slow reader: what a terminal or pipe
/// does not take at once waits here, and a thread brings it out. Thread-safe.
///
/// A sink that fails for good (reader gone, disk full) swallows the rest, as an unplugged cable
/// does; `failure` says why.
class SerialOutput {
public:
    /// "stdout", "none", or "file:PATH", which is created; one that exists is emptied once there is
    /// something to write, or with release(): a VM that never runs takes no former log away.
    static formats::Result<std::unique_ptr<SerialOutput>> open(std::string_view target);
    /// Writes to `fd` and owns it; none: every byte is dropped.
    explicit SerialOutput(UniqueFd fd);
    SerialOutput(const SerialOutput&) = delete;
    SerialOutput& operator=(const SerialOutput&) = delete;
    ~SerialOutput();

    void put(std::byte byte);
    /// So much waits that the port should say it is busy.
    [[nodiscard]] bool is_congested() const;
    /// Called on the thread of this object, without its lock, when congestion has ended.
    void on_relief(std::function<void()> callback);

    /// Writes what the sink takes at once, then nothing more until release().
    void hold();
    void release();
    /// What has not been written: part of the port's state.
    [[nodiscard]] std::vector<std::byte> waiting() const;
    /// Held only: in front of everything that comes.
    void restore_waiting(std::span<const std::byte> bytes);

    [[nodiscard]] formats::Status failure() const;

private:
    // Both: locked.
    void write_some();
    void empty_file();
    void bring_out(const std::stop_token& stop);

    UniqueFd fd_;
    bool can_block_ = false;
    bool is_to_be_emptied_ = false;
    mutable std::mutex mutex_;
    std::condition_variable_any changed_;
    std::vector<std::byte> waiting_;
    bool is_held_ = false;
    formats::Status failure_;
    std::function<void()> relief_;
    std::jthread carrier_; // last: joined before the rest goes
};

} // namespace wherry::vmm
