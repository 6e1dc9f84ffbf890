// SPDX-License-Identifier: Apache-2.0
// What Cloud Hypervisor saves and restores of MSRs, and rust-vmm's test of that list.
#include "tests/mshv/bed.hpp"
#include "vmm/mshv/abi/processor_features.hpp"
#include "vmm/mshv/abi/synthetic_features.hpp"

#include <vector>

using namespace wherry::conformance;
namespace names = abi::registers;
namespace properties = abi::properties;

namespace {

void append_run(std::vector<std::uint32_t>& list, std::uint32_t first, std::uint32_t count) {
    for (std::uint32_t i = 0; i < count; ++i) {
        list.push_back(first + i);
    }
}

std::vector<std::uint32_t> msrs_of_every_partition() {
    std::vector<std::uint32_t> list = {
        names::tsc,
        names::efer,
        names::kernel_gs_base,
        names::apic_base,
        names::pat,
        names::sysenter_cs,
        names::sysenter_eip,
        names::sysenter_esp,
        names::star,
        names::lstar,
        names::cstar,
        names::sfmask,
        names::mtrr_default_type,
        names::debug_control,
        names::eom};
    append_run(list, names::mtrr_physical_base0, 8);
    append_run(list, names::mtrr_physical_mask0, 8);
    append_run(list, names::mtrr_fix64k_00000, 11);
    return list;
}

std::vector<std::uint32_t> msrs_of_features(const PartitionBed& bed) {
    const auto has = [&bed](std::uint32_t property, std::uint64_t feature) {
        const auto value = get_property(bed.partition, property);
        REQUIRE(value.call.outcome == "ok");
        return (value.value & feature) != 0;
    };
    std::vector<std::uint32_t> list;
    if (has(properties::processor_features1, abi::features1::cet_ss)) {
        append_run(list, names::u_cet, 8); // to the interrupt SSP table
    }
    if (has(properties::processor_features0, abi::features0::rdtscp)) {
        list.push_back(names::tsc_aux);
    }
    if (has(properties::processor_xsave_features, abi::xsave_features::xsaves)) {
        list.push_back(names::u_xss);
    }
    constexpr auto synthetic = properties::synthetic_processor_features;
    if (has(synthetic, abi::synthetic_features::synic)) {
        append_run(list, names::sint0, 16);
        list.insert(list.end(), {names::scontrol, names::simp, names::siefp});
    }
    if (has(synthetic, abi::synthetic_features::reference_tsc)) {
        list.push_back(names::reference_tsc);
    }
    if (has(synthetic, abi::synthetic_features::hypervisor_present)) {
        list.push_back(names::guest_os_id);
    }
    return list;
}

} // namespace

TEST_SUITE("mshv.msr_list") {
    TEST_CASE("each MSR that a VMM saves is readable, and writable with what was read") {
        const VpBed bed;
        auto list = msrs_of_every_partition();
        CHECK(list.size() == 42);
        const auto more = msrs_of_features(bed);
        list.insert(list.end(), more.begin(), more.end());
        for (const std::uint32_t name : list) {
            CAPTURE(name);
            const auto read = get_register(bed.vp, name);
            CHECK(read.call.outcome == "ok");
            CHECK(read.call.reps == 1);
            const auto written = set_register(bed.vp, name, read.value);
            CHECK(written.outcome == "ok");
            CHECK(written.reps == 1);
        }
    }
}
