// SPDX-License-Identifier: Apache-2.0
// What an instance says of itself.
#include "tools/instance/vmm_instance.hpp"

#include <array>
#include <string_view>

#include <fmt/format.h>

#include <unistd.h>

namespace wherry::tools {

/// The order matters: a side that is alive, and not to be kept, must be told first. tests/model
/// shows what happens otherwise.
std::string VmmInstance::explain_doubt() const {
    const auto& name = name_.name();
    if (const auto last = keeper_->last();
        last && last->record.pages_missing && last->record.kind == migrate::RecordKind::committed) {
        return fmt::format(
            "{}; it did not come back in time. To give the VM up, and write what is here of it: "
            "wherry salvage {} FILE.wimg",
            doubt_->status().sentence,
            name);
    }
    if (doubt_->here() == migrate::Keep::source) {
        return fmt::format(
            "the connection was lost during the hand-over, after the VM was given up; it is paused "
            "here, and the destination may run it. Look there (wherry status). If it runs there: "
            "wherry resolve {0} --keep destination. To keep it here, first say --keep source "
            "there, or make sure that its host is gone for good (one that only does not answer may "
            "still start it); then: wherry resolve {0} --keep source",
            name);
    }
    return fmt::format(
        "the connection was lost during the hand-over, before the source's last word; the VM is "
        "paused here as it was then, and the source may have gone on with it. Look there (wherry "
        "status). If it runs there, or went on there after the hand-over and has ended since: "
        "wherry resolve {0} --keep source. Only if the source is in doubt too, and --keep "
        "destination was said there first, or its host died before the VM went on: wherry resolve "
        "{0} --keep destination",
        name);
}

std::string VmmInstance::explain() const {
    if (has_running_job()) {
        if (auto sentence = job_->ownership().second; !sentence.empty()) {
            if (waits_for_image_) {
                sentence += "; " + explain_image();
            }
            return sentence;
        }
    }
    switch (situation_) {
    case Situation::listening:
        return "no VM has arrived yet";
    case Situation::incoming:
        return job_->gate().is_closed()
                   ? "a VM has arrived and was accepted; whether it is this side's or the source's "
                     "the source's next word says"
                   : "a VM is arriving; the source still owns it";
    case Situation::present:
        return lazy_ ? explain_image() : "";
    case Situation::handed_off:
        return "it has been handed over and runs on the destination";
    case Situation::in_doubt:
        return doubt_ ? explain_doubt()
                      : "its process ended during a hand-over: which side has it "
                        "is being found out";
    case Situation::salvaged:
        return explain_half();
    case Situation::ended:
        return "it has ended";
    }
    return "";
}

api::Vm VmmInstance::describe() const {
    static constexpr std::array<std::string_view, 7> names{
        "listening", "incoming", "present", "handed-off", "in-doubt", "salvaged", "ended"};
    api::Vm vm;
    vm.set_name(name_.name());
    vm.set_state(std::string{names.at(static_cast<std::size_t>(situation_))});
    vm.set_explanation(explain());
    vm.set_pid(static_cast<std::uint32_t>(::getpid()));
    vm.set_version(WHERRY_VERSION);
    if (machine_) {
        vm.set_vm_id(keeper_->vm_id().to_string());
        if (const auto id = machine_->generation_id()) {
            vm.set_generation_id(id->to_string());
        }
    }
    vm.set_listen(machine_ ? std::string{} : listens_on_);
    if (machine_) {
        vm.set_hypervisor(machine_->backend().name);
        vm.set_memory_bytes(static_cast<double>(machine_->config().memory.value()));
        vm.set_vcpus(machine_->config().vcpus);
    }
    if (situation_ == Situation::present) {
        const auto running = machine_->running_state();
        vm.set_state(
            running == vmm::RunningState::running  ? "running"
            : running == vmm::RunningState::paused ? "paused"
                                                   : "ended");
        if (image_failure()) {
            vm.set_state("image-error");
        }
    }
    describe_image(vm);
    if (has_running_job()) {
        const auto owner = job_->ownership().first;
        if (owner == "in-doubt" || owner == "split") {
            vm.set_state(owner);
        } else if (owner == "faulting" || owner == "done") {
            vm.set_state("running");
        }
    }
    if (job_) {
        *vm.mutable_job() = job_->describe();
    }
    return vm;
}

} // namespace wherry::tools
