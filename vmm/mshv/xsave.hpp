// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"
#include "vmm/vcpu_state.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

/// XSAVE areas (SDM vol. 1, 13.4): the hypervisor's are compacted, canonical ones standard. Pure
/// functions.
namespace wherry::vmm::mshv {

inline constexpr std::size_t xsave_legacy_size = 512;
inline constexpr std::size_t xsave_header_size = 64;

/// Where a processor has its extended components, by their number: CPUID 0xD, sub-leaves from 2.
class XsaveLayout {
public:
    XsaveLayout() = default;
    explicit XsaveLayout(std::span<const CpuidEntry> cpuid);

    struct Component {
        unsigned number = 0;
        std::size_t size = 0;
        std::size_t standard_offset = 0; ///< 0: supervisor state, in no standard area
        bool is_aligned = false;         ///< to 64 bytes in the compacted form
    };
    [[nodiscard]] const Component* find(unsigned number) const noexcept;

private:
    std::vector<Component> components_;
};

/// The standard form of a compacted area, as long as what it holds, in multiples of 64 bytes.
/// Components in their initial state are zero there; x87 and SSE are always written out. Fails
/// (`incompatible`) at components that have no standard form and are in use, CET's excepted:
/// these are MSRs also, and travel as such.
formats::Result<std::vector<std::byte>>
standard_from_compacted(std::span<const std::byte> compacted, const XsaveLayout& layout);

/// The compacted form, of the components in use. Fails where these are not all in `states`, the
/// partition's own in the form of XCR0, or need more than `most` bytes.
formats::Result<std::vector<std::byte>> compacted_from_standard(
    std::span<const std::byte> standard,
    const XsaveLayout& layout,
    std::uint64_t states,
    std::size_t most);

} // namespace wherry::vmm::mshv
