// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "dirtylog/dirty_set.hpp"
#include "formats/image.hpp"
#include "formats/page_run.hpp"
#include "migrate/image/description.hpp"
#include "migrate/image/image_file.hpp"
#include "migrate/image/sha256.hpp"

#include <cstddef>
#include <span>
#include <vector>

namespace wherry::migrate {

/// Writes an image from its beginning to its end, chunk by chunk. The calls come in the order in
/// which they stand here, the page calls any number of times, each page in one of them at most.
/// After an Error it may only be destroyed. One thread; blocks for as long as the disk takes.
class ImageWriter {
public:
    /// Begins it: `file` outlives the writer.
    static formats::Result<ImageWriter>
    begin(NewImageFile& file, const ImageDescription& description);

    /// As vmm::encode makes them.
    formats::Status add_machine_state(std::span<const std::byte> state);
    /// Pages of zeros need not be given and are left out.
    formats::Status add_pages(formats::PageRange pages, std::span<const std::byte> bytes);
    /// Whose contents the image does not have.
    formats::Status add_absent(const dirtylog::DirtySet& pages);
    /// Index and trailer; the file is published.
    formats::Status finish();

private:
    ImageWriter(NewImageFile& file, const formats::ImageId& id);
    formats::Status add_section(
        formats::SectionType type,
        std::span<const std::byte> table,
        std::span<const std::byte> payload);
    formats::Status flush_pages();
    formats::Status pad();

    NewImageFile* file_;
    formats::ImageId id_;
    formats::ImageBlock header_;
    Sha256 digest_;
    std::vector<formats::IndexEntry> sections_;
    formats::PageBatchBuilder batch_{0};
    std::vector<std::byte> raw_; ///< of batch_
};

} // namespace wherry::migrate
