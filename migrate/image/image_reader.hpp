// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "dirtylog/dirty_set.hpp"
#include "formats/image.hpp"
#include "formats/page_run.hpp"
#include "migrate/image/description.hpp"
#include "migrate/image/image_file.hpp"
#include "migrate/image/sha256.hpp"

#include <cstddef>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace wherry::migrate {

/// An image whose header, index, root digest and description are right. Nothing of a section is
/// given out before its digest has been found right. Errors name the file, the section and the
/// cause. One thread; blocks for as long as the disk takes.
class ImageReader {
public:
    static formats::Result<ImageReader> open(std::unique_ptr<ImageSource> source);
    static formats::Result<ImageReader> open(const std::filesystem::path& path);

    [[nodiscard]] const ImageDescription& description() const noexcept { return description_; }
    [[nodiscard]] const formats::ImageId& id() const noexcept { return header_.id; }
    [[nodiscard]] const formats::ImageDigest& root() const noexcept { return root_; }
    [[nodiscard]] std::span<const formats::IndexEntry> sections() const noexcept {
        return sections_;
    }
    [[nodiscard]] formats::Bytes size() const noexcept { return source_->size(); }
    [[nodiscard]] std::string name() const { return source_->name(); }

    /// For vmm::decode_machine_state.
    formats::Result<std::vector<std::byte>> machine_state();
    /// Pages whose contents it does not have.
    formats::Result<dirtylog::DirtySet> absent();
    /// Calls with each run of pages that is not zero, and its bytes, chunk by chunk; ends with the
    /// first Error. Refuses pages that are no RAM, are there twice or are said to be absent. A page
    /// that is in no run and not absent is zero.
    using TakePages =
        std::function<formats::Status(formats::PageRange pages, std::span<const std::byte> bytes)>;
    formats::Status for_each_run(const TakePages& take);
    /// Looks at every byte of the file.
    formats::Status verify();

private:
    struct Section {
        std::vector<std::byte> table;
        std::vector<std::byte> payload;
    };
    explicit ImageReader(std::unique_ptr<ImageSource> source) : source_{std::move(source)} {}
    formats::Status load();
    formats::Status load_index(const formats::ImageTrailer& trailer);
    formats::Status load_description();
    /// Why there is no trailer at the end: behind which section the file ends.
    [[nodiscard]] formats::Error explain_end();
    formats::Result<Section> read_section(std::size_t number);
    formats::Status check_head(
        std::span<const std::byte> front, const formats::IndexEntry& entry, std::uint32_t number);
    formats::Status check_unknown(const formats::IndexEntry& entry, std::size_t number);
    formats::Status
    take_chunk(const Section& section, dirtylog::DirtySet& seen, const TakePages& take);
    formats::Result<std::size_t> only_one_of(formats::SectionType type) const;
    [[nodiscard]] std::string place_of(std::size_t number) const;
    formats::Status read(formats::Bytes at, std::span<std::byte> into) {
        return source_->read(at, into);
    }

    std::unique_ptr<ImageSource> source_;
    formats::ImageHeader header_;
    formats::ImageBlock header_block_{};
    formats::ImageDigest root_{};
    std::vector<formats::IndexEntry> sections_;
    ImageDescription description_;
    Sha256 digest_;
};

} // namespace wherry::migrate
