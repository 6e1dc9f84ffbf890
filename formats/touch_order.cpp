// SPDX-License-Identifier: Apache-2.0
#include "formats/touch_order.hpp"

#include "formats/little_endian.hpp"
#include "formats/page_digest.hpp"

#include <algorithm>
#include <string_view>

namespace wherry::formats {

namespace {

constexpr std::string_view magic = "WHERRYOR";
constexpr std::uint32_t version = 1;

// Offsets of the fields; see docs/image-format.md.
namespace at {
constexpr std::size_t version = 8;
constexpr std::size_t count = 12;
constexpr std::size_t root = 16;
constexpr std::size_t chunks = 48;
} // namespace at
constexpr std::size_t digest_size = sizeof(std::uint64_t);

std::unexpected<Error> damaged(const char* what) {
    return fail(ErrorCode::corrupted, what);
}

} // namespace

std::vector<std::byte> encode_touch_order(const TouchOrder& order) {
    invariant(
        order.chunks.size() <= image_sections_limit, "an order has no more chunks than an image");
    std::vector<std::byte> file(at::chunks + order.chunks.size() * sizeof(std::uint32_t));
    std::ranges::copy(std::as_bytes(std::span{magic}), file.begin());
    store_little<std::uint32_t>(file, at::version, version);
    store_little<std::uint32_t>(file, at::count, static_cast<std::uint32_t>(order.chunks.size()));
    std::ranges::copy(order.root, file.begin() + at::root);
    for (std::size_t i = 0; i < order.chunks.size(); ++i) {
        store_little(file, at::chunks + i * sizeof(std::uint32_t), order.chunks[i]);
    }
    const auto digest = static_cast<std::uint64_t>(digest_of(file));
    file.resize(file.size() + digest_size);
    store_little(file, file.size() - digest_size, digest);
    return file;
}

Result<TouchOrder> decode_touch_order(std::span<const std::byte> file) {
    if (file.size() < at::chunks + digest_size ||
        !std::ranges::equal(file.first(magic.size()), std::as_bytes(std::span{magic}))) {
        return damaged("it is no order of an image's chunks");
    }
    if (load_little<std::uint32_t>(file, at::version) != version) {
        return fail(ErrorCode::version_mismatch, "it is an order of another version");
    }
    const std::size_t count = load_little<std::uint32_t>(file, at::count);
    const auto covered = file.first(file.size() - digest_size);
    if (count > image_sections_limit ||
        covered.size() != at::chunks + count * sizeof(std::uint32_t)) {
        return damaged("it is not as long as it says");
    }
    if (static_cast<std::uint64_t>(digest_of(covered)) !=
        load_little<std::uint64_t>(file, covered.size())) {
        return damaged("its digest does not match");
    }
    TouchOrder order;
    std::ranges::copy(covered.subspan(at::root, order.root.size()), order.root.begin());
    order.chunks.reserve(count);
    for (std::size_t i = 0; i < count; ++i) {
        order.chunks.push_back(
            load_little<std::uint32_t>(covered, at::chunks + i * sizeof(std::uint32_t)));
    }
    return order;
}

} // namespace wherry::formats
