// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "dirtylog/dirty_set.hpp"
#include "formats/page_set.hpp"
#include "formats/proto/control.pb.h"
#include "migrate/session_channel.hpp"

namespace wherry::migrate {

/// Says on `channel` which pages are missing on the destination: page sets, and the message that
/// ends them. Stretches without any are left out.
transport::Task<void> send_missing(SessionChannel& channel, const dirtylog::DirtySet& missing);

/// Takes that in again, page set by page set.
class MissingPagesReader {
public:
    /// Of this RAM.
    explicit MissingPagesReader(const vmm::GuestMemory& memory) : missing_{memory} {}

    /// `protocol` where it names what is no RAM, or comes out of order.
    formats::Status add(const formats::PageSet& set);
    /// All there is; begins anew. `protocol` where the sender counted other than we did.
    formats::Result<dirtylog::DirtySet> finish(const formats::proto::MissingEnd& end);

private:
    dirtylog::DirtySet missing_;
    formats::Gfn next_; ///< behind the last page set
};

} // namespace wherry::migrate
