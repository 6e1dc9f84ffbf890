// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string_view>

namespace wherry::guest {

/// Which version every page of one CPU's slice must have, kept so that stale memory cannot hide
/// stale memory. Versions only grow, and each level is the sum of the one below:
///   page content (carries its version)
///     = version table, 4 bytes per page; one table page is a block of 1024 pages
///     = ledger, the sum of versions of each block, in pages of their own
///     = total in memory
///     = total in CPU register mm0 (the witness), which travels with the vCPU and not with memory.
/// A lost update anywhere makes that level smaller than the next; for no mismatch at all, every
/// level up to the register must be equally old, which is a consistent earlier state.
/// Used by the owning CPU only.
class VersionLedger {
public:
    static constexpr std::uint32_t block_pages = 1024;

    /// The tables cover all pages; this ledger answers for [first, end), first on a block boundary.
    /// Sets the witness of the calling CPU.
    void start(
        std::uint32_t* versions,
        std::uint64_t* sums,
        std::uint32_t first,
        std::uint32_t end) noexcept;

    [[nodiscard]] std::uint32_t version(std::uint32_t index) const noexcept {
        return versions_[index];
    }

    /// The page is about to become one version newer; returns that version.
    std::uint32_t advance(std::uint32_t index) noexcept;

    struct Finding {
        std::string_view kind; ///< table, ledger or register; empty: all is well
        std::uint32_t block = 0;
        std::uint64_t expected = 0;
        std::uint64_t found = 0;
    };

    /// The total in memory against the register. Cheap: once per loop turn.
    [[nodiscard]] Finding check_witness() noexcept;
    /// The next block of the version table against the ledger, round robin; after the last block
    /// the ledger against the total.
    [[nodiscard]] Finding check_next_block() noexcept;

    /// Full rounds of check_next_block so far.
    [[nodiscard]] std::uint64_t rounds() const noexcept { return rounds_; }

    /// For fault injection: makes the memory look as if the last update of the page never happened.
    enum class Depth { table, ledger, total };
    void forget_last(std::uint32_t index, Depth depth) noexcept;

private:
    [[nodiscard]] std::uint64_t sum_block(std::uint32_t block) const noexcept;
    [[nodiscard]] Finding check_sums() noexcept;

    std::uint32_t* versions_ = nullptr;
    std::uint64_t* sums_ = nullptr;
    std::uint32_t first_ = 0;
    std::uint32_t end_ = 0;
    std::uint32_t next_block_ = 0;
    std::uint64_t total_ = 0;
    std::uint64_t rounds_ = 0;
};

} // namespace wherry::guest
