// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "transport/byte_stream.hpp"
#include "transport/notification.hpp"

#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <vector>

namespace wherry::tests {

/// What happens at one step (a read or a write, counted from 0 in the order they begin) of a
/// stream.
enum class Fault : std::uint8_t { cut, stall, corrupt, call };

class ScriptedStream;

/// May be shared by several streams, whose steps count together.
struct Script {
    std::uint64_t at = std::numeric_limits<std::uint64_t>::max();
    Fault fault = Fault::cut;
    std::function<void()> action;  ///< of Fault::call
    std::function<void()> on_step; ///< at each step, if it is set
    std::uint64_t steps = 0;       ///< so far
    bool fired = false;
    std::vector<ScriptedStream*> streams; ///< that there are now

    /// Breaks all streams that there are now. On their thread.
    void cut();
};

/// A stream that follows a script: at the step named there it breaks, falls silent, flips a bit of
/// what it read (or of what it writes), or calls the test.
class ScriptedStream final : public transport::ByteStream {
public:
    /// The script is shared with the test that looks at it afterwards.
    ScriptedStream(std::unique_ptr<transport::ByteStream> inner, std::shared_ptr<Script> script);
    ~ScriptedStream() override;

    transport::Task<std::size_t> read_some(std::span<std::byte> into) override;
    transport::Task<void> read_exactly(std::span<std::byte> into) override;
    using ByteStream::write_all;
    transport::Task<void> write_all(transport::Gather parts) override;
    transport::Task<void> shut_down() override;
    void close() override;
    [[nodiscard]] formats::Status rebind(transport::Executor executor) override;
    [[nodiscard]] std::string peer() const override { return inner_->peer(); }
    [[nodiscard]] transport::Executor executor() const override { return inner_->executor(); }

private:
    enum class Next : std::uint8_t { go_on, corrupt };
    transport::Task<Next> step();

    std::unique_ptr<transport::ByteStream> inner_;
    std::shared_ptr<Script> script_;
    transport::Notification never_;
    bool stalled_ = false;
};

} // namespace wherry::tests
