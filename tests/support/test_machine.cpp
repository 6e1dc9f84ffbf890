// SPDX-License-Identifier: Apache-2.0
#include "tests/support/test_machine.hpp"

#include "vmm/platform_layout.hpp"
#include "vmm/userfault_source.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include <fmt/format.h>

namespace wherry::tests {

namespace {

using formats::ErrorCode;
using formats::Gfn;
using formats::PageCount;
using formats::PageRange;
using formats::Status;
using Page = std::array<std::uint64_t, formats::page_size / sizeof(std::uint64_t)>;

/// Each word differs from page to page and from version to version; versions that five divides are
/// zero pages.
Page contents(std::uint64_t index, std::uint64_t version) {
    Page page{};
    if (version % 5 == 0) {
        return page;
    }
    std::uint64_t word = (index << 32U) ^ version;
    for (std::uint64_t& into : page) {
        word = word * 6364136223846793005U + 1442695040888963407U;
        into = word;
    }
    return page;
}

vmm::GuestMemory memory_of(formats::Bytes size) {
    auto memory = vmm::GuestMemory::create(size);
    formats::invariant(memory.has_value(), "a test has memory for its guests");
    return *std::move(memory);
}

Status unsupported(const char* what) {
    return formats::fail(ErrorCode::unsupported, fmt::format("a test machine has no {}", what));
}

} // namespace

TestPartition::TestPartition(vmm::BackendCapabilities capabilities, const vmm::GuestMemory& memory)
    : capabilities_{std::move(capabilities)} {
    for (const vmm::MemoryRegion& region : memory.regions()) {
        regions_.push_back(Region{
            region.pages,
            std::vector<std::atomic<std::uint64_t>>((region.pages.count().value() + 63) / 64)});
    }
}

void TestPartition::log(Gfn page) noexcept {
    if (!logging_) {
        return;
    }
    for (Region& region : regions_) {
        if (region.pages.contains(page)) {
            const auto index = (page - region.pages.first()).value();
            region.words[index / 64].fetch_or(std::uint64_t{1} << (index % 64));
        }
    }
}

Status TestPartition::map_memory(vmm::GuestMemory& /*memory*/) {
    return unsupported("slots");
}
formats::Result<std::unique_ptr<vmm::Vcpu>> TestPartition::create_vcpu(std::uint32_t /*index*/) {
    return formats::fail(ErrorCode::unsupported, "a test machine has no vCPUs");
}
Status TestPartition::signal(const vmm::MsiMessage& /*message*/) {
    return unsupported("LAPIC");
}
Status TestPartition::route_pins(std::span<const vmm::MsiMessage> /*pins*/) {
    return unsupported("IOAPIC");
}

Status TestPartition::start_dirty_log() {
    for (Region& region : regions_) {
        for (auto& word : region.words) {
            word = 0;
        }
    }
    logging_ = true;
    return {};
}
Status TestPartition::stop_dirty_log() {
    logging_ = false;
    return {};
}

Status TestPartition::fetch_dirty_log(PageRange region, std::span<std::uint64_t> bitmap) {
    if (failing_fetches > 0) {
        --failing_fetches;
        return formats::fail(ErrorCode::io, "the dirty log could not be read");
    }
    if (while_fetching) {
        while_fetching();
    }
    for (Region& own : regions_) {
        if (own.pages == region) {
            for (std::size_t i = 0; i < own.words.size(); ++i) {
                bitmap[i] = own.words[i].exchange(0);
            }
        }
    }
    if (while_fetching) {
        while_fetching();
    }
    return {};
}

formats::Result<vmm::PartitionClock> TestPartition::save_clock() {
    return vmm::PartitionClock{};
}
Status TestPartition::restore_clock(const vmm::PartitionClock& /*clock*/) {
    return {};
}

formats::Result<std::unique_ptr<vmm::FaultSource>>
TestPartition::make_fault_source(vmm::GuestMemory& memory) {
    return vmm::UserfaultSource::open(memory);
}

TestMachineOptions::TestMachineOptions() {
    backend.name = "test";
    backend.postcopy_obstacle = "a test machine has no vCPUs that could wait for a page";
    backend.max_vcpus = 4;
    backend.has_interrupt_controller = true;
    backend.has_dirty_log = true;
    backend.tsc_frequency_khz = 2'000'000;
}

TestMachine::TestMachine(const TestMachineOptions& options, RunWitness& witness)
    : options_{options},
      witness_{witness},
      memory_{memory_of(options.memory)},
      partition_{std::make_unique<TestPartition>(options.backend, memory_)},
      random_{options.seed},
      writes_per_fetch_{options.writes_per_fetch},
      versions_(options.memory / formats::page_bytes) {
    config_.memory = options.memory;
    config_.vcpus = options.vcpus;
    config_.cpuid = options.cpuid;
    partition_->while_fetching = [this] {
        guest_writes(writes_per_fetch_ / 2);
    };
}

TestMachine::~TestMachine() {
    (void)pause();
}

Gfn TestMachine::frame(std::uint64_t index) const {
    for (const vmm::MemoryRegion& region : memory_.regions()) {
        if (index < region.pages.count().value()) {
            return region.pages.first() + PageCount{index};
        }
        index -= region.pages.count().value();
    }
    formats::invariant(false, "a test guest stays in its RAM");
    return {};
}

/// As a vCPU: the page first, then the log.
void TestMachine::write_page(std::uint64_t index, std::uint64_t version) {
    const Gfn at = frame(index);
    const Page page = contents(index, version);
    auto landing = memory_.landing(*PageRange::make(at, PageCount{1}));
    formats::invariant(landing.has_value(), "a test guest stays in its RAM");
    std::memcpy(landing->data(), page.data(), formats::page_size);
    versions_[index] = version;
    partition_->log(at);
    ++writes_;
}

/// As a guest that notices when its memory is not what it was.
void TestMachine::use_page(std::uint64_t index) {
    const Gfn at = frame(index);
    auto seen = memory_.landing(*PageRange::make(at, PageCount{1}));
    formats::invariant(seen.has_value(), "a test guest stays in its RAM");
    const Page right = contents(index, versions_[index]);
    if (seen_wrong_.empty() && std::memcmp(seen->data(), right.data(), formats::page_size) != 0) {
        seen_wrong_ = fmt::format(
            "the guest found page {:#x} not to be version {}", at.value(), versions_[index]);
    }
    write_page(index, ++last_version_);
}

void TestMachine::guest_writes(std::uint32_t count) {
    const std::scoped_lock one{guest_};
    if (state_ != vmm::RunningState::running) {
        return;
    }
    const std::uint64_t hot = std::min<std::uint64_t>(options_.hot_pages, versions_.size());
    const std::uint32_t done = count * (100 - throttled_) / 100;
    for (std::uint32_t i = 0; i < done; ++i) {
        write_page(random_() % hot, ++last_version_);
    }
    writes_per_fetch_ -= std::min(writes_per_fetch_, options_.calming);
}

/// As a device: through GuestMemory, which announces it.
void TestMachine::device_writes(std::uint64_t index) {
    versions_[index] = ++last_version_;
    const Page page = contents(index, versions_[index]);
    auto written = memory_.write(formats::gpa_of(frame(index)), std::as_bytes(std::span{page}));
    formats::invariant(written.has_value(), "a device writes to RAM");
}

bool TestMachine::write_as_device(std::uint64_t index) {
    const std::scoped_lock one{guest_};
    if (state_ != vmm::RunningState::running) {
        return false;
    }
    device_writes(index);
    return true;
}

void TestMachine::run_writer(const std::stop_token& stop) {
    while (!stop.stop_requested()) {
        {
            const std::scoped_lock one{guest_};
            const std::uint64_t hot = std::min<std::uint64_t>(options_.hot_pages, versions_.size());
            use_page(random_() % hot);
        }
        std::this_thread::yield();
    }
}

void TestMachine::fill(std::uint64_t count) {
    const std::scoped_lock one{guest_};
    for (std::uint64_t index = 0; index < count; ++index) {
        write_page(index, ++last_version_);
    }
}

std::vector<std::byte> TestMachine::expected(std::uint64_t index) const {
    std::vector<std::byte> bytes(formats::page_size);
    const auto generation_page = formats::gfn_of(vmm::platform_layout::generation_page);
    if (generation_id_ && frame(index) == generation_page) {
        const auto at = vmm::platform_layout::generation_id - vmm::platform_layout::generation_page;
        std::ranges::copy(
            generation_id_->bytes, bytes.begin() + static_cast<std::ptrdiff_t>(at.value()));
    } else {
        const Page page = contents(index, versions_[index]);
        std::ranges::copy(std::as_bytes(std::span{page}), bytes.begin());
    }
    return bytes;
}

std::string TestMachine::check() {
    const std::scoped_lock one{guest_};
    if (!seen_wrong_.empty()) {
        return seen_wrong_;
    }
    for (std::uint64_t index = 0; index < versions_.size(); ++index) {
        Page seen{};
        const Gfn at = frame(index);
        auto read = memory_.read(formats::gpa_of(at), std::as_writable_bytes(std::span{seen}));
        if (!read) {
            return read.error().text();
        }
        if (!std::ranges::equal(std::as_bytes(std::span{seen}), expected(index))) {
            return fmt::format("page {:#x} is not version {}", at.value(), versions_[index]);
        }
    }
    return {};
}

void TestMachine::end_by_itself() {
    (void)pause();
    state_ = vmm::RunningState::ended;
}

std::optional<vmm::MachineEnd> TestMachine::end() const {
    if (state_ != vmm::RunningState::ended) {
        return std::nullopt;
    }
    return vmm::MachineEnd{vmm::MachineEnd::Cause::powered_off, 0, "it powered off"};
}
void TestMachine::on_end(std::function<void(const vmm::MachineEnd&)> /*callback*/) {}
Status TestMachine::boot(const vmm::BootSource& /*source*/) {
    return unsupported("loader");
}

Status TestMachine::maybe_fail(Operation operation, const char* name) {
    if (std::exchange(failing_[operation], false)) {
        return formats::fail(ErrorCode::io, fmt::format("{} does not work today", name));
    }
    return {};
}

Status TestMachine::resume() {
    auto fails = maybe_fail(Operation::resume, "resume");
    if (!fails || state_ == vmm::RunningState::running) {
        return fails;
    }
    if (state_ == vmm::RunningState::ended) {
        return formats::fail(ErrorCode::wrong_state, "the guest has ended");
    }
    witness_.started();
    state_ = vmm::RunningState::running;
    if (options_.has_writer_thread) {
        writer_ = std::jthread{[this](const std::stop_token& stop) {
            run_writer(stop);
        }};
    }
    return {};
}

Status TestMachine::pause() {
    auto fails = maybe_fail(Operation::pause, "pause");
    if (!fails || state_ != vmm::RunningState::running) {
        return fails;
    }
    writer_ = {};
    const std::scoped_lock one{guest_};
    device_writes(versions_.size() - 1); // the last page of RAM is for that
    state_ = vmm::RunningState::paused;
    witness_.stopped();
    return {};
}

void TestMachine::throttle(unsigned percent) {
    throttled_ = percent;
    most_throttled_ = std::max<unsigned>(most_throttled_, percent);
}

formats::Result<vmm::MachineState> TestMachine::save() {
    auto fails = maybe_fail(Operation::save, "save");
    if (!fails) {
        return formats::fail(std::move(fails).error());
    }
    formats::invariant(state_ == vmm::RunningState::paused, "only a paused machine is saved");
    vmm::MachineState state;
    for (std::uint32_t i = 0; i < config_.vcpus; ++i) {
        state.vcpus.emplace_back();
        state.vcpus.back().index = i;
        state.vcpus.back().registers.rax = last_version_;
    }
    const auto table = std::as_bytes(std::span{versions_});
    state.devices.push_back({"table", 1, {table.begin(), table.end()}});
    state.generation_id = generation_id_;
    return state;
}

Status TestMachine::restore(const vmm::MachineState& state) {
    auto fails = maybe_fail(Operation::restore, "restore");
    if (!fails) {
        return fails;
    }
    const auto table = std::as_writable_bytes(std::span{versions_});
    if (state.devices.size() != 1 || state.devices[0].bytes.size() != table.size()) {
        return formats::fail(ErrorCode::incompatible, "the table has another size here");
    }
    std::memcpy(table.data(), state.devices[0].bytes.data(), table.size());
    last_version_ = state.vcpus.at(0).registers.rax;
    generation_id_ = state.generation_id;
    return {};
}

void TestMachine::boot_with(const vmm::GenerationId& id) {
    const std::array<std::byte, formats::page_size> nothing{};
    auto written = memory_.write(vmm::platform_layout::generation_page, nothing);
    generation_id_ = id;
    written = formats::then(std::move(written), [&] { return begin_generation(id); });
    formats::invariant(written.has_value(), "a test machine has RAM where the id is");
}

Status TestMachine::begin_generation(const vmm::GenerationId& id) {
    if (!generation_id_) {
        return {};
    }
    generation_id_ = id;
    return memory_.write(vmm::platform_layout::generation_id, id.bytes);
}

} // namespace wherry::tests
