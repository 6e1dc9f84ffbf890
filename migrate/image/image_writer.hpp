// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "dirtylog/dirty_set.hpp"
#include "formats/image.hpp"
#include "formats/page_run.hpp"
#include "migrate/image/description.hpp"
#include "migrate/image/image_file.hpp"
#include "migrate/image/image_options.hpp"
#include "migrate/image/page_map.hpp"
#include "migrate/image/section_pipeline.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace wherry::migrate {

/// Writes an image from its beginning to its end, chunk by chunk. Between begin() and finish() come
/// the machine's state, once, and pages, in any order and number. After an Error it may only be
/// destroyed. One thread, which appends to the file; blocks for as long as the disk takes.
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
        std::vector<std::byte> payload);
    formats::Status append_next();
    formats::Status append(const EncodedSection& section);
    formats::Status add_page(formats::PageRange page, std::span<const std::byte> bytes);
    formats::Status add_page_map();
    formats::Status flush_pages();
    formats::Status write_end();

    NewImageFile* file_;
    ImageOptions options_;
    formats::ImageId id_;
    formats::ImageBlock header_;
    std::unique_ptr<SectionPipeline> pipeline_;
    std::vector<formats::IndexEntry> sections_; ///< that are in the file
    std::uint32_t next_number_ = 0;             ///< of the section to come
    PageMapBuilder page_map_;                   ///< with the chunk that is being filled
    formats::PageBatchBuilder batch_{0};
    std::vector<std::byte> raw_; ///< of batch_
};

} // namespace wherry::migrate
