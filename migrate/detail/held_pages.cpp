// SPDX-License-Identifier: Apache-2.0
#include "migrate/detail/held_pages.hpp"

#include "formats/page_run.hpp"
#include "migrate/host_memory.hpp"

#include <algorithm>

#include <fmt/format.h>

namespace wherry::migrate::detail {

using formats::Bytes;
using formats::fail;
using formats::PageRange;
using formats::Status;

void HeldPages::grow_to(Bytes size) {
    bytes_.resize(std::max<std::size_t>(bytes_.size(), size.value()));
}

Status HeldPages::make_room(Bytes size) {
    const auto headroom = host_memory_headroom();
    if (!headroom) {
        return fail(headroom.error());
    }
    if (size > *headroom / 2) {
        return fail(
            formats::ErrorCode::out_of_resources,
            fmt::format(
                "{} MiB of memory would be needed for the last pages while the guest stands still, "
                "which is too much of what this host has left; a smaller --downtime needs less",
                size.value() >> 20U));
    }
    grow_to(size);
    return {};
}

Status HeldPages::copy(const vmm::GuestMemory& memory, const dirtylog::DirtySet& pages) {
    grow_to(formats::bytes_of(pages.count()));
    runs_.reserve(bytes_.size() / formats::page_size);
    Status done;
    std::size_t at = 0;
    pages.for_each_run(formats::raw_pages_per_batch, [&](PageRange run) {
        const auto length = formats::bytes_of(run.count()).value();
        if (done) {
            done = memory.copy_pages(run, std::span{bytes_}.subspan(at, length));
        }
        runs_.push_back(run);
        at += length;
    });
    return done;
}

} // namespace wherry::migrate::detail
