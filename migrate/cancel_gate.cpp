// SPDX-License-Identifier: Apache-2.0
#include "migrate/cancel_gate.hpp"

#include <utility>

namespace wherry::migrate {

CancelGate::CancelGate(transport::Executor executor)
    : executor_{std::move(executor)},
      shared_{std::make_shared<Shared>()} {}

CancelAnswer CancelGate::request_cancel() {
    State expected = State::open;
    if (shared_->state.compare_exchange_strong(expected, State::requested)) {
        post_callback();
        return CancelAnswer::will_cancel;
    }
    return expected == State::requested ? CancelAnswer::will_cancel : CancelAnswer::too_late;
}

bool CancelGate::is_closed() const noexcept {
    return shared_->state.load() == State::closed;
}
bool CancelGate::is_requested() const noexcept {
    return shared_->state.load() == State::requested;
}

bool CancelGate::close() noexcept {
    State expected = State::open;
    return shared_->state.compare_exchange_strong(expected, State::closed) ||
           expected == State::closed;
}

void CancelGate::on_request(std::function<void()> callback) {
    shared_->callback = std::move(callback);
    if (shared_->callback && is_requested()) {
        post_callback();
    }
}

void CancelGate::post_callback() {
    boost::asio::post(executor_, [shared = shared_] {
        const auto callback = std::exchange(shared->callback, {});
        if (callback) {
            callback();
        }
    });
}

} // namespace wherry::migrate
