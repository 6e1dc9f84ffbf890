// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "dirtylog/dirty_set.hpp"
#include "formats/image.hpp"
#include "migrate/image/chunk_walk.hpp"
#include "migrate/image/description.hpp"
#include "migrate/image/image_file.hpp"
#include "migrate/image/image_outline.hpp"
#include "migrate/image/image_section.hpp"
#include "migrate/image/page_map.hpp"
#include "migrate/image/page_map_parts.hpp"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace wherry::migrate {

/// An image whose header, index, root digest and description are right. Nothing of a section is
/// given out before its digest has been found right. Errors name the file, the section and the
/// cause. One thread, but for read_chunk(), and for what is const otherwise beside page_map();
/// blocks for as long as the disk takes.
class ImageReader {
public:
    static formats::Result<ImageReader>
    open(std::unique_ptr<ImageSource> source, const ImageAccess& access = {});
    static formats::Result<ImageReader>
    open(const std::filesystem::path& path, const ImageAccess& access = {});

    [[nodiscard]] const ImageDescription& description() const noexcept { return description_; }
    [[nodiscard]] const formats::ImageId& id() const noexcept { return outline_.header.id; }
    [[nodiscard]] const formats::ImageDigest& root() const noexcept {
        return outline_.trailer.root;
    }
    [[nodiscard]] std::span<const formats::IndexEntry> sections() const noexcept {
        return outline_.sections;
    }
    /// Header, trailer and what the index says.
    [[nodiscard]] const ImageOutline& outline() const noexcept { return outline_; }
    [[nodiscard]] formats::Bytes size() const noexcept { return source_->size(); }
    [[nodiscard]] std::string name() const { return source_->name(); }

    /// For vmm::decode_machine_state.
    formats::Result<std::vector<std::byte>> machine_state();
    /// Pages whose contents it does not have.
    formats::Result<dirtylog::DirtySet> absent();

    using TakePages = migrate::TakePages;
    /// Calls with each run of pages that counts and is not zero, chunk by chunk; ends with the
    /// first Error. Refuses pages that are no RAM, are there twice where they may not be, or are
    /// said to be absent, and a page map that is not that of the chunks. A page that is in no run
    /// and not absent is zero. With several threads, `take` is called on all of them, in no order.
    formats::Status for_each_run(const TakePages& take, unsigned threads = 1);

    /// Which chunk counts for each page. Read at the first call, or made by reading all chunks
    /// where the image has none; valid as long as the reader, wherever it is moved.
    formats::Result<const PageMap*> page_map();
    /// The same part by part, as it is asked for: of an image whose page map can be read so, else
    /// null. Valid as long as the reader stays where it is.
    formats::Result<std::unique_ptr<PageMapParts>> page_map_parts() const;
    /// Calls with each run of pages that counts in section `number`, which the page map names; of
    /// a run of zeros there are no bytes. All of the section is checked before the first call,
    /// also that it has every page that the page map says it has. After page_map(): any thread.
    formats::Status read_chunk(std::uint32_t number, const TakePages& take) const;
    /// The same by what of the page map says which of its pages count. Where that is not whole yet,
    /// map.check_counts() finds out later whether the section has all that it should have.
    formats::Status
    read_chunk(std::uint32_t number, PageMapParts& map, const TakePages& take) const;

    /// Looks at every byte of the file.
    formats::Status verify(unsigned threads = 1);

private:
    ImageReader(std::unique_ptr<ImageSource> source, ImageOutline outline)
        : source_{std::move(source)},
          outline_{std::move(outline)} {}
    formats::Status load_description();
    formats::Result<std::unique_ptr<PageMap>> load_page_map();
    formats::Status
    append_page_map(std::size_t number, std::vector<formats::PageMapEntry>& entries) const;
    [[nodiscard]] bool has_page_map() const;
    [[nodiscard]] bool may_supersede() const;
    /// Every chunk; what counts by `counting`, everything where it is null. The page map as the
    /// chunks make it.
    formats::Result<PageMap>
    read_chunks(const PageMap* counting, const TakePages& take, unsigned threads);
    formats::Result<ImageSection> read_section(std::size_t number) const;
    struct Chunk {
        ImageSection section;
        std::vector<formats::PageRun> runs;
    };
    /// Errors name the file.
    formats::Result<Chunk> load_chunk(std::uint32_t number) const;
    /// "a.wimg: section 3 (chunk of pages)", for messages.
    [[nodiscard]] std::string place_in_file(std::size_t number) const;

    std::unique_ptr<ImageSource> source_;
    ImageOutline outline_;
    ImageDescription description_;
    std::unique_ptr<const PageMap> page_map_; ///< null: not asked for yet
};

} // namespace wherry::migrate
