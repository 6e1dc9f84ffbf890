// SPDX-License-Identifier: Apache-2.0
#include "migrate/ownership/event.hpp"

namespace wherry::migrate {

std::string_view name_of(MessageKind kind) noexcept {
    switch (kind) {
    case MessageKind::offer:
        return "offer";
    case MessageKind::commit:
        return "commit";
    case MessageKind::took_back:
        return "took_back";
    case MessageKind::ask:
        return "ask";
    case MessageKind::pages_lost:
        return "pages_lost";
    case MessageKind::accept:
        return "accept";
    case MessageKind::running:
        return "running";
    case MessageKind::refused:
        return "refused";
    case MessageKind::lost:
        return "lost";
    case MessageKind::complete:
        return "complete";
    }
    return "unknown";
}

} // namespace wherry::migrate
