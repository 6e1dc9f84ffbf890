// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/cpu_profile.hpp"
#include "vmm/mshv/abi/processor_features.hpp"

#include <array>
#include <cstdint>

/// Which CPUID bit (SDM vol. 2, CPUID; APM vol. 3, appendix E) tells a guest of which feature bit.
namespace wherry::vmm::mshv {

struct FeatureBit {
    std::uint64_t feature; ///< one bit
    FeatureWord word;
    unsigned bit;
};

inline constexpr auto features0_bits = std::to_array<FeatureBit>({
    {abi::features0::sse3, {0x1, 0, CpuidRegister::ecx}, 0},
    {abi::features0::ssse3, {0x1, 0, CpuidRegister::ecx}, 9},
    {abi::features0::sse4_1, {0x1, 0, CpuidRegister::ecx}, 19},
    {abi::features0::sse4_2, {0x1, 0, CpuidRegister::ecx}, 20},
    {abi::features0::pop_cnt, {0x1, 0, CpuidRegister::ecx}, 23},
    {abi::features0::cmpxchg16b, {0x1, 0, CpuidRegister::ecx}, 13},
    {abi::features0::aes, {0x1, 0, CpuidRegister::ecx}, 25},
    {abi::features0::pclmulqdq, {0x1, 0, CpuidRegister::ecx}, 1},
    {abi::features0::pcid, {0x1, 0, CpuidRegister::ecx}, 17},
    {abi::features0::f16c, {0x1, 0, CpuidRegister::ecx}, 29},
    {abi::features0::rd_rand, {0x1, 0, CpuidRegister::ecx}, 30},
    {abi::features0::movbe, {0x1, 0, CpuidRegister::ecx}, 22},
    {abi::features0::lahf_sahf, {0x80000001, 0, CpuidRegister::ecx}, 0},
    {abi::features0::altmovcr8, {0x80000001, 0, CpuidRegister::ecx}, 4},
    {abi::features0::lzcnt, {0x80000001, 0, CpuidRegister::ecx}, 5},
    {abi::features0::sse4a, {0x80000001, 0, CpuidRegister::ecx}, 6},
    {abi::features0::mis_align_sse, {0x80000001, 0, CpuidRegister::ecx}, 7},
    {abi::features0::intel_prefetch, {0x80000001, 0, CpuidRegister::ecx}, 8},
    {abi::features0::xop, {0x80000001, 0, CpuidRegister::ecx}, 11},
    {abi::features0::fma4, {0x80000001, 0, CpuidRegister::ecx}, 16},
    {abi::features0::mmx_ext, {0x80000001, 0, CpuidRegister::edx}, 22},
    {abi::features0::page_1gb, {0x80000001, 0, CpuidRegister::edx}, 26},
    {abi::features0::rdtscp, {0x80000001, 0, CpuidRegister::edx}, 27},
    {abi::features0::extended_amd3dnow, {0x80000001, 0, CpuidRegister::edx}, 30},
    {abi::features0::amd3dnow, {0x80000001, 0, CpuidRegister::edx}, 31},
    {abi::features0::rd_wr_fs_gs, {0x7, 0, CpuidRegister::ebx}, 0},
    {abi::features0::bmi1, {0x7, 0, CpuidRegister::ebx}, 3},
    {abi::features0::hle, {0x7, 0, CpuidRegister::ebx}, 4},
    {abi::features0::smep, {0x7, 0, CpuidRegister::ebx}, 7},
    {abi::features0::bmi2, {0x7, 0, CpuidRegister::ebx}, 8},
    {abi::features0::enhanced_fast_string, {0x7, 0, CpuidRegister::ebx}, 9},
    {abi::features0::invpcid, {0x7, 0, CpuidRegister::ebx}, 10},
    {abi::features0::rtm, {0x7, 0, CpuidRegister::ebx}, 11},
    {abi::features0::rd_seed, {0x7, 0, CpuidRegister::ebx}, 18},
    {abi::features0::adx, {0x7, 0, CpuidRegister::ebx}, 19},
    {abi::features0::smap, {0x7, 0, CpuidRegister::ebx}, 20},
    {abi::features0::clflushopt, {0x7, 0, CpuidRegister::ebx}, 23},
    {abi::features0::clwb, {0x7, 0, CpuidRegister::ebx}, 24},
    {abi::features0::sha, {0x7, 0, CpuidRegister::ebx}, 29},
    {abi::features0::umip, {0x7, 0, CpuidRegister::ecx}, 2},
    {abi::features0::rd_pid, {0x7, 0, CpuidRegister::ecx}, 22},
    {abi::features0::fast_short_rep_mov, {0x7, 0, CpuidRegister::edx}, 4},
    {abi::features0::mb_clear, {0x7, 0, CpuidRegister::edx}, 10},
    {abi::features0::l1dcache_flush, {0x7, 0, CpuidRegister::edx}, 28},
});

inline constexpr auto features1_bits = std::to_array<FeatureBit>({
    {abi::features1::tsc_adjust, {0x7, 0, CpuidRegister::ebx}, 1},
    {abi::features1::umwait_tpause, {0x7, 0, CpuidRegister::ecx}, 5},
    {abi::features1::cet_ss, {0x7, 0, CpuidRegister::ecx}, 7},
    {abi::features1::la57, {0x7, 0, CpuidRegister::ecx}, 16},
    {abi::features1::cldemote, {0x7, 0, CpuidRegister::ecx}, 25},
    {abi::features1::movdiri, {0x7, 0, CpuidRegister::ecx}, 27},
    {abi::features1::movdir64b, {0x7, 0, CpuidRegister::ecx}, 28},
    {abi::features1::enqcmd, {0x7, 0, CpuidRegister::ecx}, 29},
    {abi::features1::serialize, {0x7, 0, CpuidRegister::edx}, 14},
    {abi::features1::tsx_ld_trk, {0x7, 0, CpuidRegister::edx}, 16},
    {abi::features1::cet_ibt, {0x7, 0, CpuidRegister::edx}, 20},
    {abi::features1::sha512, {0x7, 1, CpuidRegister::eax}, 0},
    {abi::features1::sm3, {0x7, 1, CpuidRegister::eax}, 1},
    {abi::features1::sm4, {0x7, 1, CpuidRegister::eax}, 2},
    {abi::features1::cmpccxadd, {0x7, 1, CpuidRegister::eax}, 7},
    {abi::features1::fzl_rep_movsb, {0x7, 1, CpuidRegister::eax}, 10},
    {abi::features1::fs_rep_stosb, {0x7, 1, CpuidRegister::eax}, 11},
    {abi::features1::fs_rep_cmpsb, {0x7, 1, CpuidRegister::eax}, 12},
    {abi::features1::prefetch_i, {0x7, 1, CpuidRegister::edx}, 14},
    {abi::features1::tsc_invariant, {0x80000007, 0, CpuidRegister::edx}, 8},
    {abi::features1::cl_zero, {0x80000008, 0, CpuidRegister::ebx}, 0},
    {abi::features1::rdpru, {0x80000008, 0, CpuidRegister::ebx}, 4},
});

inline constexpr auto xsave_features_bits = std::to_array<FeatureBit>({
    {abi::xsave_features::xsave, {0x1, 0, CpuidRegister::ecx}, 26},
    {abi::xsave_features::xsaveopt, {0xd, 1, CpuidRegister::eax}, 0},
    {abi::xsave_features::xsavec, {0xd, 1, CpuidRegister::eax}, 1},
    {abi::xsave_features::xsaves, {0xd, 1, CpuidRegister::eax}, 3},
    {abi::xsave_features::avx, {0x1, 0, CpuidRegister::ecx}, 28},
    {abi::xsave_features::fma, {0x1, 0, CpuidRegister::ecx}, 12},
    {abi::xsave_features::avx2, {0x7, 0, CpuidRegister::ebx}, 5},
    {abi::xsave_features::avx512f, {0x7, 0, CpuidRegister::ebx}, 16},
    {abi::xsave_features::avx512dq, {0x7, 0, CpuidRegister::ebx}, 17},
    {abi::xsave_features::avx512_ifma, {0x7, 0, CpuidRegister::ebx}, 21},
    {abi::xsave_features::avx512cd, {0x7, 0, CpuidRegister::ebx}, 28},
    {abi::xsave_features::avx512bw, {0x7, 0, CpuidRegister::ebx}, 30},
    {abi::xsave_features::avx512vl, {0x7, 0, CpuidRegister::ebx}, 31},
    {abi::xsave_features::avx512_vbmi, {0x7, 0, CpuidRegister::ecx}, 1},
    {abi::xsave_features::avx512_vbmi2, {0x7, 0, CpuidRegister::ecx}, 6},
    {abi::xsave_features::gfni, {0x7, 0, CpuidRegister::ecx}, 8},
    {abi::xsave_features::vaes, {0x7, 0, CpuidRegister::ecx}, 9},
    {abi::xsave_features::vpclmulqdq, {0x7, 0, CpuidRegister::ecx}, 10},
    {abi::xsave_features::avx512_vnni, {0x7, 0, CpuidRegister::ecx}, 11},
    {abi::xsave_features::avx512_bitalg, {0x7, 0, CpuidRegister::ecx}, 12},
    {abi::xsave_features::avx512_vpopcntdq, {0x7, 0, CpuidRegister::ecx}, 14},
    {abi::xsave_features::avx512_vp2intersect, {0x7, 0, CpuidRegister::edx}, 8},
    {abi::xsave_features::avx512_fp16, {0x7, 0, CpuidRegister::edx}, 23},
    {abi::xsave_features::avx_vnni, {0x7, 1, CpuidRegister::eax}, 4},
    {abi::xsave_features::avx512_bf16, {0x7, 1, CpuidRegister::eax}, 5},
    {abi::xsave_features::avx_ifma, {0x7, 1, CpuidRegister::eax}, 23},
    {abi::xsave_features::avx_vnni_int8, {0x7, 1, CpuidRegister::edx}, 4},
    {abi::xsave_features::avx_ne_convert, {0x7, 1, CpuidRegister::edx}, 5},
    {abi::xsave_features::avx_vnni_int16, {0x7, 1, CpuidRegister::edx}, 10},
});

} // namespace wherry::vmm::mshv
