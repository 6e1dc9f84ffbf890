// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "dirtylog/dirty_set.hpp"
#include "formats/page_range.hpp"
#include "migrate/postcopy/push_order.hpp"
#include "vmm/guest_memory.hpp"

#include <cstdint>
#include <mutex>
#include <span>
#include <vector>

namespace wherry::migrate {

/// Pages of one round, as one sender gets them: at most pages_per_piece, in one run.
struct PagePiece {
    formats::PageRange pages;
    /// Bit i: page i may be other than zero on the destination. Given as it was, to be settled as
    /// it is then.
    std::uint64_t told_raw = 0;
};
inline constexpr formats::PageCount pages_per_piece{64};

/// The pages of a round, handed out to several senders, each page to one of them. Remembers over
/// the rounds what the destination has been told, whose RAM starts as zero: a zero page is told
/// only if it was sent raw before.
class PageSupply {
public:
    explicit PageSupply(const vmm::GuestMemory& memory);

    /// `pages` stays as it is until the round is over. Only while no sender is at work.
    void begin_round(const dirtylog::DirtySet& pages, std::uint32_t senders);
    /// Post-copy: from now on pages come out of `order`, which outlives their sending. All of them
    /// are told, zero or not: nothing that the destination has of them counts.
    void begin_push(PushOrder& order);

    /// Any thread: the next pages, at most `most`, and less towards the end, so that no sender is
    /// left with all that remains. None: the round is handed out.
    [[nodiscard]] std::vector<PagePiece> take(formats::PageCount most);
    /// Any thread: what has been told of pages that were taken, before the round is over.
    void settle(std::span<const PagePiece> pieces);

    /// Any thread: of this round nothing more is handed out. The next one is not concerned.
    void break_off();
    /// Any thread: of the round, how much is still to be handed out.
    [[nodiscard]] formats::PageCount left() const;
    /// Of the last round, once it is over: what was not handed out.
    [[nodiscard]] dirtylog::DirtySet unsent() const;

private:
    [[nodiscard]] std::uint64_t told_raw_of(formats::PageRange pages) const;

    mutable std::mutex mutex_;
    PushOrder* order_ = nullptr; ///< in post-copy
    const dirtylog::DirtySet* pages_ = nullptr;
    formats::Gfn cursor_;
    formats::PageCount left_;
    bool is_broken_off_ = false;
    std::uint32_t senders_ = 1;
    dirtylog::DirtySet told_raw_;
};

} // namespace wherry::migrate
