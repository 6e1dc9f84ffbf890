// SPDX-License-Identifier: Apache-2.0
// The part of PcMachine that gives it state: boot, save, restore.
#include "vmm/boot/boot.hpp"
#include "vmm/pc_machine.hpp"
#include "vmm/platform_layout.hpp"
#include "vmm/state_comparison.hpp"

#include <algorithm>
#include <string>
#include <utility>

#include <fmt/format.h>

namespace wherry::vmm {

using formats::ErrorCode;
using formats::fail;
using formats::Result;
using formats::Status;

Status PcMachine::want_fresh() const {
    if (!is_fresh_) {
        return fail(ErrorCode::wrong_state, "the machine was booted or restored already");
    }
    return {};
}

Status PcMachine::boot(const BootSource& source) {
    const std::scoped_lock held{control_};
    if (auto fresh = want_fresh(); !fresh) {
        return fresh;
    }
    is_fresh_ = false;
    return apply_boot_state(source);
}

Status PcMachine::apply_boot_state(const BootSource& source) {
    const auto& backend = partition_->capabilities();
    const auto generation = GenerationId::make();
    const auto entry = boot::load(
        memory_,
        source,
        {.vcpus = config_.vcpus,
         .has_interrupt_controller = backend.has_interrupt_controller,
         .generation_id = generation});
    if (!entry) {
        return fail(entry.error());
    }
    const auto clock = partition_->save_clock();
    if (!clock) {
        return fail(clock.error());
    }
    std::vector<VcpuState> states;
    for (const auto& vcpu : vcpus_) {
        auto state = vcpu->vcpu().save();
        if (!state) {
            return fail(std::move(state.error()));
        }
        states.push_back(std::move(*state));
    }
    states.front().registers = entry->registers;
    states.front().system = entry->system;
    if (auto restored = partition_->restore_clock(*clock); !restored) {
        return restored;
    }
    for (auto& state : states) {
        for (const auto& msr : entry->msrs) {
            const auto known = std::ranges::find(state.msrs, msr.index, &Msr::index);
            if (known != state.msrs.end()) { // else the backend has no such register
                known->value = msr.value;
            }
        }
        if (auto restored = vcpus_[state.index]->vcpu().restore(state); !restored) {
            return fail(
                std::move(restored.error()).during(fmt::format("setting up vCPU {}", state.index)));
        }
    }
    set_generation_id(generation);
    return {};
}

Result<MachineState> PcMachine::save() {
    const std::scoped_lock held{control_};
    if (running_state() != RunningState::paused) {
        return fail(ErrorCode::wrong_state, "only a paused machine can be saved");
    }
    MachineState state;
    // First: the vCPUs' TSCs are told for this moment.
    const auto clock = partition_->save_clock();
    if (!clock) {
        return fail(clock.error());
    }
    state.clock = *clock;
    for (const auto& vcpu : vcpus_) {
        auto one = vcpu->vcpu().save();
        if (!one) {
            return fail(
                std::move(one.error()).during(fmt::format("saving vCPU {}", state.vcpus.size())));
        }
        state.vcpus.push_back(std::move(*one));
    }
    for (const auto& device : platform_->devices()) {
        auto one = device->save();
        if (!one) {
            return fail(std::move(one.error()).during(fmt::format("saving {}", device->id())));
        }
        state.devices.push_back(std::move(*one));
    }
    state.generation_id = generation_id();
    return state;
}

Status PcMachine::restore_devices(const std::vector<DeviceState>& states) {
    for (const auto& state : states) {
        const auto known = std::ranges::any_of(
            platform_->devices(), [&](const auto& device) { return device->id() == state.id; });
        if (!known) {
            return fail(
                ErrorCode::incompatible, fmt::format("this machine has no device {}", state.id));
        }
    }
    for (const auto& device : platform_->devices()) {
        const auto state = std::ranges::find(states, device->id(), &DeviceState::id);
        if (state == states.end()) {
            return fail(
                ErrorCode::incompatible, fmt::format("there is no state for {}", device->id()));
        }
        if (auto restored = device->restore(*state); !restored) {
            return restored;
        }
    }
    return {};
}

Status PcMachine::restore_vcpus(const MachineState& state) {
    if (state.vcpus.size() != vcpus_.size()) {
        return fail(
            ErrorCode::incompatible,
            fmt::format(
                "the state of {} vCPUs for a machine of {}", state.vcpus.size(), vcpus_.size()));
    }
    for (std::size_t index = 0; index < vcpus_.size(); ++index) {
        auto& vcpu = vcpus_[index]->vcpu();
        const auto activity = fmt::format("restoring vCPU {}", index);
        if (auto restored = vcpu.restore(state.vcpus[index]); !restored) {
            return fail(std::move(restored.error()).during(activity));
        }
        const auto found = vcpu.save();
        if (!found) {
            return fail(formats::Error{found.error()}.during(activity));
        }
        std::string differing;
        for (const auto& difference : differences(state.vcpus[index], *found)) {
            differing += fmt::format("{}{}", differing.empty() ? "" : ", ", difference);
        }
        if (!differing.empty()) {
            return fail(
                ErrorCode::incompatible,
                fmt::format("{}: the hypervisor did not keep {}", activity, differing));
        }
    }
    return {};
}

Status PcMachine::restore(const MachineState& state) {
    const std::scoped_lock held{control_};
    if (auto fresh = want_fresh(); !fresh) {
        return fresh;
    }
    is_fresh_ = false;
    // Clock first: it fixes the moment to which the vCPUs' TSCs are moved forward. vCPUs last:
    // their timers may fire at once.
    if (auto restored = partition_->restore_clock(state.clock); !restored) {
        return restored;
    }
    if (auto restored = restore_devices(state.devices); !restored) {
        return restored;
    }
    set_generation_id(state.generation_id);
    return restore_vcpus(state);
}

void PcMachine::set_generation_id(const std::optional<GenerationId>& id) {
    const std::scoped_lock held{facts_};
    generation_id_ = id;
}

std::optional<GenerationId> PcMachine::generation_id() const {
    const std::scoped_lock held{facts_};
    return generation_id_;
}

Status PcMachine::begin_generation(const GenerationId& id) {
    const std::scoped_lock held{control_};
    if (running_state() != RunningState::paused) {
        return fail(ErrorCode::wrong_state, "only a paused machine begins a generation");
    }
    if (!generation_id()) {
        return {};
    }
    if (auto written = memory_.write(platform_layout::generation_id, id.bytes); !written) {
        return fail(std::move(written.error()).during("writing the VM generation id"));
    }
    set_generation_id(id);
    // The id before the word of it. Where the guest has the pin masked it has no driver for it
    // (yet).
    if (auto* const line = platform_->line(platform_layout::event_pin)) {
        line->set_level(true);
        line->set_level(false);
    }
    return {};
}

} // namespace wherry::vmm
