// SPDX-License-Identifier: Apache-2.0
#include "fuzz_target.hpp"
#include "vmm/boot/boot.hpp"
#include "vmm/boot/elf_image.hpp"

#include <functional>

using namespace wherry;

namespace {

vmm::GuestMemory& guest_memory() {
    static auto memory = vmm::GuestMemory::create(formats::Bytes{64U << 20U});
    formats::invariant(memory.has_value(), "64 MiB of guest memory can be had");
    return *memory;
}

void check(const vmm::boot::ElfImage& image, std::span<const std::byte> file) {
    formats::invariant(!image.segments.empty(), "there is something to load");
    formats::invariant(image.segments.size() <= 128, "segments are within their limit");
    for (const vmm::boot::ElfSegment& segment : image.segments) {
        const std::less_equal<const std::byte*> before;
        formats::invariant(
            before(file.data(), segment.content.data()) &&
                before(segment.content.data() + segment.content.size(), file.data() + file.size()),
            "a segment's content is inside the file");
        formats::invariant(
            segment.memory_size >= segment.content.size() &&
                segment.physical_address + segment.memory_size >= segment.physical_address,
            "a segment has a possible size");
    }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const auto file = std::as_bytes(std::span{data, size});
    if (const auto image = vmm::boot::parse_elf(file)) {
        check(*image, file);
    }
    const auto vcpu = vmm::boot::load(
        guest_memory(),
        {.kernel = file, .initrd = {}, .command_line = "", .kernel_name = "input"},
        {.vcpus = 1});
    formats::invariant(
        !vcpu || vcpu->registers.rip < (64U << 20U), "an accepted kernel starts inside of RAM");
    return 0;
}
