// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/image_ends.hpp"
#include "formats/result.hpp"
#include "formats/units.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

/// An image of a VM as bytes: what stands in front of each section, and the index; header and
/// trailer are in image_ends.hpp. docs/image-format.md specifies them. Who reads and writes files
/// is migrate/image.
namespace wherry::formats {

inline constexpr std::size_t section_head_size = 80;
inline constexpr std::size_t index_entry_size = 64;
/// How much longer the ciphertext of table and payload is than both.
inline constexpr std::size_t sealing_overhead = 20;
inline constexpr std::uint32_t image_sections_limit = std::uint32_t{1} << 24U;

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

/// One section. In the file: its head, its table, zeros up to the next block, its payload, zeros up
/// to the next block.
struct SectionHead {
    SectionType type{};
    bool is_critical = true;        ///< a reader that does not know the type must refuse the image
    bool is_compressed = false;     ///< its payload is stored as one zstd frame
    bool is_sealed = false;         ///< table and payload are stored as one ciphertext, as payload
    std::uint32_t table_length = 0; ///< bytes
    Bytes payload_length;
    ImageDigest digest{}; ///< of table and payload
    friend bool operator==(const SectionHead&, const SectionHead&) = default;
};
/// As its head has them.
std::uint16_t flags_of(const SectionHead& head) noexcept;
/// From the head to the payload, and of the whole section.
Bytes front_length(const SectionHead& head) noexcept;
Bytes section_length(const SectionHead& head) noexcept;
/// Payload and table of a section of a known type are not longer than this, as stored, but for what
/// sealing adds, and as they would be uncompressed.
Bytes section_payload_limit(SectionType type) noexcept;
std::uint32_t section_table_limit(SectionType type) noexcept;

/// Where a section begins; its number is its place in the index.
struct IndexEntry {
    Bytes offset;
    SectionHead head;
    friend bool operator==(const IndexEntry&, const IndexEntry&) = default;
};

using SectionHeadBytes = std::array<std::byte, section_head_size>;

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

} // namespace wherry::formats
