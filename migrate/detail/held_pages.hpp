// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "dirtylog/dirty_set.hpp"
#include "formats/page_run.hpp"
#include "vmm/guest_memory.hpp"

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

namespace wherry::migrate::detail {

/// Pages and their contents, in the order in which they were copied.
class HeldPages {
public:
    /// Memory is there, and no page fault is left to be taken, for so many.
    void make_room(formats::Bytes size) {
        bytes_.resize(std::max<std::size_t>(bytes_.size(), size.value()));
    }

    formats::Status copy(const vmm::GuestMemory& memory, const dirtylog::DirtySet& pages) {
        make_room(formats::bytes_of(pages.count()));
        runs_.reserve(bytes_.size() / formats::page_size);
        formats::Status done;
        std::size_t at = 0;
        pages.for_each_run(longest_run, [&](formats::PageRange run) {
            const auto length = formats::bytes_of(run.count()).value();
            if (done) {
                done = memory.copy_pages(run, std::span{bytes_}.subspan(at, length));
            }
            runs_.push_back(run);
            at += length;
        });
        return done;
    }
    [[nodiscard]] const std::vector<formats::PageRange>& runs() const noexcept { return runs_; }
    [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return bytes_; }

private:
    static constexpr formats::PageCount longest_run = formats::raw_pages_per_batch;

    std::vector<formats::PageRange> runs_;
    std::vector<std::byte> bytes_;
};

} // namespace wherry::migrate::detail
