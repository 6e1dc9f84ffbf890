// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

/// Feature bits: set in the properties processor_features0 and 1 and processor_xsave_features means
/// offered, set in CreatePartition means hidden.
namespace wherry::vmm::mshv::abi {

namespace features0 {
inline constexpr std::uint64_t sse3 = 1ULL << 0U;
inline constexpr std::uint64_t lahf_sahf = 1ULL << 1U;
inline constexpr std::uint64_t ssse3 = 1ULL << 2U;
inline constexpr std::uint64_t sse4_1 = 1ULL << 3U;
inline constexpr std::uint64_t sse4_2 = 1ULL << 4U;
inline constexpr std::uint64_t sse4a = 1ULL << 5U;
inline constexpr std::uint64_t xop = 1ULL << 6U;
inline constexpr std::uint64_t pop_cnt = 1ULL << 7U;
inline constexpr std::uint64_t cmpxchg16b = 1ULL << 8U;
inline constexpr std::uint64_t altmovcr8 = 1ULL << 9U;
inline constexpr std::uint64_t lzcnt = 1ULL << 10U;
inline constexpr std::uint64_t mis_align_sse = 1ULL << 11U;
inline constexpr std::uint64_t mmx_ext = 1ULL << 12U;
inline constexpr std::uint64_t amd3dnow = 1ULL << 13U;
inline constexpr std::uint64_t extended_amd3dnow = 1ULL << 14U;
inline constexpr std::uint64_t page_1gb = 1ULL << 15U;
inline constexpr std::uint64_t aes = 1ULL << 16U;
inline constexpr std::uint64_t pclmulqdq = 1ULL << 17U;
inline constexpr std::uint64_t pcid = 1ULL << 18U;
inline constexpr std::uint64_t fma4 = 1ULL << 19U;
inline constexpr std::uint64_t f16c = 1ULL << 20U;
inline constexpr std::uint64_t rd_rand = 1ULL << 21U;
inline constexpr std::uint64_t rd_wr_fs_gs = 1ULL << 22U;
inline constexpr std::uint64_t smep = 1ULL << 23U;
inline constexpr std::uint64_t enhanced_fast_string = 1ULL << 24U;
inline constexpr std::uint64_t bmi1 = 1ULL << 25U;
inline constexpr std::uint64_t bmi2 = 1ULL << 26U;
inline constexpr std::uint64_t hle_deprecated = 1ULL << 27U;
inline constexpr std::uint64_t rtm_deprecated = 1ULL << 28U;
inline constexpr std::uint64_t movbe = 1ULL << 29U;
inline constexpr std::uint64_t npiep1 = 1ULL << 30U;
inline constexpr std::uint64_t dep_x87_fpu_save = 1ULL << 31U;
inline constexpr std::uint64_t rd_seed = 1ULL << 32U;
inline constexpr std::uint64_t adx = 1ULL << 33U;
inline constexpr std::uint64_t intel_prefetch = 1ULL << 34U;
inline constexpr std::uint64_t smap = 1ULL << 35U;
inline constexpr std::uint64_t hle = 1ULL << 36U;
inline constexpr std::uint64_t rtm = 1ULL << 37U;
inline constexpr std::uint64_t rdtscp = 1ULL << 38U;
inline constexpr std::uint64_t clflushopt = 1ULL << 39U;
inline constexpr std::uint64_t clwb = 1ULL << 40U;
inline constexpr std::uint64_t sha = 1ULL << 41U;
inline constexpr std::uint64_t x87_pointers_saved = 1ULL << 42U;
inline constexpr std::uint64_t invpcid = 1ULL << 43U;
inline constexpr std::uint64_t ibrs = 1ULL << 44U;
inline constexpr std::uint64_t stibp = 1ULL << 45U;
inline constexpr std::uint64_t ibpb = 1ULL << 46U;
inline constexpr std::uint64_t unrestricted_guest = 1ULL << 47U;
inline constexpr std::uint64_t mdd = 1ULL << 48U;
inline constexpr std::uint64_t fast_short_rep_mov = 1ULL << 49U;
inline constexpr std::uint64_t l1dcache_flush = 1ULL << 50U;
inline constexpr std::uint64_t rdcl_no = 1ULL << 51U;
inline constexpr std::uint64_t ibrs_all = 1ULL << 52U;
inline constexpr std::uint64_t skip_l1df = 1ULL << 53U;
inline constexpr std::uint64_t ssb_no = 1ULL << 54U;
inline constexpr std::uint64_t rsb_a_no = 1ULL << 55U;
inline constexpr std::uint64_t virt_spec_ctrl = 1ULL << 56U;
inline constexpr std::uint64_t rd_pid = 1ULL << 57U;
inline constexpr std::uint64_t umip = 1ULL << 58U;
inline constexpr std::uint64_t mbs_no = 1ULL << 59U;
inline constexpr std::uint64_t mb_clear = 1ULL << 60U;
inline constexpr std::uint64_t taa_no = 1ULL << 61U;
inline constexpr std::uint64_t tsx_ctrl = 1ULL << 62U;
inline constexpr std::uint64_t reserved_bank0 = 1ULL << 63U;
} // namespace features0

namespace features1 {
inline constexpr std::uint64_t a_count_m_count = 1ULL << 0U;
inline constexpr std::uint64_t tsc_invariant = 1ULL << 1U;
inline constexpr std::uint64_t cl_zero = 1ULL << 2U;
inline constexpr std::uint64_t rdpru = 1ULL << 3U;
inline constexpr std::uint64_t la57 = 1ULL << 4U;
inline constexpr std::uint64_t mbec = 1ULL << 5U;
inline constexpr std::uint64_t nested_virt = 1ULL << 6U;
inline constexpr std::uint64_t psfd = 1ULL << 7U;
inline constexpr std::uint64_t cet_ss = 1ULL << 8U;
inline constexpr std::uint64_t cet_ibt = 1ULL << 9U;
inline constexpr std::uint64_t vmx_exception_inject = 1ULL << 10U;
inline constexpr std::uint64_t enqcmd = 1ULL << 11U;
inline constexpr std::uint64_t umwait_tpause = 1ULL << 12U;
inline constexpr std::uint64_t movdiri = 1ULL << 13U;
inline constexpr std::uint64_t movdir64b = 1ULL << 14U;
inline constexpr std::uint64_t cldemote = 1ULL << 15U;
inline constexpr std::uint64_t serialize = 1ULL << 16U;
inline constexpr std::uint64_t tsc_deadline_tmr = 1ULL << 17U;
inline constexpr std::uint64_t tsc_adjust = 1ULL << 18U;
inline constexpr std::uint64_t fzl_rep_movsb = 1ULL << 19U;
inline constexpr std::uint64_t fs_rep_stosb = 1ULL << 20U;
inline constexpr std::uint64_t fs_rep_cmpsb = 1ULL << 21U;
inline constexpr std::uint64_t tsx_ld_trk = 1ULL << 22U;
inline constexpr std::uint64_t vmx_ins_outs_exit_info = 1ULL << 23U;
inline constexpr std::uint64_t hlat = 1ULL << 24U;
inline constexpr std::uint64_t sbdr_ssdp_no = 1ULL << 25U;
inline constexpr std::uint64_t fbsdp_no = 1ULL << 26U;
inline constexpr std::uint64_t psdp_no = 1ULL << 27U;
inline constexpr std::uint64_t fb_clear = 1ULL << 28U;
inline constexpr std::uint64_t btc_no = 1ULL << 29U;
inline constexpr std::uint64_t ibpb_rsb_flush = 1ULL << 30U;
inline constexpr std::uint64_t stibp_always_on = 1ULL << 31U;
inline constexpr std::uint64_t perf_global_ctrl = 1ULL << 32U;
inline constexpr std::uint64_t npt_execute_only = 1ULL << 33U;
inline constexpr std::uint64_t npt_ad_flags = 1ULL << 34U;
inline constexpr std::uint64_t npt1_gb_page = 1ULL << 35U;
inline constexpr std::uint64_t amd_processor_topology_node_id = 1ULL << 36U;
inline constexpr std::uint64_t local_machine_check = 1ULL << 37U;
inline constexpr std::uint64_t extended_topology_leaf_fp256_amd = 1ULL << 38U;
inline constexpr std::uint64_t gds_no = 1ULL << 39U;
inline constexpr std::uint64_t cmpccxadd = 1ULL << 40U;
inline constexpr std::uint64_t tsc_aux_virtualization = 1ULL << 41U;
inline constexpr std::uint64_t rmp_query = 1ULL << 42U;
inline constexpr std::uint64_t bhi_no = 1ULL << 43U;
inline constexpr std::uint64_t bhi_dis = 1ULL << 44U;
inline constexpr std::uint64_t prefetch_i = 1ULL << 45U;
inline constexpr std::uint64_t sha512 = 1ULL << 46U;
inline constexpr std::uint64_t mitigation_ctrl = 1ULL << 47U;
inline constexpr std::uint64_t rfds_no = 1ULL << 48U;
inline constexpr std::uint64_t rfds_clear = 1ULL << 49U;
inline constexpr std::uint64_t sm3 = 1ULL << 50U;
inline constexpr std::uint64_t sm4 = 1ULL << 51U;
inline constexpr std::uint64_t secure_avic = 1ULL << 52U;
inline constexpr std::uint64_t guest_intercept_ctrl = 1ULL << 53U;
inline constexpr std::uint64_t sbpbed = 1ULL << 54U;
inline constexpr std::uint64_t ibpb_br_typeed = 1ULL << 55U;
inline constexpr std::uint64_t srso_noed = 1ULL << 56U;
inline constexpr std::uint64_t srso_user_kernel_noed = 1ULL << 57U;
inline constexpr std::uint64_t vrew_cleared = 1ULL << 58U;
inline constexpr std::uint64_t tsa_l1_noed = 1ULL << 59U;
inline constexpr std::uint64_t tsa_sq_noed = 1ULL << 60U;
inline constexpr std::uint64_t tsa_fill_noed = 1ULL << 63U;
} // namespace features1

namespace xsave_features {
inline constexpr std::uint64_t xsave = 1ULL << 0U;
inline constexpr std::uint64_t xsaveopt = 1ULL << 1U;
inline constexpr std::uint64_t avx = 1ULL << 2U;
inline constexpr std::uint64_t avx2 = 1ULL << 3U;
inline constexpr std::uint64_t fma = 1ULL << 4U;
inline constexpr std::uint64_t mpx = 1ULL << 5U;
inline constexpr std::uint64_t avx512f = 1ULL << 6U;
inline constexpr std::uint64_t avx512dq = 1ULL << 7U;
inline constexpr std::uint64_t avx512cd = 1ULL << 8U;
inline constexpr std::uint64_t avx512bw = 1ULL << 9U;
inline constexpr std::uint64_t avx512vl = 1ULL << 10U;
inline constexpr std::uint64_t xsavec = 1ULL << 11U;
inline constexpr std::uint64_t xsaves = 1ULL << 12U;
inline constexpr std::uint64_t xcr1 = 1ULL << 13U;
inline constexpr std::uint64_t avx512_bitalg = 1ULL << 14U;
inline constexpr std::uint64_t avx512_ifma = 1ULL << 15U;
inline constexpr std::uint64_t avx512_vbmi = 1ULL << 16U;
inline constexpr std::uint64_t avx512_vbmi2 = 1ULL << 17U;
inline constexpr std::uint64_t avx512_vnni = 1ULL << 18U;
inline constexpr std::uint64_t gfni = 1ULL << 19U;
inline constexpr std::uint64_t vaes = 1ULL << 20U;
inline constexpr std::uint64_t avx512_vpopcntdq = 1ULL << 21U;
inline constexpr std::uint64_t vpclmulqdq = 1ULL << 22U;
inline constexpr std::uint64_t avx512_bf16 = 1ULL << 23U;
inline constexpr std::uint64_t avx512_vp2intersect = 1ULL << 24U;
inline constexpr std::uint64_t avx512_fp16 = 1ULL << 25U;
inline constexpr std::uint64_t xfd = 1ULL << 26U;
inline constexpr std::uint64_t amx_tile = 1ULL << 27U;
inline constexpr std::uint64_t amx_bf16 = 1ULL << 28U;
inline constexpr std::uint64_t amx_int8 = 1ULL << 29U;
inline constexpr std::uint64_t avx_vnni = 1ULL << 30U;
inline constexpr std::uint64_t avx_ifma = 1ULL << 31U;
inline constexpr std::uint64_t avx_ne_convert = 1ULL << 32U;
inline constexpr std::uint64_t avx_vnni_int8 = 1ULL << 33U;
inline constexpr std::uint64_t avx_vnni_int16 = 1ULL << 34U;
inline constexpr std::uint64_t avx10_256 = 1ULL << 35U;
inline constexpr std::uint64_t avx10_512 = 1ULL << 36U;
inline constexpr std::uint64_t amx_fp16 = 1ULL << 37U;
inline constexpr std::uint64_t apx = 1ULL << 38U;
inline constexpr std::uint64_t apx_nci = 1ULL << 39U;
} // namespace xsave_features

} // namespace wherry::vmm::mshv::abi
