// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "migrate/ownership/keeper.hpp"

#include <mutex>
#include <optional>
#include <vector>

namespace wherry::tests {

/// A shared arbiter of one VM, within this process.
class MemoryArbiter {
public:
    explicit MemoryArbiter(std::optional<migrate::ArbiterRecord> record = std::nullopt)
        : record_{record} {}

    std::optional<migrate::ArbiterRecord> answer(const migrate::action::AskArbiter& question) {
        const std::lock_guard held{mutex_};
        if (question.wanted && may_follow(record_, *question.wanted, question.asker)) {
            record_ = question.wanted;
        }
        return record_;
    }
    [[nodiscard]] std::optional<migrate::ArbiterRecord> record() const {
        const std::lock_guard held{mutex_};
        return record_;
    }

private:
    mutable std::mutex mutex_;
    std::optional<migrate::ArbiterRecord> record_;
};

/// Keeps records as a disk does that never loses one. Where it is given an arbiter it reaches that.
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
        const std::lock_guard held{mutex_};
        if (arbiter == nullptr || answers_left == 0) {
            return formats::fail(
                formats::ErrorCode::unreachable, "no arbiter " + question.arbiter + " is here");
        }
        --answers_left;
        return arbiter->answer(question);
    }

    [[nodiscard]] std::vector<migrate::OwnershipRecord> records() const {
        const std::lock_guard held{mutex_};
        return records_;
    }
    [[nodiscard]] std::vector<migrate::RecordKind> kinds() const {
        std::vector<migrate::RecordKind> kinds;
        for (const auto& written : records()) {
            kinds.push_back(written.kind);
        }
        return kinds;
    }
    int failures_left = 0;            ///< of the next writes
    MemoryArbiter* arbiter = nullptr; ///< outlives this
    unsigned answers_left = ~0U;      ///< then it is away

private:
    mutable std::mutex mutex_;
    std::vector<migrate::OwnershipRecord> records_;
};

} // namespace wherry::tests
