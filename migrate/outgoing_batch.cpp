// SPDX-License-Identifier: Apache-2.0
#include "migrate/outgoing_batch.hpp"

#include <algorithm>
#include <array>
#include <cstring>

namespace wherry::migrate {

using formats::Bytes;
using formats::PageCount;
using formats::PageRange;
using formats::Status;

namespace {

/// The pages [begin, end) of a piece, as bits.
std::uint64_t bits_of(std::uint64_t begin, std::uint64_t end) {
    const std::uint64_t ones =
        end - begin == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << (end - begin)) - 1;
    return ones << begin;
}

} // namespace

OutgoingBatch::OutgoingBatch(const vmm::GuestMemory& memory) : memory_{memory} {}

void OutgoingBatch::begin(std::uint32_t round) {
    builder_.reset(round);
    used_ = 0;
    untold_ = PageCount{0};
}

/// Each page may become a run of its own.
PageCount OutgoingBatch::room() const {
    return std::min(
        builder_.raw_room(), PageCount{formats::runs_per_batch - builder_.runs().size()});
}

/// Pages of one kind, whose copies begin at `copied_at` of raw_.
void OutgoingBatch::add(PageRange pages, Kind kind, std::size_t copied_at) {
    if (kind == Kind::untold) {
        untold_ += pages.count();
        return;
    }
    PageCount taken;
    if (kind == Kind::zero) {
        taken = builder_.add_zero(pages);
    } else {
        const auto size = static_cast<std::size_t>(formats::bytes_of(pages.count()).value());
        if (copied_at != used_) {
            // Only ever down, below what has not been looked at yet.
            std::memmove(raw_.bytes().data() + used_, raw_.bytes().data() + copied_at, size);
        }
        used_ += size;
        taken = builder_.add_raw(pages);
    }
    formats::invariant(taken == pages.count(), "a batch has room for the pages taken for it");
}

Status OutgoingBatch::add(PagePiece& piece) {
    const std::uint64_t count = piece.pages.count().value();
    const std::size_t base = used_;
    const auto copies = raw_.bytes().subspan(
        base, static_cast<std::size_t>(formats::bytes_of(piece.pages.count()).value()));
    auto copied = memory_.copy_pages(piece.pages, copies);
    if (!copied) {
        return copied;
    }
    const auto kind_at = [&](std::uint64_t page) {
        const auto copy = copies.subspan(page * formats::page_size).first<formats::page_size>();
        if (!formats::is_zero_page(copy)) {
            return Kind::raw;
        }
        return (piece.told_raw >> page & 1U) != 0 ? Kind::zero : Kind::untold;
    };
    std::uint64_t raw_bits = 0;
    std::uint64_t begin = 0;
    Kind kind = kind_at(0);
    while (begin < count) {
        std::uint64_t end = begin + 1;
        Kind next = kind;
        while (end < count) {
            next = kind_at(end);
            if (next != kind) {
                break;
            }
            ++end;
        }
        add(piece.pages.part(PageCount{begin}, PageCount{end}),
            kind,
            base + static_cast<std::size_t>(begin) * formats::page_size);
        raw_bits |= kind == Kind::raw ? bits_of(begin, end) : 0;
        begin = end;
        kind = next;
    }
    piece.told_raw = raw_bits;
    return {};
}

Bytes OutgoingBatch::frame_length() const noexcept {
    return builder_.payload_length() + Bytes{formats::frame_header_size};
}

formats::Digest OutgoingBatch::seal() {
    head_ = builder_.head();
    digest_.reset();
    digest_.update(head_);
    digest_.update(raw_.bytes().first(used_));
    return digest_.value();
}

transport::Task<void> OutgoingBatch::send(SessionChannel& channel) {
    const std::array<std::span<const std::byte>, 2> parts{head_, raw_.bytes().first(used_)};
    auto sent = co_await channel.send(
        formats::FrameType::page_batch, transport::Gather(parts), digest_.value());
    co_return sent;
}

} // namespace wherry::migrate
