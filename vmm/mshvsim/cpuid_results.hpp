// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/mshv/abi/hypercalls.hpp"
#include "vmm/vcpu_state.hpp"

#include <cstdint>
#include <mutex>
#include <utility>
#include <vector>

namespace wherry::vmm::mshvsim {

/// CPUID of a partition's VPs: the hypervisor's own answers, and the results that the VMM has
/// registered over them (hypercall 0x91). Thread-safe.
class CpuidResults {
public:
    explicit CpuidResults(std::vector<CpuidEntry> base) : base_{std::move(base)} {}

    void set_base(std::vector<CpuidEntry> base) {
        const std::scoped_lock held{lock_};
        base_ = std::move(base);
    }
    void register_result(const mshv::abi::hypercalls::CpuidResult& result);
    /// All leaves of one VP.
    std::vector<CpuidEntry> of_vp(std::uint32_t vp, bool apply_registered = true);
    CpuidEntry
    answer(std::uint32_t vp, std::uint32_t leaf, std::uint32_t subleaf, bool apply_registered);

private:
    std::mutex lock_;
    std::vector<CpuidEntry> base_;
    std::vector<mshv::abi::hypercalls::CpuidResult> registered_;
};

} // namespace wherry::vmm::mshvsim
