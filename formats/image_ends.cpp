// SPDX-License-Identifier: Apache-2.0
#include "formats/image_ends.hpp"

#include "formats/error_message.hpp"
#include "formats/image_bytes.hpp"
#include "formats/little_endian.hpp"
#include "formats/proto/image.pb.h"

#include <algorithm>
#include <cstring>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace wherry::formats {

namespace {

// Offsets of the fields; see docs/image-format.md.
namespace header_at {
constexpr std::size_t magic = 0;
constexpr std::size_t version = 8;
constexpr std::size_t length = 12;
constexpr std::size_t digest = 16;
constexpr std::size_t message = 24;
} // namespace header_at
namespace trailer_at {
constexpr std::size_t magic = 0;
constexpr std::size_t version = 8;
constexpr std::size_t reserved = 12;
constexpr std::size_t id = 16;
constexpr std::size_t index_offset = 32;
constexpr std::size_t file_length = 40;
constexpr std::size_t root = 48;
constexpr std::size_t checksum = 80;
constexpr std::size_t seal = 88;
constexpr std::size_t signer = 120;
constexpr std::size_t signature = 152;
constexpr std::size_t second_checksum = 216;
constexpr std::size_t end = 224;
} // namespace trailer_at

constexpr std::string_view header_magic = "WHERRYIM";
constexpr std::string_view trailer_magic = "WHERRYIE";
constexpr std::array known_features{
    superseded_pages_feature, zstd_feature, sealed_feature, base_feature, xxh3_feature};

using Span = std::span<const std::byte>;

Status check_version(std::uint32_t version) {
    if (version == image_version) {
        return {};
    }
    return fail(
        ErrorCode::version_mismatch,
        fmt::format(
            "it is of version {} of the image format, and this program reads version {}",
            version,
            image_version));
}

template <std::size_t size>
std::string text_of(const std::array<std::byte, size>& bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), size};
}
template <std::size_t size>
bool take_text(const std::string& text, std::array<std::byte, size>& into) {
    if (text.size() != size) {
        return false;
    }
    std::memcpy(into.data(), text.data(), size);
    return true;
}

std::string text_of(ImageHeader header) {
    proto::ImageHeader message;
    message.set_image_id(reinterpret_cast<const char*>(header.id.data()), header.id.size());
    for (auto& name : header.critical_features) {
        message.add_critical_features(std::move(name));
    }
    for (auto& name : header.optional_features) {
        message.add_optional_features(std::move(name));
    }
    if (header.key_check) {
        message.set_key_check(text_of(*header.key_check));
    }
    if (header.base) {
        auto& base = *message.mutable_base();
        base.set_root(text_of(header.base->root));
        base.set_image_id(text_of(header.base->id));
        base.set_file(header.base->file);
        base.set_depth(header.base->depth);
    }
    return message.SerializeAsString();
}

template <typename Names>
Result<std::vector<std::string>> features_from(const Names& names) {
    std::vector<std::string> features;
    if (static_cast<std::size_t>(names.size()) > image_features_limit) {
        return damaged(fmt::format("its header names {} features", names.size()));
    }
    for (const std::string& name : names) {
        if (name.empty() || name.size() > image_feature_name_limit) {
            return damaged("its header names a feature without a name, or with too long a one");
        }
        features.push_back(name);
    }
    return features;
}

/// A file's name, and not a way to it.
bool is_file_name(const std::string& name) {
    return !name.empty() && name.size() <= image_file_name_limit && name != "." && name != ".." &&
           name.find('/') == std::string::npos && name.find('\0') == std::string::npos;
}

Status take_fields(const proto::ImageHeader& message, ImageHeader& header) {
    if (!message.key_check().empty() &&
        !take_text(message.key_check(), header.key_check.emplace())) {
        return damaged("its header's key check is damaged");
    }
    if (!message.has_base()) {
        return {};
    }
    ImageBase& base = header.base.emplace();
    base.file = message.base().file();
    base.depth = message.base().depth();
    if (!take_text(message.base().root(), base.root) ||
        !take_text(message.base().image_id(), base.id) || !is_file_name(base.file) ||
        base.depth == 0 || base.depth > image_depth_limit) {
        return damaged("its header does not name a base image as it should");
    }
    return {};
}

Span second_part_of(Span block) {
    return block.subspan(trailer_at::seal, trailer_at::second_checksum - trailer_at::seal);
}
/// All of it is zero where there is neither seal nor signature.
bool is_second_part_right(Span block) {
    return is_zero(block.subspan(trailer_at::seal)) ||
           load_little<std::uint64_t>(block, trailer_at::second_checksum) ==
               checksum_of(second_part_of(block));
}

} // namespace

bool ImageHeader::needs(std::string_view critical_feature) const {
    return std::ranges::find(critical_features, critical_feature) != critical_features.end();
}

ImageBlock encode_image_header(const ImageHeader& header) {
    const std::string message = text_of(header);
    ImageBlock block{};
    invariant(message.size() <= image_block - header_at::message, "an image's header is a block");
    const std::span<std::byte> bytes{block};
    put_text(bytes, header_at::magic, header_magic);
    store_little(bytes, header_at::version, image_version);
    store_little(bytes, header_at::length, static_cast<std::uint32_t>(message.size()));
    put_text(bytes, header_at::message, message);
    store_little(
        bytes, header_at::digest, checksum_of(bytes.subspan(header_at::message, message.size())));
    return block;
}

Result<ImageHeader> decode_image_header(std::span<const std::byte, image_block> block) {
    if (!has_text(block, header_at::magic, header_magic)) {
        return fail(ErrorCode::invalid_argument, "it is not an image of a VM");
    }
    if (auto known = check_version(load_little<std::uint32_t>(block, header_at::version)); !known) {
        return fail(std::move(known).error());
    }
    const std::size_t length = load_little<std::uint32_t>(block, header_at::length);
    if (length > image_block - header_at::message) {
        return damaged("its header is longer than a block");
    }
    const auto bytes = Span{block}.subspan(header_at::message, length);
    proto::ImageHeader message;
    if (load_little<std::uint64_t>(block, header_at::digest) != checksum_of(bytes) ||
        !is_zero(Span{block}.subspan(header_at::message + length)) ||
        !message.ParseFromArray(bytes.data(), static_cast<int>(length)) ||
        message.image_id().size() != sizeof(ImageId)) {
        return damaged("its header is damaged");
    }
    auto critical = features_from(message.critical_features());
    auto optional = features_from(message.optional_features());
    if (!critical || !optional) {
        return fail(std::move(critical ? optional : critical).error());
    }
    std::vector<std::string> shown;
    for (const auto& name : *critical) {
        if (std::ranges::find(known_features, name) == known_features.end()) {
            shown.push_back(sanitised(name, image_feature_name_limit));
        }
    }
    if (!shown.empty()) {
        return fail(
            ErrorCode::unsupported,
            fmt::format("it needs what this version does not know: {}", fmt::join(shown, ", ")));
    }
    ImageHeader header;
    if (auto taken = take_fields(message, header); !taken) {
        return fail(std::move(taken).error());
    }
    std::memcpy(header.id.data(), message.image_id().data(), header.id.size());
    header.critical_features = *std::move(critical);
    header.optional_features = *std::move(optional);
    if (header.needs(sealed_feature) != header.key_check.has_value() ||
        header.needs(base_feature) != header.base.has_value()) {
        return damaged("its header does not have what its features need");
    }
    return header;
}

ImageBlock encode_image_trailer(const ImageTrailer& trailer) {
    ImageBlock block{};
    const std::span<std::byte> bytes{block};
    put_text(bytes, trailer_at::magic, trailer_magic);
    store_little(bytes, trailer_at::version, image_version);
    put_bytes(bytes, trailer_at::id, trailer.id);
    store_little(bytes, trailer_at::index_offset, trailer.index_offset.value());
    store_little(bytes, trailer_at::file_length, trailer.file_length.value());
    put_bytes(bytes, trailer_at::root, trailer.root);
    store_little(bytes, trailer_at::checksum, checksum_of(bytes.first(trailer_at::checksum)));
    if (trailer.seal || trailer.signature) {
        put_bytes(bytes, trailer_at::seal, trailer.seal.value_or(ImageDigest{}));
        const ImageSignature signature = trailer.signature.value_or(ImageSignature{});
        put_bytes(bytes, trailer_at::signer, signature.signer);
        put_bytes(bytes, trailer_at::signature, signature.bytes);
        store_little(bytes, trailer_at::second_checksum, checksum_of(second_part_of(bytes)));
    }
    return block;
}

Result<ImageTrailer> decode_image_trailer(std::span<const std::byte, image_block> block) {
    if (!has_text(block, trailer_at::magic, trailer_magic)) {
        return damaged("it has no trailer at its end");
    }
    if (load_little<std::uint64_t>(block, trailer_at::checksum) !=
            checksum_of(Span{block}.first(trailer_at::checksum)) ||
        load_little<std::uint32_t>(block, trailer_at::reserved) != 0 ||
        !is_zero(Span{block}.subspan(trailer_at::end)) || !is_second_part_right(block)) {
        return damaged("its trailer is damaged");
    }
    if (auto known = check_version(load_little<std::uint32_t>(block, trailer_at::version));
        !known) {
        return fail(std::move(known).error());
    }
    ImageTrailer trailer{
        .id = get_bytes<sizeof(ImageId)>(block, trailer_at::id),
        .index_offset = Bytes{load_little<std::uint64_t>(block, trailer_at::index_offset)},
        .file_length = Bytes{load_little<std::uint64_t>(block, trailer_at::file_length)},
        .root = get_bytes<sizeof(ImageDigest)>(block, trailer_at::root)};
    const auto seal = get_bytes<sizeof(ImageDigest)>(block, trailer_at::seal);
    const ImageSignature signature{
        .signer = get_bytes<sizeof(ImageDigest)>(block, trailer_at::signer),
        .bytes = get_bytes<sizeof(ImageSignature::bytes)>(block, trailer_at::signature)};
    if (!is_zero(seal)) {
        trailer.seal = seal;
    }
    if (signature != ImageSignature{}) {
        trailer.signature = signature;
    }
    return trailer;
}

} // namespace wherry::formats
