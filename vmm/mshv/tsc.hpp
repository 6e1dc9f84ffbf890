// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"
#include "vmm/mshv/partition_time.hpp"
#include "vmm/mshv/vp_registers.hpp"

#include <cstdint>

namespace wherry::vmm::mshv {

/// A VP's TSC at the moment of the last PartitionTime::save. `khz`: of the partition.
formats::Result<std::uint64_t>
read_tsc(const VpRegisters& registers, const PartitionTime& time, std::uint64_t khz);

/// Sets the TSC to `saved` moved forward by what passed until the last PartitionTime::restore, and
/// reads back that the hypervisor kept it. `incompatible` for a frequency that is not `khz`: the
/// hypervisor scales nothing; 0 is one that the source could not tell.
formats::Status write_tsc(
    const VpRegisters& registers,
    const PartitionTime& time,
    std::uint64_t saved,
    std::uint64_t saved_khz,
    std::uint64_t khz);

} // namespace wherry::vmm::mshv
