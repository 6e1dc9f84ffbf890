// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"
#include "formats/units.hpp"
#include "vmm/device.hpp"
#include "vmm/generation_id.hpp"
#include "vmm/guest_memory.hpp"
#include "vmm/partition.hpp"
#include "vmm/vcpu_state.hpp"

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace wherry::vmm {

/// What a machine is, equal on both hosts. Crosses the wire (formats/proto/machine.proto).
struct MachineConfig {
    formats::Bytes memory{0}; ///< a multiple of 2 MiB
    std::uint32_t vcpus = 1;
    std::vector<CpuidEntry> cpuid{}; ///< what the guest sees; empty: all that the host offers
    friend bool operator==(const MachineConfig&, const MachineConfig&) = default;
};

/// What to start in a fresh machine.
struct BootSource {
    std::string kernel; ///< path of a PVH ELF, a vmlinux or a bzImage
    std::string initrd; ///< path, or empty
    std::string command_line;
};

/// Where the guest's serial output goes: "stdout", "file:PATH" or "none".
struct MachineHost {
    HypervisorChoice hypervisor = HypervisorChoice::automatic;
    std::string serial = "stdout";
};

/// Everything of a machine that is not RAM.
struct MachineState {
    std::vector<VcpuState> vcpus;
    std::vector<DeviceState> devices;
    PartitionClock clock;
    /// What lies in the guest's memory; nullopt: the guest was told of none.
    std::optional<GenerationId> generation_id;
};

/// What becomes of a guest that did not stop in time.
enum class IfLate : std::uint8_t {
    goes_on,    ///< as if nobody had asked
    stays_asked ///< it leaves as soon as it can, without a step of its own, and no sooner goes on
};

enum class RunningState : std::uint8_t { paused, running, ended };

/// Why a machine ended by itself.
struct MachineEnd {
    enum class Cause : std::uint8_t { powered_off, reset, exit_port, crashed } cause;
    int exit_code = 0; ///< of the exit port
    std::string text;
};

/// Partition, memory, vCPU threads and devices as one object with legal states only. Thread-safe:
/// pause, resume and state are serialised inside; save and restore_state want it paused.
class Machine {
public:
    /// Paused, with nothing loaded. `config.cpuid` is filled in where it was empty.
    static formats::Result<std::unique_ptr<Machine>>
    create(MachineConfig config, const MachineHost& host);
    Machine(const Machine&) = delete;
    Machine& operator=(const Machine&) = delete;
    virtual ~Machine() = default;

    [[nodiscard]] virtual const MachineConfig& config() const noexcept = 0;
    [[nodiscard]] virtual const BackendCapabilities& backend() const noexcept = 0;
    [[nodiscard]] virtual RunningState running_state() const = 0;
    /// Set once the machine has ended.
    [[nodiscard]] virtual std::optional<MachineEnd> end() const = 0;
    /// Called once, on a vCPU's thread, when the machine ends by itself; at once, on the caller's,
    /// when it has already. The machine must not be destroyed inside the call.
    virtual void on_end(std::function<void(const MachineEnd&)> callback) = 0;

    virtual GuestMemory& memory() noexcept = 0;
    virtual Partition& partition() noexcept = 0;

    /// Loads kernel, initrd and tables and sets vCPU 0 to the entry. A fresh machine only.
    virtual formats::Status boot(const BootSource& source) = 0;

    /// Starts or continues the vCPUs. Idempotent. wrong_state once ended, and while a vCPU that
    /// IfLate::stays_asked has not left.
    virtual formats::Status resume() = 0;
    /// On return no vCPU is in the guest and devices are quiet. Idempotent.
    virtual formats::Status pause() = 0;
    /// As pause, but `timed_out` where a vCPU does not leave the guest by then: one that waits for
    /// a missing page may not (vmm/README.md).
    virtual formats::Status pause_within(std::chrono::milliseconds limit, IfLate late) = 0;

    /// Keeps every vCPU out of the guest for this share of its time, in percent, in slices of some
    /// milliseconds: 0 (none, as at first) to 99. At once, from any thread; stays until changed.
    virtual void throttle(unsigned percent) = 0;

    /// Paused only. RAM is not part of it.
    virtual formats::Result<MachineState> save() = 0;
    /// A fresh, paused machine only. Reads back and compares what it can; fails naming what
    /// differs. The guest's clock is moved forward by the real time that passed since the save.
    virtual formats::Status restore(const MachineState& state) = 0;

    /// What the guest was booted with, or begin_generation() gave it. nullopt: it was told of none,
    /// as a wherry booted it that knew of none; nothing may be written for it then.
    [[nodiscard]] virtual std::optional<GenerationId> generation_id() const = 0;
    /// The guest is another VM than it was, and goes by `id`: that is in its memory on return, and
    /// the guest hears of it once it runs, where it has an interrupt controller. Paused only; the
    /// page of the id must not be missing. A guest that was told of no such id stays as it is.
    virtual formats::Status begin_generation(const GenerationId& id) = 0;

protected:
    Machine() = default;
};

/// One sentence for each reason why a guest that sees `wanted` cannot live on `host`; empty: it
/// can.
std::vector<std::string>
missing_cpu_features(std::span<const CpuidEntry> wanted, const BackendCapabilities& host);
/// As above, and the number of vCPUs.
std::vector<std::string>
missing_cpu_features(const MachineConfig& wanted, const BackendCapabilities& host);

} // namespace wherry::vmm
