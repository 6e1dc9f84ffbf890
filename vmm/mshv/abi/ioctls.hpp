// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

/// The user-space ABI of /dev/mshv on x86-64: little-endian, pages of 4096 bytes. Codes are plain
/// integers, because a kernel or a guest may send any value.
namespace wherry::vmm::mshv::abi {

inline constexpr std::size_t page_size = 4096;

namespace ioctls {

/// CREATE_PARTITION. The ioctl number carries the size of the first 16 bytes; the rest is read
/// where `flags` has cpu_and_xsave_features.
struct CreatePartition {
    std::uint64_t flags = 0;
    std::uint64_t isolation = 0; ///< none
    std::uint16_t feature_banks = 2;
    std::array<std::uint8_t, 6> reserved0{};
    std::array<std::uint64_t, 2> disabled_features{}; ///< a set bit hides
    std::array<std::uint64_t, 2> reserved1{};
    std::uint64_t disabled_xsave_features = 0;
};
static_assert(sizeof(CreatePartition) == 64);
static_assert(offsetof(CreatePartition, disabled_features) == 24);
static_assert(offsetof(CreatePartition, disabled_xsave_features) == 56);

struct CreatePartitionV1 {
    std::uint64_t flags = 0;
    std::uint64_t isolation = 0;
};

namespace partition_flags {
inline constexpr std::uint64_t lapic = 1U << 0U;
inline constexpr std::uint64_t x2apic = 1U << 1U;
inline constexpr std::uint64_t gpa_super_pages = 1U << 2U;
inline constexpr std::uint64_t cpu_and_xsave_features = 1U << 3U;
inline constexpr std::uint64_t nested_virtualization = 1U << 4U;
inline constexpr std::uint64_t smt_enabled_guest = 1U << 5U;
inline constexpr std::uint64_t all = (1U << 6U) - 1;
} // namespace partition_flags

struct CreateVp {
    std::uint32_t vp_index = 0;
};
inline constexpr std::uint32_t max_vps = 256;

struct MemoryRegion {
    std::uint64_t size = 0; ///< bytes
    std::uint64_t guest_pfn = 0;
    std::uint64_t userspace_address = 0;
    std::uint8_t flags = 0;
    std::array<std::uint8_t, 7> reserved{};
};
static_assert(sizeof(MemoryRegion) == 32);
static_assert(offsetof(MemoryRegion, flags) == 24);

namespace memory_flags {
inline constexpr std::uint8_t writable = 1U << 0U;
inline constexpr std::uint8_t executable = 1U << 1U;
inline constexpr std::uint8_t unmap = 1U << 2U;
} // namespace memory_flags

struct Irqfd {
    std::int32_t fd = -1;
    std::int32_t resample_fd = -1;
    std::uint32_t gsi = 0;
    std::uint32_t flags = 0;
};
static_assert(sizeof(Irqfd) == 16);

namespace irqfd_flags {
inline constexpr std::uint32_t deassign = 1U << 0U;
inline constexpr std::uint32_t resample = 1U << 1U;
} // namespace irqfd_flags

struct Ioeventfd {
    std::uint64_t data_match = 0;
    std::uint64_t address = 0;
    std::uint32_t length = 0;
    std::int32_t fd = -1;
    std::uint32_t flags = 0;
    std::array<std::uint8_t, 4> reserved{};
};
static_assert(sizeof(Ioeventfd) == 32);
static_assert(offsetof(Ioeventfd, flags) == 24);

namespace ioeventfd_flags {
inline constexpr std::uint32_t data_match = 1U << 0U;
inline constexpr std::uint32_t port_io = 1U << 1U;
inline constexpr std::uint32_t deassign = 1U << 2U;
} // namespace ioeventfd_flags

/// SET_MSI_ROUTING: this, then `count` entries.
struct IrqTableHeader {
    std::uint32_t count = 0;
    std::uint32_t reserved = 0;
};
struct IrqTableEntry {
    std::uint32_t gsi = 0;
    std::uint32_t address_low = 0;
    std::uint32_t address_high = 0; ///< 0
    std::uint32_t data = 0;
};
static_assert(sizeof(IrqTableHeader) == 8 && sizeof(IrqTableEntry) == 16);
inline constexpr std::uint32_t max_gsis = 4096;

struct GpapAccessBitmap {
    std::uint8_t access_type = 0;
    std::uint8_t access_op = 0;
    std::array<std::uint8_t, 6> reserved{};
    std::uint64_t page_count = 0;
    std::uint64_t first_gfn = 0;
    std::uint64_t bitmap = 0; ///< user address, ceil(page_count / 8) bytes
};
static_assert(sizeof(GpapAccessBitmap) == 32);
static_assert(offsetof(GpapAccessBitmap, page_count) == 8);

namespace access_type {
inline constexpr std::uint8_t accessed = 0;
inline constexpr std::uint8_t dirty = 1;
} // namespace access_type
namespace access_op {
inline constexpr std::uint8_t noop = 0; ///< Linux 7.2 executes it as set
inline constexpr std::uint8_t clear = 1;
inline constexpr std::uint8_t set = 2;
} // namespace access_op

struct RootHvcall {
    std::uint16_t code = 0;
    std::uint16_t reps = 0; ///< out: completed
    std::uint16_t input_size = 0;
    std::uint16_t output_size = 0;
    std::uint16_t status = 0; ///< out: of the hypervisor
    std::array<std::uint8_t, 6> reserved{};
    std::uint64_t input = 0;
    std::uint64_t output = 0;
};
static_assert(sizeof(RootHvcall) == 32);
static_assert(offsetof(RootHvcall, input) == 16);

/// RUN_VP's buffer; see messages.hpp.
struct RunVp {
    std::array<std::uint8_t, 256> message{};
};
static_assert(sizeof(RunVp) == 256);

struct VpState {
    std::uint8_t type = 0; ///< vp_state.hpp
    std::array<std::uint8_t, 3> reserved{};
    std::uint32_t buffer_size = 0; ///< whole pages; out: what the state takes
    std::uint64_t buffer = 0;      ///< page-aligned user address
};
static_assert(sizeof(VpState) == 16);

/// Offsets for mmap on a VP's descriptor.
namespace vp_mapping {
inline constexpr std::uint64_t register_page = 0 * page_size;
inline constexpr std::uint64_t message_page = 1 * page_size;
inline constexpr std::uint64_t ghcb_page = 2 * page_size;
} // namespace vp_mapping

/// asm-generic/ioctl.h: number 7:0, type 15:8, size 29:16, direction 31:30.
namespace direction {
inline constexpr std::uint32_t none = 0;
inline constexpr std::uint32_t write = 1;
inline constexpr std::uint32_t read = 2;
} // namespace direction
consteval std::uint32_t request(std::uint32_t way, std::uint32_t number, std::size_t size) {
    return (way << 30U) | (static_cast<std::uint32_t>(size) << 16U) | (0xb8U << 8U) | number;
}
inline constexpr std::uint32_t both_ways = direction::read | direction::write;

// Of the device.
inline constexpr std::uint32_t create_partition =
    request(direction::write, 0x00, sizeof(CreatePartitionV1));
// Of a partition.
inline constexpr std::uint32_t initialize_partition = request(direction::none, 0x00, 0);
inline constexpr std::uint32_t create_vp = request(direction::write, 0x01, sizeof(CreateVp));
inline constexpr std::uint32_t set_guest_memory =
    request(direction::write, 0x02, sizeof(MemoryRegion));
inline constexpr std::uint32_t irqfd = request(direction::write, 0x03, sizeof(Irqfd));
inline constexpr std::uint32_t ioeventfd = request(direction::write, 0x04, sizeof(Ioeventfd));
inline constexpr std::uint32_t set_msi_routing =
    request(direction::write, 0x05, sizeof(IrqTableHeader));
inline constexpr std::uint32_t get_gpap_access_bitmap =
    request(both_ways, 0x06, sizeof(GpapAccessBitmap));
// Of all three.
inline constexpr std::uint32_t root_hvcall = request(both_ways, 0x07, sizeof(RootHvcall));
// Of a VP.
inline constexpr std::uint32_t run_vp = request(direction::read, 0x00, sizeof(RunVp));
inline constexpr std::uint32_t get_vp_state = request(both_ways, 0x01, sizeof(VpState));
inline constexpr std::uint32_t set_vp_state = request(both_ways, 0x02, sizeof(VpState));

static_assert(create_partition == 0x4010b800);
static_assert(initialize_partition == 0x0000b800);
static_assert(create_vp == 0x4004b801);
static_assert(set_guest_memory == 0x4020b802);
static_assert(irqfd == 0x4010b803);
static_assert(ioeventfd == 0x4020b804);
static_assert(set_msi_routing == 0x4008b805);
static_assert(get_gpap_access_bitmap == 0xc020b806);
static_assert(root_hvcall == 0xc020b807);
static_assert(run_vp == 0x8100b800);
static_assert(get_vp_state == 0xc010b801);
static_assert(set_vp_state == 0xc010b802);

/// Known to rust-vmm, absent from Linux 7.2: ENOTTY there.
namespace out_of_tree {
inline constexpr std::uint32_t get_host_partition_property = 0xc010b801;
inline constexpr std::uint32_t create_device = 0xc00cb808;
inline constexpr std::uint32_t modify_gpa_host_access = 0x4010b809;
inline constexpr std::uint32_t import_isolated_pages = 0x4010b80a;
inline constexpr std::uint32_t get_vp_registers = 0xc010b8f0;
inline constexpr std::uint32_t set_vp_registers = 0x4010b8f1;
inline constexpr std::uint32_t vp_translate_gva = 0xc020b8f2;
inline constexpr std::uint32_t register_intercept_result = 0x4030b8f3;
inline constexpr std::uint32_t get_vp_cpuid_values = 0xc028b8f4;
inline constexpr std::uint32_t read_gpa = 0xc020b8f5;
inline constexpr std::uint32_t write_gpa = 0x4020b8f6;
inline constexpr std::uint32_t set_device_attribute = 0x4018b800;
inline constexpr std::uint32_t get_device_attribute = 0x4018b801;
inline constexpr std::uint32_t has_device_attribute = 0x4018b802;
} // namespace out_of_tree

} // namespace ioctls
} // namespace wherry::vmm::mshv::abi
