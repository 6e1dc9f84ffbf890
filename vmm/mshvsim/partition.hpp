// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/mshvsim/hypercalls.hpp"
#include "vmm/mshvsim/hypervisor.hpp"
#include "vmm/mshvsim/vp.hpp"

#include <array>
#include <memory>
#include <mutex>

namespace wherry::vmm::mshvsim {

/// A partition as the driver keeps it. Lives as long as one of its descriptors.
class Partition {
public:
    /// 0 or minus errno, and the partition.
    static int create(
        const SimulatorOptions& options,
        std::uint64_t id,
        std::uint64_t argument,
        std::shared_ptr<Partition>& made);
    Partition(
        std::unique_ptr<Engine> engine,
        std::uint64_t id,
        const FeatureBanks& offered,
        Personality personality);

    /// The ioctls of a partition's descriptor that return no descriptor.
    int ioctl(std::uint64_t request, std::uint64_t argument);
    /// CREATE_VP: 0 or minus errno.
    int create_vp(std::uint64_t argument, Vp*& made);
    /// ROOT_HVCALL on this partition's descriptor, or on one of its VPs'.
    int hypercall(std::uint64_t argument, HypercallSource source);

    Hypervisor& hypervisor() noexcept { return hypervisor_; }
    Vp* vp(std::uint64_t index);
    [[nodiscard]] bool is_initialized() const noexcept { return is_initialized_; }
    /// Delivers an interrupt. Any thread. Status of the hypervisor.
    std::uint16_t assert_interrupt(const Interrupt& interrupt);

private:
    int initialize();
    int access_bitmap(std::uint64_t argument);

    std::mutex driver_lock_; ///< held by each ioctl on the partition's descriptor
    std::mutex vps_lock_;
    // Before hypervisor_, whose threads use them to their end.
    std::array<std::unique_ptr<Vp>, mshv::abi::ioctls::max_vps> vps_;
    std::atomic<bool> is_initialized_ = false;
    Hypervisor hypervisor_;
};

} // namespace wherry::vmm::mshvsim
