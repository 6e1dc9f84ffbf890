// SPDX-License-Identifier: Apache-2.0
// What every hypervisor backend promises (vmm/partition.hpp): one body, run on each.
#include "vmm/partition.hpp"

#include "tests/unit/vmm/tiny_guest.hpp"
#include "vmm/guest_clock.hpp"
#include "vmm/state_comparison.hpp"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <doctest/doctest.h>
#include <fmt/format.h>

namespace {

using namespace wherry;
using namespace std::chrono_literals;
using formats::ErrorCode;
using formats::Gpa;
using tests::must;
using tests::ScriptedExits;
using tests::TinyMachine;
using vmm::ExitReason;
using vmm::HypervisorChoice;

std::string joined(const std::vector<std::string>& phrases) {
    std::string text;
    for (const auto& phrase : phrases) {
        text += phrase + "; ";
    }
    return text;
}

/// `mov al, 0x4b; out 0x10, al; in al, 0x12; add al, 1; out 0x11, al; jmp $`
const tests::Program speak_to_ports{
    0xb0, 0x4b, 0xe6, 0x10, 0xe4, 0x12, 0x04, 0x01, 0xe6, 0x11, 0xeb, 0xfe};

/// Writes one byte in each of 50 pages, every third from 2 MiB, tells port 0x10, starts again.
const tests::Program write_every_third_page{0xbf, 0x00, 0x00, 0x20, 0x00, 0xb9, 0x32, 0x00, 0x00,
                                            0x00, 0xc6, 0x07, 0x5a, 0x81, 0xc7, 0x00, 0x30, 0x00,
                                            0x00, 0x49, 0x75, 0xf4, 0xe6, 0x10, 0xeb, 0xe6};
constexpr std::uint64_t first_written = 0x200;
constexpr std::uint64_t written_stride = 3;
constexpr std::uint64_t written_count = 50;

/// `sti` is not given: nothing but a kick ends this. `out 0x10, al; hlt; jmp to hlt`
const tests::Program sleep_for_ever{0xe6, 0x10, 0xf4, 0xeb, 0xfd};

void speaks_to_ports(HypervisorChoice choice) {
    TinyMachine machine{choice, speak_to_ports};
    std::vector<std::pair<std::uint64_t, std::uint64_t>> writes;
    ScriptedExits exits;
    exits.on_read = [](std::uint64_t /*at*/) {
        return std::uint64_t{0x77};
    };
    exits.on_write = [&](std::uint64_t at, std::uint64_t value) {
        writes.emplace_back(at, value);
        if (at == 0x11) {
            machine.vcpu().kick();
        }
    };
    CHECK(must(machine.vcpu().run(exits)) == ExitReason::kicked);
    CHECK(
        writes == std::vector<std::pair<std::uint64_t, std::uint64_t>>{{0x10, 0x4b}, {0x11, 0x78}});
}

/// Runs the vCPU on a thread of its own until stopped; counts the kicks that were acknowledged.
void kicks_lose_nothing(HypervisorChoice choice, const tests::Program& program) {
    constexpr int kicks = 1000;
    TinyMachine machine{choice, program};
    std::uint64_t last = 0;
    std::uint64_t out_of_order = 0;
    ScriptedExits exits;
    exits.on_write = [&](std::uint64_t /*at*/, std::uint64_t value) {
        out_of_order += value == (last + 1) % (1ULL << 32U) ? 0 : 1;
        last = value;
    };
    exits.on_read = [&](std::uint64_t /*at*/) {
        return last;
    };

    std::mutex mutex;
    std::condition_variable changed;
    int acknowledged = 0;
    bool ends = false;
    bool has_moved = false;
    std::uint64_t incomplete = 0;
    std::uint64_t wrong_reasons = 0;
    std::thread runner{[&] {
        std::unique_lock held{mutex};
        while (!ends) {
            held.unlock();
            const auto reason = machine.vcpu().run(exits);
            const auto state = machine.vcpu().save();
            held.lock();
            wrong_reasons += reason && state && *reason == ExitReason::kicked ? 0 : 1;
            // Pending I/O is finished: the register holds what was read last.
            const auto counter = state ? state->registers.rax : 0;
            incomplete += counter == last || counter == last + 1 ? 0 : 1;
            has_moved = last > 0;
            ++acknowledged;
            changed.notify_all();
        }
    }};
    // On a slow engine each of them may come before the guest's first access.
    constexpr int patience = 6000;
    for (int kick = 0; kick < kicks + patience && !ends; ++kick) {
        if (kick >= kicks) {
            std::this_thread::sleep_for(10ms);
        }
        std::unique_lock held{mutex};
        const int before = acknowledged;
        ends = kick >= kicks - 1 && (has_moved || kick == kicks + patience - 1);
        do {
            machine.vcpu().kick();
        } while (!changed.wait_for(held, 1ms, [&] { return acknowledged != before; }));
    }
    runner.join();
    CHECK(wrong_reasons == 0);
    CHECK(acknowledged >= kicks);
    CHECK(out_of_order == 0);
    CHECK(incomplete == 0);
    CHECK(last > 0);
}

void a_kick_before_run_is_not_lost(HypervisorChoice choice) {
    TinyMachine machine{choice, tests::count_in_memory};
    ScriptedExits exits;
    machine.vcpu().kick();
    machine.vcpu().kick();
    CHECK(must(machine.vcpu().run(exits)) == ExitReason::kicked);
    CHECK(machine.word_at(tests::memory_counter) == 0); // it did not get to run
    // The kicks are used up: the next run runs.
    std::atomic<bool> done = false;
    std::thread runner{[&] {
        must(machine.vcpu().run(exits));
        done = true;
    }};
    while (machine.word_at(tests::memory_counter) == 0) {
        std::this_thread::yield();
    }
    while (!done) {
        machine.vcpu().kick();
        std::this_thread::yield();
    }
    runner.join();
}

/// Kicks that come faster than the vCPU's thread can take them must not keep it from returning.
void a_flood_of_kicks_stops_it(HypervisorChoice choice) {
    TinyMachine machine{choice, tests::count_in_memory};
    for (int turn = 0; turn < 20; ++turn) {
        ScriptedExits exits;
        std::atomic<bool> done = false;
        std::thread runner{[&] {
            must(machine.vcpu().run(exits));
            done = true;
        }};
        while (!done) {
            machine.vcpu().kick();
        }
        runner.join();
    }
}

void a_sleeping_vcpu_can_be_kicked(HypervisorChoice choice) {
    TinyMachine machine{choice, sleep_for_ever};
    std::atomic<bool> is_asleep_soon = false;
    std::atomic<bool> done = false;
    ExitReason reason{};
    ScriptedExits exits;
    exits.on_write = [&](std::uint64_t /*at*/, std::uint64_t /*value*/) {
        is_asleep_soon = true;
    };
    std::thread runner{[&] {
        reason = must(machine.vcpu().run(exits));
        done = true;
    }};
    while (!is_asleep_soon) {
        std::this_thread::yield();
    }
    if (choice == HypervisorChoice::soft ||
        choice.engine == vmm::mshvsim::EngineChoice::soft) { // reports the halt by itself
        runner.join();
        CHECK((reason == ExitReason::halted || reason == ExitReason::kicked));
        return;
    }
    while (!done) {
        machine.vcpu().kick();
        std::this_thread::yield();
    }
    runner.join();
    CHECK(reason == ExitReason::kicked);
}

std::vector<std::uint64_t> written_words(std::uint64_t pages) {
    std::vector<std::uint64_t> words(pages / 64);
    for (std::uint64_t i = 0; i < written_count; ++i) {
        const auto page = first_written + i * written_stride;
        words[page / 64] |= std::uint64_t{1} << (page % 64);
    }
    return words;
}

void the_dirty_log_is_exact(HypervisorChoice choice) {
    TinyMachine machine{choice, write_every_third_page};
    if (!machine.partition->capabilities().has_dirty_log) {
        fmt::print("SKIPPED: dirty log: {} has none\n", machine.partition->capabilities().name);
        return;
    }
    ScriptedExits exits;
    exits.on_write = [&](std::uint64_t /*at*/, std::uint64_t /*value*/) {
        machine.vcpu().kick();
    };
    const auto one_turn = [&] {
        REQUIRE(must(machine.vcpu().run(exits)) == ExitReason::kicked);
    };
    const auto region = machine.memory.regions()[0].pages;
    const auto pages = region.count().value();
    std::vector<std::uint64_t> bitmap(pages / 64, 0xdead);
    const auto fetch = [&] {
        return machine.partition->fetch_dirty_log(region, bitmap);
    };

    CHECK_FALSE(fetch()); // not started
    one_turn();           // before the start: does not count
    for (int round = 0; round < 2; ++round) {
        must(machine.partition->start_dirty_log());
        CHECK_FALSE(machine.partition->start_dirty_log());
        must(fetch());
        CHECK(bitmap == std::vector<std::uint64_t>(pages / 64));
        for (int turn = 0; turn < 3; ++turn) {
            one_turn();
            must(fetch());
            CHECK(bitmap == written_words(pages));
            must(fetch());
            CHECK(bitmap == std::vector<std::uint64_t>(pages / 64));
        }
        one_turn();
        must(machine.partition->stop_dirty_log());
        must(machine.partition->stop_dirty_log());
        one_turn();
    }
    const auto part = must(formats::PageRange::make(region.first(), formats::PageCount{64}));
    must(machine.partition->start_dirty_log());
    CHECK_FALSE(machine.partition->fetch_dirty_log(part, bitmap));
    CHECK_FALSE(machine.partition->fetch_dirty_log(region, std::span{bitmap}.first(1)));
    must(machine.partition->stop_dirty_log());
}

void run_a_while(TinyMachine& machine) {
    ScriptedExits exits;
    const auto start = machine.word_at(tests::memory_counter);
    std::atomic<bool> done = false;
    std::thread runner{[&] {
        must(machine.vcpu().run(exits));
        done = true;
    }};
    // Looks now and then: a look that never sleeps takes a core from what the host does for the
    // guest meanwhile.
    constexpr std::chrono::milliseconds look_again{1};
    while (machine.word_at(tests::memory_counter) < start + 1000) {
        std::this_thread::sleep_for(look_again);
    }
    while (!done) {
        machine.vcpu().kick();
        std::this_thread::sleep_for(look_again);
    }
    runner.join();
}

void a_state_moves_to_another_partition(HypervisorChoice choice) {
    TinyMachine source{choice, tests::count_in_memory};
    run_a_while(source);
    const auto source_clock = must(source.partition->save_clock());
    const auto saved = must(source.vcpu().save());
    const auto counted = source.word_at(tests::memory_counter);

    TinyMachine destination{choice, {}};
    tests::copy_memory(source.memory, destination.memory);
    must(destination.partition->restore_clock(source_clock));
    must(destination.vcpu().restore(saved));
    const auto clock = must(destination.partition->save_clock());
    const auto found = must(destination.vcpu().save());

    CHECK(found.registers == saved.registers);
    CHECK(found.system == saved.system);
    CHECK(found.debug == saved.debug);
    CHECK(found.events == saved.events);
    CHECK(found.run_state == saved.run_state);
    CHECK(found.extended_controls == saved.extended_controls);
    CHECK(found.msrs.size() == saved.msrs.size());
    CHECK(joined(vmm::differences(saved, found)) == "");
    CHECK(clock.reference_time >= source_clock.reference_time);
    CHECK(found.tsc >= saved.tsc);
    CHECK(found.tsc_frequency_khz == saved.tsc_frequency_khz);
    CHECK(destination.word_at(tests::memory_counter) == counted);
    run_a_while(destination);
    CHECK(destination.word_at(tests::memory_counter) >= counted + 1000);
}

/// Restores with a clock that says that it was saved `ago`, and returns how far both have moved;
/// nothing where the host cannot move a guest's TSC, which it must then say.
struct Moved {
    std::uint64_t ticks;
    std::chrono::nanoseconds reference;
    std::uint64_t khz;
};
std::optional<Moved> restore_as_saved(HypervisorChoice choice, std::chrono::nanoseconds ago) {
    TinyMachine source{choice, tests::count_in_memory};
    auto clock = must(source.partition->save_clock());
    const auto saved = must(source.vcpu().save());
    clock.host_real_time -= ago;
    TinyMachine destination{choice, {}};
    must(destination.partition->restore_clock(clock));
    if (const auto restored = destination.vcpu().restore(saved); !restored) {
        CHECK(restored.error().code() == ErrorCode::incompatible);
        CHECK(restored.error().text().find("TSC") != std::string::npos);
        fmt::print("SKIPPED: time moves forward: {}\n", restored.error().text());
        return std::nullopt;
    }
    const auto found_clock = must(destination.partition->save_clock());
    const auto found = must(destination.vcpu().save());
    return Moved{
        .ticks = found.tsc - saved.tsc,
        .reference = found_clock.reference_time - clock.reference_time,
        .khz = saved.tsc_frequency_khz};
}

void time_moves_forward_by_what_passed(HypervisorChoice choice) {
    // A minute is far from what the test itself takes; half an hour bounds a very slow machine.
    if (const auto forward = restore_as_saved(choice, 1min)) {
        CHECK(forward->reference >= 1min);
        CHECK(forward->reference < 30min);
        CHECK(forward->ticks >= vmm::ticks_in(1min, forward->khz));
        CHECK(forward->ticks < vmm::ticks_in(30min, forward->khz));
    }
    // A destination whose clock is behind: time stands still, it does not go back.
    if (const auto backward = restore_as_saved(choice, -60min)) {
        CHECK(backward->reference >= 0ns);
        CHECK(backward->reference < 30min);
        CHECK(backward->ticks < vmm::ticks_in(30min, backward->khz));
    }
}

void vcpus_that_do_not_exist_are_refused(HypervisorChoice choice) {
    const auto most = must(vmm::probe(choice)).max_vcpus;
    CHECK_FALSE(vmm::open_partition(choice, {.vcpus = 0}));
    CHECK_FALSE(vmm::open_partition(choice, {.vcpus = most + 1}));
    TinyMachine machine{choice, {}};
    CHECK_FALSE(machine.partition->create_vcpu(1));
    auto state = must(machine.vcpu().save());
    state.index = 1;
    CHECK_FALSE(machine.vcpu().restore(state));
}

void run_all(std::string_view name) {
    const auto choice = tests::hypervisor(name);
    if (!tests::has_backend(choice, fmt::format("partition on {}", name))) {
        return;
    }
    SUBCASE("ports reach the handler and their values the guest") {
        speaks_to_ports(choice);
    }
    SUBCASE("a thousand kicks lose no port access") {
        kicks_lose_nothing(choice, tests::count_through_ports);
    }
    SUBCASE("a thousand kicks lose no memory access") {
        kicks_lose_nothing(choice, tests::count_through_memory);
    }
    SUBCASE("a kick before run is not lost, and used up by it") {
        a_kick_before_run_is_not_lost(choice);
    }
    SUBCASE("a vCPU that waits in HLT can be kicked") {
        a_sleeping_vcpu_can_be_kicked(choice);
    }
    SUBCASE("a vCPU that is kicked without a pause comes back") {
        a_flood_of_kicks_stops_it(choice);
    }
    SUBCASE("the dirty log says exactly what was written") {
        the_dirty_log_is_exact(choice);
    }
    SUBCASE("a state moves to another partition whole, and goes on") {
        a_state_moves_to_another_partition(choice);
    }
    SUBCASE("time moves forward by what passed, and never back") {
        time_moves_forward_by_what_passed(choice);
    }
    SUBCASE("vCPUs that do not exist are refused") {
        vcpus_that_do_not_exist_are_refused(choice);
    }
}

} // namespace

TEST_SUITE("vmm.partition") {
    TEST_CASE("kvm keeps the promises of a backend") {
        run_all("kvm");
    }
    TEST_CASE("soft keeps the promises of a backend") {
        run_all("soft");
    }
    TEST_CASE("mshv keeps the promises of a backend") {
        run_all("mshv");
    }
    TEST_CASE("mshv on the simulated kernel 6.18 keeps the promises of a backend") {
        run_all("mshvsim:6.18:kvm");
    }
    TEST_CASE("mshv on the simulated kernel 7.2 keeps the promises of a backend") {
        run_all("mshvsim:7.2:kvm");
    }
    TEST_CASE("mshv on the simulated kernel 7.3 keeps the promises of a backend") {
        run_all("mshvsim:7.3:kvm");
    }

    TEST_CASE("mshv on the simulator's soft engine keeps the promises of a backend") {
        run_all("mshvsim:7.2:soft");
    }

    TEST_CASE("backends have names, and others are refused") {
        CHECK(tests::hypervisor("auto") == HypervisorChoice::automatic);
        CHECK(tests::hypervisor("kvm") == HypervisorChoice::kvm);
        CHECK(tests::hypervisor("soft") == HypervisorChoice::soft);
        CHECK(tests::hypervisor("mshv") == HypervisorChoice::mshv);
        for (const auto personality : vmm::mshvsim::personality_names) {
            for (const auto engine : vmm::mshvsim::engine_names) {
                const auto name = fmt::format("mshvsim:{}:{}", personality, engine);
                CHECK(vmm::name_of(tests::hypervisor(name)) == name);
            }
        }
        CHECK(vmm::name_of(tests::hypervisor("mshvsim")) == "mshvsim:7.2:auto");
        CHECK(vmm::name_of(tests::hypervisor("mshvsim:6.18")) == "mshvsim:6.18:auto");
        CHECK(vmm::name_of(HypervisorChoice::kvm) == "kvm");
        for (const char* const name :
             {"", ":", "mshvsim:", "mshvsim:soft", "mshvsim:7.2:", "mshvsim:7.2:kvm:", "kvm:7.2"}) {
            CHECK_FALSE(vmm::hypervisor_from(name));
        }
        const auto unknown = vmm::hypervisor_from("KVM");
        REQUIRE_FALSE(unknown);
        CHECK(unknown.error().code() == ErrorCode::invalid_argument);
    }

    TEST_CASE("auto takes what works: mshv, kvm, soft") {
        const auto automatic = vmm::probe(HypervisorChoice::automatic);
        for (const auto choice :
             {HypervisorChoice::mshv, HypervisorChoice::kvm, HypervisorChoice::soft}) {
            if (const auto found = vmm::probe(choice)) {
                CHECK(must(automatic).name == found->name);
                return;
            }
        }
        REQUIRE_FALSE(automatic);
        for (const char* const name : {"mshv: ", "kvm: ", "soft: "}) {
            CHECK(automatic.error().text().find(name) != std::string::npos);
        }
    }
}
