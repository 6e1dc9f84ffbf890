// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/image.hpp"
#include "migrate/image/description.hpp"
#include "migrate/image/image_outline.hpp"
#include "migrate/image/image_section.hpp"
#include "migrate/image/page_map.hpp"
#include "migrate/page_placement.hpp"
#include "vmm/unique_fd.hpp"

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace wherry::migrate {

/// A pipe, a socket or a file, read from its beginning to its end. The last piece, if it was of a
/// block at most, can be read again. One thread.
class StreamSource final : public ImageSource {
public:
    /// `file` is read from where it stands; it outlives the object.
    StreamSource(int file, std::string name) : file_{file}, name_{std::move(name)} {}

    /// Not known: more than any image has.
    [[nodiscard]] formats::Bytes size() const noexcept override;
    /// From where the last piece began, or from its end. `corrupted` where the stream ends before.
    formats::Status read(formats::Bytes at, std::span<std::byte> into) override;
    [[nodiscard]] std::string name() const override { return name_; }
    /// Whether nothing comes any more: waits for it.
    formats::Result<bool> is_at_end();

private:
    formats::Result<std::size_t> read_some(std::span<std::byte> into) const;

    int file_;
    std::string name_;
    formats::Bytes last_begin_; ///< of last_
    std::vector<std::byte> last_;
};

/// An image that is read from its beginning to its end, once, as it comes. Each section is checked
/// before it is used, as ImageReader does; what is known only at its end (index, root, trailer) at
/// its end: whoever uses it must wait for that. Errors name it, the section and the cause. Whole
/// guests only. One thread; blocks for as long as the stream takes.
class ImageStream {
public:
    /// Header and description, which come first.
    static formats::Result<ImageStream>
    open(std::unique_ptr<StreamSource> source, ImageAccess access = {});

    [[nodiscard]] const ImageDescription& description() const noexcept { return description_; }
    [[nodiscard]] std::string name() const { return source_->name(); }

    /// The rest, up to the end of the stream; once. Pages of zeros are placed where others were
    /// before. After an Error what was placed is of no use.
    formats::Status read_guest(PagePlacement& placement);
    /// For vmm::decode_machine_state, once read_guest() is done.
    [[nodiscard]] std::span<const std::byte> machine_state() const noexcept {
        return machine_state_;
    }

private:
    ImageStream(std::unique_ptr<StreamSource> source, ImageAccess access)
        : source_{std::move(source)},
          access_{std::move(access)} {}
    formats::Status read_beginning();
    /// Its head, which is then the last one of the outline. `false`: it is the index.
    formats::Result<bool> begin_section();
    formats::Status check_head(const formats::FoundSection& found) const;
    formats::Status take_section(PageMapBuilder& found, PagePlacement& placement);
    formats::Status
    take_chunk(const ImageSection& chunk, PageMapBuilder& found, PagePlacement& placement);
    formats::Status check_page_map(const PageMapBuilder& found) const;
    formats::Status read_end();
    [[nodiscard]] std::size_t last() const noexcept { return image_.sections.size() - 1; }

    std::unique_ptr<StreamSource> source_;
    ImageAccess access_;
    ImageOutline image_; ///< of the sections so far
    formats::Bytes next_;
    formats::SectionHead index_;
    ImageDescription description_;
    std::vector<std::byte> machine_state_;
    std::vector<formats::PageMapEntry> page_map_; ///< as its sections say
};

/// What the file says of its guest at its beginning, with nothing behind that looked at: for what
/// can be made ready before the file has been found right. Of regular files only.
formats::Result<ImageDescription>
read_beginning(const std::filesystem::path& file, const ImageAccess& access);

} // namespace wherry::migrate
