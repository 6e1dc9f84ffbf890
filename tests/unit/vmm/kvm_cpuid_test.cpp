// SPDX-License-Identifier: Apache-2.0
#include "vmm/cpu_profile.hpp"
#include "vmm/kvm/cpuid.hpp"

#include <cstdint>
#include <vector>

#include <doctest/doctest.h>

namespace {

using namespace wherry;
using vmm::CpuidEntry;
using vmm::find_cpuid;

constexpr vmm::kvm::CpuidPolicy policy{
    .has_tsc_deadline_timer = true, .tsc_frequency_khz = 2'500'000};

/// Every bit of every leaf that matters: what stays is what is let through.
std::vector<CpuidEntry> everything() {
    std::vector<CpuidEntry> all;
    for (const std::uint32_t leaf :
         {0x1U,
          0x4U,
          0x5U,
          0x6U,
          0x7U,
          0xaU,
          0x14U,
          0x80000001U,
          0x80000008U,
          0x8000000aU,
          0x8000001eU,
          0x8000001fU,
          0x80000022U,
          0x40000001U}) {
        all.push_back({.leaf = leaf, .eax = ~0U, .ebx = ~0U, .ecx = ~0U, .edx = ~0U});
    }
    all.push_back({.leaf = 0, .eax = 0x1f, .ebx = 1, .ecx = 2, .edx = 3});
    all.push_back({.leaf = 0x40000000, .eax = 0x40000001, .ebx = 1});
    all.push_back({.leaf = 0xd, .subleaf_is_significant = true, .eax = ~0U, .ebx = 1, .ecx = 9999});
    for (const auto& [component, size, offset] :
         {std::tuple{2U, 256U, 576U}, std::tuple{9U, 8U, 2688U}, std::tuple{18U, 8192U, 2816U}}) {
        all.push_back(
            {.leaf = 0xd,
             .subleaf = component,
             .subleaf_is_significant = true,
             .eax = size,
             .ebx = offset});
    }
    return all;
}

bool has_bit(std::uint32_t word, unsigned bit) {
    return ((word >> bit) & 1U) != 0;
}

} // namespace

TEST_SUITE("vmm.kvm_cpuid") {
    TEST_CASE("a guest is offered no nested virtualisation, MWAIT or performance counters") {
        const auto offered = vmm::kvm::offered_cpuid(everything(), policy);
        const auto basic = *find_cpuid(offered, 1);
        CHECK_FALSE(has_bit(basic.ecx, 3));  // MONITOR
        CHECK_FALSE(has_bit(basic.ecx, 5));  // VMX
        CHECK_FALSE(has_bit(basic.ecx, 15)); // PDCM
        CHECK(has_bit(basic.ecx, 24));       // TSC deadline
        CHECK(has_bit(basic.ecx, 31));       // hypervisor
        const auto extended = *find_cpuid(offered, 0x80000001);
        CHECK_FALSE(has_bit(extended.ecx, 2));  // SVM
        CHECK_FALSE(has_bit(extended.ecx, 23)); // performance counters
        CHECK_FALSE(has_bit(extended.ecx, 29)); // MWAITX
        for (const std::uint32_t leaf :
             {0x5U, 0xaU, 0x14U, 0x8000000aU, 0x8000001fU, 0x80000022U}) {
            CHECK_FALSE(find_cpuid(offered, leaf));
        }
        CHECK(find_cpuid(offered, 6)->eax == 4);
        CHECK_FALSE(has_bit(find_cpuid(offered, 0x40000001)->eax, 4)); // asynchronous faults
    }

    TEST_CASE("the deadline timer is offered only where the kernel has it") {
        const auto offered = vmm::kvm::offered_cpuid(everything(), {.tsc_frequency_khz = 1});
        CHECK_FALSE(has_bit(find_cpuid(offered, 1)->ecx, 24));
    }

    TEST_CASE("the TSC frequency stands in leaf 0x40000010, which the maximum reaches") {
        const auto offered = vmm::kvm::offered_cpuid(everything(), policy);
        CHECK(find_cpuid(offered, 0x40000010)->eax == 2'500'000);
        CHECK(find_cpuid(offered, 0x40000000)->eax == 0x40000010);
    }

    TEST_CASE("the XSAVE leaf agrees with the components that are offered") {
        const auto offered = vmm::kvm::offered_cpuid(everything(), policy);
        const auto area = *find_cpuid(offered, 0xd, 0);
        CHECK(area.eax == 0x2e7);
        CHECK(area.ecx == 2696);
        CHECK(find_cpuid(offered, 0xd, 9));
        CHECK_FALSE(find_cpuid(offered, 0xd, 18));
        auto without = everything();
        for (auto& entry : without) {
            entry.ecx &= entry.leaf == 1 ? ~(1U << 26U) : ~0U;
        }
        CHECK_FALSE(find_cpuid(vmm::kvm::offered_cpuid(without, policy), 0xd, 0));
    }

    TEST_CASE("what is offered does not change when it is offered again") {
        const auto once = vmm::kvm::offered_cpuid(everything(), policy);
        CHECK(vmm::kvm::offered_cpuid(once, policy) == once);
    }

    TEST_CASE("each vCPU has its own APIC id in every leaf that tells it") {
        const auto offered = vmm::kvm::offered_cpuid(everything(), policy);
        for (const std::uint32_t count : {1U, 2U, 3U, 4U, 254U}) {
            for (std::uint32_t index = 0; index < count; ++index) {
                const auto own = vmm::kvm::cpuid_of_vcpu(offered, index, count);
                CHECK((find_cpuid(own, 1)->ebx >> 24U) == index);
                CHECK(((find_cpuid(own, 1)->ebx >> 16U) & 0xffU) == count);
                CHECK(has_bit(find_cpuid(own, 1)->edx, 28) == (count > 1));
                for (const std::uint32_t leaf : {0xbU, 0x1fU}) {
                    CHECK(find_cpuid(own, leaf, 0)->edx == index);
                    CHECK(find_cpuid(own, leaf, 0)->ebx == 1);
                    CHECK(find_cpuid(own, leaf, 1)->ebx == count);
                    CHECK((1U << find_cpuid(own, leaf, 1)->eax) >= count);
                    CHECK(find_cpuid(own, leaf, 2)->ebx == 0);
                }
                CHECK(find_cpuid(own, 0x8000001e)->eax == index);
                CHECK((find_cpuid(own, 0x80000008)->ecx & 0xffU) == count - 1);
            }
        }
    }
}
