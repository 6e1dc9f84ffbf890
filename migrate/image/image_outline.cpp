// SPDX-License-Identifier: Apache-2.0
#include "migrate/image/image_outline.hpp"

#include "formats/image_bytes.hpp"
#include "migrate/image/section_digest.hpp"
#include "migrate/image/sha256.hpp"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

namespace wherry::migrate {

using formats::Bytes;
using formats::damaged;
using formats::ErrorCode;
using formats::fail;
using formats::IndexEntry;
using formats::is_zero;
using formats::Result;
using formats::SectionType;
using formats::Status;

namespace {

constexpr Bytes block{formats::image_block};
constexpr Bytes head_size{formats::section_head_size};

/// Why there is no trailer at the end: behind which section the file ends.
formats::Error explain_end(ImageSource& source, const formats::ImageId& id) {
    Bytes at = block;
    formats::SectionHeadBytes bytes{};
    std::size_t number = 0;
    std::string last = "its header";
    while (at + head_size <= source.size() && source.read(at, bytes)) {
        const auto found = formats::decode_section_head(bytes);
        if (!found || found->id != id) {
            break;
        }
        const auto what = fmt::format("section {} ({})", number, name_of(found->head.type));
        const Bytes length = formats::section_length(found->head);
        if (length > source.size() - at) {
            return {ErrorCode::corrupted, "it is cut off: it ends within " + what};
        }
        last = what;
        at += length;
        ++number;
    }
    if (at == source.size()) {
        return {ErrorCode::corrupted, "it is cut off: it ends behind " + last};
    }
    return {
        ErrorCode::corrupted,
        fmt::format(
            "it has no trailer at its end; behind {}, at byte {}, no section begins",
            last,
            at.value())};
}

Status read_index(ImageSource& source, ImageOutline& image) {
    const formats::ImageTrailer& trailer = image.trailer;
    const bool is_possible =
        trailer.file_length == source.size() && trailer.index_offset >= block &&
        trailer.index_offset % block == Bytes{0} && trailer.index_offset + block < source.size();
    if (!is_possible) {
        return damaged(fmt::format(
            "its trailer tells of a file of {} bytes, and this one has {}",
            trailer.file_length.value(),
            source.size().value()));
    }
    formats::ImageBlock front{};
    if (auto got = source.read(trailer.index_offset, front); !got) {
        return got;
    }
    const auto head = std::span{front}.first<formats::section_head_size>();
    const auto found = formats::decode_section_head(head);
    if (!found || found->head.type != SectionType::index || found->head.table_length != 0 ||
        found->id != image.header.id || !is_zero(std::span{front}.subspan(head.size())) ||
        trailer.index_offset + formats::section_length(found->head) + block != source.size()) {
        return damaged("its index is damaged");
    }
    std::vector<std::byte> whole(
        (formats::section_length(found->head) - formats::front_length(found->head)).value());
    if (auto got = source.read(trailer.index_offset + block, whole); !got) {
        return got;
    }
    const auto payload = std::span{whole}.first(found->head.payload_length.value());
    SectionDigest digest{digest_kind_of(image.header)};
    if (digest.update(payload).finish() != found->head.digest ||
        root_of(image.header_block, head, payload) != trailer.root ||
        !is_zero(std::span{whole}.subspan(payload.size()))) {
        return damaged("its index is damaged");
    }
    auto entries = formats::decode_image_index(payload, trailer.index_offset);
    if (!entries) {
        return fail(std::move(entries).error());
    }
    if (entries->size() != found->number) {
        return damaged("its index is damaged");
    }
    image.sections = *std::move(entries);
    return {};
}

} // namespace

Status admit(ImageOutline& image, const ImageAccess& access) {
    if (!access.key) {
        return {};
    }
    if (!image.is_encrypted()) {
        return access.place == ChainPlace::base
                   ? Status{}
                   : fail(
                         ErrorCode::authentication,
                         "it is not encrypted; leave the key out to use it as it is");
    }
    image.key = std::make_shared<const ImageKey>(*access.key, image.header.id);
    return image.key->check() == *image.header.key_check
               ? Status{}
               : fail(ErrorCode::authentication, "it is encrypted with another key");
}

Status check_ends(const ImageOutline& image, const ImageAccess& access) {
    const auto& trailer = image.trailer;
    const bool is_signed = image.is_signed();
    const bool is_sealed = std::ranges::all_of(image.sections, [&](const IndexEntry& entry) {
        return entry.head.is_sealed == image.is_encrypted();
    });
    if (trailer.seal.has_value() != image.is_encrypted() ||
        trailer.signature.has_value() != is_signed || !is_sealed) {
        return damaged("its sections and its trailer are not what its header announces");
    }
    if (is_signed && digest_kind_of(image.header) != DigestKind::sha256) {
        return damaged("it is signed, and its digests are not such as a signature vouches for");
    }
    if (image.key && image.key->seal_of(trailer.root) != *trailer.seal) {
        return fail(ErrorCode::authentication, "it was changed by someone without its key");
    }
    if (!access.trusted) {
        return {};
    }
    return is_signed
               ? access.trusted->check(image.header.id, trailer.root, *trailer.signature)
               : fail(ErrorCode::authentication, "it is not signed, and only trusted as signed");
}

bool ImageOutline::is_signed() const {
    const auto& optional = header.optional_features;
    return std::ranges::find(optional, formats::signed_feature) != optional.end();
}

std::string ImageOutline::place_of(std::size_t number) const {
    return fmt::format("section {} ({})", number, name_of(sections[number].head.type));
}

Result<std::size_t> ImageOutline::only_one_of(SectionType type) const {
    const auto is_it = [type](const IndexEntry& entry) {
        return entry.head.type == type;
    };
    const auto found = std::ranges::find_if(sections, is_it);
    if (std::ranges::count_if(sections, is_it) != 1) {
        return damaged(fmt::format("it must have one {}, and has none or more", name_of(type)));
    }
    return static_cast<std::size_t>(found - sections.begin());
}

Result<ImageOutline> read_outline(ImageSource& source, const ImageAccess& access) {
    if (source.size() < block) {
        return fail(ErrorCode::invalid_argument, "it is too short to be an image of a VM");
    }
    ImageOutline image;
    if (auto got = source.read(Bytes{0}, image.header_block); !got) {
        return fail(std::move(got).error());
    }
    auto header = formats::decode_image_header(image.header_block);
    if (!header) {
        return fail(std::move(header).error());
    }
    image.header = *std::move(header);
    if (auto made = admit(image, access); !made) {
        return fail(std::move(made).error());
    }
    if (source.size() % block != Bytes{0}) {
        return fail(explain_end(source, image.header.id));
    }
    formats::ImageBlock last{};
    if (auto got = source.read(source.size() - block, last); !got) {
        return fail(std::move(got).error());
    }
    const auto trailer = formats::decode_image_trailer(last);
    if (!trailer) {
        return fail(
            trailer.error().code() == ErrorCode::corrupted ? explain_end(source, image.header.id)
                                                           : trailer.error());
    }
    if (trailer->id != image.header.id) {
        return damaged("its trailer is of another image");
    }
    image.trailer = *trailer;
    auto read = formats::then(read_index(source, image), [&] { return check_ends(image, access); });
    return read ? Result<ImageOutline>{std::move(image)} : fail(std::move(read).error());
}

} // namespace wherry::migrate
