// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"
#include "vmm/mshv/syscalls.hpp"

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

namespace wherry::vmm::mshv {

/// One page of a VP, mapped. Empty when moved from.
class MappedPage {
public:
    MappedPage() = default;
    MappedPage(Syscalls& syscalls, void* at) noexcept : syscalls_{&syscalls}, at_{at} {}
    MappedPage(MappedPage&& other) noexcept
        : syscalls_{other.syscalls_},
          at_{std::exchange(other.at_, nullptr)} {}
    MappedPage& operator=(MappedPage&& other) noexcept;
    MappedPage(const MappedPage&) = delete;
    MappedPage& operator=(const MappedPage&) = delete;
    ~MappedPage();

    [[nodiscard]] void* at() const noexcept { return at_; }

private:
    Syscalls* syscalls_ = nullptr;
    void* at_ = nullptr;
};

/// What the hypervisor answered; `status` is success where `error` is not 0 and the kernel itself
/// refused.
struct HypercallOutcome {
    std::uint16_t status = 0;
    std::uint16_t reps = 0; ///< completed
    int error = 0;          ///< errno, 0: success
};

struct Hypercall {
    std::string_view name; ///< for errors
    std::uint16_t code = 0;
    const void* input = nullptr; ///< opens with 8 bytes for the partition id
    std::size_t input_size = 0;
    void* output = nullptr; ///< filled only on success
    std::size_t output_size = 0;
    std::uint16_t reps = 0; ///< 0: a simple hypercall
};

/// A descriptor of the device, of a partition or of a VP, and the calls that all of them take.
/// Thread-safe like the system calls behind it.
class Descriptor {
public:
    Descriptor() = default;
    Descriptor(Syscalls& syscalls, int number) noexcept : syscalls_{&syscalls}, number_{number} {}
    Descriptor(Descriptor&& other) noexcept
        : syscalls_{other.syscalls_},
          number_{std::exchange(other.number_, -1)} {}
    Descriptor& operator=(Descriptor&& other) noexcept;
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;
    ~Descriptor();

    /// The error says what is missing: no device, no permission.
    static formats::Result<Descriptor> open_device(Syscalls& syscalls);

    [[nodiscard]] bool is_open() const noexcept { return number_ >= 0; }
    /// The kernel's answer as it is: a number, or minus errno.
    [[nodiscard]] int raw(std::uint64_t request, void* argument) const;
    /// As above, repeated where a signal came between; the error names the call.
    formats::Result<int> call(std::uint64_t request, void* argument, std::string_view name) const;
    /// An ioctl that makes a descriptor.
    formats::Result<Descriptor>
    derive(std::uint64_t request, void* argument, std::string_view name) const;
    /// A descriptor that came by raw().
    [[nodiscard]] Descriptor adopt(int number) const noexcept { return {*syscalls_, number}; }
    /// nullptr inside where this VP has no such page.
    formats::Result<MappedPage> map(std::uint64_t offset, std::string_view name) const;

    [[nodiscard]] HypercallOutcome try_hypercall(const Hypercall& call) const;
    /// Fails also where not all repetitions were done.
    formats::Status hypercall(const Hypercall& call) const;

    formats::Result<std::uint64_t> property(std::uint32_t code, std::string_view name) const;
    formats::Status
    set_property(std::uint32_t code, std::uint64_t value, std::string_view name) const;

private:
    Syscalls* syscalls_ = nullptr;
    int number_ = -1;
};

/// "name: why", the hypervisor's status told where there is one.
formats::Error hypercall_error(std::string_view name, const HypercallOutcome& outcome);

} // namespace wherry::vmm::mshv
