// SPDX-License-Identifier: Apache-2.0
#include "vmm/mshvsim/cpu_shadow.hpp"

#include <utility>

namespace wherry::vmm::mshvsim {

CpuShadow& CpuShadow::loaded() {
    if (!is_loaded_) {
        registers_ = vcpu_.registers();
        system_ = vcpu_.system();
        debug_ = vcpu_.debug();
        events_ = vcpu_.events();
        run_state_ = vcpu_.run_state();
        is_loaded_ = true;
    }
    return *this;
}

bool CpuShadow::flush() {
    bool is_taken = true;
    if (std::exchange(is_system_changed_, false)) {
        is_taken = vcpu_.set_system(system_) && is_taken;
    }
    if (std::exchange(is_debug_changed_, false)) {
        is_taken = vcpu_.set_debug(debug_) && is_taken;
    }
    if (std::exchange(are_registers_changed_, false)) {
        is_taken = vcpu_.set_registers(registers_) && is_taken;
    }
    if (std::exchange(are_events_changed_, false)) {
        is_taken = vcpu_.set_events(events_) && is_taken;
    }
    if (std::exchange(is_run_state_changed_, false)) {
        is_taken = vcpu_.set_run_state(run_state_) && is_taken;
    }
    return is_taken;
}

} // namespace wherry::vmm::mshvsim
