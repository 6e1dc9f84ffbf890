// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/page_run.hpp"
#include "formats/units.hpp"

#include <cstdint>

namespace wherry::migrate {

/// How an image stores the bytes of its sections.
enum class ImageLayout : std::uint8_t {
    raw,  ///< as they are; a page begins at a multiple of a block
    zstd, ///< compressed, section by section, where that saves something
};

/// Whether a page may be given to a writer more than once.
enum class GivenPages : std::uint8_t {
    once,
    again, ///< what was given last counts: of a guest that ran meanwhile
};

/// How an image is to be written. Independent of each other.
struct ImageOptions {
    ImageLayout layout = ImageLayout::zstd;
    int level = 1; ///< of zstd: zstd_lowest_level to zstd_highest_level
    /// Of a chunk, which is what a reader reads at once; 1 to raw_pages_per_batch.
    formats::PageCount chunk_pages{64};
    GivenPages given = GivenPages::once;
    /// Threads that compress, seal and digest, beside the writer's.
    unsigned workers = 2;
};

} // namespace wherry::migrate
