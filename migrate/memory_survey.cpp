// SPDX-License-Identifier: Apache-2.0
#include "migrate/memory_survey.hpp"

#include "formats/page_digest.hpp"
#include "migrate/progress.hpp"

#include <algorithm>
#include <chrono>
#include <vector>

namespace wherry::migrate {

namespace {

using formats::PageCount;
using formats::PageRange;
using Clock = std::chrono::steady_clock;

/// Looked at in one place, and the number of places.
constexpr PageCount piece{16};
constexpr std::uint64_t most_pieces = 512;

/// `count` pieces of the runs, evenly spread over all of their pages.
std::vector<PageRange> pieces_of(const std::vector<PageRange>& runs, PageCount whole) {
    std::vector<PageRange> pieces;
    const std::uint64_t count = std::min(most_pieces, std::max<std::uint64_t>(whole / piece, 1));
    const std::uint64_t stride = whole.value() / count;
    PageCount passed;
    std::uint64_t next = 0;
    for (const PageRange run : runs) {
        for (; next < count && next * stride < (passed + run.count()).value(); ++next) {
            const PageCount from = PageCount{next * stride} - passed;
            pieces.push_back(run.part(from, std::min(from + piece, run.count())));
        }
        passed += run.count();
    }
    return pieces;
}

} // namespace

formats::Result<MemorySurvey> survey_memory(const vmm::GuestMemory& memory) {
    const auto populated = memory.populated();
    if (!populated) {
        return formats::fail(populated.error());
    }
    PageCount whole;
    for (const PageRange run : *populated) {
        whole += run.count();
    }
    MemorySurvey survey;
    if (whole.value() == 0) {
        return survey;
    }
    std::vector<std::byte> copy(formats::bytes_of(piece).value());
    PageCount looked_at;
    PageCount raw;
    Duration looking{};
    Duration digesting{};
    for (const PageRange range : pieces_of(*populated, whole)) {
        const std::span pages = std::span{copy}.first(formats::bytes_of(range.count()).value());
        auto before = Clock::now();
        if (auto copied = memory.copy_pages(range, pages); !copied) {
            return formats::fail(std::move(copied).error());
        }
        PageCount raw_here;
        for (std::size_t at = 0; at < pages.size(); at += formats::page_size) {
            const auto page = pages.subspan(at).first<formats::page_size>();
            raw_here += PageCount{formats::is_zero_page(page) ? 0U : 1U};
        }
        auto after = Clock::now();
        looking += after - before;
        before = after;
        (void)formats::digest_of(pages);
        digesting += Clock::now() - before;
        looked_at += range.count();
        raw += raw_here;
    }
    const auto share = static_cast<double>(raw.value()) / static_cast<double>(looked_at.value());
    survey.raw_pages =
        PageCount{static_cast<std::uint64_t>(static_cast<double>(whole.value()) * share)};
    survey.zero_pages = whole - survey.raw_pages;
    survey.zero_rate = rate_of(formats::bytes_of(looked_at), looking);
    survey.raw_rate = rate_of(formats::bytes_of(looked_at), looking + digesting);
    return survey;
}

} // namespace wherry::migrate
