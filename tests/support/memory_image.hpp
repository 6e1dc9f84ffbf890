// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "migrate/image/image_file.hpp"

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

namespace wherry::tests {

/// An image in memory, called "test.wimg".
class MemoryImage final : public migrate::ImageSource {
public:
    explicit MemoryImage(std::vector<std::byte> bytes) : bytes_{std::move(bytes)} {}

    [[nodiscard]] formats::Bytes size() const noexcept override {
        return formats::Bytes{bytes_.size()};
    }
    formats::Status read(formats::Bytes at, std::span<std::byte> into) override {
        formats::invariant(
            at <= size() && formats::Bytes{into.size()} <= size() - at,
            "what is read of an image lies inside it");
        std::ranges::copy(std::span{bytes_}.subspan(at.value(), into.size()), into.begin());
        return {};
    }
    [[nodiscard]] std::string name() const override { return "test.wimg"; }

private:
    std::vector<std::byte> bytes_;
};

} // namespace wherry::tests
