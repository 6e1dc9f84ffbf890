// SPDX-License-Identifier: Apache-2.0
#include "formats/page_digest.hpp"

#include <cstring>
#include <new>

#include <xxhash.h>

namespace wherry::formats {

Digest digest_of(std::span<const std::byte> bytes) noexcept {
    return Digest{XXH3_64bits(bytes.data(), bytes.size())};
}

StreamingDigest::StreamingDigest() : state_{XXH3_createState()} {
    if (!state_) {
        throw std::bad_alloc{};
    }
    reset();
}

void StreamingDigest::Release::operator()(XXH3_state_s* state) const noexcept {
    XXH3_freeState(state);
}

void StreamingDigest::reset() noexcept {
    XXH3_64bits_reset(state_.get());
}

void StreamingDigest::update(std::span<const std::byte> bytes) noexcept {
    XXH3_64bits_update(state_.get(), bytes.data(), bytes.size());
}

Digest StreamingDigest::value() const noexcept {
    return Digest{XXH3_64bits_digest(state_.get())};
}

bool is_zero_page(std::span<const std::byte, page_size> page) noexcept {
    // A block is small enough to leave a page with data early and large enough for the compiler
    // to make straight vector code of it.
    constexpr std::size_t block = 256;
    for (std::size_t at = 0; at < page_size; at += block) {
        std::uint64_t any = 0;
        for (std::size_t i = 0; i < block; i += sizeof any) {
            std::uint64_t word = 0;
            std::memcpy(&word, page.data() + at + i, sizeof word);
            any |= word;
        }
        if (any != 0) {
            return false;
        }
    }
    return true;
}

} // namespace wherry::formats
