// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "transport/io_thread.hpp"

#include <cstdint>
#include <memory>
#include <utility>

namespace wherry::migrate {

/// Where the bulk channels of a session do their work.
enum class ChannelThreads : std::uint8_t {
    own,     ///< each on a thread of its own
    session, ///< all on the session's: deterministic, for streams that cannot leave it
};

/// Where one of them does.
class ChannelPlace {
public:
    ChannelPlace(ChannelThreads threads, transport::Executor session)
        : thread_{threads == ChannelThreads::own ? std::make_unique<transport::IoThread>() : nullptr},
          executor_{thread_ ? thread_->executor() : std::move(session)} {}

    [[nodiscard]] const transport::Executor& executor() const noexcept { return executor_; }
    /// Nothing runs there any more when this returns. What lives there may be destroyed then, on
    /// any thread, before this object is.
    void stop() {
        if (thread_) {
            thread_->stop();
        }
    }

private:
    std::unique_ptr<transport::IoThread> thread_;
    transport::Executor executor_;
};

} // namespace wherry::migrate
