// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"
#include "migrate/ownership/action.hpp"
#include "migrate/ownership/record.hpp"

#include <optional>

namespace wherry::migrate {

/// What keeps the records of one VM on one host: its journal, and the arbiter of the attempt. Each
/// call blocks and comes on a thread of its own, one of a kind at a time.
class OwnershipKeeper {
public:
    OwnershipKeeper() = default;
    OwnershipKeeper(const OwnershipKeeper&) = delete;
    OwnershipKeeper& operator=(const OwnershipKeeper&) = delete;
    /// Durable on return. After an Error it is there or not.
    virtual formats::Status write(const OwnershipRecord& record) = 0;
    /// Requests what is wanted, then reads the record. An Error: whether it was, or will be,
    /// carried out is not known. Ends by itself after some seconds.
    virtual formats::Result<std::optional<ArbiterRecord>>
    ask(const action::AskArbiter& question) = 0;

protected:
    ~OwnershipKeeper() = default;
};

} // namespace wherry::migrate
