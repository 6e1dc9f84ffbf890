// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/page_bitmap.hpp"
#include "formats/page_range.hpp"
#include "tests/unit/vmm/tiny_guest.hpp"
#include "vmm/fault_source.hpp"
#include "vmm/partition.hpp"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <thread>
#include <vector>

namespace wherry::tests {

inline formats::PageRange pages(std::uint64_t first, std::uint64_t count) {
    return must(formats::PageRange::make(formats::Gfn{first}, formats::PageCount{count}));
}
inline formats::PageRange page(std::uint64_t number) {
    return pages(number, 1);
}

/// Pages that begin with `value`, of 64 bits, and are zero otherwise.
inline std::vector<std::byte> filled(std::uint64_t value, std::uint64_t count) {
    std::vector<std::byte> bytes(count * formats::page_size);
    for (std::uint64_t i = 0; i < count; ++i) {
        std::memcpy(&bytes[i * formats::page_size], &value, sizeof(value));
    }
    return bytes;
}

/// As FaultSource::arm() takes them. Pages that are no RAM are a mistake of the test.
inline std::vector<formats::PageBitmap>
bitmaps_of(const vmm::GuestMemory& memory, std::span<const formats::PageRange> missing) {
    std::vector<formats::PageBitmap> bitmaps;
    for (const auto& region : memory.regions()) {
        auto& bitmap = bitmaps.emplace_back(region.pages);
        for (const auto range : missing) {
            if (region.pages.contains(range)) {
                bitmap.set(range);
            }
        }
    }
    return bitmaps;
}
inline formats::Status
arm(vmm::FaultSource& source,
    const vmm::GuestMemory& memory,
    std::span<const formats::PageRange> missing,
    vmm::FaultListener& listener,
    vmm::MemoryBefore before = vmm::MemoryBefore::used) {
    return source.arm(bitmaps_of(memory, missing), listener, before);
}

/// Remembers which pages somebody waits for.
class Listener final : public vmm::FaultListener {
public:
    void wanted(formats::PageRange range) noexcept override {
        const std::scoped_lock held{lock_};
        for (std::uint64_t i = 0; i < range.count().value(); ++i) {
            twice_ += wanted_.insert(range.first().value() + i).second ? 0U : 1U;
        }
        changed_.notify_all();
    }
    void await(std::uint64_t number) {
        std::unique_lock held{lock_};
        changed_.wait(held, [&] { return wanted_.contains(number); });
    }
    [[nodiscard]] std::set<std::uint64_t> heard() {
        const std::scoped_lock held{lock_};
        return wanted_;
    }
    /// How many pages it was told of more than once.
    [[nodiscard]] std::uint64_t twice() {
        const std::scoped_lock held{lock_};
        return twice_;
    }

private:
    std::mutex lock_;
    std::condition_variable changed_;
    std::set<std::uint64_t> wanted_;
    std::uint64_t twice_ = 0;
};

/// A vCPU that runs on a thread until stopped; keeps what the guest writes to ports.
class Running {
public:
    explicit Running(vmm::Vcpu& vcpu) : vcpu_{vcpu} {
        exits_.on_write = [this](std::uint64_t /*at*/, std::uint64_t value) {
            const std::scoped_lock held{lock_};
            seen_.push_back(value);
            changed_.notify_all();
        };
        thread_ = std::thread{[this] {
            auto reason = vcpu_.run(exits_);
            const std::scoped_lock held{lock_};
            reason_ = std::move(reason);
            changed_.notify_all();
        }};
    }
    Running(const Running&) = delete;
    Running& operator=(const Running&) = delete;
    ~Running() {
        if (thread_.joinable()) {
            stop();
        }
    }

    std::vector<std::uint64_t> seen() {
        const std::scoped_lock held{lock_};
        return seen_;
    }
    void await_seen(std::size_t count) {
        std::unique_lock held{lock_};
        changed_.wait(held, [&] { return seen_.size() >= count || reason_; });
    }
    vmm::ExitReason stop() {
        while (!kick()) {
        }
        thread_.join();
        return must(*reason_);
    }
    /// Whether the vCPU has left the guest, soon after a kick.
    bool kick() {
        constexpr std::chrono::milliseconds kick_again{1};
        std::unique_lock held{lock_};
        if (!reason_) {
            vcpu_.kick();
        }
        return changed_.wait_for(held, kick_again, [&] { return reason_.has_value(); });
    }

private:
    vmm::Vcpu& vcpu_;
    ScriptedExits exits_;
    std::mutex lock_;
    std::condition_variable changed_;
    std::vector<std::uint64_t> seen_;
    std::optional<formats::Result<vmm::ExitReason>> reason_;
    std::thread thread_;
};

} // namespace wherry::tests
