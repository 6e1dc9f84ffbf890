// SPDX-License-Identifier: Apache-2.0
#include "migrate/image/image_stream.hpp"

#include "formats/image_bytes.hpp"
#include "formats/page_map.hpp"
#include "migrate/image/chunk_walk.hpp"
#include "migrate/image/section_digest.hpp"
#include "migrate/image/sha256.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include <fmt/format.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace wherry::migrate {

using formats::Bytes;
using formats::damaged;
using formats::ErrorCode;
using formats::fail;
using formats::is_zero;
using formats::Result;
using formats::SectionType;
using formats::Status;

namespace {

constexpr Bytes block{formats::image_block};

} // namespace

Bytes StreamSource::size() const noexcept {
    return Bytes{std::uint64_t{1} << 62U};
}

Result<std::size_t> StreamSource::read_some(std::span<std::byte> into) const {
    for (;;) {
        const auto got = ::read(file_, into.data(), into.size());
        if (got >= 0) {
            return static_cast<std::size_t>(got);
        }
        if (errno != EINTR) {
            return fail(formats::system_error(errno, name_));
        }
    }
}

Status StreamSource::read(Bytes at, std::span<std::byte> into) {
    const Bytes end = last_begin_ + Bytes{last_.size()};
    formats::invariant(at >= last_begin_ && at <= end, "a stream is read on, or its last piece");
    const auto again = std::span{last_}.subspan((at - last_begin_).value());
    const auto known = std::min(again.size(), into.size());
    std::ranges::copy(again.first(known), into.begin());
    auto rest = into.subspan(known);
    while (!rest.empty()) {
        const auto got = read_some(rest);
        if (!got) {
            return fail(got.error());
        }
        if (*got == 0) {
            return fail(ErrorCode::corrupted, "it is cut off: the stream has ended");
        }
        rest = rest.subspan(*got);
    }
    if (at + Bytes{into.size()} < end) {
        return {}; // a part of the last piece, again
    }
    last_begin_ = at;
    last_.assign(into.begin(), into.end());
    if (into.size() > formats::image_block) { // no head, which is all that is read twice
        last_begin_ += Bytes{into.size()};
        last_.clear();
    }
    return {};
}

Result<bool> StreamSource::is_at_end() {
    std::array<std::byte, 1> more{};
    const auto got = read_some(more);
    return got ? Result<bool>{*got == 0} : fail(got.error());
}

Result<ImageStream> ImageStream::open(std::unique_ptr<StreamSource> source, ImageAccess access) {
    ImageStream stream{std::move(source), std::move(access)};
    if (auto begun = stream.read_beginning(); !begun) {
        return fail(std::move(begun).error().during(stream.name()));
    }
    return stream;
}

Status ImageStream::read_beginning() {
    if (auto got = source_->read(Bytes{0}, image_.header_block); !got) {
        return fail(
            got.error().code() == ErrorCode::corrupted
                ? formats::Error{ErrorCode::invalid_argument, "it is too short to be an image"}
                : got.error());
    }
    auto header = formats::decode_image_header(image_.header_block);
    if (!header) {
        return fail(std::move(header).error());
    }
    image_.header = *std::move(header);
    if (image_.header.base) {
        return fail(
            ErrorCode::unsupported,
            "it is based on another image, and a stream has one only: wherry image flatten makes "
            "one of them");
    }
    if (auto admitted = admit(image_, access_); !admitted) {
        return admitted;
    }
    if (image_.is_encrypted() && !image_.key) {
        return fail(ErrorCode::authentication, "it is encrypted: --key KEYFILE");
    }
    next_ = block;
    const auto is_section = begin_section();
    if (!is_section) {
        return fail(is_section.error());
    }
    if (!*is_section || image_.sections.front().head.type != SectionType::description) {
        return fail(
            ErrorCode::unsupported,
            "it does not begin with its description, and so cannot be read as a stream");
    }
    const auto section = read_section(*source_, image_, 0);
    if (!section) {
        return fail(section.error());
    }
    auto description = decode_image_description(section->payload);
    if (!description) {
        return fail(std::move(description).error());
    }
    description_ = *std::move(description);
    return {};
}

Status ImageStream::check_head(const formats::FoundSection& found) const {
    if (found.id != image_.header.id) {
        return damaged("it is of another image");
    }
    if (found.number != image_.sections.size()) {
        return damaged(fmt::format("it is out of order: section {} stands here", found.number));
    }
    return {};
}

Result<bool> ImageStream::begin_section() {
    formats::SectionHeadBytes bytes{};
    auto done = source_->read(next_, bytes);
    auto head = formats::decode_section_head(bytes);
    if (done) {
        done = head ? check_head(*head) : fail(head.error());
    }
    if (!done) {
        return fail(
            std::move(done).error().during(fmt::format("section {}", image_.sections.size())));
    }
    if (head->head.type == SectionType::index) {
        index_ = head->head;
        return false;
    }
    if (image_.sections.size() >= formats::image_sections_limit) {
        return damaged("it has more sections than it may have");
    }
    image_.sections.push_back({.offset = next_, .head = head->head});
    next_ += formats::section_length(head->head);
    return true;
}

Status ImageStream::read_guest(PagePlacement& placement) {
    PageMapBuilder found{description_.plan.regions};
    Status done;
    if (description_.extent != ImageExtent::whole) {
        done =
            fail(ErrorCode::unsupported, "only the image of a whole guest can be read as a stream");
    }
    while (done) {
        const auto is_section = begin_section();
        if (!is_section) {
            done = fail(is_section.error());
        } else if (*is_section) {
            done = take_section(found, placement);
        } else {
            done = read_end();
            if (done) {
                done = check_page_map(found);
            }
            break;
        }
    }
    return done ? done : fail(std::move(done).error().during(name()));
}

Status ImageStream::take_section(PageMapBuilder& found, PagePlacement& placement) {
    const auto number = last();
    const SectionType type = image_.sections[number].head.type;
    if (!is_known(type)) {
        return check_section(*source_, image_, number);
    }
    auto section = read_section(*source_, image_, number);
    if (!section) {
        return fail(std::move(section).error());
    }
    Status taken;
    switch (type) {
    case SectionType::pages:
        taken = take_chunk(*section, found, placement);
        break;
    case SectionType::machine_state:
        machine_state_ = std::move(section->payload);
        break;
    case SectionType::page_map:
        taken = formats::decode_page_map(section->payload, page_map_);
        break;
    case SectionType::absent_pages:
        taken = damaged("a whole guest lacks no pages");
        break;
    case SectionType::description: // one too many: read_end() says so
    case SectionType::index:
        break;
    }
    return taken ? taken : fail(std::move(taken).error().during(image_.place_of(number)));
}

Status ImageStream::take_chunk(
    const ImageSection& chunk, PageMapBuilder& found, PagePlacement& placement) {
    const auto runs = runs_of(chunk);
    if (!runs) {
        return fail(runs.error());
    }
    const ChunkRules rules{
        .regions = description_.plan.regions,
        .absent = nullptr,
        .may_supersede = image_.header.needs(formats::superseded_pages_feature)};
    std::span<const std::byte> rest{chunk.payload};
    for (const formats::PageRun& run : *runs) {
        const bool is_zero = run.encoding == formats::PageEncoding::zero;
        // What was never placed is zero.
        const bool is_place_used =
            is_zero && is_ram(rules.regions, run.pages) && found.has_any(run.pages);
        auto done = note_run(found, rules, run.pages, static_cast<std::uint32_t>(last()));
        const auto bytes = rest.first(run.encoded_length.value());
        rest = rest.subspan(bytes.size());
        if (done && !is_zero) {
            done = placement.place(run.pages, bytes);
        } else if (done && is_place_used) {
            done = placement.place_zero(run.pages);
        }
        if (!done) {
            return done;
        }
    }
    return {};
}

Status ImageStream::check_page_map(const PageMapBuilder& found) const {
    const bool has_one = std::ranges::any_of(image_.sections, [](const auto& entry) {
        return entry.head.type == SectionType::page_map;
    });
    if (has_one && !std::ranges::equal(found.build().entries(), page_map_)) {
        return damaged("its page map is not that of its chunks");
    }
    return {};
}

/// The index must be that of the sections that came, and the trailer that of all.
Status ImageStream::read_end() {
    for (const auto type : {SectionType::description, SectionType::machine_state}) {
        if (const auto one = image_.only_one_of(type); !one) {
            return fail(one.error());
        }
    }
    const auto payload = formats::encode_image_index(image_.sections);
    std::vector<std::byte> whole(formats::section_length(index_).value());
    formats::ImageBlock last_block{};
    auto done = source_->read(next_, whole);
    if (done) {
        done = source_->read(next_ + Bytes{whole.size()}, last_block);
    }
    if (!done) {
        return done;
    }
    const auto head = std::span{whole}.first<formats::section_head_size>();
    const auto front = formats::front_length(index_).value();
    const auto found = std::span{whole}.subspan(front);
    SectionDigest digest{digest_kind_of(image_.header)};
    if (index_.table_length != 0 || index_.payload_length != Bytes{payload.size()} ||
        !std::ranges::equal(found.first(payload.size()), payload) ||
        !is_zero(std::span{whole}.subspan(head.size(), front - head.size())) ||
        !is_zero(found.subspan(payload.size())) ||
        digest.update(payload).finish() != index_.digest) {
        return damaged("its index is not that of its sections");
    }
    const auto trailer = formats::decode_image_trailer(last_block);
    if (!trailer) {
        return fail(trailer.error());
    }
    const Bytes length = next_ + Bytes{whole.size()} + block;
    if (trailer->id != image_.header.id || trailer->index_offset != next_ ||
        trailer->file_length != length ||
        trailer->root != root_of(image_.header_block, head, payload)) {
        return damaged("its trailer is not that of its sections");
    }
    image_.trailer = *trailer;
    if (auto good = check_ends(image_, access_); !good) {
        return good;
    }
    const auto is_over = source_->is_at_end();
    if (!is_over) {
        return fail(is_over.error());
    }
    return *is_over ? Status{} : damaged("something follows behind its trailer");
}

Result<ImageDescription>
read_beginning(const std::filesystem::path& file, const ImageAccess& access) {
    const vmm::UniqueFd opened{::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
    struct stat facts{};
    if (!opened.is_open() || ::fstat(opened.get(), &facts) != 0) {
        return fail(formats::system_error(errno, file.string()));
    }
    if (!S_ISREG(facts.st_mode)) {
        return fail(ErrorCode::invalid_argument, file.string() + " is no regular file");
    }
    const auto begun =
        ImageStream::open(std::make_unique<StreamSource>(opened.get(), file.string()), access);
    return begun ? Result<ImageDescription>{begun->description()} : fail(begun.error());
}

} // namespace wherry::migrate
