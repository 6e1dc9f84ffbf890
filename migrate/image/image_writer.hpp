// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "dirtylog/dirty_set.hpp"
#include "formats/image.hpp"
#include "formats/page_run.hpp"
#include "migrate/image/description.hpp"
#include "migrate/image/image_file.hpp"
#include "migrate/image/page_map.hpp"
#include "migrate/image/sha256.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace wherry::migrate {

/// Whether a page may be given to a writer more than once.
enum class GivenPages : std::uint8_t {
    once,
    again, ///< what was given last counts: of a guest that ran meanwhile
};

struct ImageOptions {
    GivenPages given = GivenPages::once;
};

/// Writes an image from its beginning to its end, chunk by chunk. Between begin() and finish() come
/// the machine's state, once, and pages, in any order and number. After an Error it may only be
/// destroyed. One thread; blocks for as long as the disk takes.
class ImageWriter {
public:
    /// Begins it: `file` outlives the writer.
    static formats::Result<ImageWriter>
    begin(NewImageFile& file, const ImageDescription& description, const ImageOptions& options);

    /// As vmm::encode makes them.
    formats::Status add_machine_state(std::span<const std::byte> state);
    /// Pages of zeros need not be given, unless they were given with other contents.
    formats::Status add_pages(formats::PageRange pages, std::span<const std::byte> bytes);
    /// Whose contents the image does not have.
    formats::Status add_absent(const dirtylog::DirtySet& pages);
    /// Page map, index and trailer; the file is published.
    formats::Status finish();

private:
    enum class Need : std::uint8_t { critical, optional };
    ImageWriter(
        NewImageFile& file,
        const formats::ImageId& id,
        const ImageDescription& description,
        const ImageOptions& options);
    formats::Status add_section(
        formats::SectionType type,
        Need need,
        std::span<const std::byte> table,
        std::span<const std::byte> payload);
    formats::Status add_page(formats::PageRange page, std::span<const std::byte> bytes);
    formats::Status add_page_map();
    formats::Status flush_pages();
    /// That the next chunk will have.
    [[nodiscard]] std::uint32_t next_number() const noexcept {
        return static_cast<std::uint32_t>(sections_.size());
    }
    formats::Status pad();

    NewImageFile* file_;
    ImageOptions options_;
    formats::ImageId id_;
    formats::ImageBlock header_;
    Sha256 digest_;
    std::vector<formats::IndexEntry> sections_;
    PageMapBuilder page_map_; ///< with the chunk that is being filled
    formats::PageBatchBuilder batch_{0};
    std::vector<std::byte> raw_; ///< of batch_
};

} // namespace wherry::migrate
