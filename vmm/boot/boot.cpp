// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/boot.hpp"

#include "vmm/boot/bzimage.hpp"
#include "vmm/boot/elf_image.hpp"
#include "vmm/boot/pvh.hpp"
#include "vmm/platform_layout.hpp"
#include "vmm/unique_fd.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include <fmt/format.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace wherry::vmm::boot {
namespace {

using formats::Bytes;
using formats::ErrorCode;
using formats::fail;
using formats::Result;
using formats::operator""_GiB;

/// A vmlinux with debug information has some hundred MiB.
constexpr Bytes kernel_limit = 1_GiB;

/// The whole regular file, refused above `limit`.
Result<std::vector<std::byte>>
read_file(const std::string& path, std::string_view what, Bytes limit, std::string_view remedy) {
    const UniqueFd file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
    const auto failed = [&](int number) {
        return fail(formats::system_error(number, fmt::format("{} {}", what, path)));
    };
    struct stat status{};
    if (file.get() < 0 || ::fstat(file.get(), &status) != 0) {
        return failed(errno);
    }
    if (!S_ISREG(status.st_mode)) {
        return fail(
            ErrorCode::invalid_argument, fmt::format("{} {} is not a regular file", what, path));
    }
    const auto size = static_cast<std::uint64_t>(status.st_size);
    if (size > limit.value()) {
        return fail(
            ErrorCode::invalid_argument,
            fmt::format(
                "{} {} has {} MiB, at most {} MiB are read{}",
                what,
                path,
                size >> 20U,
                limit.value() >> 20U,
                remedy));
    }
    std::vector<std::byte> content(size);
    std::size_t done = 0;
    while (done < content.size()) {
        const auto got = ::read(file.get(), content.data() + done, content.size() - done);
        if (got < 0 && errno != EINTR) {
            return failed(errno);
        }
        if (got == 0) {
            return fail(
                ErrorCode::io, fmt::format("{} {} became shorter while it was read", what, path));
        }
        done += got > 0 ? static_cast<std::size_t>(got) : 0;
    }
    return content;
}

/// What a file that is no kernel of ours looks like, for the user who mixed something up.
std::string_view recognise_foreign(std::span<const std::byte> file) {
    struct Foreign {
        std::string_view magic, name;
    };
    static constexpr std::array<Foreign, 7> known{{
        {"\x1f\x8b", "gzip data"},
        {"\x28\xb5\x2f\xfd", "zstd data"},
        {"\xfd"
         "7zXZ",
         "xz data"},
        {"070701", "a cpio archive (an initrd?)"},
        {"QFI\xfb", "a qcow2 disk image"},
        {"MZ", "a PE program, not a bzImage"},
        {"#!", "a script"},
    }};
    const std::string_view head{
        reinterpret_cast<const char*>(file.data()), std::min<std::size_t>(file.size(), 16)};
    for (const Foreign& foreign : known) {
        if (head.starts_with(foreign.magic)) {
            return foreign.name;
        }
    }
    return file.empty() ? "empty" : "something else";
}

Result<InitialVcpu>
load_recognised(GuestMemory& memory, const BootImages& images, const PlatformOptions& options) {
    if (is_elf(images.kernel)) {
        return load_pvh(memory, images, options);
    }
    if (is_bzimage(images.kernel)) {
        return load_bzimage(memory, images, options);
    }
    return fail(
        ErrorCode::invalid_argument,
        fmt::format(
            "not a kernel: it is neither an ELF file with a PVH entry nor a Linux bzImage, but {}",
            recognise_foreign(images.kernel)));
}

} // namespace

Result<InitialVcpu>
load(GuestMemory& memory, const BootImages& images, const PlatformOptions& options) {
    if (options.vcpus == 0 || options.vcpus > platform_layout::max_vcpus) {
        return fail(
            ErrorCode::invalid_argument,
            fmt::format(
                "{} vCPUs: a machine has 1 to {}", options.vcpus, platform_layout::max_vcpus));
    }
    auto loaded = load_recognised(memory, images, options);
    if (!loaded) {
        return fail(std::move(loaded).error().during(fmt::format("kernel {}", images.kernel_name)));
    }
    return loaded;
}

Result<InitialVcpu>
load(GuestMemory& memory, const BootSource& source, const PlatformOptions& options) {
    const auto kernel = read_file(source.kernel, "kernel", kernel_limit, "");
    if (!kernel) {
        return fail(kernel.error());
    }
    std::vector<std::byte> initrd;
    if (!source.initrd.empty()) {
        auto read = read_file(
            source.initrd, "initrd", memory.size(), ": give the guest more RAM with --memory");
        if (!read) {
            return fail(std::move(read).error());
        }
        initrd = *std::move(read);
    }
    const BootImages images{
        .kernel = *kernel,
        .initrd = initrd,
        .command_line = source.command_line,
        .kernel_name = source.kernel};
    return load(memory, images, options);
}

} // namespace wherry::vmm::boot
