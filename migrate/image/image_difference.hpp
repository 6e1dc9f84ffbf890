// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "dirtylog/dirty_set.hpp"
#include "migrate/image/image_chain.hpp"

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <span>
#include <vector>

namespace wherry::migrate {

/// Finds out which contents are not those of a chain. Keeps chunks that it has read, a limited
/// number: it is fast where pages come nearly ascending. One thread.
class ImageDifference {
public:
    /// `chain` outlives it.
    static formats::Result<ImageDifference> from(ImageChain& chain);

    /// Whether the contents of `page`, `bytes`, are not the chain's.
    formats::Result<bool> differs(formats::Gfn page, std::span<const std::byte> bytes);
    /// Calls `take` with each run of `pages` whose contents, `bytes`, are not the chain's.
    formats::Status
    for_each_run(formats::PageRange pages, std::span<const std::byte> bytes, const TakePages& take);

private:
    /// The pages of a chunk that count, and where their bytes are; of zeros there are none.
    struct Run {
        formats::PageRange pages;
        std::vector<std::byte> bytes;
    };
    using Chunk = std::vector<Run>;

    ImageDifference(ImageChain& chain, const PageMap& map) : chain_{&chain}, map_{&map} {}
    formats::Result<const Chunk*> chunk(std::uint32_t number);

    ImageChain* chain_;
    const PageMap* map_;
    std::map<std::uint32_t, Chunk> chunks_;
    std::deque<std::uint32_t> oldest_; ///< of chunks_, in the order of reading
};

/// What is not the same in two images.
struct ComparedImages {
    dirtylog::DirtySet pages;
    formats::PageCount of; ///< RAM
    bool has_same_state = true;
};
/// `invalid_argument` where their RAM is not laid out alike, or pages are missing.
formats::Result<ComparedImages> compare_images(ImageChain& one, ImageChain& other);

} // namespace wherry::migrate
