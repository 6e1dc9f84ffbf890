// SPDX-License-Identifier: Apache-2.0
#include "fuzz_target.hpp"
#include "vmm/boot/boot.hpp"
#include "vmm/boot/bzimage.hpp"

#include <algorithm>
#include <functional>

using namespace wherry;

namespace {

vmm::GuestMemory& guest_memory() {
    static auto memory = vmm::GuestMemory::create(formats::Bytes{64U << 20U});
    formats::invariant(memory.has_value(), "64 MiB of guest memory can be had");
    return *memory;
}

bool is_inside(std::span<const std::byte> part, std::span<const std::byte> file) {
    const std::less_equal<const std::byte*> before;
    return before(file.data(), part.data()) &&
           before(part.data() + part.size(), file.data() + file.size());
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const auto file = std::as_bytes(std::span{data, size});
    if (const auto image = vmm::boot::parse_bzimage(file)) {
        formats::invariant(
            is_inside(image->header, file) && is_inside(image->kernel, file),
            "header and kernel are inside the file");
        formats::invariant(
            vmm::boot::BzImage::header_offset + image->header.size() <= 0x290,
            "the header stays in its part of boot_params");
        formats::invariant(
            image->initial_size >= image->kernel.size(), "the kernel fits where it unpacks");
        formats::invariant(
            image->version.size() <= 64 &&
                std::ranges::all_of(image->version, [](char c) { return c > ' ' && c <= '~'; }),
            "the version may be printed");
    }
    const auto vcpu = vmm::boot::load(
        guest_memory(),
        {.kernel = file, .initrd = file, .command_line = "quiet", .kernel_name = "input"},
        {.vcpus = 1});
    formats::invariant(
        !vcpu || vcpu->registers.rip < (64U << 20U), "an accepted kernel starts inside of RAM");
    return 0;
}
