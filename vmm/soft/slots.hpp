// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/mshvsim/engine.hpp"

#include <cstdint>
#include <map>
#include <span>
#include <vector>

namespace wherry::vmm::soft {

/// The guest memory that a simulator's engine can reach, and which pages of it were written.
/// Whoever calls has the engine's Turn.
class Slots final : public mshvsim::MemoryFaults {
public:
    struct Slot {
        mshvsim::EngineSlot place;
        std::vector<std::uint64_t> written; ///< a bit a page; empty: not logged
    };

    /// nullptr: no such slot.
    Slot* numbered(std::uint32_t number);
    /// Host address of guest memory, and in `left` how many bytes follow it in its slot.
    std::byte* find(std::uint64_t gpa, std::uint64_t& left);
    void add(const mshvsim::EngineSlot& place);
    void remove(std::uint32_t number);
    static void set_logged(Slot& slot, bool is_logged);
    [[nodiscard]] bool is_logging() const noexcept { return logged_ != 0; }
    void count_logged();
    void mark(std::uint64_t gpa);

    /// Nothing is ever faulted in here.
    Answer touch(std::uint64_t, mshvsim::Access) override { return Answer::unmapped; }
    bool read(std::uint64_t gpa, std::span<std::byte> to) override;
    bool write(std::uint64_t, std::span<const std::byte>) override { return false; }
    bool ring(std::uint64_t, std::span<const std::byte>) override { return false; }

private:
    Slot* at(std::uint64_t gfn);

    std::map<std::uint64_t, Slot> slots_; ///< by first page
    Slot* last_ = nullptr;                ///< found last
    std::size_t logged_ = 0;
};

} // namespace wherry::vmm::soft
