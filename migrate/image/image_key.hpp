// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/image.hpp"
#include "formats/result.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <vector>

namespace wherry::migrate {

using KeyBytes = std::array<std::byte, 32>;

/// What a key file holds. Immutable, and wiped at the end.
class ImageSecret {
public:
    explicit ImageSecret(const KeyBytes& bytes) noexcept : bytes_{bytes} {}
    ImageSecret(const ImageSecret&) = delete;
    ImageSecret& operator=(const ImageSecret&) = delete;
    ~ImageSecret();
    [[nodiscard]] const KeyBytes& bytes() const noexcept { return bytes_; }

private:
    KeyBytes bytes_;
};

/// A key file has 32 bytes, or 64 hexadecimal digits and perhaps an end of line. `permission` where
/// others than its owner may read it. Shared by all images that are opened or written with it.
formats::Result<std::shared_ptr<const ImageSecret>>
read_key_file(const std::filesystem::path& path);

/// What of a section is not secret, and must be right.
struct SealedPlace {
    std::uint32_t number = 0;
    formats::SectionType type{};
    std::uint16_t flags = 0; ///< as in its head
};

/// The keys of one image, derived from a secret and the image's id. Any thread.
class ImageKey {
public:
    ImageKey(const ImageSecret& secret, const formats::ImageId& id);
    ImageKey(const ImageKey&) = delete;
    ImageKey& operator=(const ImageKey&) = delete;
    ~ImageKey();

    [[nodiscard]] const formats::ImageKeyCheck& check() const noexcept { return check_; }
    [[nodiscard]] formats::ImageDigest seal_of(const formats::ImageDigest& root) const;

    /// The length that seal() makes.
    static formats::Bytes sealed_length(formats::Bytes table, formats::Bytes payload) noexcept;
    /// Each number is sealed once. `into` is sealed_length() long.
    void seal(
        const SealedPlace& place,
        std::span<const std::byte> table,
        std::span<const std::byte> payload,
        std::span<std::byte> into) const;
    struct Opened {
        std::vector<std::byte> table;
        std::vector<std::byte> payload;
    };
    /// Error{corrupted} where it was not sealed with this key, at this place, as this.
    [[nodiscard]] formats::Result<Opened>
    open(const SealedPlace& place, std::span<const std::byte> sealed) const;

private:
    formats::ImageId id_;
    KeyBytes sections_{};
    KeyBytes root_{};
    formats::ImageKeyCheck check_{};
};

} // namespace wherry::migrate
