// SPDX-License-Identifier: Apache-2.0
#include "vmm/mshv/abi/processor_features.hpp"
#include "vmm/mshv/abi/synthetic_features.hpp"
#include "vmm/mshv/cpuid.hpp"
#include "vmm/mshv/features.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include <doctest/doctest.h>

namespace {

using namespace wherry;
using vmm::CpuidEntry;
using vmm::mshv::choose_features;
namespace f0 = vmm::mshv::abi::features0;
namespace f1 = vmm::mshv::abi::features1;
namespace xs = vmm::mshv::abi::xsave_features;
namespace sf = vmm::mshv::abi::synthetic_features;

constexpr std::array<std::uint64_t, 2> everything{~0ULL, ~0ULL};
constexpr CpuidEntry hyperv_signature{
    .leaf = 0x40000000, .eax = 0x40000005, .ebx = 0x7263694d, .ecx = 0x666f736f, .edx = 0x76482074};

} // namespace

TEST_SUITE("vmm.mshv_features") {

    TEST_CASE("a fresh guest sees all but what cannot be migrated") {
        const auto chosen = choose_features({}, everything, std::nullopt);
        CHECK(chosen.disabled[0] == f0::reserved_bank0);
        CHECK(chosen.disabled[1] == (f1::nested_virt | f1::la57 | f1::tsc_deadline_tmr));
        CHECK((chosen.disabled_xsave & (xs::avx | xs::avx512f | xs::xsavec)) == 0);
        CHECK((chosen.disabled_xsave & xs::amx_tile) != 0);
        CHECK(chosen.synthetic == 0x06400ffb);
    }

    TEST_CASE("what the host lacks is hidden, and not offered") {
        const auto chosen = choose_features({}, {~f0::rd_rand, ~f1::tsc_adjust}, sf::hv1);
        CHECK((chosen.disabled[0] & f0::rd_rand) != 0);
        CHECK((chosen.disabled[1] & f1::tsc_adjust) != 0);
        CHECK(chosen.synthetic == sf::hv1);
    }

    TEST_CASE("what an arriving guest does not see is hidden from it") {
        const std::vector<CpuidEntry> guest{
            {.leaf = 1, .ecx = (1U << 0U) | (1U << 26U) | (1U << 28U)},
            {.leaf = 7, .subleaf_is_significant = true, .ebx = 1U << 1U}};
        const auto chosen = choose_features(guest, everything, std::nullopt);
        CHECK((chosen.disabled[0] & f0::sse3) == 0);
        CHECK((chosen.disabled[0] & f0::sse4_1) != 0);
        CHECK((chosen.disabled[1] & f1::tsc_adjust) == 0);
        CHECK((chosen.disabled[1] & f1::cet_ss) != 0);
        CHECK((chosen.disabled_xsave & (xs::xsave | xs::avx)) == 0);
        CHECK((chosen.disabled_xsave & xs::avx2) != 0);
    }

    TEST_CASE("synthetic features are for guests that know the hypervisor") {
        const CpuidEntry leaf{.leaf = 1, .ecx = 1};
        CHECK(choose_features(std::vector{leaf}, everything, std::nullopt).synthetic == 0);
        CHECK(
            choose_features(std::vector{leaf, hyperv_signature}, everything, std::nullopt)
                .synthetic == 0x06400ffb);
    }

    TEST_CASE("the hypervisor's leaves are offered as it has them, the processor's as elsewhere") {
        const std::vector<CpuidEntry> answered{
            {.leaf = 0, .eax = 0x10, .ebx = 0x756e6547},
            {.leaf = 1, .ebx = 0x03040800, .ecx = (1U << 24U) | (1U << 5U) | 1U},
            {.leaf = 0xf, .eax = 1},
            hyperv_signature,
            {.leaf = 0x40000001, .eax = 0x31237648},
            {.leaf = 0x80000000, .eax = 0x80000008}};
        const auto offered =
            vmm::mshv::offered_cpuid(answered, {.tsc = 2'000'000, .apic_timer = 200'000});
        const auto find = [&](std::uint32_t leaf) {
            const auto found = std::ranges::find(offered, leaf, &CpuidEntry::leaf);
            return found == offered.end() ? std::nullopt : std::optional{*found};
        };
        auto signature = hyperv_signature;
        signature.eax = 0x40000010;
        CHECK(find(0x40000000) == signature);
        REQUIRE(find(0x40000001));
        CHECK(find(0x40000001)->eax == 0x31237648);
        REQUIRE(find(0x40000010));
        CHECK(find(0x40000010)->eax == 2'000'000);
        CHECK(find(0x40000010)->ebx == 200'000);
        CHECK_FALSE(find(0xf));
        REQUIRE(find(1));
        CHECK(find(1)->ecx == ((1U << 31U) | 1U)); // no VMX, no TSC-deadline timer
        CHECK(find(1)->ebx == 0x0800);
    }
}
