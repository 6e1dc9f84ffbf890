// SPDX-License-Identifier: Apache-2.0
#include "vmm/pc_machine.hpp"

#include "vmm/devices/exit_port.hpp"
#include "vmm/devices/serial_output.hpp"
#include "vmm/devices/serial_port.hpp"
#include "vmm/platform_layout.hpp"

#include <string>
#include <utility>

#include <fmt/format.h>

namespace wherry::vmm {

using formats::ErrorCode;
using formats::fail;
using formats::Result;
using formats::Status;

/// What a vCPU thread needs of the machine while it is in the guest.
class PcMachine::Exits final : public ExitHandler {
public:
    explicit Exits(Platform& platform) : platform_{platform} {}
    void port_read(std::uint16_t port, std::span<std::byte> data) override {
        platform_.bus().port_read(port, data);
    }
    void port_write(std::uint16_t port, std::span<const std::byte> data) override {
        platform_.bus().port_write(port, data);
    }
    void memory_read(formats::Gpa at, std::span<std::byte> data) override {
        platform_.bus().memory_read(at, data);
    }
    void memory_write(formats::Gpa at, std::span<const std::byte> data) override {
        platform_.bus().memory_write(at, data);
    }
    void end_of_interrupt(std::uint8_t vector) override { platform_.end_of_interrupt(vector); }

private:
    Platform& platform_;
};

PcMachine::PcMachine(Parts parts)
    : config_{std::move(parts.config)},
      memory_{std::move(parts.memory)},
      partition_{std::move(parts.partition)} {}

PcMachine::~PcMachine() {
    throttle_.set(0);
    // All threads are gone before the first goes away: each may still look at all.
    for (const auto& vcpu : vcpus_) {
        vcpu->end();
    }
    vcpus_.clear();
    if (platform_) {
        std::ignore = quiesce_devices(); // nobody is left to be told
    }
}

Status PcMachine::furnish(const MachineHost& host) {
    if (auto mapped = partition_->map_memory(memory_); !mapped) {
        return mapped;
    }
    auto platform =
        Platform::create(*partition_, [this](const MachineEnd& end) { request_end(end); });
    if (!platform) {
        return fail(std::move(platform.error()));
    }
    platform_ = std::move(*platform);
    auto output = SerialOutput::open(host.serial);
    if (!output) {
        return fail(std::move(output.error()));
    }
    auto serial = std::make_unique<SerialPort>(
        std::move(*output), platform_->line(platform_layout::serial_pin));
    if (auto added = platform_->add(std::move(serial), platform_layout::serial_port, 8); !added) {
        return added;
    }
    auto exit = std::make_unique<ExitPort>([this](const MachineEnd& end) { request_end(end); });
    if (auto added = platform_->add(std::move(exit), ExitPort::port, 1); !added) {
        return added;
    }
    exits_ = std::make_unique<Exits>(*platform_);
    if (auto quiet = quiesce_devices(); !quiet) { // a machine starts paused
        return quiet;
    }
    return create_vcpus();
}

Status PcMachine::create_vcpus() {
    for (std::uint32_t index = 0; index < config_.vcpus; ++index) {
        auto vcpu = partition_->create_vcpu(index);
        if (!vcpu) {
            return fail(std::move(vcpu.error()));
        }
        if (auto set = (*vcpu)->set_cpuid(config_.cpuid); !set) {
            return set;
        }
        vcpus_.push_back(std::make_unique<VcpuThread>(
            index,
            std::move(*vcpu),
            *exits_,
            [this](std::uint32_t which, const Result<ExitReason>& reason) {
                vcpu_left(which, reason);
            }));
    }
    return {};
}

const BackendCapabilities& PcMachine::backend() const noexcept {
    return partition_->capabilities();
}

RunningState PcMachine::running_state() const {
    const std::scoped_lock held{facts_};
    return state_;
}

std::optional<MachineEnd> PcMachine::end() const {
    const std::scoped_lock held{facts_};
    return state_ == RunningState::ended ? requested_end_ : std::nullopt;
}

void PcMachine::on_end(std::function<void(const MachineEnd&)> callback) {
    {
        const std::scoped_lock held{facts_};
        if (state_ != RunningState::ended) {
            on_end_ = std::move(callback);
            return;
        }
    }
    if (callback) {
        callback(*requested_end_); // an end never changes
    }
}

Status PcMachine::resume() {
    auto resumed = resume_locked();
    // A device may have ended the machine before there was a vCPU to notice.
    bool ends = false;
    {
        const std::scoped_lock facts{facts_};
        ends = requested_end_.has_value();
    }
    if (ends) {
        {
            const std::scoped_lock held{control_};
            settle_end();
        }
        announce_end();
    }
    return resumed;
}

Status PcMachine::resume_locked() {
    const std::scoped_lock held{control_};
    settle_end();
    {
        const std::scoped_lock facts{facts_};
        if (state_ == RunningState::ended) {
            return fail(
                ErrorCode::wrong_state,
                fmt::format("the machine has ended: {}", requested_end_->text));
        }
        if (state_ == RunningState::running) {
            return stays_asked_ ? fail(ErrorCode::wrong_state, "the machine is being stopped")
                                : Status{};
        }
        state_ = RunningState::running;
    }
    is_fresh_ = false;
    for (const auto& device : platform_->devices()) {
        if (auto resumed = device->resume(); !resumed) {
            const auto quiet = quiesce_devices();
            const std::scoped_lock facts{facts_};
            state_ = RunningState::paused;
            const auto more = quiet ? std::string{} : " and " + quiet.error().text();
            return fail(std::move(resumed.error()).during("resuming devices" + more));
        }
    }
    start_vcpus();
    return {};
}

void PcMachine::start_vcpus() {
    for (const auto& vcpu : vcpus_) {
        vcpu->start();
    }
}

void PcMachine::stop_vcpus() {
    for (const auto& vcpu : vcpus_) {
        vcpu->request_stop();
    }
    for (const auto& vcpu : vcpus_) {
        vcpu->await_stopped();
    }
}

Status PcMachine::quiesce_devices() {
    Status result;
    for (const auto& device : platform_->devices()) {
        if (auto quiet = device->quiesce(); !quiet && result) {
            result = fail(std::move(quiet.error()).during(device->id()));
        }
    }
    return result;
}

Status PcMachine::pause() {
    const std::scoped_lock held{control_};
    if (running_state() == RunningState::running) {
        stop_vcpus();
        stays_asked_ = false;
        auto quiet = quiesce_devices();
        {
            const std::scoped_lock facts{facts_};
            state_ = RunningState::paused;
        }
        settle_end();
        return quiet;
    }
    return {};
}

Status PcMachine::pause_within(std::chrono::milliseconds limit, IfLate late) {
    {
        const std::scoped_lock held{control_};
        if (running_state() == RunningState::running && !stop_vcpus_until(limit)) {
            stays_asked_ = stays_asked_ || late == IfLate::stays_asked;
            if (!stays_asked_) {
                start_vcpus();
            }
            return fail(
                ErrorCode::timed_out,
                fmt::format("a vCPU has not left the guest for {} ms", limit.count()));
        }
    }
    return pause();
}

/// Whether all have left the guest by then.
bool PcMachine::stop_vcpus_until(std::chrono::milliseconds limit) {
    const auto end = VcpuThread::Clock::now() + limit;
    for (const auto& vcpu : vcpus_) {
        vcpu->request_stop();
    }
    return std::ranges::all_of(
        vcpus_, [end](const auto& vcpu) { return vcpu->await_stopped_until(end); });
}

void PcMachine::request_end(const MachineEnd& end) {
    {
        const std::scoped_lock facts{facts_};
        if (requested_end_) {
            return; // the first cause is the one
        }
        requested_end_ = end;
    }
    for (const auto& vcpu : vcpus_) {
        vcpu->request_stop();
    }
}

void PcMachine::vcpu_left(std::uint32_t index, const Result<ExitReason>& reason) {
    if (!reason) {
        request_end({.cause = MachineEnd::Cause::crashed, .text = reason.error().text()});
    } else if (*reason == ExitReason::shut_down) {
        request_end(
            {.cause = MachineEnd::Cause::crashed,
             .text = fmt::format("vCPU {} shut down (triple fault)", index)});
    } else if (*reason == ExitReason::system_reset) {
        request_end({.cause = MachineEnd::Cause::reset, .text = "the guest asked for a reset"});
    }
    bool ends = false;
    {
        const std::scoped_lock facts{facts_};
        ends = requested_end_.has_value();
    }
    if (ends) {
        {
            const std::scoped_lock held{control_};
            settle_end();
        }
        announce_end();
    }
}

void PcMachine::settle_end() {
    {
        const std::scoped_lock facts{facts_};
        if (!requested_end_ || state_ == RunningState::ended) {
            return;
        }
    }
    stop_vcpus();
    const auto quiet = quiesce_devices();
    const std::scoped_lock facts{facts_};
    if (!quiet) {
        requested_end_->text += "; " + quiet.error().text();
    }
    state_ = RunningState::ended;
}

void PcMachine::announce_end() {
    std::function<void(const MachineEnd&)> callback;
    {
        const std::scoped_lock facts{facts_};
        callback = std::exchange(on_end_, nullptr);
    }
    if (callback) {
        callback(*requested_end_);
    }
}

} // namespace wherry::vmm
