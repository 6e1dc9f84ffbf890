// SPDX-License-Identifier: Apache-2.0
#include "migrate/page_supply.hpp"

#include <algorithm>
#include <bit>

namespace wherry::migrate {

namespace {

using formats::PageCount;

/// Smaller portions than this cost more than they balance.
constexpr PageCount smallest_portion{16};

} // namespace

PageSupply::PageSupply(const vmm::GuestMemory& memory) : told_raw_{memory} {}

void PageSupply::begin_round(const dirtylog::DirtySet& pages, std::uint32_t senders) {
    const std::scoped_lock held{mutex_};
    pages_ = &pages;
    cursor_ = formats::Gfn{0};
    left_ = pages.count();
    is_broken_off_ = false;
    senders_ = senders;
}

void PageSupply::begin_push(PushOrder& order) {
    const std::scoped_lock held{mutex_};
    order_ = &order;
}

std::vector<PagePiece> PageSupply::take(PageCount most) {
    const std::scoped_lock held{mutex_};
    std::vector<PagePiece> pieces;
    if (order_ != nullptr) {
        for (const formats::PageRange run : order_->take(most)) {
            for (PageCount at; at < run.count(); at += pages_per_piece) {
                const auto end = std::min(at + pages_per_piece, run.count());
                pieces.push_back({run.part(at, end), ~std::uint64_t{0}});
            }
        }
        return pieces;
    }
    if (is_broken_off_) {
        return pieces;
    }
    const PageCount fair{left_.value() / (2 * senders_)};
    PageCount budget = std::min(most, std::max(fair, smallest_portion));
    while (budget.value() > 0) {
        const auto run = pages_->next_run(cursor_, std::min(budget, pages_per_piece));
        if (!run) {
            break;
        }
        pieces.push_back({*run, told_raw_of(*run)});
        cursor_ = run->end();
        budget -= run->count();
        left_ -= run->count();
    }
    return pieces;
}

std::uint64_t PageSupply::told_raw_of(formats::PageRange pages) const {
    std::uint64_t bits = 0;
    auto told = told_raw_.first_run_in(pages);
    while (told) {
        for (auto page = told->first(); page < told->end(); page = page + PageCount{1}) {
            bits |= std::uint64_t{1} << (page - pages.first()).value();
        }
        const auto next = told->end() - pages.first();
        told = next < pages.count() ? told_raw_.first_run_in(pages.part(next, pages.count()))
                                    : std::nullopt;
    }
    return bits;
}

void PageSupply::break_off() {
    const std::scoped_lock held{mutex_};
    is_broken_off_ = true;
}

PageCount PageSupply::left() const {
    const std::scoped_lock held{mutex_};
    return left_;
}

dirtylog::DirtySet PageSupply::unsent() const {
    const std::scoped_lock held{mutex_};
    dirtylog::DirtySet rest = *pages_;
    if (const auto before = formats::PageRange::make(formats::Gfn{0}, cursor_ - formats::Gfn{0})) {
        rest.unmark(*before);
    }
    return rest;
}

void PageSupply::settle(std::span<const PagePiece> pieces) {
    const std::scoped_lock held{mutex_};
    if (order_ != nullptr) {
        return;
    }
    for (const PagePiece& piece : pieces) {
        told_raw_.unmark(piece.pages);
        std::uint64_t bits = piece.told_raw;
        while (bits != 0) {
            const auto first = static_cast<std::uint64_t>(std::countr_zero(bits));
            const auto length = static_cast<std::uint64_t>(std::countr_one(bits >> first));
            told_raw_.mark(piece.pages.part(PageCount{first}, PageCount{first + length}));
            bits = length + first >= 64 ? 0 : bits >> (first + length) << (first + length);
        }
    }
}

} // namespace wherry::migrate
