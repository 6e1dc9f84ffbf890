// SPDX-License-Identifier: Apache-2.0
#include "vmm/cpu_profile.hpp"

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include <doctest/doctest.h>

namespace {

using namespace wherry;
using vmm::BackendCapabilities;
using vmm::CpuidEntry;
using Sentences = std::vector<std::string>;

CpuidEntry& entry(std::vector<CpuidEntry>& cpuid, std::uint32_t leaf, std::uint32_t subleaf = 0) {
    const auto found = std::ranges::find_if(
        cpuid, [=](const CpuidEntry& one) { return one.leaf == leaf && one.subleaf == subleaf; });
    REQUIRE(found != cpuid.end());
    return *found;
}

/// A processor with AVX and AVX-512, a TSC of 2 GHz, under KVM.
BackendCapabilities a_host() {
    BackendCapabilities host;
    host.name = "kvm";
    host.max_vcpus = 8;
    host.tsc_frequency_khz = 2'000'000;
    host.cpuid = {
        {.leaf = 0, .eax = 0x1f, .ebx = 0x756e6547, .ecx = 0x6c65746e, .edx = 0x49656e69},
        {.leaf = 1, .ecx = (1U << 31U) | (1U << 28U) | (1U << 26U), .edx = 0x078bfbff},
        {.leaf = 7, .subleaf_is_significant = true, .ebx = 1U << 16U},
        {.leaf = 0xd, .subleaf_is_significant = true, .eax = 0xe7, .ecx = 0xa88},
        {.leaf = 0xd, .subleaf = 2, .subleaf_is_significant = true, .eax = 256, .ebx = 576},
        {.leaf = 0xd, .subleaf = 5, .subleaf_is_significant = true, .eax = 64, .ebx = 1088},
        {.leaf = 0xd, .subleaf = 6, .subleaf_is_significant = true, .eax = 512, .ebx = 1152},
        {.leaf = 0xd, .subleaf = 7, .subleaf_is_significant = true, .eax = 1024, .ebx = 1664},
        {.leaf = 0x40000000, .eax = 0x40000010, .ebx = 0x4b4d564b, .ecx = 0x564b4d56, .edx = 0x4d},
        {.leaf = 0x40000001, .eax = 1U << 3U},
        {.leaf = 0x40000010, .eax = 2'000'000},
        {.leaf = 0x80000008, .eax = 0x3030},
    };
    return host;
}

} // namespace

TEST_SUITE("vmm.cpu_profile") {
    TEST_CASE("a guest can live where it came from") {
        const auto host = a_host();
        CHECK(vmm::missing_cpu_features(host.cpuid, host).empty());
    }

    TEST_CASE("a host with more than the guest sees is fine") {
        const auto guest = a_host().cpuid;
        auto host = a_host();
        entry(host.cpuid, 7).ebx |= 1U << 18U;
        entry(host.cpuid, 0x80000008).eax = 0x3934;
        CHECK(vmm::missing_cpu_features(guest, host).empty());
    }

    TEST_CASE("a missing feature is named") {
        const auto guest = a_host().cpuid;
        auto host = a_host();
        entry(host.cpuid, 7).ebx = 0;
        CHECK(
            vmm::missing_cpu_features(guest, host) ==
            Sentences{"the guest sees avx512f, which this host lacks"});
        entry(host.cpuid, 1).ecx &= ~(1U << 28U);
        CHECK(
            vmm::missing_cpu_features(guest, host) ==
            Sentences{"the guest sees avx, avx512f, which this host lacks"});
    }

    TEST_CASE("a feature leaf that the host does not have at all misses every bit") {
        auto guest = a_host().cpuid;
        guest.push_back({.leaf = 7, .subleaf = 2, .subleaf_is_significant = true, .edx = 0x20});
        CHECK(
            vmm::missing_cpu_features(guest, a_host()) ==
            Sentences{"the guest sees mcdt_no, which this host lacks"});
    }

    TEST_CASE("every single feature bit that is missing gives exactly one sentence") {
        for (const auto& word : vmm::feature_words()) {
            for (unsigned bit = 0; bit < 32; ++bit) {
                const std::uint32_t value = 1U << bit;
                CpuidEntry only{
                    .leaf = word.leaf,
                    .subleaf = word.subleaf,
                    .subleaf_is_significant = word.leaf == 7 || word.leaf == 0xd};
                (word.reg == vmm::CpuidRegister::eax   ? only.eax
                 : word.reg == vmm::CpuidRegister::ebx ? only.ebx
                 : word.reg == vmm::CpuidRegister::ecx ? only.ecx
                                                       : only.edx) = value;
                const auto name = vmm::feature_name(word, bit);
                const bool is_said_by_leaf_1 =
                    word.leaf == 0x80000001 && word.reg == vmm::CpuidRegister::edx &&
                    name.starts_with("CPUID") && bit != 10 && bit != 18 && bit != 21 && bit != 28;
                const bool is_passing =
                    name == "osxsave" || name == "ht" || name == "ospke" || is_said_by_leaf_1;
                const auto reasons = vmm::missing_cpu_features(std::vector{only}, {});
                REQUIRE(reasons.size() == (is_passing ? 0 : 1));
                if (!is_passing) {
                    CHECK(reasons[0] == "the guest sees " + name + ", which this host lacks");
                }
            }
        }
    }

    TEST_CASE("what AMD says twice is named once") {
        auto guest = a_host().cpuid;
        guest.push_back({.leaf = 0x80000001, .edx = 0x0183f3ff}); // as leaf 1 EDX has them
        CHECK(vmm::missing_cpu_features(guest, a_host()).empty());
        auto host = a_host();
        entry(host.cpuid, 1).edx &= ~1U;
        CHECK(
            vmm::missing_cpu_features(guest, host) ==
            Sentences{"the guest sees fpu, which this host lacks"});
    }

    TEST_CASE("names are unique, and nameless bits are told by their place") {
        std::vector<std::string> names;
        for (const auto& word : vmm::feature_words()) {
            for (unsigned bit = 0; bit < 32; ++bit) {
                names.push_back(vmm::feature_name(word, bit));
            }
        }
        std::ranges::sort(names);
        const auto twice = std::ranges::adjacent_find(names);
        CHECK_MESSAGE(twice == names.end(), (twice == names.end() ? "" : *twice));
        CHECK(vmm::feature_name({7, 0, vmm::CpuidRegister::ecx}, 15) == "CPUID 0x7.0 ecx bit 15");
    }

    TEST_CASE("an XSAVE component that is missing or lies elsewhere is named") {
        const auto guest = a_host().cpuid;
        auto host = a_host();
        entry(host.cpuid, 0xd).eax = 0x67;
        CHECK(
            vmm::missing_cpu_features(guest, host) ==
            Sentences{"the guest sees XSAVE component 7 (AVX-512 high registers), which this host "
                      "lacks"});
        host = a_host();
        entry(host.cpuid, 0xd, 5).ebx = 832;
        CHECK(
            vmm::missing_cpu_features(guest, host) ==
            Sentences{"XSAVE component 5 (AVX-512 masks) is 64 bytes at 1088 for the guest, "
                      "64 bytes at 832 here"});
    }

    TEST_CASE("another vendor, hypervisor or narrower addresses are named") {
        const auto guest = a_host().cpuid;
        auto host = a_host();
        entry(host.cpuid, 0) = {
            .leaf = 0, .eax = 0x10, .ebx = 0x68747541, .ecx = 0x444d4163, .edx = 0x69746e65};
        CHECK(
            vmm::missing_cpu_features(guest, host) ==
            Sentences{"the guest sees a processor by GenuineIntel, this is AuthenticAMD"});
        host = a_host();
        entry(host.cpuid, 0x40000000).ebx = 0x72656857; // "Wher"
        CHECK(vmm::missing_cpu_features(guest, host).size() == 1);
        host = a_host();
        entry(host.cpuid, 0x80000008).eax = 0x3027;
        CHECK(
            vmm::missing_cpu_features(guest, host) ==
            Sentences{"the guest sees 48 physical address bits, this host has 39"});
    }

    TEST_CASE("another TSC frequency is refused unless the host scales or it is within tolerance") {
        const auto guest = a_host().cpuid;
        auto host = a_host();
        host.tsc_frequency_khz = 2'400'000;
        CHECK(
            vmm::missing_cpu_features(guest, host) ==
            Sentences{"the guest's TSC runs at 2000000 kHz, this host's at 2400000 kHz, and it "
                      "cannot scale"});
        host.can_scale_tsc = true;
        CHECK(vmm::missing_cpu_features(guest, host).empty());
        host.can_scale_tsc = false;
        host.tsc_frequency_khz = 2'000'040;
        CHECK(vmm::missing_cpu_features(guest, host).empty());
    }

    TEST_CASE("more vCPUs than the host takes are refused") {
        const auto host = a_host();
        vmm::MachineConfig config{.vcpus = 8, .cpuid = host.cpuid};
        CHECK(vmm::missing_cpu_features(config, host).empty());
        config.vcpus = 9;
        CHECK(
            vmm::missing_cpu_features(config, host) ==
            Sentences{"the guest has 9 vCPUs, kvm on this host takes 8"});
    }

    TEST_CASE("Hyper-V's leaves are compared as Hyper-V's") {
        const CpuidEntry signature{
            .leaf = 0x40000000, .ebx = 0x7263694d, .ecx = 0x666f736f, .edx = 0x76482074};
        const CpuidEntry interface{.leaf = 0x40000001, .eax = 0x31237648}; // no KVM features
        CpuidEntry features{.leaf = 0x40000003, .eax = 0x2};
        const BackendCapabilities host{.name = "mshv", .cpuid = {signature, interface, features}};
        CHECK(missing_cpu_features(std::vector{signature, interface, features}, host).empty());
        features.eax |= 0x204;
        const auto reasons =
            missing_cpu_features(std::vector{signature, interface, features}, host);
        REQUIRE(reasons.size() == 1);
        CHECK(
            reasons[0] == "the guest sees Hyper-V features that this host lacks: CPUID "
                          "0x40000003.0 eax bit 2, and 1 more");
        const BackendCapabilities kvm{.name = "kvm", .cpuid = {}};
        const auto elsewhere = missing_cpu_features(std::vector{signature, interface}, kvm);
        REQUIRE(elsewhere.size() == 1);
        CHECK(
            elsewhere[0].starts_with("the guest sees the hypervisor Microsoft Hv, this is none: "));
    }
}
