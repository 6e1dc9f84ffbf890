// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "transport/task.hpp"

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>

namespace wherry::migrate {

enum class CancelAnswer : std::uint8_t {
    will_cancel, ///< the migration will end as cancelled (or as failed, if that came first)
    too_late,    ///< this side has crossed its line: what follows is no longer its choice
};

/// Lets any thread cancel one session, and tells the truth about it: exactly one of a request and
/// the session's own close() wins. Made before the session, outlives it; good for one session.
class CancelGate {
public:
    /// `executor` is the session's.
    explicit CancelGate(transport::Executor executor);
    CancelGate(const CancelGate&) = delete;
    CancelGate& operator=(const CancelGate&) = delete;
    ~CancelGate() = default;

    /// Any thread; any number of times.
    CancelAnswer request_cancel();
    /// Whether the line (source: commit; destination: accept) has been crossed. Any thread.
    [[nodiscard]] bool is_closed() const noexcept;
    [[nodiscard]] bool is_requested() const noexcept;

    /// The session's: false if a request came first, and then the session must give up.
    [[nodiscard]] bool close() noexcept;
    /// The session's: called once on its thread after a request, also one that is already there.
    /// Empty: no more.
    void on_request(std::function<void()> callback);

private:
    enum class State : std::uint8_t { open, requested, closed };
    /// Shared with a posted call, which may come after the gate is gone.
    struct Shared {
        std::atomic<State> state{State::open};
        std::function<void()> callback; ///< session's thread only
    };
    void post_callback();

    transport::Executor executor_;
    std::shared_ptr<Shared> shared_;
};

} // namespace wherry::migrate
