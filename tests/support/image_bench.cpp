// SPDX-License-Identifier: Apache-2.0
#include "tests/support/image_bench.hpp"

#include "migrate/ownership/vm_id.hpp"
#include "tests/support/memory_image.hpp"

#include <fstream>
#include <iterator>
#include <memory>
#include <span>

#include <openssl/evp.h>

namespace wherry::tests {

using migrate::ImageDescription;
using migrate::ImageExtent;
using migrate::ImageReader;

formats::PageRange range(std::uint64_t first, std::uint64_t count) {
    return must(formats::PageRange::make(formats::Gfn{first}, formats::PageCount{count}));
}

ImageBytes pages_of(char letter, std::size_t count) {
    return ImageBytes(count * formats::page_size, static_cast<std::byte>(letter));
}

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

void write_bytes(const std::filesystem::path& path, std::span<const std::byte> bytes) {
    std::ofstream file{path, std::ios::binary | std::ios::trunc};
    file.write(reinterpret_cast<const char*>(bytes.data()), std::ssize(bytes));
    REQUIRE(file.flush());
}

ImageReader reader_of(ImageBytes file, const migrate::ImageAccess& access) {
    return must(ImageReader::open(std::make_unique<MemoryImage>(std::move(file)), access));
}

std::shared_ptr<const migrate::ImageSecret> secret_of(unsigned char seed) {
    migrate::KeyBytes bytes{};
    bytes.fill(static_cast<std::byte>(seed));
    return std::make_shared<const migrate::ImageSecret>(bytes);
}

std::shared_ptr<const migrate::SigningKey> signing_key_of(unsigned char seed) {
    const std::vector<unsigned char> bytes(32, seed);
    return std::make_shared<const migrate::SigningKey>(migrate::SigningKey::Handle{
        ::EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, nullptr, bytes.data(), bytes.size())});
}

std::string complaint_about(ImageBytes file, const migrate::ImageAccess& access) {
    auto reader = ImageReader::open(std::make_unique<MemoryImage>(std::move(file)), access);
    if (!reader) {
        return reader.error().text();
    }
    const auto verified = reader->verify();
    return verified ? "" : verified.error().text();
}

void flip(ImageBytes& file, std::size_t at) {
    file.at(at) ^= std::byte{0x10};
}

std::vector<std::size_t> boundaries_of(const ImageBytes& file, const migrate::ImageAccess& access) {
    const auto reader = reader_of(file, access);
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
    return image(description, absent, migrate::ImageOptions{}, name);
}

ImageBytes ImageBench::image(
    const ImageDescription& description,
    const dirtylog::DirtySet& absent,
    const migrate::ImageOptions& how,
    const std::string& name) {
    const auto path = directory.path() / name;
    std::filesystem::remove(path);
    must(migrate::write_guest(machine, description, absent, path, how));
    return bytes_of(path);
}

ImageBytes ImageBench::written(
    const migrate::ImageOptions& how, const std::function<void(migrate::ImageWriter&)>& give) {
    const auto path = directory.path() / "written.wimg";
    std::filesystem::remove(path);
    auto description = description_of(ImageExtent::whole);
    const auto named = description.plan;
    description.plan = migrate::plan_for(machine);
    description.plan.vm_name = named.vm_name;
    description.plan.vm_id = named.vm_id;
    auto file = must(migrate::NewImageFile::create(path));
    auto writer = must(migrate::ImageWriter::begin(file, description, how));
    give(writer);
    must(writer.finish());
    return bytes_of(path);
}

ImageBytes ImageBench::whole_image(const migrate::ImageOptions& how) {
    return image(description_of(ImageExtent::whole), no_pages(), how);
}

} // namespace wherry::tests
