// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/page_range.hpp"
#include "formats/result.hpp"
#include "vmm/fault_source.hpp"
#include "vmm/guest_memory.hpp"
#include "vmm/hypervisor_choice.hpp"
#include "vmm/vcpu_state.hpp"

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace wherry::vmm {

/// What a hypervisor backend can do on this host.
struct BackendCapabilities {
    std::string name; ///< "mshv", "mshvsim", "kvm", "soft"
    std::uint32_t max_vcpus = 1;
    bool has_interrupt_controller = false; ///< LAPICs, hence interrupts and MSI
    /// The hypervisor logs dirty pages. Where not, the userfaultfd tracker serves.
    bool has_dirty_log = false;
    bool can_scale_tsc = false;
    std::uint64_t tsc_frequency_khz = 0;
    /// Why a guest cannot run here while pages of it are missing, in one sentence; empty: it can.
    std::string postcopy_obstacle{};
    /// What FaultSource::granule() will be.
    formats::PageCount fault_granule{1};
    /// What a guest may be offered here.
    std::vector<CpuidEntry> cpuid;
};

/// An x86 message-signalled interrupt (SDM vol. 3, 10.11).
struct MsiMessage {
    std::uint64_t address = 0;
    std::uint32_t data = 0;
};

/// A place in guest memory where a write is news for a device and nothing else.
struct Doorbell {
    formats::Gpa at;
    std::uint32_t length = 0; ///< of the write in bytes: 1, 2, 4, 8, or 0 for any
    /// Rings for this value only; others reach the ExitHandler.
    std::optional<std::uint64_t> value = std::nullopt;
};

/// Time as the partition's guest sees it besides the TSC, read while all vCPUs stand still.
struct PartitionClock {
    std::chrono::nanoseconds reference_time{0};
    /// Host real time (CLOCK_REALTIME) at that moment.
    std::chrono::nanoseconds host_real_time{0};
};

/// Serves what a vCPU cannot do alone. Called on the vCPU's thread.
class ExitHandler {
public:
    ExitHandler() = default;
    ExitHandler(const ExitHandler&) = delete;
    ExitHandler& operator=(const ExitHandler&) = delete;
    /// `data` is 1, 2 or 4 bytes (MMIO up to 8). Reads nobody answers are all ones.
    virtual void port_read(std::uint16_t port, std::span<std::byte> data) = 0;
    virtual void port_write(std::uint16_t port, std::span<const std::byte> data) = 0;
    virtual void memory_read(formats::Gpa at, std::span<std::byte> data) = 0;
    virtual void memory_write(formats::Gpa at, std::span<const std::byte> data) = 0;
    /// The guest ended a level-triggered interrupt of this vector: for the IOAPIC.
    virtual void end_of_interrupt(std::uint8_t vector) = 0;

protected:
    ~ExitHandler() = default;
};

/// Why run() came back. Port and memory accesses do not: they go to the ExitHandler.
enum class ExitReason : std::uint8_t {
    kicked,       ///< by kick(); all state is consistent and may be saved
    halted,       ///< HLT on an engine that does not wait for interrupts itself
    shut_down,    ///< triple fault or a shutdown request
    system_reset, ///< asked for through the hypervisor
};

/// One virtual CPU. run() on its own thread; kick() from any thread; the rest on any thread while
/// run() is not under way.
class Vcpu {
public:
    Vcpu() = default;
    Vcpu(const Vcpu&) = delete;
    Vcpu& operator=(const Vcpu&) = delete;
    virtual ~Vcpu() = default;

    /// Runs the guest until one of the reasons. A kick that arrives before or during the call
    /// ends it, and is used up by it. Pending I/O completions are finished before it returns.
    virtual formats::Result<ExitReason> run(ExitHandler& handler) = 0;
    /// Makes run() return soon, at latest after the instruction or exit in hand. Thread-safe,
    /// idempotent. Callers repeat it until run() has come back (a signal can be lost between the
    /// check and the entry).
    virtual void kick() noexcept = 0;

    virtual formats::Result<VcpuState> save() = 0;
    /// Fails, naming it, at any element that the hypervisor does not take.
    virtual formats::Status restore(const VcpuState& state) = 0;
    virtual formats::Status set_cpuid(std::span<const CpuidEntry> cpuid) = 0;
};

/// A guest's share of a hypervisor: memory, vCPUs, interrupts, dirty log, clock.
class Partition {
public:
    Partition() = default;
    Partition(const Partition&) = delete;
    Partition& operator=(const Partition&) = delete;
    virtual ~Partition() = default;

    [[nodiscard]] virtual const BackendCapabilities& capabilities() const noexcept = 0;

    /// Once, before the first vCPU. `memory` outlives the partition.
    virtual formats::Status map_memory(GuestMemory& memory) = 0;
    virtual formats::Result<std::unique_ptr<Vcpu>> create_vcpu(std::uint32_t index) = 0;

    virtual formats::Status signal(const MsiMessage& message) = 0;
    /// The message each IOAPIC pin would send now; entry i is pin i. Lets the hypervisor tell
    /// which vectors need end_of_interrupt.
    virtual formats::Status route_pins(std::span<const MsiMessage> pins) = 0;

    /// For devices that other threads or processes serve: neither goes through the VMM. `event` is
    /// an eventfd that stays the caller's and outlives the binding. already_exists where that
    /// place or event is bound; `unsupported` where the backend cannot.
    /// Each signal of `event` sends the message that route_pins gave the pin; edge-triggered pins.
    virtual formats::Status bind_interrupt(int event, std::uint32_t pin);
    virtual formats::Status release_interrupt(int event, std::uint32_t pin);
    /// Each write there signals `event` and does not reach the ExitHandler; reads do.
    virtual formats::Status bind_doorbell(int event, const Doorbell& doorbell);
    virtual formats::Status release_doorbell(int event, const Doorbell& doorbell);

    /// The hypervisor's dirty log: only where capabilities().has_dirty_log. Started, the first
    /// read of a region says what was written since the start.
    virtual formats::Status start_dirty_log() = 0;
    virtual formats::Status stop_dirty_log() = 0;
    /// Reads and clears in one step. Bit i of `bitmap` (64 pages a word, cleared by the callee
    /// first) is page region.first() + i; `region` is a whole MemoryRegion.
    virtual formats::Status
    fetch_dirty_log(formats::PageRange region, std::span<std::uint64_t> bitmap) = 0;

    /// For pages of `memory`, which is mapped, that are elsewhere still. The partition outlives it.
    /// Fails where capabilities().postcopy_obstacle says why.
    virtual formats::Result<std::unique_ptr<FaultSource>> make_fault_source(GuestMemory& memory);

    /// Clock of the partition; vCPUs stand still. The vCPUs' save() and restore() tell and take
    /// their TSC for this moment: save_clock comes before theirs, and so does restore_clock, which
    /// moves all forward by the real time that passed since the save.
    virtual formats::Result<PartitionClock> save_clock() = 0;
    virtual formats::Status restore_clock(const PartitionClock& clock) = 0;
};

/// What the partition must be before its memory and vCPUs exist.
struct PartitionOptions {
    std::uint32_t vcpus = 1;
    /// What the guest will see; empty: what the backend offers. A backend that must know it early
    /// hides what is not in it. Looked at during the call only.
    std::span<const CpuidEntry> cpuid{};
};

/// Opens the chosen backend. `automatic` takes the first that works of mshv, kvm, soft; the error
/// names each one and why not. The simulator is never taken unasked.
formats::Result<std::unique_ptr<Partition>>
open_partition(const HypervisorChoice& choice, const PartitionOptions& options);
/// What a partition of that choice would report, without making a guest.
formats::Result<BackendCapabilities> probe(const HypervisorChoice& choice);

} // namespace wherry::vmm
