// SPDX-License-Identifier: Apache-2.0
#include "tests/support/image_bench.hpp"

#include "migrate/ownership/vm_id.hpp"
#include "tests/support/memory_image.hpp"

#include <fstream>
#include <iterator>
#include <memory>
#include <span>

namespace wherry::tests {

using migrate::ImageDescription;
using migrate::ImageExtent;
using migrate::ImageReader;

ImageDescription description_of(ImageExtent extent) {
    static const auto id = migrate::VmId::make().to_string();
    ImageDescription description;
    description.extent = extent;
    description.plan.vm_name = "a";
    description.plan.vm_id = id;
    description.epoch = migrate::Epoch{6};
    description.migration_id = "m";
    return description;
}

ImageBytes bytes_of(const std::filesystem::path& path) {
    std::ifstream file{path, std::ios::binary};
    const std::string text{std::istreambuf_iterator<char>{file}, {}};
    const auto bytes = std::as_bytes(std::span{text});
    return {bytes.begin(), bytes.end()};
}

ImageReader reader_of(ImageBytes file) {
    return must(ImageReader::open(std::make_unique<MemoryImage>(std::move(file))));
}

std::string complaint_about(ImageBytes file) {
    auto reader = ImageReader::open(std::make_unique<MemoryImage>(std::move(file)));
    if (!reader) {
        return reader.error().text();
    }
    const auto verified = reader->verify();
    return verified ? "" : verified.error().text();
}

void flip(ImageBytes& file, std::size_t at) {
    file.at(at) ^= std::byte{0x10};
}

std::vector<std::size_t> boundaries_of(const ImageBytes& file) {
    const auto reader = reader_of(file);
    std::vector<std::size_t> found;
    for (const auto& section : reader.sections()) {
        found.push_back(section.offset.value());
    }
    const auto& last = reader.sections().back();
    found.push_back((last.offset + formats::section_length(last.head)).value());
    return found;
}

ImageBytes ImageBench::image(
    const ImageDescription& description,
    const dirtylog::DirtySet& absent,
    const std::string& name) {
    const auto path = directory.path() / name;
    std::filesystem::remove(path);
    must(migrate::write_guest(machine, description, absent, path));
    return bytes_of(path);
}

ImageBytes ImageBench::whole_image() {
    return image(description_of(ImageExtent::whole), no_pages());
}

} // namespace wherry::tests
