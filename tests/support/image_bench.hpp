// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "migrate/image/guest_image.hpp"
#include "migrate/image/guest_restore.hpp"
#include "tests/support/temp_directory.hpp"
#include "tests/support/test_machine.hpp"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

namespace wherry::tests {

using ImageBytes = std::vector<std::byte>;

/// More than one chunk, as every fifth page is zero.
inline constexpr std::uint64_t filled_pages = 400;

template <typename T>
T must(formats::Result<T> result) {
    REQUIRE_MESSAGE(result.has_value(), result.error().text());
    return *std::move(result);
}
inline void must(const formats::Status& status) {
    REQUIRE_MESSAGE(status.has_value(), status.error().text());
}

formats::PageRange range(std::uint64_t first, std::uint64_t count);
/// Pages that are full of `letter`.
ImageBytes pages_of(char letter, std::size_t count);

/// Of the VM "a", always of one id.
migrate::ImageDescription description_of(migrate::ImageExtent extent);
ImageBytes bytes_of(const std::filesystem::path& path);
/// All that the file has then.
void write_bytes(const std::filesystem::path& path, std::span<const std::byte> bytes);
/// Called "test.wimg".
migrate::ImageReader reader_of(ImageBytes file, const migrate::ImageAccess& access = {});
/// What opening and verifying says; empty: nothing is wrong with it.
std::string complaint_about(ImageBytes file, const migrate::ImageAccess& access = {});
/// One bit.
void flip(ImageBytes& file, std::size_t at);
/// Where each section but the index begins, and the index behind them.
std::vector<std::size_t>
boundaries_of(const ImageBytes& file, const migrate::ImageAccess& access = {});

std::shared_ptr<const migrate::ImageSecret> secret_of(unsigned char seed);
/// Signs, and checks: the private key of an Ed25519 pair is both.
std::shared_ptr<const migrate::SigningKey> signing_key_of(unsigned char seed);

/// A machine whose guest has filled pages, and a directory for its images.
struct ImageBench {
    RunWitness witness;
    TestMachineOptions options;
    TestMachine machine{options, witness};
    TempDirectory directory;

    ImageBench() { machine.fill(filled_pages); }

    [[nodiscard]] dirtylog::DirtySet no_pages() { return dirtylog::DirtySet{machine.memory()}; }
    ImageBytes image(
        const migrate::ImageDescription& description,
        const dirtylog::DirtySet& absent,
        const std::string& name = "x.wimg");
    ImageBytes image(
        const migrate::ImageDescription& description,
        const dirtylog::DirtySet& absent,
        const migrate::ImageOptions& how,
        const std::string& name = "x.wimg");
    /// Of a whole guest whose state and pages `give` gives.
    ImageBytes written(
        const migrate::ImageOptions& how, const std::function<void(migrate::ImageWriter&)>& give);
    ImageBytes whole_image(const migrate::ImageOptions& how = {});
};

} // namespace wherry::tests
