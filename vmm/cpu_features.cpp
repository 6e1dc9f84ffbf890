// SPDX-License-Identifier: Apache-2.0
// Names of CPUID feature bits: Intel SDM vol. 2A (CPUID), AMD APM vol. 3 appendix E, Linux
// Documentation/virt/kvm/x86/cpuid.rst.
#include "vmm/cpu_profile.hpp"

#include <algorithm>
#include <array>
#include <string_view>

#include <fmt/format.h>

namespace wherry::vmm {
namespace {

using Names = std::array<std::string_view, 32>;

struct NamedWord {
    FeatureWord word;
    Names names; // from bit 0
};

constexpr CpuidRegister eax = CpuidRegister::eax;
constexpr CpuidRegister ebx = CpuidRegister::ebx;
constexpr CpuidRegister ecx = CpuidRegister::ecx;
constexpr CpuidRegister edx = CpuidRegister::edx;

// clang-format off
constexpr std::array<NamedWord, 14> words{{
    {{1, 0, ecx},
     {"sse3", "pclmulqdq", "dtes64", "monitor", "ds_cpl", "vmx", "smx", "est",
      "tm2", "ssse3", "cnxt_id", "sdbg", "fma", "cx16", "xtpr", "pdcm",
      "", "pcid", "dca", "sse4_1", "sse4_2", "x2apic", "movbe", "popcnt",
      "tsc_deadline_timer", "aes", "xsave", "osxsave", "avx", "f16c", "rdrand", "hypervisor"}},
    {{1, 0, edx},
     {"fpu", "vme", "de", "pse", "tsc", "msr", "pae", "mce",
      "cx8", "apic", "", "sep", "mtrr", "pge", "mca", "cmov",
      "pat", "pse36", "pn", "clflush", "", "dts", "acpi", "mmx",
      "fxsr", "sse", "sse2", "ss", "ht", "tm", "ia64", "pbe"}},
    {{7, 0, ebx},
     {"fsgsbase", "tsc_adjust", "sgx", "bmi1", "hle", "avx2", "fdp_excptn_only", "smep",
      "bmi2", "erms", "invpcid", "rtm", "cqm", "zero_fcs_fds", "mpx", "rdt_a",
      "avx512f", "avx512dq", "rdseed", "adx", "smap", "avx512ifma", "", "clflushopt",
      "clwb", "intel_pt", "avx512pf", "avx512er", "avx512cd", "sha_ni", "avx512bw", "avx512vl"}},
    {{7, 0, ecx},
     {"prefetchwt1", "avx512vbmi", "umip", "pku", "ospke", "waitpkg", "avx512_vbmi2", "shstk",
      "gfni", "vaes", "vpclmulqdq", "avx512_vnni", "avx512_bitalg", "tme", "avx512_vpopcntdq", "",
      "la57", "", "", "", "", "", "rdpid", "key_locker",
      "bus_lock_detect", "cldemote", "", "movdiri", "movdir64b", "enqcmd", "sgx_lc", "pks"}},
    {{7, 0, edx},
     {"", "", "avx512_4vnniw", "avx512_4fmaps", "fsrm", "uintr", "", "",
      "avx512_vp2intersect", "srbds_ctrl", "md_clear", "", "", "", "serialize", "hybrid_cpu",
      "tsxldtrk", "", "pconfig", "arch_lbr", "ibt", "", "amx_bf16", "avx512_fp16",
      "amx_tile", "amx_int8", "spec_ctrl", "stibp", "flush_l1d", "arch_capabilities",
      "core_capabilities", "spec_ctrl_ssbd"}},
    {{7, 1, eax},
     {"sha512", "sm3", "sm4", "rao_int", "avx_vnni", "avx512_bf16", "lass", "cmpccxadd",
      "arch_perfmon_ext", "", "fzrm", "fsrs", "fsrc", "", "", "",
      "", "fred", "lkgs", "wrmsrns", "nmi_src", "amx_fp16", "hreset", "avx_ifma",
      "", "", "lam", "msrlist", "", "", "", ""}},
    {{7, 1, edx},
     {"", "", "", "", "avx_vnni_int8", "avx_ne_convert", "", "",
      "amx_complex", "", "avx_vnni_int16", "", "", "", "prefetchiti", "",
      "", "", "cet_sss", "avx10", "", "", "", "", "", "", "", "", "", "", "", ""}},
    {{7, 2, edx},
     {"psfd", "ipred_ctrl", "rrsba_ctrl", "ddpd_u", "bhi_ctrl", "mcdt_no"}},
    {{0xd, 1, eax},
     {"xsaveopt", "xsavec", "xgetbv1", "xsaves", "xfd"}},
    {{0x80000001, 0, ecx},
     {"lahf_lm", "cmp_legacy", "svm", "extapic", "cr8_legacy", "abm", "sse4a", "misalignsse",
      "3dnowprefetch", "osvw", "ibs", "xop", "skinit", "wdt", "", "lwp",
      "fma4", "tce", "", "nodeid_msr", "", "tbm", "topoext", "perfctr_core",
      "perfctr_nb", "", "bpext", "ptsc", "perfctr_llc", "mwaitx", "", ""}},
    {{0x80000001, 0, edx},
     {"", "", "", "", "", "", "", "", "", "", "", "syscall", "", "", "", "",
      "", "", "", "mp", "nx", "", "mmxext", "", "", "fxsr_opt", "pdpe1gb", "rdtscp",
      "", "lm", "3dnowext", "3dnow"}},
    {{0x80000007, 0, edx},
     {"", "", "", "", "", "", "", "", "constant_tsc"}},
    {{0x80000008, 0, ebx},
     {"clzero", "irperf", "xsaveerptr", "", "rdpru", "", "", "",
      "", "wbnoinvd", "", "", "ibpb", "", "ibrs", "amd_stibp",
      "", "stibp_always_on", "", "ibrs_same_mode", "", "", "", "amd_ppin",
      "amd_ssbd", "virt_ssbd", "ssb_no", "cppc", "amd_psfd", "btc_no", "ibpb_ret", "brs"}},
    {{0x40000001, 0, eax},
     {"kvm_clock_old", "kvm_nop_io_delay", "kvm_mmu_op", "kvm_clock", "kvm_async_pf",
      "kvm_steal_time", "kvm_pv_eoi", "kvm_pv_unhalt", "", "kvm_pv_tlb_flush",
      "kvm_async_pf_vmexit", "kvm_pv_send_ipi", "kvm_poll_control", "kvm_pv_sched_yield",
      "kvm_async_pf_int", "kvm_msi_ext_dest_id", "kvm_map_gpa_range", "kvm_migration_control",
      "", "", "", "", "", "", "kvm_clock_stable", "", "", "", "", "", "", ""}},
}};
// clang-format on

constexpr auto feature_word_table = [] {
    std::array<FeatureWord, words.size()> table{};
    std::ranges::transform(words, table.begin(), &NamedWord::word);
    return table;
}();

std::string_view register_name(CpuidRegister reg) {
    switch (reg) {
    case eax:
        return "eax";
    case ebx:
        return "ebx";
    case ecx:
        return "ecx";
    case edx:
        return "edx";
    }
    return "";
}

} // namespace

std::span<const FeatureWord> feature_words() noexcept {
    return feature_word_table;
}

std::string feature_name(const FeatureWord& word, unsigned bit) {
    const auto named = std::ranges::find(words, word, &NamedWord::word);
    if (named != words.end() && bit < 32 && !named->names[bit].empty()) {
        return std::string{named->names[bit]};
    }
    return fmt::format(
        "CPUID {:#x}.{} {} bit {}", word.leaf, word.subleaf, register_name(word.reg), bit);
}

} // namespace wherry::vmm
