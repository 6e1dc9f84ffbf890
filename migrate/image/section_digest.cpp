// SPDX-License-Identifier: Apache-2.0
#include "migrate/image/section_digest.hpp"

#include "formats/little_endian.hpp"

namespace wherry::migrate {

DigestKind digest_kind_of(const formats::ImageHeader& header) {
    return header.needs(formats::xxh3_feature) ? DigestKind::xxh3 : DigestKind::sha256;
}

SectionDigest::SectionDigest(DigestKind kind) {
    if (kind == DigestKind::sha256) {
        digest_.emplace<Sha256>();
    }
}

SectionDigest& SectionDigest::update(std::span<const std::byte> bytes) {
    std::visit([bytes](auto& digest) { digest.update(bytes); }, digest_);
    return *this;
}

formats::ImageDigest SectionDigest::finish() {
    if (auto* const sha256 = std::get_if<Sha256>(&digest_)) {
        return sha256->finish();
    }
    auto& xxh3 = std::get<formats::StreamingDigest>(digest_);
    formats::ImageDigest digest{};
    formats::store_little(
        std::span<std::byte>{digest}, 0, static_cast<std::uint64_t>(xxh3.value()));
    xxh3.reset();
    return digest;
}

} // namespace wherry::migrate
