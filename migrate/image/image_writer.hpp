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

class ImageDifference;

/// Writes an image from its beginning to its end, chunk by chunk. Between begin() and finish() come
/// the machine's state, once, and pages, in any order and number. After an Error it may only be
/// destroyed. One thread; blocks for as long as the disk takes, and another one appends to the
/// file meanwhile, which is the writer's alone.
class ImageWriter {
public:
    /// Begins it: `file` outlives the writer. With `base`, which does too and whose chain the
    /// options name, pages are left out that are as there.
    static formats::Result<ImageWriter> begin(
        ImageSink& file,
        const ImageDescription& description,
        const ImageOptions& options,
        ImageDifference* base = nullptr);

    /// As vmm::encode makes them.
    formats::Status add_machine_state(std::span<const std::byte> state);
    /// Pages of zeros need not be given, unless they were given with other contents or have other
    /// contents in the base.
    formats::Status add_pages(formats::PageRange pages, std::span<const std::byte> bytes);
    /// Whose contents the image does not have.
    formats::Status add_absent(const dirtylog::DirtySet& pages);
    /// Page map, index and trailer; the file is published.
    formats::Status finish();

    /// How much may be written yet, at most: told to the file.
    void expect(formats::Bytes more) { pipeline_->expect(more); }
    /// Of the file, so far.
    [[nodiscard]] formats::Bytes written() const { return pipeline_->written(); }
    /// Stored so far or in the chunk that is being filled, each time that they were given; zeros
    /// not counted.
    [[nodiscard]] formats::PageCount raw_pages() const noexcept { return raw_pages_; }

private:
    enum class Need : std::uint8_t { critical, optional };
    ImageWriter(
        ImageSink& file,
        const formats::ImageId& id,
        const formats::ImageBlock& header,
        const ImageDescription& description,
        const ImageOptions& options,
        ImageDifference* base);
    formats::Status add_section(
        formats::SectionType type,
        Need need,
        std::span<const std::byte> table,
        std::vector<std::byte> payload);
    formats::Status add_page(formats::PageRange page, std::span<const std::byte> bytes);
    formats::Result<bool>
    is_needed(formats::Gfn page, std::span<const std::byte> bytes, bool is_zero);
    formats::Status add_page_map();
    formats::Status flush_pages();
    formats::Status write_end();

    ImageSink* file_;
    ImageDifference* base_; ///< null: what is given is not compared
    ImageOptions options_;
    formats::ImageId id_;
    formats::ImageBlock header_;
    std::unique_ptr<SectionPipeline> pipeline_;
    std::uint32_t next_number_ = 0; ///< of the section to come
    PageMapBuilder page_map_;       ///< with the chunk that is being filled
    formats::PageBatchBuilder batch_{0};
    std::vector<std::byte> raw_; ///< of batch_
    formats::PageCount raw_pages_;
};

} // namespace wherry::migrate
