// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/machine.hpp"

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

namespace wherry::tests {

/// Sees every guest of one test start and stop, and two that run at once. Thread-safe.
class RunWitness {
public:
    void started() noexcept {
        if (running_.fetch_add(1) != 0) {
            violated_ = true;
        }
    }
    void stopped() noexcept { running_.fetch_sub(1); }
    [[nodiscard]] int running() const noexcept { return running_; }
    [[nodiscard]] bool saw_two_at_once() const noexcept { return violated_; }

private:
    std::atomic<int> running_{0};
    std::atomic<bool> violated_{false};
};

/// A hypervisor's share of a TestMachine: a dirty log and nothing else.
class TestPartition final : public vmm::Partition {
public:
    TestPartition(vmm::BackendCapabilities capabilities, const vmm::GuestMemory& memory);

    /// What the guest does after it has written a page.
    void log(formats::Gfn page) noexcept;
    [[nodiscard]] bool is_logging() const noexcept { return logging_; }
    /// Called at the begin and at the end of each reading of the log.
    std::function<void()> while_fetching;
    /// The next readings of the log that fail.
    std::atomic<int> failing_fetches{0};

    [[nodiscard]] const vmm::BackendCapabilities& capabilities() const noexcept override {
        return capabilities_;
    }
    formats::Status map_memory(vmm::GuestMemory& memory) override;
    formats::Result<std::unique_ptr<vmm::Vcpu>> create_vcpu(std::uint32_t index) override;
    formats::Status signal(const vmm::MsiMessage& message) override;
    formats::Status route_pins(std::span<const vmm::MsiMessage> pins) override;
    formats::Status start_dirty_log() override;
    formats::Status stop_dirty_log() override;
    formats::Status
    fetch_dirty_log(formats::PageRange region, std::span<std::uint64_t> bitmap) override;
    formats::Result<vmm::PartitionClock> save_clock() override;
    formats::Status restore_clock(const vmm::PartitionClock& clock) override;
    formats::Result<std::unique_ptr<vmm::FaultSource>>
    make_fault_source(vmm::GuestMemory& memory) override;

private:
    struct Region {
        formats::PageRange pages;
        std::vector<std::atomic<std::uint64_t>> words;
    };
    vmm::BackendCapabilities capabilities_;
    std::atomic<bool> logging_{false};
    std::vector<Region> regions_;
};

/// What a TestMachine's guest does and which of its operations fail.
struct TestMachineOptions {
    formats::Bytes memory{std::uint64_t{2} << 20U};
    std::uint32_t vcpus = 1;
    std::vector<vmm::CpuidEntry> cpuid;
    vmm::BackendCapabilities backend;
    std::uint32_t seed = 1;
    /// Pages the running guest writes, at random within `hot_pages`, at each reading of the log:
    /// half of them before it and half after.
    std::uint32_t writes_per_fetch = 8;
    std::uint64_t hot_pages = 64;
    /// Writes that each reading of the log does less than the one before, until none.
    std::uint32_t calming = 2;
    /// The guest writes from a thread of its own as well, as fast as it can.
    bool has_writer_thread = false;

    TestMachineOptions();
    /// Pages may be missing from its memory while it runs.
    void allow_missing_pages() { backend.postcopy_obstacle.clear(); }
};

/// A machine without a CPU. Its guest writes pages with versions, keeps a table of them (which
/// travels as the state of its one device), and can say whether every page is as the table says;
/// its thread, if it has one, looks at each page before it writes it. A device of it writes one
/// page while it is being paused. While it runs, the witness knows.
class TestMachine final : public vmm::Machine {
public:
    TestMachine(const TestMachineOptions& options, RunWitness& witness);
    ~TestMachine() override;

    /// Fills pages [0, count) as a guest does; every fifth one is zero.
    void fill(std::uint64_t count);
    /// Empty: every page is right, and was so whenever its thread looked. Otherwise what is wrong
    /// with the first that is not. Waits for pages that are missing.
    [[nodiscard]] std::string check();
    /// A device of it writes a page on its own, while the guest runs: past the hypervisor, whose
    /// log does not have it. False, and nothing happens, where it does not run. Any thread.
    bool write_as_device(std::uint64_t index);
    [[nodiscard]] std::uint64_t writes() const noexcept { return writes_; }
    /// As it stands, and the most it ever was.
    [[nodiscard]] unsigned throttled() const noexcept { return throttled_; }
    [[nodiscard]] unsigned most_throttled() const noexcept { return most_throttled_; }
    [[nodiscard]] bool is_tracked() const noexcept { return partition_->is_logging(); }

    enum class Operation : std::uint8_t { pause, resume, save, restore };
    /// The next `operation` fails.
    void fail_next(Operation operation) { failing_[operation] = true; }
    void end_by_itself();
    TestPartition& test_partition() noexcept { return *partition_; }

    [[nodiscard]] const vmm::MachineConfig& config() const noexcept override { return config_; }
    [[nodiscard]] const vmm::BackendCapabilities& backend() const noexcept override {
        return partition_->capabilities();
    }
    [[nodiscard]] vmm::RunningState running_state() const override { return state_; }
    [[nodiscard]] std::optional<vmm::MachineEnd> end() const override;
    void on_end(std::function<void(const vmm::MachineEnd&)> callback) override;
    vmm::GuestMemory& memory() noexcept override { return memory_; }
    vmm::Partition& partition() noexcept override { return *partition_; }
    formats::Status boot(const vmm::BootSource& source) override;
    formats::Status resume() override;
    formats::Status pause() override;
    formats::Status
    pause_within(std::chrono::milliseconds /*limit*/, vmm::IfLate /*late*/) override {
        return pause();
    }
    void throttle(unsigned percent) override;
    formats::Result<vmm::MachineState> save() override;
    formats::Status restore(const vmm::MachineState& state) override;
    [[nodiscard]] std::optional<vmm::GenerationId> generation_id() const override {
        return generation_id_;
    }
    formats::Status begin_generation(const vmm::GenerationId& id) override;
    /// As a guest that was booted with it: its page has that alone from here on, and check() looks.
    void boot_with(const vmm::GenerationId& id);

private:
    void guest_writes(std::uint32_t count);
    void use_page(std::uint64_t index);
    void write_page(std::uint64_t index, std::uint64_t version);
    void device_writes(std::uint64_t index);
    [[nodiscard]] formats::Gfn frame(std::uint64_t index) const;
    /// What the page has to be.
    [[nodiscard]] std::vector<std::byte> expected(std::uint64_t index) const;
    void run_writer(const std::stop_token& stop);
    formats::Status maybe_fail(Operation operation, const char* name);

    TestMachineOptions options_;
    vmm::MachineConfig config_;
    RunWitness& witness_;
    vmm::GuestMemory memory_;
    std::unique_ptr<TestPartition> partition_;
    std::atomic<vmm::RunningState> state_{vmm::RunningState::paused};
    std::map<Operation, bool> failing_;
    std::mutex guest_; ///< one guest write at a time
    std::mt19937 random_;
    std::uint32_t writes_per_fetch_;
    std::vector<std::uint64_t> versions_; ///< of each page of RAM
    std::uint64_t last_version_ = 0;
    std::string seen_wrong_; ///< by the guest
    std::optional<vmm::GenerationId> generation_id_;
    std::atomic<std::uint64_t> writes_{0};
    std::atomic<unsigned> throttled_{0};
    std::atomic<unsigned> most_throttled_{0};
    std::jthread writer_;
};

} // namespace wherry::tests
