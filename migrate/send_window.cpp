// SPDX-License-Identifier: Apache-2.0
#include "migrate/send_window.hpp"

#include <fmt/format.h>

namespace wherry::migrate {

formats::Status SendWindow::placed(formats::Bytes sum) {
    if (sum < placed_ || sum > sent_) {
        return formats::fail(
            formats::ErrorCode::protocol,
            fmt::format(
                "the destination says that {} bytes of a bulk channel are in place, after {} "
                "before and of {} sent",
                sum.value(),
                placed_.value(),
                sent_.value()));
    }
    placed_ = sum;
    return {};
}

} // namespace wherry::migrate
