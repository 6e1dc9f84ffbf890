// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"
#include "vmm/kvm/clock.hpp"
#include "vmm/partition.hpp"

#include <cstdint>

namespace wherry::vmm::kvm {

/// In kHz, as KVM runs the vCPU's.
formats::Result<std::uint64_t> tsc_frequency(int vcpu);

/// Refused: incompatible; unsupported where it is `own_khz`, which vCPUs begin with. The latter is
/// a host that cannot scale and whose kernel has measured its TSC again, as it does a second after
/// boot, when kvm was loaded (Linux 6.1, kvm_set_tsc_khz). Guests run there with KVM's account of
/// their TSC at naught: their timers never fire.
formats::Status set_tsc_frequency(int vcpu, std::uint64_t khz, std::uint64_t own_khz);

struct TscReading {
    std::uint64_t value = 0; ///< at Clock::saved_at()
    std::uint64_t khz = 0;
};
formats::Result<TscReading> read_tsc(int vcpu, const Clock& clock, const BackendCapabilities& host);

/// Frequency first (incompatible, naming both, where this host can neither run at it nor scale),
/// then the value, moved forward by the real time that passed. vCPUs that were in step stay so.
/// Reads back: incompatible where the host does not take it and its own is not as good.
formats::Status
write_tsc(int vcpu, const TscReading& saved, const Clock& clock, const BackendCapabilities& host);

} // namespace wherry::vmm::kvm
