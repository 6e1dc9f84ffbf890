// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"
#include "vmm/soft/engine.hpp"
#include "vmm/vcpu_state.hpp"

#include <array>
#include <cstddef>
#include <cstdint>

namespace wherry::vmm::soft {

/// The data segments and CS in the order the processor numbers them.
enum class SegmentName : std::uint8_t { es = 0, cs = 1, ss = 2, ds = 3, fs = 4, gs = 5 };

/// Where a CpuImage keeps what has no register name in Unicorn: the hidden parts of the segment
/// registers and the offset of the TSC. Nothing is taken on trust: the places are found by writing
/// values through the names that exist, and the TSC offset is proven by running RDTSC. An engine
/// that is built differently is refused when the partition is opened.
class HiddenState {
public:
    static formats::Result<HiddenState> discover();

    [[nodiscard]] Segment segment(CpuImage& image, SegmentName name) const;
    void set_segment(CpuImage& image, SegmentName name, const Segment& segment) const;
    /// Guest TSC minus host TSC.
    void set_tsc_offset(CpuImage& image, std::uint64_t offset) const;

private:
    HiddenState() = default;
    std::size_t first_segment_ = 0; // of six, 24 bytes each: selector, base, limit, flags
    std::size_t tsc_offset_ = 0;
};

/// QEMU's segment flags are the upper half of a descriptor; ours are VMX access rights.
std::uint32_t flags_from_attributes(std::uint32_t attributes) noexcept;
std::uint32_t attributes_from_flags(std::uint32_t flags) noexcept;

} // namespace wherry::vmm::soft
