// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include <linux/kvm.h>
#include <sys/ioctl.h>

/// The kernel's structures that end in a flexible array. Seen from C++ the kernel's own headers
/// give an empty member of one byte to them, which moves the array and changes the number of the
/// call; hence these, with a fixed capacity, and the numbers from the sizes that C sees.
namespace wherry::vmm::kvm::abi {

template <typename Entry, std::size_t capacity>
struct Counted {
    std::uint32_t count = 0;
    std::uint32_t padding = 0;
    std::array<Entry, capacity> entries{};
};
using CpuidTable = Counted<kvm_cpuid_entry2, 256>;
using MsrTable = Counted<kvm_msr_entry, 128>;
using RoutingTable = Counted<kvm_irq_routing_entry, 64>;
static_assert(offsetof(CpuidTable, entries) == 8 && sizeof(kvm_cpuid_entry2) == 40);
static_assert(offsetof(MsrTable, entries) == 8 && sizeof(kvm_msr_entry) == 16);
static_assert(offsetof(RoutingTable, entries) == 8 && sizeof(kvm_irq_routing_entry) == 48);

struct MsrIndexList {
    std::uint32_t count = 0;
    std::array<std::uint32_t, 1024> indices{};
};
static_assert(offsetof(MsrIndexList, indices) == 4);

enum class Direction : unsigned long { write = 1, read = 2, both = 3 };
/// asm-generic/ioctl.h: direction in bits 31:30, size 29:16, type 15:8, number 7:0.
constexpr unsigned long
request(Direction direction, unsigned long number, unsigned long size) noexcept {
    return (static_cast<unsigned long>(direction) << 30U) | (size << 16U) |
           (static_cast<unsigned long>(KVMIO) << 8U) | number;
}
static_assert(request(Direction::read, 0x81, sizeof(kvm_regs)) == KVM_GET_REGS);

inline constexpr unsigned long get_msr_index_list = request(Direction::both, 0x02, 4);
inline constexpr unsigned long get_supported_cpuid = request(Direction::both, 0x05, 8);
inline constexpr unsigned long set_gsi_routing = request(Direction::write, 0x6a, 8);
inline constexpr unsigned long get_msrs = request(Direction::both, 0x88, 8);
inline constexpr unsigned long set_msrs = request(Direction::write, 0x89, 8);
inline constexpr unsigned long set_cpuid2 = request(Direction::write, 0x90, 8);
inline constexpr unsigned long get_xsave = request(Direction::read, 0xa4, 4096);
inline constexpr unsigned long set_xsave = request(Direction::write, 0xa5, 4096);
inline constexpr unsigned long get_xsave2 = request(Direction::read, 0xcf, 4096);

} // namespace wherry::vmm::kvm::abi
