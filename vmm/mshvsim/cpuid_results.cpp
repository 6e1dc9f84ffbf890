// SPDX-License-Identifier: Apache-2.0
#include "vmm/mshvsim/cpuid_results.hpp"

#include <algorithm>

namespace wherry::vmm::mshvsim {

using Result = mshv::abi::hypercalls::CpuidResult;

namespace {

std::uint32_t merged(const Result::Output& wanted, std::uint32_t own) {
    return (wanted.value & wanted.mask) | (own & ~wanted.mask);
}

bool is_answer(const CpuidEntry& entry, std::uint32_t leaf, std::uint32_t subleaf) {
    return entry.leaf == leaf && (!entry.subleaf_is_significant || entry.subleaf == subleaf);
}

void apply(std::vector<CpuidEntry>& leaves, const Result& result) {
    const bool is_specific = result.is_subleaf_specific != 0;
    const std::uint32_t subleaf = is_specific ? result.subleaf : 0;
    CpuidEntry own{};
    for (const auto& entry : leaves) {
        if (is_answer(entry, result.leaf, subleaf)) {
            own = entry;
        }
    }
    std::erase_if(leaves, [&](const auto& entry) {
        return entry.leaf == result.leaf &&
               (!is_specific || !entry.subleaf_is_significant || entry.subleaf == subleaf);
    });
    leaves.push_back(
        {.leaf = result.leaf,
         .subleaf = subleaf,
         .subleaf_is_significant = is_specific,
         .eax = merged(result.eax, own.eax),
         .ebx = merged(result.ebx, own.ebx),
         .ecx = merged(result.ecx, own.ecx),
         .edx = merged(result.edx, own.edx)});
}

} // namespace

void CpuidResults::register_result(const Result& result) {
    const std::scoped_lock held{lock_};
    std::erase_if(registered_, [&result](const Result& old) {
        return old.vp_index == result.vp_index && old.leaf == result.leaf &&
               old.is_subleaf_specific == result.is_subleaf_specific &&
               (result.is_subleaf_specific == 0 || old.subleaf == result.subleaf);
    });
    registered_.push_back(result);
}

std::vector<CpuidEntry> CpuidResults::of_vp(std::uint32_t vp, bool apply_registered) {
    const std::scoped_lock held{lock_};
    auto leaves = base_;
    for (auto& entry : leaves) {
        if (entry.leaf == 1) {
            entry.ebx = (entry.ebx & 0xff00U) | (1U << 16U) | (vp << 24U);
        }
    }
    if (apply_registered) {
        for (const auto& result : registered_) {
            if (result.vp_index == vp) {
                apply(leaves, result);
            }
        }
    }
    return leaves;
}

CpuidEntry CpuidResults::answer(
    std::uint32_t vp, std::uint32_t leaf, std::uint32_t subleaf, bool apply_registered) {
    for (const auto& entry : of_vp(vp, apply_registered)) {
        if (is_answer(entry, leaf, subleaf)) {
            return entry;
        }
    }
    return {};
}

} // namespace wherry::vmm::mshvsim
