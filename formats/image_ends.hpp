// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"
#include "formats/units.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

/// The two ends of an image of a VM: header and trailer. docs/image-format.md specifies them.
namespace wherry::formats {

inline constexpr std::uint32_t image_version = 1;
/// Header, trailer, the front and the payload of a section begin at multiples of this.
inline constexpr std::size_t image_block = page_size;
inline constexpr std::size_t image_features_limit = 64;
inline constexpr std::size_t image_feature_name_limit = 64;
inline constexpr std::size_t image_file_name_limit = 255;
/// Images below one another.
inline constexpr std::uint32_t image_depth_limit = 64;
/// Critical: a page may be in several chunks, and the last of them in the file counts.
inline constexpr std::string_view superseded_pages_feature = "superseded-pages";
/// Critical: sections may be compressed, and say so.
inline constexpr std::string_view zstd_feature = "zstd";
/// Critical: all sections but the index are sealed.
inline constexpr std::string_view sealed_feature = "aes-256-gcm";
/// Critical: pages that are in no chunk are another image's.
inline constexpr std::string_view base_feature = "base";
/// Critical: digests of sections are XXH3-64, 24 zero bytes behind it, and not SHA-256.
inline constexpr std::string_view xxh3_feature = "xxh3-64";
/// Optional: the trailer has a signature.
inline constexpr std::string_view signed_feature = "ed25519";

using ImageBlock = std::array<std::byte, image_block>;
using ImageId = std::array<std::byte, 16>;
/// SHA-256; of a section, what the header says.
using ImageDigest = std::array<std::byte, 32>;

/// The image that this one is based on: a page that is in no chunk here is that one's.
struct ImageBase {
    ImageDigest root{};
    ImageId id{};
    std::string file;        ///< its name, without directories; not fit to be shown
    std::uint32_t depth = 0; ///< images below this one: 1 to image_depth_limit
    friend bool operator==(const ImageBase&, const ImageBase&) = default;
};

/// Tells a wrong key from damage.
using ImageKeyCheck = std::array<std::byte, 16>;

struct ImageHeader {
    ImageId id{};
    std::vector<std::string> critical_features{};
    std::vector<std::string> optional_features{};
    std::optional<ImageKeyCheck> key_check{}; ///< with sealed_feature
    std::optional<ImageBase> base{};          ///< with base_feature
    [[nodiscard]] bool needs(std::string_view critical_feature) const;
};

/// Of an image's id and root, by Ed25519.
struct ImageSignature {
    ImageDigest signer{}; ///< SHA-256 of the public key's 32 bytes
    std::array<std::byte, 64> bytes{};
    friend bool operator==(const ImageSignature&, const ImageSignature&) = default;
};

struct ImageTrailer {
    ImageId id{};
    Bytes index_offset;
    Bytes file_length;
    ImageDigest root{}; ///< of the header's block, the index's head and the index's payload
    /// HMAC-SHA256 of the root, by a key of the image: nothing was left out or put in without it.
    std::optional<ImageDigest> seal{};
    std::optional<ImageSignature> signature{};
    friend bool operator==(const ImageTrailer&, const ImageTrailer&) = default;
};

ImageBlock encode_image_header(const ImageHeader& header);
/// Total, as all of these. `version_mismatch` for another version, `unsupported`, naming them, for
/// critical features that this version does not know.
Result<ImageHeader> decode_image_header(std::span<const std::byte, image_block> block);

ImageBlock encode_image_trailer(const ImageTrailer& trailer);
Result<ImageTrailer> decode_image_trailer(std::span<const std::byte, image_block> block);

} // namespace wherry::formats
