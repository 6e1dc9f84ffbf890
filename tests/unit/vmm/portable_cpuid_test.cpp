// SPDX-License-Identifier: Apache-2.0
#include "vmm/cpu_profile.hpp"
#include "vmm/kvm/cpuid.hpp"
#include "vmm/mshv/cpuid.hpp"
#include "vmm/mshv/feature_bits.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include <doctest/doctest.h>

namespace {

using namespace wherry;
using vmm::CpuidEntry;
using vmm::CpuProfile;
using vmm::find_cpuid;
using vmm::portable_cpuid;

constexpr std::uint32_t all = ~0U;
constexpr CpuidEntry hyperv_signature{
    .leaf = 0x40000000, .eax = 0x40000005, .ebx = 0x7263694d, .ecx = 0x666f736f, .edx = 0x76482074};
constexpr CpuidEntry kvm_signature{
    .leaf = 0x40000000, .eax = 0x40000001, .ebx = 0x4b4d564b, .ecx = 0x564b4d56, .edx = 0x4d};
constexpr std::uint32_t tsc_khz = 2'500'000;
constexpr std::uint32_t apic_khz = 1'000'000;

/// A processor that has everything, described by nobody's hypervisor.
std::vector<CpuidEntry> everything() {
    std::vector<CpuidEntry> cpuid{
        {.leaf = 0, .eax = 0x1f, .ebx = 0x756e6547, .ecx = 0x6c65746e, .edx = 0x49656e69},
        {.leaf = 0x80000000, .eax = 0x80000026}};
    for (const std::uint32_t leaf :
         {0x1U,
          0x5U,
          0x6U,
          0xaU,
          0x12U,
          0x14U,
          0x15U,
          0x16U,
          0x19U,
          0x80000001U,
          0x80000007U,
          0x80000008U,
          0x8000000aU,
          0x8000001dU,
          0x80000021U}) {
        cpuid.push_back({.leaf = leaf, .eax = all, .ebx = all, .ecx = all, .edx = all});
    }
    for (const std::uint32_t subleaf : {0U, 1U, 2U}) {
        cpuid.push_back(
            {.leaf = 7,
             .subleaf = subleaf,
             .subleaf_is_significant = true,
             .eax = all,
             .ebx = all,
             .ecx = all,
             .edx = all});
    }
    const auto add = [&cpuid](std::uint32_t subleaf, std::uint32_t eax, std::uint32_t ebx) {
        cpuid.push_back(
            {.leaf = 0xd,
             .subleaf = subleaf,
             .subleaf_is_significant = true,
             .eax = eax,
             .ebx = ebx,
             .ecx = subleaf == 0 ? 11008U : 0U});
    };
    add(0, 0x602e7, 11008);
    add(1, 0x1f, 0);
    add(2, 256, 576);
    add(5, 64, 1088);
    add(6, 512, 1152);
    add(7, 1024, 1664);
    add(9, 8, 2688);
    add(18, 8192, 2816);
    return cpuid;
}

std::vector<CpuidEntry> with(std::vector<CpuidEntry> cpuid, const CpuidEntry& entry) {
    cpuid.push_back(entry);
    return cpuid;
}

std::vector<CpuidEntry> offer_of_kvm() {
    auto supported = with(everything(), kvm_signature);
    supported.push_back({.leaf = 0x40000001, .eax = 0x01003aeb});
    return vmm::kvm::offered_cpuid(
        std::move(supported), {.has_tsc_deadline_timer = true, .tsc_frequency_khz = tsc_khz});
}

std::vector<CpuidEntry> offer_of_mshv() {
    auto answered = with(everything(), hyperv_signature);
    answered.push_back({.leaf = 0x40000001, .eax = 0x31237648});
    answered.push_back({.leaf = 0x40000003, .eax = 0x842});
    return vmm::mshv::offered_cpuid(answered, {.tsc = tsc_khz, .apic_timer = apic_khz});
}

/// Names of all feature bits in it.
std::vector<std::string> features_of(const std::vector<CpuidEntry>& cpuid) {
    std::vector<std::string> names;
    for (const auto& word : vmm::feature_words()) {
        for (unsigned bit = 0; bit < 32; ++bit) {
            if (((vmm::word_of(cpuid, word) >> bit) & 1U) != 0) {
                names.push_back(vmm::feature_name(word, bit));
            }
        }
    }
    return names;
}

bool has(const std::vector<std::string>& names, std::string_view name) {
    return std::ranges::find(names, name) != names.end();
}

bool has_bit_of_mshv(const vmm::FeatureWord& word, unsigned bit) {
    const auto is_it = [&](const vmm::mshv::FeatureBit& one) {
        return one.word == word && one.bit == bit;
    };
    return std::ranges::any_of(vmm::mshv::features0_bits, is_it) ||
           std::ranges::any_of(vmm::mshv::features1_bits, is_it) ||
           std::ranges::any_of(vmm::mshv::xsave_features_bits, is_it);
}

} // namespace

TEST_SUITE("vmm.portable_cpuid") {
    TEST_CASE("one processor looks the same on KVM and on the Microsoft hypervisor") {
        const auto on_kvm = portable_cpuid(offer_of_kvm());
        const auto on_mshv = portable_cpuid(offer_of_mshv());
        CHECK(on_kvm == on_mshv);
        CHECK(on_kvm.size() > 15);
    }

    TEST_CASE("there is a hypervisor, nobody's, and it tells the frequencies") {
        const auto cpuid = portable_cpuid(offer_of_kvm());
        CHECK(vmm::hypervisor_signature(cpuid) == "WherryWherry");
        CHECK(find_cpuid(cpuid, 0x40000000)->eax == 0x40000010);
        CHECK((find_cpuid(cpuid, 1)->ecx >> 31U) == 1);
        CHECK(vmm::timer_frequencies(cpuid).tsc == tsc_khz);
        CHECK(vmm::timer_frequencies(cpuid).apic_timer == apic_khz);
        const auto in_range =
            std::ranges::count_if(cpuid, [](const auto& entry) { return entry.leaf >> 28U == 4; });
        CHECK(in_range == 2);
    }

    TEST_CASE("what a backend cannot carry is not there") {
        const auto names = features_of(portable_cpuid(everything()));
        for (const char* name :
             {"mce",
              "mca",
              "tsc_deadline_timer",
              "monitor",
              "vmx",
              "svm",
              "pku",
              "ospke",
              "shstk",
              "ibt",
              "hle",
              "rtm",
              "la57",
              "arch_capabilities",
              "virt_ssbd",
              "osvw",
              "topoext",
              "perfctr_core",
              "amx_tile",
              "xfd",
              "mpx",
              "intel_pt",
              "waitpkg",
              "kvm_clock",
              "kvm_steal_time",
              "kvm_pv_eoi",
              "kvm_async_pf"}) {
            CHECK_MESSAGE(!has(names, name), name);
        }
    }

    TEST_CASE("what both carry is there") {
        const auto names = features_of(portable_cpuid(everything()));
        for (const char* name :
             {"fpu",        "apic",         "x2apic",     "mtrr",   "pat",       "nx",
              "syscall",    "rdtscp",       "pcid",       "xsave",  "avx",       "avx2",
              "avx512f",    "aes",          "smep",       "smap",   "spec_ctrl", "ibpb",
              "tsc_adjust", "constant_tsc", "hypervisor", "xsaves", "gfni",      "lm"}) {
            CHECK_MESSAGE(has(names, name), name);
        }
    }

    TEST_CASE(
        "each feature beyond the first x86-64's is one the Microsoft hypervisor has a bit for") {
        // x2APIC is a flag of the partition; speculation control is several bits for one of
        // CPUID's.
        const std::vector<std::string> others{
            "x2apic",
            "hypervisor",
            "xgetbv1",
            "cmp_legacy",
            "spec_ctrl",
            "stibp",
            "spec_ctrl_ssbd",
            "ibpb",
            "ibrs",
            "amd_stibp",
            "amd_ssbd"};
        const auto cpuid = portable_cpuid(everything());
        for (const auto& word : vmm::feature_words()) {
            const bool is_basic =
                word.reg == vmm::CpuidRegister::edx && (word.leaf == 1 || word.leaf == 0x80000001);
            for (unsigned bit = 0; bit < 32 && !is_basic; ++bit) {
                const bool is_kept = ((vmm::word_of(cpuid, word) >> bit) & 1U) != 0;
                const auto name = vmm::feature_name(word, bit);
                if (is_kept && !has(others, name)) {
                    CHECK_MESSAGE(has_bit_of_mshv(word, bit), name);
                }
            }
        }
    }

    TEST_CASE("of what is portable already nothing goes") {
        const auto once = portable_cpuid(offer_of_kvm());
        CHECK(portable_cpuid(once) == once);
        CHECK(vmm::kvm::offered_cpuid(once, {.tsc_frequency_khz = tsc_khz}) == once);
    }

    TEST_CASE("the XSAVE area is that of AVX and AVX-512") {
        const auto cpuid = portable_cpuid(everything());
        CHECK(find_cpuid(cpuid, 0xd, 0)->eax == 0xe7);
        CHECK(find_cpuid(cpuid, 0xd, 0)->ecx == 2688);
        CHECK(find_cpuid(cpuid, 0xd, 7));
        CHECK_FALSE(find_cpuid(cpuid, 0xd, 9));
        CHECK_FALSE(find_cpuid(cpuid, 0xd, 18));
    }

    TEST_CASE("without XSAVE goes what the Microsoft hypervisor ties to it") {
        auto bare = everything();
        for (auto& entry : bare) {
            entry.ecx &= entry.leaf == 1 ? ~(1U << 26U) : all;
        }
        const auto cpuid = portable_cpuid(bare);
        const auto names = features_of(cpuid);
        for (const auto& tied : vmm::mshv::xsave_features_bits) {
            const auto name = vmm::feature_name(tied.word, tied.bit);
            CHECK_MESSAGE(!has(names, name), name);
        }
        CHECK(has(names, "aes"));
        CHECK_FALSE(find_cpuid(cpuid, 0xd, 0));
    }

    TEST_CASE("CPUID tells the profile that it was made with") {
        CHECK(vmm::profile_of(offer_of_kvm()) == CpuProfile::host);
        CHECK(vmm::profile_of(offer_of_mshv()) == CpuProfile::host);
        CHECK(vmm::profile_of({}) == CpuProfile::host);
        CHECK(vmm::profile_of(portable_cpuid(offer_of_mshv())) == CpuProfile::portable);
    }

    TEST_CASE("profiles have names, and others are refused with the choice") {
        for (const auto profile : {CpuProfile::host, CpuProfile::portable}) {
            CHECK(vmm::cpu_profile_from(vmm::name_of(profile)) == profile);
        }
        const auto refused = vmm::cpu_profile_from("qemu64");
        REQUIRE_FALSE(refused);
        CHECK(refused.error().text().find("choose host or portable") != std::string::npos);
    }

    TEST_CASE("a portable guest can live on both, a guest of one kind is told how it could") {
        const vmm::BackendCapabilities kvm{.name = "kvm", .max_vcpus = 8, .cpuid = offer_of_kvm()};
        const vmm::BackendCapabilities mshv{
            .name = "mshv", .max_vcpus = 8, .cpuid = offer_of_mshv()};
        for (const auto* const from : {&kvm, &mshv}) {
            const auto guest = portable_cpuid(from->cpuid);
            CHECK(vmm::missing_cpu_features(guest, kvm).empty());
            CHECK(vmm::missing_cpu_features(guest, mshv).empty());
            const auto& other = from == &kvm ? mshv : kvm;
            const auto reasons = vmm::missing_cpu_features(from->cpuid, other);
            REQUIRE(reasons.size() == 1);
            CHECK(reasons[0].find("must be started with `--cpu portable`") != std::string::npos);
        }
    }

    TEST_CASE("what the remedy would not cure is said beside it") {
        auto poor = offer_of_mshv();
        for (auto& entry : poor) {
            entry.ecx &= entry.leaf == 1 ? ~(1U << 25U) : all;
        }
        const auto reasons = vmm::missing_cpu_features(
            offer_of_kvm(), vmm::BackendCapabilities{.name = "mshv", .cpuid = poor});
        REQUIRE(reasons.size() == 2);
        CHECK(reasons[1] == "the guest sees aes, which this host lacks");
    }

    TEST_CASE("an interpreter is no remedy's end") {
        auto soft = offer_of_kvm();
        std::erase_if(soft, [](const auto& entry) { return entry.leaf == 0x40000000; });
        soft.push_back(
            {.leaf = 0x40000000, .ebx = 0x72656857, .ecx = 0x6f537972, .edx = 0x00007466});
        const auto reasons = vmm::missing_cpu_features(
            offer_of_kvm(), vmm::BackendCapabilities{.name = "soft", .cpuid = soft});
        REQUIRE(reasons.size() == 1);
        CHECK(reasons[0] == "the guest sees the hypervisor KVMKVMKVM, this is WherrySoft");
    }

    TEST_CASE("a timer of another frequency is refused: the guest measured it once") {
        const auto guest = portable_cpuid(offer_of_kvm());
        vmm::BackendCapabilities host{.name = "mshv", .cpuid = offer_of_mshv()};
        for (auto& entry : host.cpuid) {
            entry.ebx = entry.leaf == 0x40000010 ? 200'000 : entry.ebx;
        }
        const auto reasons = vmm::missing_cpu_features(guest, host);
        REQUIRE(reasons.size() == 1);
        CHECK(
            reasons[0] == "the guest's APIC timer runs at 1000000 kHz, this host's at 200000 kHz");
    }
}
