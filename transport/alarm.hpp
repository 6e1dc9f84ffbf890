// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "transport/task.hpp"

#include <cstdint>
#include <functional>
#include <memory>
#include <utility>

namespace wherry::transport {

/// Calls back once after some time, unless it was set anew, silenced or destroyed before; then it
/// does not, even where the time had passed already. One thread.
class Alarm {
public:
    explicit Alarm(const Executor& executor) : state_{std::make_shared<State>(executor)} {}
    Alarm(const Alarm&) = delete;
    Alarm& operator=(const Alarm&) = delete;
    ~Alarm() { silence(); }

    void set(Duration after, std::function<void()> ring) {
        set_at(std::chrono::steady_clock::now() + after, std::move(ring));
    }
    void set_at(std::chrono::steady_clock::time_point at, std::function<void()> ring) {
        const std::uint64_t serial = ++state_->serial;
        state_->timer.expires_at(at);
        state_->timer.async_wait([weak = std::weak_ptr{state_}, serial, ring = std::move(ring)](
                                     const boost::system::error_code& error) {
            const auto state = weak.lock();
            if (!error && state && state->serial == serial) {
                ring();
            }
        });
    }
    void silence() {
        ++state_->serial;
        state_->timer.cancel();
    }

private:
    struct State {
        explicit State(const Executor& executor) : timer{executor} {}
        boost::asio::steady_timer timer;
        std::uint64_t serial = 0; ///< of the last that was set
    };
    /// Shared with completions that are on their way.
    std::shared_ptr<State> state_;
};

} // namespace wherry::transport
