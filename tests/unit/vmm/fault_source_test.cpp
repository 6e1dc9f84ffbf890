// SPDX-License-Identifier: Apache-2.0
// What every source of missing pages promises (vmm/fault_source.hpp), with guests on each backend.
#include "vmm/fault_source.hpp"

#include "tests/unit/vmm/fault_fixture.hpp"
#include "tests/unit/vmm/tiny_guest.hpp"

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include <doctest/doctest.h>
#include <fmt/format.h>

namespace {

using namespace wherry;
using formats::ErrorCode;
using formats::Gpa;
using formats::PageCount;
using tests::arm;
using tests::filled;
using tests::Listener;
using tests::must;
using tests::page;
using tests::pages;
using tests::Running;
using tests::ScriptedExits;
using tests::TinyMachine;
using vmm::HypervisorChoice;

/// `mov eax, [0x400000]; out 0x10, eax; mov eax, [0x600000]; out 0x10, eax; jmp $`
const tests::Program read_two_pages{
    0xa1, 0x00, 0x00, 0x40, 0x00, 0xe7, 0x10, 0xa1, 0x00, 0x00, 0x60, 0x00, 0xe7, 0x10, 0xeb, 0xfe};
constexpr std::uint64_t first_page = 0x400;
constexpr std::uint64_t second_page = 0x600; // in another window of 512
constexpr std::uint64_t stale = 0x57a1e;
/// A look that never sleeps takes a core from what the host does for the guest.
constexpr std::chrono::milliseconds look_again{1};

std::array<formats::PageRange, 2> both_pages() {
    return {page(first_page), page(second_page)};
}

void fill_with_stale(TinyMachine& machine) {
    for (const auto range : both_pages()) {
        must(machine.memory.write(formats::gpa_of(range.first()), filled(stale, 1)));
    }
}

void place_both(vmm::FaultSource& source, std::uint64_t value) {
    for (const auto range : both_pages()) {
        CHECK(must(source.place(range, filled(value, 1))) == PageCount{1});
    }
}

std::unique_ptr<vmm::FaultSource> source_of(TinyMachine& machine) {
    return must(machine.partition->make_fault_source(machine.memory));
}

void a_vcpu_waits_and_sees_what_was_placed(const HypervisorChoice& choice) {
    TinyMachine machine{choice, read_two_pages};
    fill_with_stale(machine);
    const auto source = source_of(machine);
    Listener listener;
    must(arm(*source, machine.memory, both_pages(), listener));
    CHECK(source->missing() == PageCount{2});

    Running running{machine.vcpu()};
    listener.await(first_page);
    CHECK(running.seen().empty());
    CHECK(must(source->place(page(first_page), filled(11, 1))) == PageCount{1});
    listener.await(second_page);
    CHECK(running.seen() == std::vector<std::uint64_t>{11});
    CHECK(must(source->place(page(second_page), filled(12, 1))) == PageCount{1});
    running.await_seen(2);
    CHECK(running.seen() == std::vector<std::uint64_t>{11, 12});
    CHECK(running.stop() == vmm::ExitReason::kicked);
    CHECK(source->missing() == PageCount{0});
    must(source->disarm());
    CHECK(source->disarm().error().code() == ErrorCode::wrong_state);
}

void zero_pages_are_zero_whatever_was_there(const HypervisorChoice& choice) {
    TinyMachine machine{choice, read_two_pages};
    fill_with_stale(machine);
    const auto source = source_of(machine);
    Listener listener;
    must(arm(*source, machine.memory, both_pages(), listener));
    Running running{machine.vcpu()};
    listener.await(first_page);
    CHECK(must(source->place_zero(pages(first_page, 0x201))) == PageCount{2});
    running.await_seen(2);
    CHECK(running.seen() == std::vector<std::uint64_t>{0, 0});
    running.stop();
    must(source->disarm());
}

/// Two pages of a guest that has touched nothing; then it turns out that only one of them has
/// contents.
void who_waits_for_what_is_not_missing_after_all_goes_on(const HypervisorChoice& choice) {
    TinyMachine machine{choice, read_two_pages};
    const auto source = source_of(machine);
    Listener listener;
    must(arm(*source, machine.memory, both_pages(), listener, vmm::MemoryBefore::untouched));
    Running running{machine.vcpu()};
    listener.await(first_page);
    const auto left =
        must(source->narrow(tests::bitmaps_of(machine.memory, std::array{page(second_page)})));
    CHECK(left == std::vector{page(first_page)});
    CHECK(source->missing() == PageCount{1});
    CHECK(source->missing_pages() == std::vector{page(second_page)});
    running.await_seen(1);
    CHECK(running.seen() == std::vector<std::uint64_t>{0});
    listener.await(second_page);
    CHECK(must(source->place(page(second_page), filled(12, 1))) == PageCount{1});
    running.await_seen(2);
    CHECK(running.seen() == std::vector<std::uint64_t>{0, 12});
    running.stop();
    must(source->disarm());
}

void what_is_there_does_not_wait(const HypervisorChoice& choice) {
    TinyMachine machine{choice, read_two_pages};
    must(machine.memory.write(Gpa{first_page << 12U}, filled(21, 1)));
    const auto source = source_of(machine); // the second page is a hole and is not missing
    Listener listener;
    // Near what the guest touches, but where the hypervisor wants more than that at a time.
    const bool is_fine = source->granule() == PageCount{1};
    const auto absent = page(is_fine ? first_page + 2 : 0x800);
    must(arm(*source, machine.memory, std::array{absent}, listener));
    Running running{machine.vcpu()};
    running.await_seen(2);
    CHECK(running.seen() == std::vector<std::uint64_t>{21, 0});
    running.stop();
    CHECK(source->wanted_pages().empty());
    must(source->place_zero(absent));
    must(source->disarm());
}

void a_page_that_is_there_is_left_alone(const HypervisorChoice& choice) {
    constexpr std::uint64_t counter_page = tests::memory_counter.value() >> 12U;
    TinyMachine machine{choice, tests::count_in_memory};
    const auto source = source_of(machine);
    Listener listener;
    must(arm(*source, machine.memory, std::array{page(counter_page)}, listener));
    Running running{machine.vcpu()};
    listener.await(counter_page);
    CHECK(must(source->place(page(counter_page), filled(1000, 1))) == PageCount{1});
    while (machine.word_at(tests::memory_counter) < 1010) {
        std::this_thread::sleep_for(look_again);
    }
    CHECK(must(source->place(page(counter_page), filled(5, 1))) == PageCount{0});
    CHECK(must(source->place_zero(page(counter_page))) == PageCount{0});
    CHECK(machine.word_at(tests::memory_counter) >= 1010);
    running.stop();
    must(source->disarm());
}

void two_vcpus_wait_for_one_page(const HypervisorChoice& choice) {
    if (must(vmm::probe(choice)).max_vcpus < 2) {
        return;
    }
    TinyMachine machine{choice, read_two_pages, 2};
    const auto clock = must(machine.partition->save_clock());
    auto state = must(machine.vcpus[1]->save());
    tests::aim(state);
    must(machine.partition->restore_clock(clock));
    must(machine.vcpus[1]->restore(state));
    fill_with_stale(machine);
    const auto source = source_of(machine);
    Listener listener;
    must(arm(*source, machine.memory, both_pages(), listener));
    Running one{*machine.vcpus[0]};
    Running other{*machine.vcpus[1]};
    listener.await(first_page);
    place_both(*source, 31);
    for (Running* const running : {&one, &other}) {
        running->await_seen(2);
        CHECK(running->seen() == std::vector<std::uint64_t>{31, 31});
        running->stop();
    }
    must(source->disarm());
}

/// Kicks are repeated, for a single one can be lost; so many in a row are not.
bool leaves_soon(Running& running) {
    constexpr int many = 500;
    for (int kick = 0; kick < many; ++kick) {
        if (running.kick()) {
            return true;
        }
    }
    return false;
}

void a_waiting_vcpu_can_be_kicked(const HypervisorChoice& choice) {
    const bool waits_in_kernel = choice.kind == HypervisorChoice::Kind::mshvsim &&
                                 choice.personality == vmm::mshvsim::Personality::v7_3;
    if (choice == HypervisorChoice::soft || waits_in_kernel) {
        return; // in the middle of an instruction, or deaf to signals: vmm/README.md
    }
    TinyMachine machine{choice, read_two_pages};
    fill_with_stale(machine);
    const auto source = source_of(machine);
    Listener listener;
    must(arm(*source, machine.memory, both_pages(), listener));
    for (int turn = 0; turn < 3; ++turn) {
        Running running{machine.vcpu()};
        listener.await(first_page);
        if (!leaves_soon(running)) {
            fmt::print(
                "SKIPPED: vmm.fault_source.kick: {} on this host does not let go of a vCPU that "
                "waits for a page (it emulates the guest's kernel)\n",
                vmm::name_of(choice));
            place_both(*source, 41);
            running.stop();
            return;
        }
        CHECK(running.stop() == vmm::ExitReason::kicked);
        CHECK(running.seen().empty());
        CHECK(must(machine.vcpu().save()).registers.rip == tests::program_at.value());
    }
    Running running{machine.vcpu()};
    place_both(*source, 41);
    running.await_seen(2);
    CHECK(running.seen() == std::vector<std::uint64_t>{41, 41});
    running.stop();
    must(source->disarm());
}

void the_vmm_waits_too(const HypervisorChoice& choice) {
    TinyMachine machine{choice, {}};
    fill_with_stale(machine);
    const auto source = source_of(machine);
    Listener listener;
    must(arm(*source, machine.memory, both_pages(), listener));
    std::atomic<std::uint32_t> read = 0;
    std::thread reader{[&] {
        read = machine.word_at(Gpa{first_page << 12U});
    }};
    listener.await(first_page);
    // A device writes into the middle of a page: the rest is what is placed.
    constexpr std::uint64_t middle = 2048;
    std::thread writer{[&] {
        must(machine.memory.write(
            Gpa{(second_page << 12U) + middle}, std::as_bytes(std::span{"device", 6})));
    }};
    listener.await(second_page);
    CHECK(read == 0);
    place_both(*source, 51);
    reader.join();
    writer.join();
    CHECK(read == 51);
    CHECK(machine.word_at(Gpa{second_page << 12U}) == 51);
    std::array<std::byte, 6> text{};
    must(machine.memory.read(Gpa{(second_page << 12U) + middle}, text));
    CHECK(std::memcmp(text.data(), "device", text.size()) == 0);
    must(source->disarm());
}

void the_dirty_log_works_afterwards(const HypervisorChoice& choice) {
    constexpr std::uint64_t counter_page = tests::memory_counter.value() >> 12U;
    TinyMachine machine{choice, tests::count_in_memory};
    if (!machine.partition->capabilities().has_dirty_log) {
        return; // dirtylog's tests have userfaultfd's
    }
    const auto source = source_of(machine);
    Listener listener;
    must(arm(*source, machine.memory, std::array{pages(counter_page, 3)}, listener));
    {
        Running running{machine.vcpu()};
        listener.await(counter_page);
        must(source->place(pages(counter_page, 3), filled(61, 3)));
        running.stop();
    }
    must(source->disarm());
    must(machine.partition->start_dirty_log());
    const auto before = machine.word_at(tests::memory_counter);
    {
        Running running{machine.vcpu()};
        while (machine.word_at(tests::memory_counter) == before) {
            std::this_thread::sleep_for(look_again);
        }
        running.stop();
    }
    const auto region = machine.memory.regions()[0].pages;
    std::vector<std::uint64_t> bitmap(region.count().value() / 64);
    must(machine.partition->fetch_dirty_log(region, bitmap));
    const auto is_dirty = [&](std::uint64_t number) {
        return (bitmap[number / 64] >> (number % 64) & 1U) != 0;
    };
    CHECK(is_dirty(counter_page));
    CHECK_FALSE(is_dirty(counter_page + 1));
    CHECK_FALSE(is_dirty(counter_page + 2));
    must(machine.partition->stop_dirty_log());
}

void refuses_what_cannot_be(const HypervisorChoice& choice) {
    TinyMachine machine{choice, {}};
    const auto source = source_of(machine);
    Listener listener;
    CHECK(source->disarm().error().code() == ErrorCode::wrong_state);
    const auto ram = machine.memory.regions()[0].pages.count().value();
    const std::array elsewhere{formats::PageBitmap{pages(0, ram + 1)}};
    CHECK(
        source->arm(elsewhere, listener, vmm::MemoryBefore::used).error().code() ==
        ErrorCode::invalid_argument);
    CHECK(
        source->arm({}, listener, vmm::MemoryBefore::used).error().code() ==
        ErrorCode::invalid_argument);
    CHECK(source->missing() == PageCount{0});
    must(arm(*source, machine.memory, std::array{pages(ram - 4, 2), page(ram - 1)}, listener));
    CHECK(arm(*source, machine.memory, {}, listener).error().code() == ErrorCode::wrong_state);
    CHECK(source->missing_pages() == std::vector{pages(ram - 4, 2), page(ram - 1)});
    CHECK(source->place(page(ram - 1), filled(1, 2)).error().code() == ErrorCode::invalid_argument);
    CHECK(must(source->place(page(ram - 3), filled(1, 1))) == PageCount{1});
    CHECK(source->missing_pages() == std::vector{page(ram - 4), page(ram - 1)});
    CHECK(source->disarm().error().code() == ErrorCode::wrong_state);
    CHECK(must(source->place_zero(pages(0, ram))) == PageCount{2});
    must(source->disarm());
}

void run_all(std::string_view name) {
    const auto choice = tests::hypervisor(name);
    if (!tests::has_backend(choice, fmt::format("vmm.fault_source: {}", name))) {
        return;
    }
    if (const auto able = must(vmm::probe(choice)); !able.postcopy_obstacle.empty()) {
        fmt::print("SKIPPED: vmm.fault_source: {}: {}\n", name, able.postcopy_obstacle);
        return;
    }
    SUBCASE("a vCPU that touches missing pages goes on with what was placed") {
        a_vcpu_waits_and_sees_what_was_placed(choice);
    }
    SUBCASE("a page placed as zeros is zero, whatever was there") {
        zero_pages_are_zero_whatever_was_there(choice);
    }
    SUBCASE("a vCPU that waits for what turns out not to be missing finds zeros") {
        who_waits_for_what_is_not_missing_after_all_goes_on(choice);
    }
    SUBCASE("what is there, or is a hole, waits for nobody") {
        what_is_there_does_not_wait(choice);
    }
    SUBCASE("a page that is there is left alone, for the guest may have written it") {
        a_page_that_is_there_is_left_alone(choice);
    }
    SUBCASE("two vCPUs wait for one page and both go on") {
        // A hypervisor does not say what the engine under the simulator can do.
        if (name.ends_with(":soft")) {
            fmt::print("SKIPPED: vmm.fault_source: {}: two vCPUs: soft has one\n", name);
            return;
        }
        two_vcpus_wait_for_one_page(choice);
    }
    SUBCASE("a vCPU that waits can be kicked out, and goes on waiting when it runs again") {
        a_waiting_vcpu_can_be_kicked(choice);
    }
    SUBCASE("the VMM's own reads and writes wait") {
        the_vmm_waits_too(choice);
    }
    SUBCASE("the dirty log is exact once nothing is missing any more") {
        the_dirty_log_works_afterwards(choice);
    }
    SUBCASE("what cannot be is refused, and the books are right") {
        refuses_what_cannot_be(choice);
    }
}

} // namespace

TEST_SUITE("vmm.fault_source") {
    TEST_CASE("kvm lets a guest wait for its pages") {
        run_all("kvm");
    }
    TEST_CASE("mshv lets a guest wait for its pages") {
        run_all("mshv");
    }
    TEST_CASE("mshv on the simulated kernel 6.18 lets a guest wait for its pages") {
        run_all("mshvsim:6.18:kvm");
    }
    TEST_CASE("mshv on the simulated kernel 7.2 lets a guest wait for its pages") {
        run_all("mshvsim:7.2:kvm");
    }
    TEST_CASE("mshv on the simulated kernel 7.3 lets a guest wait for its pages") {
        run_all("mshvsim:7.3:kvm");
    }
    TEST_CASE("mshv on the simulator's soft engine lets a guest wait for its pages") {
        run_all("mshvsim:7.2:soft");
    }
    TEST_CASE("soft lets a guest wait for its pages") {
        run_all("soft");
    }
}
