// SPDX-License-Identifier: Apache-2.0
#include "vmm/mshv/features.hpp"

#include "vmm/mshv/abi/synthetic_features.hpp"
#include "vmm/mshv/feature_bits.hpp"

namespace wherry::vmm::mshv {
namespace {

namespace f0 = abi::features0;
namespace f1 = abi::features1;
namespace xs = abi::xsave_features;
namespace sf = abi::synthetic_features;

constexpr std::uint32_t hyperv_signature_ebx = 0x7263694d; // "Micr"
constexpr std::uint32_t hypervisor_leaf = 0x40000000;

/// What Linux and Windows guests use, and what is complete in HyperVState.
constexpr std::uint64_t offered_synthetic =
    sf::hypervisor_present | sf::hv1 | sf::reference_counter | sf::synic | sf::synthetic_timers |
    sf::interrupt_control | sf::hypercall | sf::vp_index | sf::reference_tsc | sf::guest_idle |
    sf::frequency | sf::direct_synthetic_timers | sf::tlb_flush | sf::cluster_ipi;
static_assert(offered_synthetic == 0x06400ffb, "the mask of QEMU's MSHV accelerator");

constexpr std::uint64_t never_features0 = f0::reserved_bank0;
constexpr std::uint64_t never_features1 = f1::nested_virt | f1::la57 | f1::tsc_deadline_tmr;
constexpr std::uint64_t never_xsave = xs::mpx | xs::xcr1 | xs::xfd | xs::amx_tile | xs::amx_bf16 |
                                      xs::amx_int8 | xs::amx_fp16 | xs::avx10_256 | xs::avx10_512 |
                                      xs::apx | xs::apx_nci;

std::uint64_t unseen(std::span<const FeatureBit> features, std::span<const CpuidEntry> guest) {
    std::uint64_t hidden = 0;
    for (const auto& feature : features) {
        if (((word_of(guest, feature.word) >> feature.bit) & 1U) == 0) {
            hidden |= feature.feature;
        }
    }
    return hidden;
}

bool sees_hyperv(std::span<const CpuidEntry> guest) {
    const auto leaf = find_cpuid(guest, hypervisor_leaf);
    return leaf && leaf->ebx == hyperv_signature_ebx;
}

} // namespace

PartitionFeatures choose_features(
    std::span<const CpuidEntry> guest,
    const std::array<std::uint64_t, 2>& available,
    std::optional<std::uint64_t> assignable) {
    PartitionFeatures chosen;
    chosen.disabled = {~available[0] | never_features0, ~available[1] | never_features1};
    chosen.disabled_xsave = never_xsave;
    if (!guest.empty()) {
        chosen.disabled[0] |= unseen(features0_bits, guest);
        chosen.disabled[1] |= unseen(features1_bits, guest);
        chosen.disabled_xsave |= unseen(xsave_features_bits, guest);
    }
    if (guest.empty() || sees_hyperv(guest)) {
        chosen.synthetic = offered_synthetic & assignable.value_or(~std::uint64_t{0});
    }
    return chosen;
}

} // namespace wherry::vmm::mshv
