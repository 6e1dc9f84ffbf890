// SPDX-License-Identifier: Apache-2.0
// Doorbells and interrupts by events (vmm/partition.hpp): one body, run on each backend.
#include "tests/unit/vmm/tiny_guest.hpp"
#include "vmm/partition.hpp"
#include "vmm/unique_fd.hpp"

#include <array>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include <sys/eventfd.h>

namespace {

using namespace wherry;
using formats::ErrorCode;
using formats::Gpa;
using tests::must;
using tests::ScriptedExits;
using tests::TinyMachine;
using vmm::ExitReason;
using vmm::HypervisorChoice;

/// `out 0x10, al; hlt; jmp to hlt`
const tests::Program sleep_for_ever{0xe6, 0x10, 0xf4, 0xeb, 0xfd};

/// `mov dword [0xd0000000], 5; out 0x10, al; jmp to mov`
const tests::Program knock{
    0xc7, 0x05, 0x00, 0x00, 0x00, 0xd0, 0x05, 0x00, 0x00, 0x00, 0xe6, 0x10, 0xeb, 0xf2};
constexpr std::uint64_t door = 0xd0000000;

/// An eventfd, and how often it was signalled since the last look.
class Event {
public:
    Event() : fd_{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)} { REQUIRE(fd_.get() >= 0); }
    [[nodiscard]] int fd() const noexcept { return fd_.get(); }
    [[nodiscard]] std::uint64_t take() const {
        eventfd_t count = 0;
        return ::eventfd_read(fd_.get(), &count) == 0 ? count : 0;
    }
    void signal() const { REQUIRE(::eventfd_write(fd_.get(), 1) == 0); }

private:
    vmm::UniqueFd fd_;
};

/// What reaches the handler in one turn of `knock`, the port left out.
std::vector<std::uint64_t> knocks_in_one_turn(TinyMachine& machine) {
    std::vector<std::uint64_t> seen;
    ScriptedExits exits;
    exits.on_write = [&](std::uint64_t at, std::uint64_t /*value*/) {
        if (at == 0x10) {
            machine.vcpu().kick();
        } else {
            seen.push_back(at);
        }
    };
    CHECK(must(machine.vcpu().run(exits)) == ExitReason::kicked);
    return seen;
}

void rings(HypervisorChoice choice) {
    TinyMachine machine{choice, knock};
    auto& partition = *machine.partition;
    const Event event;
    const vmm::Doorbell any{.at = Gpa{door}, .length = 4};
    const vmm::Doorbell six{.at = Gpa{door}, .length = 4, .value = 6};
    auto bound = partition.bind_doorbell(event.fd(), any);
    if (!bound) {
        CHECK(bound.error().code() == ErrorCode::unsupported);
        CHECK(knocks_in_one_turn(machine) == std::vector{door});
        return;
    }
    CHECK(partition.bind_doorbell(event.fd(), any).error().code() == ErrorCode::already_exists);
    CHECK(knocks_in_one_turn(machine).empty());
    CHECK(event.take() == 1);
    must(partition.release_doorbell(event.fd(), any));
    must(partition.bind_doorbell(event.fd(), six));
    CHECK(knocks_in_one_turn(machine) == std::vector{door});
    CHECK(event.take() == 0);
    must(partition.release_doorbell(event.fd(), six));
}

void interrupts_by_events(HypervisorChoice choice) {
    constexpr std::uint8_t vector = 0x51;
    constexpr std::uint32_t pin = 5;
    constexpr std::size_t spurious_vector = 0xf0;
    constexpr std::size_t requests = 0x200 + vector / 32 * 0x10;
    TinyMachine machine{choice, sleep_for_ever};
    auto& partition = *machine.partition;
    const Event event;
    auto bound = partition.bind_interrupt(event.fd(), pin);
    if (!bound) {
        CHECK(bound.error().code() == ErrorCode::unsupported);
        return;
    }
    auto state = must(machine.vcpu().save());
    REQUIRE(state.lapic);
    (*state.lapic)[spurious_vector] = std::byte{0xff};
    (*state.lapic)[spurious_vector + 1] = std::byte{0x01}; // enabled
    state.hyperv.reset(); // whose own form of the APIC would be taken
    must(machine.vcpu().restore(state));
    std::array<vmm::MsiMessage, pin + 1> pins{};
    pins[pin] = {.address = 0xfee00000, .data = vector};
    must(partition.route_pins(pins));
    const auto is_requested = [&] {
        const auto now = must(machine.vcpu().save());
        const auto word = std::to_integer<unsigned>((*now.lapic)[requests + vector % 32 / 8]);
        return (word >> (vector % 8) & 1U) != 0;
    };
    CHECK_FALSE(is_requested());
    event.signal();
    while (!is_requested()) { // the kernel takes its time
        std::this_thread::yield();
    }
    must(partition.release_interrupt(event.fd(), pin));
}

void run_all(const char* name) {
    const auto choice = tests::hypervisor(name);
    if (!tests::has_backend(choice, name)) {
        return;
    }
    rings(choice);
    interrupts_by_events(choice);
}

} // namespace

TEST_SUITE("vmm.partition_events") {
    TEST_CASE("doorbells and events on kvm") {
        run_all("kvm");
    }
    TEST_CASE("doorbells and events on soft, which has none") {
        run_all("soft");
    }
    TEST_CASE("doorbells and events on mshv") {
        run_all("mshv");
    }
    TEST_CASE("doorbells and events on each simulated kernel") {
        run_all("mshvsim:6.18:kvm");
        run_all("mshvsim:7.2:kvm");
        run_all("mshvsim:7.3:kvm");
    }
    TEST_CASE("doorbells on the simulator's soft engine, which has no interrupts") {
        run_all("mshvsim:7.2:soft");
    }
}
