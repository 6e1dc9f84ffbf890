// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/mshvsim/engine.hpp"
#include "vmm/soft/engine.hpp"
#include "vmm/soft/hidden_state.hpp"
#include "vmm/soft/slots.hpp"
#include "vmm/soft/turn.hpp"

#include <memory>
#include <utility>

namespace wherry::vmm::soft {

class SimulatorVcpu;

/// What an engine and its vCPU share. Neither outlives it, whichever of them goes first.
struct SimulatorGuest {
    SimulatorGuest(Engine in, const HiddenState& places) : unicorn{std::move(in)}, hidden{places} {}
    Turn turn; ///< of all that follows
    Engine unicorn;
    HiddenState hidden;
    Slots slots;
    SimulatorVcpu* vcpu = nullptr; ///< owned by the simulator's VP
};

/// What the simulator of /dev/mshv (vmm/mshvsim) runs guests with where there is no KVM: one vCPU,
/// no LAPIC, nothing that interrupts a guest. README.md says what else it cannot do.
class SimulatorEngine final : public mshvsim::Engine {
public:
    static formats::Result<std::unique_ptr<SimulatorEngine>> open();

    [[nodiscard]] const mshvsim::EngineCapabilities& capabilities() const noexcept override {
        return capabilities_;
    }
    int set_slot(const mshvsim::EngineSlot& slot) override;
    bool fetch_log(std::uint32_t slot, std::span<std::uint64_t> bitmap) override;
    formats::Result<std::unique_ptr<mshvsim::EngineVcpu>>
    create_vcpu(std::uint32_t index, mshvsim::MemoryFaults& memory) override;
    bool assert_interrupt(const mshvsim::Interrupt& interrupt) override;

private:
    SimulatorEngine(
        std::shared_ptr<SimulatorGuest> guest, mshvsim::EngineCapabilities capabilities);

    std::shared_ptr<SimulatorGuest> guest_;
    mshvsim::EngineCapabilities capabilities_;
};

} // namespace wherry::vmm::soft
