// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/mshvsim/engine.hpp"
#include "vmm/unique_fd.hpp"

#include <bitset>
#include <mutex>

#include <linux/kvm.h>

namespace wherry::vmm::mshvsim {

/// A VM of /dev/kvm with the LAPICs in the kernel and nothing else.
class KvmEngine final : public Engine {
public:
    static formats::Result<std::unique_ptr<Engine>> open(const char* device);
    KvmEngine(UniqueFd system, UniqueFd vm, EngineCapabilities capabilities, std::size_t run_size);

    [[nodiscard]] const EngineCapabilities& capabilities() const noexcept override {
        return capabilities_;
    }
    int set_slot(const EngineSlot& slot) override;
    bool fetch_log(std::uint32_t slot, std::span<std::uint64_t> bitmap) override;
    formats::Result<std::unique_ptr<EngineVcpu>>
    create_vcpu(std::uint32_t index, MemoryFaults& memory) override;
    bool assert_interrupt(const Interrupt& interrupt) override;
    /// Was this vector last asserted as level-triggered?
    bool is_level(std::uint8_t vector);

private:
    bool route_end_of_interrupt(std::uint8_t vector);

    UniqueFd system_;
    UniqueFd vm_;
    EngineCapabilities capabilities_;
    std::size_t run_size_;
    std::mutex lock_; ///< of the next two
    std::bitset<256> routed_;
    std::bitset<256> level_;
};

} // namespace wherry::vmm::mshvsim
