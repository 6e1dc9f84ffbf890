// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"
#include "vmm/unique_fd.hpp"

#include <filesystem>
#include <memory>
#include <optional>
#include <thread>

namespace wherry::tools {

/// A FIFO into which a process of this user writes, and from which all goes on to a descriptor: so
/// a VM's process gets at our standard output. The FIFO is gone at the end.
class StreamRelay {
public:
    /// `into` outlives it.
    static formats::Result<StreamRelay> open(int into);
    StreamRelay(StreamRelay&&) noexcept = default;
    StreamRelay& operator=(StreamRelay&&) = delete;
    StreamRelay(const StreamRelay&) = delete;
    StreamRelay& operator=(const StreamRelay&) = delete;
    ~StreamRelay();

    [[nodiscard]] const std::filesystem::path& path() const noexcept;
    /// Once the writer has opened it; on a thread of its own.
    void start();
    /// Waits until the writer has closed it. What could not be written is an Error, and the writer
    /// has noticed.
    formats::Status finish();

private:
    struct State;
    explicit StreamRelay(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

} // namespace wherry::tools
