// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine.hpp"

#include "formats/little_endian.hpp"
#include "tests/unit/vmm/tiny_guest.hpp"
#include "vmm/devices/exit_port.hpp"
#include "vmm/little_endian.hpp"
#include "vmm/platform_layout.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <future>
#include <iterator>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <unistd.h>

namespace {

using namespace wherry;
using formats::ErrorCode;
using formats::operator""_MiB;
using tests::must;
using vmm::HypervisorChoice;
using vmm::Machine;
using vmm::MachineEnd;
using vmm::RunningState;

struct Log {
    Log() {
        static std::atomic<int> number = 0;
        path = std::filesystem::temp_directory_path() /
               fmt::format("machine.{}.{}", ::getpid(), ++number);
    }
    ~Log() {
        std::error_code ignored;
        std::filesystem::remove(path, ignored);
    }
    Log(const Log&) = delete;
    Log& operator=(const Log&) = delete;
    std::string text() const {
        std::ifstream in{path};
        return {std::istreambuf_iterator<char>{in}, {}};
    }
    std::filesystem::path path;
};

std::unique_ptr<Machine> make(HypervisorChoice choice, const std::string& serial = "none") {
    return must(Machine::create({.memory = 16_MiB}, {.hypervisor = choice, .serial = serial}));
}

/// A machine whose only vCPU is about to execute `program`.
std::unique_ptr<Machine> make_with(
    HypervisorChoice choice, const tests::Program& program, const std::string& serial = "none") {
    auto machine = make(choice, serial);
    tests::load_program(machine->memory(), program);
    auto state = must(machine->save());
    tests::aim(state.vcpus.front());
    must(machine->restore(state));
    return machine;
}

std::uint32_t counter(Machine& machine) {
    std::uint32_t value = 0;
    must(
        machine.memory().read(tests::memory_counter, std::as_writable_bytes(std::span{&value, 1})));
    return value;
}

void wait_for_progress(Machine& machine) {
    const auto start = counter(machine);
    while (counter(machine) < start + 100) {
        std::this_thread::yield();
    }
}

/// `mov dx, 0x3f8; mov al, 'A'; out dx, al; inc al; cmp al, 'Z'; jbe to out; jmp $`
const tests::Program print_alphabet{
    0x66, 0xba, 0xf8, 0x03, 0xb0, 'A', 0xee, 0xfe, 0xc0, 0x3c, 'Z', 0x76, 0xf9, 0xeb, 0xfe};

/// `mov dx, 0x3f8; mov al, 'x'; out dx, al; mov dx, 0x501; mov al, 7; out dx, al; jmp $`
const tests::Program exit_with_7{
    0x66, 0xba, 0xf8, 0x03, 0xb0, 'x', 0xee, 0x66, 0xba, 0x01, 0x05, 0xb0, 0x07, 0xee, 0xeb, 0xfe};

void pauses_and_resumes(HypervisorChoice choice) {
    auto machine = make_with(choice, tests::count_in_memory);
    CHECK(machine->running_state() == RunningState::paused);
    must(machine->pause());
    for (int round = 0; round < 300; ++round) {
        must(machine->resume());
        must(machine->resume());
        CHECK(machine->running_state() == RunningState::running);
        CHECK_FALSE(machine->save());
        if (round % 50 == 0) {
            wait_for_progress(*machine);
        }
        must(machine->pause());
        CHECK(machine->running_state() == RunningState::paused);
        const auto stopped = counter(*machine);
        must(machine->pause());
        must(machine->save());
        CHECK(counter(*machine) == stopped);
    }
    CHECK(counter(*machine) > 0);
}

std::vector<std::byte> contents(Machine& machine) {
    std::vector<std::byte> bytes(machine.memory().size().value());
    must(machine.memory().read(formats::Gpa{0}, bytes));
    return bytes;
}

/// C07: what is sent of it while it stands still is the whole truth, and stays so.
void is_written_by_nobody_while_paused(HypervisorChoice choice) {
    auto machine = make_with(choice, tests::count_in_memory);
    const bool has_log = machine->backend().has_dirty_log;
    const auto ram = machine->memory().regions().front().pages;
    std::vector<std::uint64_t> log((ram.count().value() + 63) / 64);
    const auto is_dirtied = [&] {
        std::ranges::fill(log, 0);
        must(machine->partition().fetch_dirty_log(ram, log));
        return std::ranges::any_of(log, [](std::uint64_t word) { return word != 0; });
    };
    if (has_log) {
        must(machine->partition().start_dirty_log());
        (void)is_dirtied(); // the first answer may be everything
    }
    must(machine->resume());
    wait_for_progress(*machine);
    must(machine->pause());
    if (has_log) {
        CHECK(is_dirtied());
    }
    const auto stood = contents(*machine);
    must(machine->save());
    std::this_thread::sleep_for(std::chrono::milliseconds{20}); // for whoever might still write
    CHECK(contents(*machine) == stood);
    if (has_log) {
        CHECK_FALSE(is_dirtied());
    }
}

/// Hears of the one page that a vCPU waits for.
class OneFault final : public vmm::FaultListener {
public:
    void wanted(formats::PageRange /*pages*/) noexcept override { told_ = true; }
    void await() const {
        while (!told_) {
            std::this_thread::yield();
        }
    }

private:
    std::atomic<bool> told_ = false;
};

/// Whether a vCPU leaves that waits for a page is the backend's matter; that the guest then either
/// stands still or does what `late` says is not.
void a_pause_may_have_a_limit(HypervisorChoice choice, vmm::IfLate late) {
    const auto obstacle = must(vmm::probe(choice)).postcopy_obstacle;
    if (!obstacle.empty()) {
        fmt::print("SKIPPED: machine.pause_within on {}: {}\n", vmm::name_of(choice), obstacle);
        return;
    }
    auto machine = make_with(choice, tests::count_in_memory);
    const std::array pages{must(
        formats::PageRange::make(formats::gfn_of(tests::memory_counter), formats::PageCount{1}))};
    OneFault fault;
    const auto source = must(machine->partition().make_fault_source(machine->memory()));
    std::vector<formats::PageBitmap> missing;
    for (const auto& region : machine->memory().regions()) {
        missing.emplace_back(region.pages);
    }
    missing.front().set(pages.front());
    must(source->arm(missing, fault, vmm::MemoryBefore::used));
    must(machine->resume());
    fault.await();
    constexpr std::chrono::milliseconds soon{200};
    const auto paused = machine->pause_within(soon, late);
    const bool stays_asked = !paused && late == vmm::IfLate::stays_asked;
    if (paused) {
        CHECK(machine->running_state() == RunningState::paused);
        must(machine->resume());
    } else {
        CHECK(paused.error().code() == ErrorCode::timed_out);
        CHECK(machine->running_state() == RunningState::running);
    }
    if (stays_asked) {
        const auto again = machine->pause_within(soon, vmm::IfLate::goes_on);
        CHECK(again.error().code() == ErrorCode::timed_out);
        CHECK(machine->resume().error().code() == ErrorCode::wrong_state);
    }
    const std::array<std::byte, formats::page_size> zeros{};
    CHECK(must(source->place(pages.front(), zeros)) == formats::PageCount{1});
    if (stays_asked) {
        must(machine->pause());
        must(machine->resume());
    }
    wait_for_progress(*machine);
    must(machine->pause_within(std::chrono::minutes{1}, late));
    CHECK(machine->running_state() == RunningState::paused);
    must(source->disarm());
}

void goes_on_in_another_machine(HypervisorChoice choice) {
    auto source = make_with(choice, tests::count_in_memory);
    for (int hop = 0; hop < 5; ++hop) {
        must(source->resume());
        wait_for_progress(*source);
        must(source->pause());
        const auto state = must(source->save());
        const auto counted = counter(*source);
        auto destination = must(Machine::create(source->config(), {choice, "none"}));
        tests::copy_memory(source->memory(), destination->memory());
        must(destination->restore(state));
        const auto again = must(destination->save());
        CHECK(again.devices == state.devices);
        CHECK(again.vcpus.front().registers == state.vcpus.front().registers);
        CHECK(again.vcpus.front().tsc >= state.vcpus.front().tsc);
        CHECK(again.clock.reference_time >= state.clock.reference_time);
        CHECK(counter(*destination) == counted);
        CHECK_FALSE(destination->restore(state)); // it is not fresh any more
        source = std::move(destination);
    }
}

void is_throttled(HypervisorChoice choice) {
    auto machine = make_with(choice, tests::count_in_memory);
    machine->throttle(90);
    must(machine->resume());
    wait_for_progress(*machine);
    must(machine->pause());
    const auto stopped = counter(*machine);
    machine->throttle(99);
    CHECK(counter(*machine) == stopped); // paused stays paused
    must(machine->resume());
    wait_for_progress(*machine);
    machine->throttle(0);
    wait_for_progress(*machine);
    machine->throttle(50); // and so it ends
}

void ends_by_the_exit_port(HypervisorChoice choice) {
    const Log log;
    auto machine = make_with(choice, exit_with_7, "file:" + log.path.string());
    std::atomic<int> calls = 0;
    std::promise<MachineEnd> ended;
    machine->on_end([&](const MachineEnd& end) {
        if (++calls == 1) {
            ended.set_value(end);
        }
    });
    CHECK_FALSE(machine->end());
    must(machine->resume());
    const auto end = ended.get_future().get();
    CHECK(end.cause == MachineEnd::Cause::exit_port);
    CHECK(end.exit_code == 7);
    CHECK(machine->running_state() == RunningState::ended);
    REQUIRE(machine->end());
    CHECK(machine->end()->exit_code == 7);
    CHECK(log.text() == "x");
    must(machine->pause());
    CHECK(machine->running_state() == RunningState::ended);
    const auto resumed = machine->resume();
    REQUIRE_FALSE(resumed);
    CHECK(resumed.error().code() == ErrorCode::wrong_state);
    CHECK_FALSE(machine->save());
    int late_calls = 0;
    machine->on_end([&](const MachineEnd&) { ++late_calls; });
    CHECK(late_calls == 1);
    machine.reset();
    CHECK(calls == 1);
}

void a_triple_fault_is_a_crash(HypervisorChoice choice) {
    // `ud2` without an interrupt table
    auto machine = make_with(choice, {0x0f, 0x0b});
    std::promise<MachineEnd> ended;
    machine->on_end([&](const MachineEnd& end) { ended.set_value(end); });
    must(machine->resume());
    const auto end = ended.get_future().get();
    CHECK(end.cause == MachineEnd::Cause::crashed);
    CHECK_FALSE(end.text.empty());
}

void serial_output_goes_on(HypervisorChoice choice) {
    const Log first;
    const Log second;
    auto source = make_with(choice, print_alphabet, "file:" + first.path.string());
    must(source->resume());
    while (first.text().empty()) {
        std::this_thread::yield();
    }
    must(source->pause());
    auto destination =
        must(Machine::create(source->config(), {choice, "file:" + second.path.string()}));
    tests::copy_memory(source->memory(), destination->memory());
    must(destination->restore(must(source->save())));
    must(destination->resume());
    while ((first.text() + second.text()).size() < 26) {
        std::this_thread::yield();
    }
    CHECK(first.text() + second.text() == "ABCDEFGHIJKLMNOPQRSTUVWXYZ");
}

void wrong_states_are_refused(HypervisorChoice choice) {
    auto machine = make(choice);
    const auto good = must(machine->save());

    auto more = good;
    more.vcpus.push_back(good.vcpus.front());
    auto other = make(choice);
    CHECK_FALSE(other->restore(more));

    auto strange = good;
    strange.devices.push_back({.id = "floppy", .version = 1, .bytes = {}});
    other = make(choice);
    const auto refused = other->restore(strange);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code() == ErrorCode::incompatible);
    CHECK(refused.error().text().find("floppy") != std::string::npos);

    auto without = good;
    without.devices.pop_back();
    other = make(choice);
    CHECK_FALSE(other->restore(without));
}

constexpr std::uint8_t generation_vector = 0x51;

/// As if the guest had a driver for the generation id: its interrupt goes to vCPU 0.
void listen_for_generations(vmm::MachineState& state) {
    const auto io_apic = std::ranges::find(state.devices, "ioapic", &vmm::DeviceState::id);
    if (io_apic == state.devices.end()) {
        return;
    }
    constexpr std::size_t entry = 2 + 9 * vmm::platform_layout::event_pin;
    formats::store_little<std::uint64_t>(io_apic->bytes, entry, generation_vector);
    auto& vcpu = state.vcpus.front();
    REQUIRE(vcpu.lapic);
    formats::store_little<std::uint32_t>(*vcpu.lapic, 0xf0, 0x1ff); // enabled
    vcpu.hyperv.reset(); // whose own form of the APIC would be taken
}

bool is_interrupt_pending(const vmm::MachineState& state) {
    const auto& lapic = state.vcpus.front().lapic;
    constexpr std::size_t requests = 0x200 + generation_vector / 32 * 0x10;
    return lapic && (*vmm::load_le<std::uint32_t>(*lapic, requests) >> generation_vector % 32 & 1U);
}

vmm::GenerationId id_in_memory(Machine& machine) {
    vmm::GenerationId id;
    must(machine.memory().read(vmm::platform_layout::generation_id, id.bytes));
    return id;
}

void begins_a_generation(HypervisorChoice choice) {
    const auto first = vmm::GenerationId::make();
    const auto second = vmm::GenerationId::make();
    REQUIRE(first != second);
    auto without = make_with(choice, tests::count_in_memory);
    CHECK_FALSE(without->generation_id());
    must(without->begin_generation(first)); // a guest that was told of none
    CHECK_FALSE(without->generation_id());
    CHECK(id_in_memory(*without) == vmm::GenerationId{});

    auto state = must(without->save());
    CHECK_FALSE(state.generation_id);
    state.generation_id = first;
    listen_for_generations(state);
    auto machine = must(Machine::create(without->config(), {choice, "none"}));
    tests::copy_memory(without->memory(), machine->memory());
    must(machine->restore(state));
    CHECK(machine->generation_id() == first);
    CHECK(id_in_memory(*machine) == vmm::GenerationId{}); // it comes with the memory
    CHECK_FALSE(is_interrupt_pending(must(machine->save())));
    must(machine->begin_generation(second));
    CHECK(machine->generation_id() == second);
    CHECK(id_in_memory(*machine) == second);
    const auto again = must(machine->save());
    CHECK(again.generation_id == second);
    CHECK(is_interrupt_pending(again) == machine->backend().has_interrupt_controller);

    must(machine->resume());
    const auto refused = machine->begin_generation(first);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code() == ErrorCode::wrong_state);
    wait_for_progress(*machine);
    CHECK(id_in_memory(*machine) == second);
}

void run_all(std::string_view name) {
    const auto choice = tests::hypervisor(name);
    if (!tests::has_backend(choice, fmt::format("machine on {}", name))) {
        return;
    }
    SUBCASE("it pauses and resumes any number of times") {
        pauses_and_resumes(choice);
    }
    SUBCASE("C07 nobody writes to its memory while it is paused") {
        is_written_by_nobody_while_paused(choice);
    }
    SUBCASE("a pause may have a limit, after which it goes on") {
        a_pause_may_have_a_limit(choice, vmm::IfLate::goes_on);
    }
    SUBCASE("a pause may have a limit, after which it stops as soon as it can") {
        a_pause_may_have_a_limit(choice, vmm::IfLate::stays_asked);
    }
    SUBCASE("throttled it goes on, pauses, resumes and ends") {
        is_throttled(choice);
    }
    SUBCASE("its guest goes on in another machine") {
        goes_on_in_another_machine(choice);
    }
    SUBCASE("the exit port ends it once, with all output written") {
        ends_by_the_exit_port(choice);
    }
    SUBCASE("a triple fault is a crash") {
        a_triple_fault_is_a_crash(choice);
    }
    SUBCASE("serial output goes on where it stopped") {
        serial_output_goes_on(choice);
    }
    SUBCASE("states of other machines are refused") {
        wrong_states_are_refused(choice);
    }
    SUBCASE("a guest with a generation id is given another, and told") {
        begins_a_generation(choice);
    }
}

} // namespace

TEST_SUITE("vmm.machine") {
    TEST_CASE("a machine on kvm") {
        run_all("kvm");
    }
    TEST_CASE("a machine on soft") {
        run_all("soft");
    }
    TEST_CASE("a machine on mshv") {
        run_all("mshv");
    }
    TEST_CASE("a machine on the simulator of mshv") {
        run_all("mshvsim:7.2:kvm");
    }

    TEST_CASE("a machine that cannot be is refused") {
        if (!tests::has_backend(HypervisorChoice::automatic, "machine that cannot be")) {
            return;
        }
        CHECK_FALSE(Machine::create({.memory = 16_MiB, .vcpus = 0}, {}));
        CHECK_FALSE(Machine::create({.memory = 16_MiB, .vcpus = 255}, {}));
        CHECK_FALSE(Machine::create({.memory = formats::Bytes{4096}}, {.serial = "none"}));
        CHECK_FALSE(Machine::create({.memory = 16_MiB}, {.serial = "printer"}));
        auto cpuid = must(vmm::probe(HypervisorChoice::automatic)).cpuid;
        for (auto& entry : cpuid) {
            entry.ecx |= entry.leaf == 1 ? 1U << 5U : 0U; // VMX, which is never offered
        }
        const auto refused = Machine::create({.memory = 16_MiB, .cpuid = cpuid}, {});
        REQUIRE_FALSE(refused);
        CHECK(refused.error().code() == ErrorCode::incompatible);
        CHECK(refused.error().text().find("vmx") != std::string::npos);
    }
}
