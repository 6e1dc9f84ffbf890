// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace wherry::vmm::soft {

/// The host's TSC in kHz, and with it the guest's: Unicorn's RDTSC is the host's plus an offset.
/// Where the kernel tells its own calibration (through the time page of a perf event), that: equal
/// in all processes until the next boot. Otherwise measured against CLOCK_MONOTONIC_RAW once a
/// process, to about 20 ppm.
std::uint64_t host_tsc_frequency_khz();

} // namespace wherry::vmm::soft
