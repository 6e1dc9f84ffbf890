// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/page_run.hpp"
#include "formats/units.hpp"
#include "migrate/image/image_key.hpp"
#include "migrate/image/image_signature.hpp"

#include <cstdint>
#include <memory>
#include <optional>

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
    std::shared_ptr<const ImageSecret> key{};        ///< null: not encrypted
    std::shared_ptr<const SigningKey> signing_key{}; ///< private; null: not signed
    /// What is not given is as there: pages of zeros are told.
    std::optional<formats::ImageBase> base{};
    /// Threads that compress, seal and digest, beside the writer's.
    unsigned workers = 2;
};

/// What an image that is opened is to its reader.
enum class ChainPlace : std::uint8_t {
    alone,    ///< it may not have a base
    youngest, ///< its base is opened next
    base,     ///< known by its root: it need not be encrypted because a key is there
};

/// With what images are to be read.
struct ImageAccess {
    /// An image that is not encrypted is refused with it: it is not the one that was meant.
    std::shared_ptr<const ImageSecret> key{};
    /// Public: an image that is not signed with it is refused.
    std::shared_ptr<const SigningKey> trusted{};
    ChainPlace place = ChainPlace::alone;
};

} // namespace wherry::migrate
