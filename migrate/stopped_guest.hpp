// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"
#include "vmm/machine.hpp"

namespace wherry::migrate {

/// A guest that was stopped to be handed over. Whether it may go on is the Owner's to say, and
/// nobody else's: nothing goes on by itself, whatever becomes of this object.
class StoppedGuest {
public:
    /// Stops the guest. Should that fail half way it goes on, and the error says why.
    static formats::Result<StoppedGuest> stop(vmm::Machine& machine) {
        const bool ran = machine.running_state() == vmm::RunningState::running;
        auto paused = machine.pause();
        if (!paused) {
            if (ran) {
                // Some vCPUs may stand still already. Nothing else can be done if this fails too:
                // the caller learns of the first failure.
                (void)machine.resume();
            }
            return formats::fail(std::move(paused).error().during("stopping the guest"));
        }
        return StoppedGuest{machine, ran};
    }

    /// As it was before: a guest that its user had paused stays so.
    formats::Status go_on() {
        if (!ran_ || machine_->running_state() == vmm::RunningState::ended) {
            return {};
        }
        auto resumed = machine_->resume();
        if (!resumed) {
            return formats::fail(
                std::move(resumed).error().during("resuming the guest after a failed migration"));
        }
        return {};
    }

private:
    StoppedGuest(vmm::Machine& machine, bool ran) noexcept : machine_{&machine}, ran_{ran} {}
    vmm::Machine* machine_;
    bool ran_;
};

} // namespace wherry::migrate
