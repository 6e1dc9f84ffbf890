// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "migrate/ownership/keeper.hpp"

#include <mutex>
#include <optional>
#include <vector>

namespace wherry::tests {

/// Keeps records as a disk does that never loses one; there is no arbiter.
class MemoryKeeper final : public migrate::OwnershipKeeper {
public:
    formats::Status write(const migrate::OwnershipRecord& record) override {
        const std::lock_guard held{mutex_};
        if (failures_left > 0) {
            --failures_left;
            return formats::fail(formats::ErrorCode::io, "the disk is full");
        }
        records_.push_back(record);
        return {};
    }
    formats::Result<std::optional<migrate::ArbiterRecord>>
    ask(const migrate::action::AskArbiter& question) override {
        return formats::fail(
            formats::ErrorCode::unreachable, "no arbiter " + question.arbiter + " is here");
    }

    [[nodiscard]] std::vector<migrate::OwnershipRecord> records() const {
        const std::lock_guard held{mutex_};
        return records_;
    }
    int failures_left = 0; ///< of the next writes

private:
    mutable std::mutex mutex_;
    std::vector<migrate::OwnershipRecord> records_;
};

} // namespace wherry::tests
