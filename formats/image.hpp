// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"
#include "formats/units.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

/// An image of a VM as bytes: the header, what stands in front of each section, the index and the
/// trailer. docs/image-format.md specifies them. Who reads and writes files is migrate/image.
namespace wherry::formats {

inline constexpr std::uint32_t image_version = 1;
/// Header, trailer, the front and the payload of a section begin at multiples of this.
inline constexpr std::size_t image_block = page_size;
inline constexpr std::size_t section_head_size = 80;
inline constexpr std::size_t index_entry_size = 64;
inline constexpr std::size_t image_features_limit = 64;
inline constexpr std::size_t image_feature_name_limit = 64;
/// Critical: a page may be in several chunks, and the last of them in the file counts.
inline constexpr std::string_view superseded_pages_feature = "superseded-pages";
/// Critical: sections may be compressed, and say so.
inline constexpr std::string_view zstd_feature = "zstd";
inline constexpr std::uint32_t image_sections_limit = std::uint32_t{1} << 24U;

using ImageId = std::array<std::byte, 16>;
/// SHA-256.
using ImageDigest = std::array<std::byte, 32>;

/// The numbers are in files: never reused.
enum class SectionType : std::uint16_t {
    description = 1,   ///< ImageDescription of proto/image.proto
    machine_state = 2, ///< MachineState of proto/machine.proto
    pages = 3,         ///< a chunk: a page batch, its raw bytes from the next block on
    absent_pages = 4,  ///< a page set: contents that are not in this image
    index = 5,         ///< the last section: where the others are
    page_map = 6,      ///< which chunk each page is in; may be missing
};
/// "chunk of pages", for messages; "section of an unknown type" for numbers that are none.
std::string_view name_of(SectionType type) noexcept;
bool is_known(SectionType type) noexcept;

struct ImageHeader {
    ImageId id{};
    std::vector<std::string> critical_features;
    std::vector<std::string> optional_features;
    [[nodiscard]] bool needs(std::string_view critical_feature) const;
};

/// One section. In the file: its head, its table, zeros up to the next block, its payload, zeros up
/// to the next block.
struct SectionHead {
    SectionType type{};
    bool is_critical = true;        ///< a reader that does not know the type must refuse the image
    bool is_compressed = false;     ///< its payload is stored as one zstd frame
    std::uint32_t table_length = 0; ///< bytes
    Bytes payload_length;
    ImageDigest digest{}; ///< of table and payload
    friend bool operator==(const SectionHead&, const SectionHead&) = default;
};
/// From the head to the payload, and of the whole section.
Bytes front_length(const SectionHead& head) noexcept;
Bytes section_length(const SectionHead& head) noexcept;
/// Payload and table of a section of a known type are not longer than this, as stored and as they
/// would be uncompressed.
Bytes section_payload_limit(SectionType type) noexcept;
std::uint32_t section_table_limit(SectionType type) noexcept;

/// Where a section begins; its number is its place in the index.
struct IndexEntry {
    Bytes offset;
    SectionHead head;
    friend bool operator==(const IndexEntry&, const IndexEntry&) = default;
};

struct ImageTrailer {
    ImageId id{};
    Bytes index_offset;
    Bytes file_length;
    ImageDigest root{}; ///< of the header's block, the index's head and the index's payload
    friend bool operator==(const ImageTrailer&, const ImageTrailer&) = default;
};

using ImageBlock = std::array<std::byte, image_block>;
using SectionHeadBytes = std::array<std::byte, section_head_size>;

ImageBlock encode_image_header(const ImageHeader& header);
/// Total, as all of these. `version_mismatch` for another version, `unsupported`, naming them, for
/// critical features that this version does not know.
Result<ImageHeader> decode_image_header(std::span<const std::byte, image_block> block);

SectionHeadBytes
encode_section_head(const SectionHead& head, std::uint32_t number, const ImageId& id);
/// What the head of a section says of itself: for a file that is read as a stream, or is damaged.
struct FoundSection {
    SectionHead head;
    std::uint32_t number = 0;
    ImageId id{};
};
Result<FoundSection> decode_section_head(std::span<const std::byte, section_head_size> bytes);

std::vector<std::byte> encode_image_index(std::span<const IndexEntry> entries);
/// Refuses entries that do not lie one behind the other from the header to `index_offset`, are
/// longer than their type allows, or of a critical type that is not known.
Result<std::vector<IndexEntry>>
decode_image_index(std::span<const std::byte> payload, Bytes index_offset);

ImageBlock encode_image_trailer(const ImageTrailer& trailer);
Result<ImageTrailer> decode_image_trailer(std::span<const std::byte, image_block> block);

} // namespace wherry::formats
