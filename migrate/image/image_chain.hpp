// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "migrate/image/image_reader.hpp"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace wherry::migrate {

/// An image with all that it is based on: a guest. Of an image without a base it is a chain of
/// one. Chunks of all its images are numbered through. Threads as of ImageReader.
class ImageChain {
public:
    /// Base images are looked for in `bases`, where it is not empty, or else beside the image that
    /// is based on them. One that is not the one that was meant is refused (authentication): its
    /// root is another; so is, below an image that is signed, one with digests that anybody can
    /// forge. `access` is for the image of that name: what it is based on is known by its
    /// root, and may be unencrypted or unsigned. That holds for the first one as well where its
    /// place is to be a base.
    static formats::Result<ImageChain> open(
        const std::filesystem::path& path,
        const ImageAccess& access = {},
        const std::filesystem::path& bases = {});

    /// The one that was opened: description and state are its.
    [[nodiscard]] ImageReader& image() noexcept { return images_.back(); }
    [[nodiscard]] const ImageReader& image() const noexcept { return images_.back(); }
    [[nodiscard]] const ImageDescription& description() const noexcept {
        return image().description();
    }
    /// The oldest first.
    [[nodiscard]] std::span<const ImageReader> images() const noexcept { return images_; }
    [[nodiscard]] std::string name() const { return image().name(); }
    /// Of all its images: what numbers of chunks are below.
    [[nodiscard]] std::size_t section_count() const noexcept;
    /// What an image that is based on this one says of it. `invalid_argument` where some of the
    /// chain is encrypted and `child` is not to be with the same key: one key opens a chain, and an
    /// image that should be encrypted and is not is refused; and where `child` is to be signed and
    /// some of the chain has digests that anybody can forge.
    [[nodiscard]] formats::Result<formats::ImageBase> as_base(const ImageOptions& child) const;
    /// The base of the youngest image, if that was written anew as `converted` says.
    [[nodiscard]] formats::Result<std::optional<formats::ImageBase>>
    base_for(const ImageOptions& converted) const;

    /// As ImageReader's, of the whole chain.
    formats::Result<const PageMap*> page_map();
    formats::Status read_chunk(std::uint32_t number, const TakePages& take) const;
    /// The page map in parts that are read as they are asked for, where it is of one image that
    /// has it so; else the whole of it is read now. Valid as long as the chain, wherever it is
    /// moved.
    formats::Result<PageMapParts*> page_map_parts();
    /// By page_map_parts(): as ImageReader's.
    formats::Status read_chunk_by_parts(std::uint32_t number, const TakePages& take);
    formats::Status for_each_run(const TakePages& take, unsigned threads = 1);
    formats::Status verify(unsigned threads = 1);

private:
    ImageChain(std::vector<ImageReader> images, std::shared_ptr<const ImageSecret> key);
    [[nodiscard]] formats::Status
    check_options(std::span<const ImageReader> bases, const ImageOptions& child) const;

    std::shared_ptr<const ImageSecret> key_;   ///< null: none was given
    std::vector<ImageReader> images_;          ///< the oldest first, so that younger ones count
    std::vector<std::uint32_t> first_numbers_; ///< of each image's section 0
    std::unique_ptr<const PageMap> page_map_;  ///< null: not asked for yet, or images_ is one
    std::unique_ptr<PageMapParts> parts_;      ///< null: not asked for yet; refers to the above
    bool has_parts_ = false;                   ///< they are the image's, and not the whole map
};

} // namespace wherry::migrate
