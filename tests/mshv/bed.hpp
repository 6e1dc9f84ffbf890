// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "tests/mshv/device.hpp"
#include "vmm/mshv/abi/hypercalls.hpp"
#include "vmm/mshv/abi/ioctls.hpp"
#include "vmm/mshv/abi/messages.hpp"
#include "vmm/mshv/abi/properties.hpp"
#include "vmm/mshv/abi/register_names.hpp"
#include "vmm/mshv/abi/register_page.hpp"
#include "vmm/mshv/abi/registers.hpp"
#include "vmm/mshv/abi/status.hpp"
#include "vmm/mshv/abi/vp_state.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>

namespace wherry::conformance {

namespace abi = vmm::mshv::abi;
namespace ioctls = abi::ioctls;
namespace hypercalls = abi::hypercalls;

/// What a ROOT_HVCALL came back with. `reps` and `status` are copied back whatever the outcome.
struct HypercallResult {
    std::string outcome;
    std::uint16_t status;
    std::uint16_t reps;
};
HypercallResult hypercall(
    const Descriptor& on,
    std::uint16_t code,
    std::span<std::byte> input,
    std::span<std::byte> output = {},
    std::uint16_t reps = 0);

template <typename Input>
std::span<std::byte> bytes_of(Input& input) {
    return std::as_writable_bytes(std::span{&input, 1});
}

struct PropertyResult {
    HypercallResult call;
    std::uint64_t value = 0;
};
PropertyResult get_property(const Descriptor& on, std::uint32_t code);
PropertyResult get_property_ex(const Descriptor& on, std::uint32_t code); ///< value: bank 0
HypercallResult set_property(const Descriptor& on, std::uint32_t code, std::uint64_t value);

struct RegisterResult {
    HypercallResult call;
    abi::RegisterValue value;
};
RegisterResult get_register(const Descriptor& on, std::uint32_t name, std::uint32_t vp = 0);
HypercallResult set_register(
    const Descriptor& on, std::uint32_t name, abi::RegisterValue value, std::uint32_t vp = 0);
HypercallResult set_registers(
    const Descriptor& on,
    std::span<const hypercalls::RegisterAssociation> registers,
    std::uint32_t vp = 0);

/// Whether a partition may have local APICs: no where LAPIC and X2APIC are refused with EIO, the
/// errno of a feature that is not there, and the same without them is not. Asked once.
bool offers_apic();
/// Flags of version 1 as QEMU has them, without what is not offered.
std::uint64_t usual_flags();
/// Says that the case is skipped where there is no APIC.
bool needs_apic(std::string_view test);
/// CREATE_PARTITION as rust-vmm's tests do it: v2, nothing hidden that the host has.
Opened create_partition(const Descriptor& device);
Opened create_vp(const Descriptor& partition, std::uint32_t index);
std::string map_memory(
    const Descriptor& partition,
    const Mapping& memory,
    std::uint64_t gfn,
    std::uint8_t flags = ioctls::memory_flags::writable | ioctls::memory_flags::executable);
std::string unmap_memory(const Descriptor& partition, const Mapping& memory, std::uint64_t gfn);

/// An initialized partition, and with VP 0. Making one fails the case where it fails.
struct PartitionBed {
    PartitionBed();
    Descriptor device;
    Descriptor partition;
};
struct VpBed : PartitionBed {
    VpBed();
    Descriptor vp;
};

} // namespace wherry::conformance
