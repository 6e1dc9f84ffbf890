// SPDX-License-Identifier: Apache-2.0
#include "vmm/mshvsim/synthetic_msrs.hpp"

#include "vmm/mshv/abi/register_names.hpp"
#include "vmm/mshv/abi/synthetic_features.hpp"

namespace wherry::vmm::mshvsim {

namespace name_of = mshv::abi::registers;
namespace synthetic = mshv::abi::synthetic_features;

namespace {

constexpr std::uint32_t first_sint = 0x40000090, first_timer = 0x400000b0;
constexpr std::uint32_t sints = 16, timer_registers = 8;

} // namespace

std::optional<SyntheticMsr> synthetic_msr(std::uint32_t index) {
    const auto only_read = [](std::uint32_t name, std::uint64_t feature) {
        return SyntheticMsr{.name = name, .feature = feature};
    };
    const auto written = [](std::uint32_t name, std::uint64_t feature) {
        return SyntheticMsr{.name = name, .feature = feature, .is_writable = true};
    };
    if (index >= first_sint && index < first_sint + sints) {
        return written(name_of::sint0 + (index - first_sint), synthetic::synic);
    }
    if (index >= first_timer && index < first_timer + timer_registers) {
        return written(
            name_of::stimer0_config + (index - first_timer), synthetic::synthetic_timers);
    }
    switch (index) {
    case 0x40000000:
        return written(name_of::guest_os_id, synthetic::hypercall);
    case 0x40000001:
        return written(name_of::hypercall, synthetic::hypercall);
    case 0x40000002:
        return only_read(name_of::vp_index, synthetic::vp_index);
    case 0x40000010:
        return only_read(name_of::vp_runtime, synthetic::vp_runtime);
    case 0x40000020:
        return only_read(name_of::time_reference_count, synthetic::reference_counter);
    case 0x40000021:
        return written(name_of::reference_tsc, synthetic::reference_tsc);
    case 0x40000022:
        return only_read(name_of::tsc_frequency, synthetic::frequency);
    case 0x40000023:
        return only_read(name_of::apic_frequency, synthetic::frequency);
    case 0x40000080:
        return written(name_of::scontrol, synthetic::synic);
    case 0x40000081:
        return only_read(name_of::sversion, synthetic::synic);
    case 0x40000082:
        return written(name_of::siefp, synthetic::synic);
    case 0x40000083:
        return written(name_of::simp, synthetic::synic);
    case 0x40000084:
        return written(name_of::eom, synthetic::synic);
    default:
        return std::nullopt;
    }
}

} // namespace wherry::vmm::mshvsim
