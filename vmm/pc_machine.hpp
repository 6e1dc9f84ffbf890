// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"
#include "vmm/machine.hpp"
#include "vmm/platform.hpp"
#include "vmm/vcpu_thread.hpp"
#include "vmm/vcpu_throttle.hpp"

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

namespace wherry::vmm {

/// The machine: partition, RAM, vCPU threads and the platform's devices.
///
/// Two locks. `control_` is held over everything that starts, stops, saves or restores, and
/// while waiting for vCPUs; no vCPU ever takes it inside the guest. `facts_` guards what may be
/// asked at any time and is held for moments only.
class PcMachine final : public Machine {
public:
    struct Parts {
        MachineConfig config;
        std::unique_ptr<Partition> partition;
        GuestMemory memory;
    };
    explicit PcMachine(Parts parts);
    ~PcMachine() override;
    /// Devices and vCPUs. Once, right after construction.
    formats::Status furnish(const MachineHost& host);

    [[nodiscard]] const MachineConfig& config() const noexcept override { return config_; }
    [[nodiscard]] const BackendCapabilities& backend() const noexcept override;
    [[nodiscard]] RunningState running_state() const override;
    [[nodiscard]] std::optional<MachineEnd> end() const override;
    void on_end(std::function<void(const MachineEnd&)> callback) override;
    GuestMemory& memory() noexcept override { return memory_; }
    Partition& partition() noexcept override { return *partition_; }
    formats::Status boot(const BootSource& source) override;
    formats::Status resume() override;
    formats::Status pause() override;
    formats::Status pause_within(std::chrono::milliseconds limit, IfLate late) override;
    void throttle(unsigned percent) override { throttle_.set(percent); }
    formats::Result<MachineState> save() override;
    formats::Status restore(const MachineState& state) override;
    [[nodiscard]] std::optional<GenerationId> generation_id() const override;
    formats::Status begin_generation(const GenerationId& id) override;

private:
    class Exits;
    formats::Status create_vcpus();
    formats::Status resume_locked();
    formats::Status want_fresh() const;
    formats::Status apply_boot_state(const BootSource& source);
    formats::Status restore_devices(const std::vector<DeviceState>& states);
    formats::Status restore_vcpus(const MachineState& state);
    void set_generation_id(const std::optional<GenerationId>& id);

    void request_end(const MachineEnd& end);
    void vcpu_left(std::uint32_t index, const formats::Result<ExitReason>& reason);
    void start_vcpus();
    void stop_vcpus();
    bool stop_vcpus_until(std::chrono::milliseconds limit);
    formats::Status quiesce_devices();
    /// `control_` held: where an end was requested, makes it so.
    void settle_end();
    void announce_end();

    MachineConfig config_;
    GuestMemory memory_; // outlives the partition that maps it
    std::unique_ptr<Partition> partition_;
    std::unique_ptr<Platform> platform_;
    std::unique_ptr<Exits> exits_;

    std::mutex control_;
    bool is_fresh_ = true;
    bool stays_asked_ = false; ///< IfLate, until all have left

    mutable std::mutex facts_;
    RunningState state_ = RunningState::paused;
    std::optional<MachineEnd> requested_end_;
    std::function<void(const MachineEnd&)> on_end_;
    std::optional<GenerationId> generation_id_;

    std::vector<std::unique_ptr<VcpuThread>> vcpus_; // they use all of the above
    VcpuThrottle throttle_{vcpus_};                  // last: it uses them
};

} // namespace wherry::vmm
