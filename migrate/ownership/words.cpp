// SPDX-License-Identifier: Apache-2.0
#include "migrate/ownership/words.hpp"

#include "formats/error.hpp"

namespace wherry::migrate {

using formats::proto::Control;

Control message_of(MessageKind kind, Epoch epoch) {
    const auto number = static_cast<std::uint64_t>(epoch);
    Control message;
    switch (kind) {
    case MessageKind::offer:
        formats::invariant(false, "an offer is more than a word");
        break;
    case MessageKind::commit:
        message.mutable_commit()->set_epoch(number);
        break;
    case MessageKind::took_back:
        message.mutable_took_back()->set_epoch(number);
        break;
    case MessageKind::ask:
        message.mutable_ask()->set_epoch(number);
        break;
    case MessageKind::pages_lost:
        message.mutable_pages_lost()->set_epoch(number);
        break;
    case MessageKind::accept:
        message.mutable_accept()->set_epoch(number);
        break;
    case MessageKind::running:
        message.mutable_running()->set_epoch(number);
        break;
    case MessageKind::refused:
        message.mutable_refused()->set_epoch(number);
        break;
    case MessageKind::lost:
        message.mutable_lost()->set_epoch(number);
        break;
    case MessageKind::complete:
        message.mutable_complete()->set_epoch(number);
        break;
    }
    return message;
}

std::optional<event::Received> word_in(const Control& message) {
    const auto word = [](MessageKind kind, std::uint64_t epoch) {
        return event::Received{kind, Epoch{epoch}};
    };
    if (message.has_commit()) {
        return word(MessageKind::commit, message.commit().epoch());
    }
    if (message.has_took_back()) {
        return word(MessageKind::took_back, message.took_back().epoch());
    }
    if (message.has_ask()) {
        return word(MessageKind::ask, message.ask().epoch());
    }
    if (message.has_pages_lost()) {
        return word(MessageKind::pages_lost, message.pages_lost().epoch());
    }
    if (message.has_accept()) {
        return word(MessageKind::accept, message.accept().epoch());
    }
    if (message.has_running()) {
        return word(MessageKind::running, message.running().epoch());
    }
    if (message.has_refused()) {
        return word(MessageKind::refused, message.refused().epoch());
    }
    if (message.has_lost()) {
        return word(MessageKind::lost, message.lost().epoch());
    }
    if (message.has_complete()) {
        return word(MessageKind::complete, message.complete().epoch());
    }
    return std::nullopt;
}

} // namespace wherry::migrate
