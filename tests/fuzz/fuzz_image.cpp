// SPDX-License-Identifier: Apache-2.0
// An image of a VM as it may be found on a disk; and the same with the digests that it should have.
#include "fuzz_target.hpp"
#include "migrate/image/image_reader.hpp"
#include "tests/support/memory_image.hpp"
#include "tests/support/repaired_image.hpp"

#include <memory>
#include <utility>
#include <vector>

using namespace wherry;

namespace {

/// That the corpus is sealed with.
std::shared_ptr<const migrate::ImageSecret> secret() {
    static const auto made = [] {
        migrate::KeyBytes bytes{};
        bytes.fill(std::byte{1});
        return std::make_shared<const migrate::ImageSecret>(bytes);
    }();
    return made;
}

/// Part by part nothing else is found than in the whole.
void look_up_in_parts(const migrate::ImageReader& image, const migrate::PageMap& map) {
    const auto parts = image.page_map_parts();
    if (!parts || !*parts) {
        return;
    }
    for (const auto& entry : map.entries()) {
        formats::invariant(
            (*parts)->load(entry.pages).has_value(), "what is right as a whole is so in parts");
        bool is_found = false;
        (*parts)->for_each_entry(
            entry.pages, [&](const formats::PageMapEntry& found) { is_found = found == entry; });
        formats::invariant(is_found, "an entry of the whole is in a part");
    }
}

void try_image(std::vector<std::byte> file) {
    // Also what is encrypted, and what is based on another image.
    tests::MemoryImage source{file};
    const auto outline = migrate::read_outline(source, {});
    migrate::ImageAccess access{.place = migrate::ChainPlace::youngest};
    if (outline && outline->is_encrypted()) {
        access.key = secret();
    }
    auto image =
        migrate::ImageReader::open(std::make_unique<tests::MemoryImage>(std::move(file)), access);
    if (!image) {
        formats::invariant(!image.error().text().empty(), "a refusal has a sentence");
        return;
    }
    const auto absent = image->absent();
    formats::PageCount pages;
    const auto taken = image->for_each_run(
        [&](formats::PageRange run, std::span<const std::byte> bytes) -> formats::Status {
            formats::invariant(
                formats::Bytes{bytes.size()} == formats::bytes_of(run.count()),
                "a run comes with its bytes");
            formats::invariant(absent.has_value(), "no page is given out of a broken image");
            pages += run.count();
            return {};
        });
    if (const auto map = image->page_map(); map) {
        look_up_in_parts(*image, **map);
        for (const auto& entry : (*map)->entries()) {
            const auto read = image->read_chunk(
                entry.chunk, [](formats::PageRange run, std::span<const std::byte> bytes) {
                    formats::invariant(
                        bytes.empty() ||
                            formats::Bytes{bytes.size()} == formats::bytes_of(run.count()),
                        "a run comes with its bytes, or is zero");
                    return formats::Status{};
                });
            formats::invariant(read || !read.error().text().empty(), "a refusal has a sentence");
        }
    }
    const auto verified = image->verify();
    if (!verified) {
        return;
    }
    formats::invariant(absent && taken, "an image that is verified can be read");
    formats::invariant(
        pages + absent->count() <= formats::pages_for(image->description().plan.config.memory),
        "an image has no more pages than its machine");
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const auto input = std::as_bytes(std::span{data, size});
    std::vector<std::byte> file{input.begin(), input.end()};
    try_image(file);
    tests::repair_image(file);
    try_image(std::move(file));
    return 0;
}
