// SPDX-License-Identifier: Apache-2.0
#include "migrate/control_link.hpp"

#include <utility>

#include <fmt/format.h>

namespace wherry::migrate {

using formats::Status;
using transport::Task;

ControlLink::ControlLink(formats::Side us, transport::Executor executor, Callbacks callbacks)
    : us_{us},
      executor_{std::move(executor)},
      callbacks_{std::move(callbacks)} {}

Task<void> ControlLink::adopt(std::unique_ptr<SessionChannel> channel) {
    drop();
    co_await rest();
    current_ = std::make_unique<Connection>(std::move(channel), us_, executor_);
    Connection& now = *current_;
    if (hears_words_) {
        now.inbox.on_word(callbacks_.on_word);
    }
    hear_peer_trouble({}); // what it said on the last one may be over
    now.inbox.on_trouble([this](std::string trouble) { hear_peer_trouble(std::move(trouble)); });
    now.channel->set_trouble(trouble_);
    now.inbox.on_missing(callbacks_.on_missing);
    if (callbacks_.on_placed) {
        now.inbox.on_placed(callbacks_.on_placed);
    }
    now.helpers.start(
        now.inbox.listen(), [this, &now](const Status& ended) { report(now, ended); });
    // What it ends with shows in every other send too, and the peer's silence in the inbox.
    now.helpers.start(now.channel->keep_alive());
    co_return Status{};
}

void ControlLink::hear_words() {
    hears_words_ = true;
    if (current_) {
        current_->inbox.on_word(callbacks_.on_word);
    }
}

void ControlLink::set_trouble(const std::string& trouble) {
    if (trouble == trouble_) {
        return;
    }
    trouble_ = trouble;
    if (is_up()) {
        current_->channel->set_trouble(trouble);
        current_->helpers.start(current_->channel->say_alive());
    }
}

void ControlLink::hear_peer_trouble(std::string trouble) {
    if (trouble != peer_trouble_) {
        peer_trouble_ = std::move(trouble);
        if (callbacks_.on_peer_trouble) {
            callbacks_.on_peer_trouble();
        }
    }
}

std::string ControlLink::with_peer_trouble(std::string sentence) const {
    if (!peer_trouble_.empty()) {
        const auto peer =
            us_ == formats::Side::source ? formats::Side::destination : formats::Side::source;
        sentence += fmt::format(" (the {} says: {})", formats::name_of(peer), peer_trouble_);
    }
    return sentence;
}

void ControlLink::report(Connection& connection, const Status& ended) {
    if (std::exchange(connection.is_lost, true)) {
        return;
    }
    if (!ended) {
        callbacks_.on_lost(ended.error());
    } else if (callbacks_.on_ended) {
        callbacks_.on_ended();
    }
}

Task<void> ControlLink::say(const Control& message) {
    if (!is_up()) {
        co_return Status{};
    }
    co_return co_await current_->channel->send(message);
}

Task<void> ControlLink::rest() {
    if (!current_) {
        co_return Status{};
    }
    current_->is_lost = true;
    co_return co_await current_->helpers.end();
}

Task<void> ControlLink::hear_last_words(Status& ended, Duration limit) {
    if (!current_ || ended || ended.error().code() != formats::ErrorCode::connection_lost) {
        co_return Status{};
    }
    auto waited = co_await current_->inbox.wait_for_end(limit);
    auto heard = current_->inbox.status();
    if (waited && !heard && current_->channel->peer_has_failed()) {
        ended = std::move(heard);
    }
    co_return waited;
}

void ControlLink::drop() {
    if (current_) {
        current_->is_lost = true;
        current_->channel->close();
    }
}

} // namespace wherry::migrate
