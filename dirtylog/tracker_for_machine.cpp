// SPDX-License-Identifier: Apache-2.0
#include "dirtylog/device_write_log.hpp"
#include "dirtylog/dirty_tracker.hpp"
#include "dirtylog/hypervisor_tracker.hpp"
#include "dirtylog/userfault_tracker.hpp"

#include <tuple>
#include <utility>

namespace wherry::dirtylog {

namespace {

using formats::Result;
using formats::Status;

/// What the guest writes, by `guest_`, and what the VMM writes, by its own log.
class MachineTracker final : public DirtyTracker {
public:
    MachineTracker(vmm::GuestMemory& memory, std::unique_ptr<DirtyTracker> guest)
        : memory_{memory},
          guest_{std::move(guest)} {}
    ~MachineTracker() override {
        // Nobody is left to hear of a failure.
        std::ignore = stop();
    }

    [[nodiscard]] const std::string& name() const noexcept override { return guest_->name(); }

    Status start() override {
        auto status = guest_->start();
        if (status) {
            log_ = std::make_unique<DeviceWriteLog>(memory_.regions());
            memory_.observe_writes(log_.get());
        }
        return status;
    }

    Status collect(DirtySet& into) override {
        if (log_) {
            log_->drain(into);
        }
        return guest_->collect(into);
    }

    Status stop() override {
        if (log_) {
            memory_.observe_writes(nullptr);
            log_.reset();
        }
        return guest_->stop();
    }

private:
    vmm::GuestMemory& memory_;
    std::unique_ptr<DirtyTracker> guest_;
    std::unique_ptr<DeviceWriteLog> log_; // while started
};

} // namespace

Result<std::unique_ptr<DirtyTracker>> make_tracker(vmm::Machine& machine) {
    std::unique_ptr<DirtyTracker> guest;
    const auto regions = machine.memory().regions();
    if (machine.backend().has_dirty_log) {
        guest = std::make_unique<HypervisorTracker>(machine.partition(), regions);
    } else {
        auto userfault = UserfaultTracker::open(regions);
        if (!userfault) {
            return formats::fail(std::move(userfault).error().during(
                "the " + machine.backend().name +
                " hypervisor has no dirty log, and userfaultfd cannot stand in for it"));
        }
        guest = *std::move(userfault);
    }
    return std::make_unique<MachineTracker>(machine.memory(), std::move(guest));
}

} // namespace wherry::dirtylog
