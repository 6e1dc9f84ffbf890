// SPDX-License-Identifier: Apache-2.0
// The self-checking guest of tests/guests, moved again and again between machines of one process.
#include "tests/unit/vmm/tiny_guest.hpp"
#include "vmm/machine.hpp"

#include <array>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <future>
#include <iterator>
#include <memory>
#include <string>
#include <string_view>
#include <thread>

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <unistd.h>

namespace {

using namespace wherry;
using formats::operator""_MiB;
using tests::must;
using vmm::HypervisorChoice;
using vmm::Machine;
using vmm::MachineEnd;
using vmm::RunningState;

std::filesystem::path guest_image() {
    if (const char* chosen = std::getenv("WHERRY_GUEST"); chosen != nullptr) {
        return chosen;
    }
    const auto program = std::filesystem::read_symlink("/proc/self/exe");
    return program.parent_path().parent_path() / "guests/workload.elf";
}

/// The serial logs of all machines that one guest has lived in, in order.
class Logs {
public:
    Logs() {
        static std::atomic<int> number = 0;
        directory_ = std::filesystem::temp_directory_path() /
                     fmt::format("workload.{}.{}", ::getpid(), ++number);
        std::filesystem::create_directory(directory_);
    }
    ~Logs() {
        std::error_code ignored;
        std::filesystem::remove_all(directory_, ignored);
    }
    Logs(const Logs&) = delete;
    Logs& operator=(const Logs&) = delete;

    std::string next() {
        ++count_;
        return fmt::format("file:{}", path(count_).string());
    }
    [[nodiscard]] std::string latest() const { return text(count_); }
    [[nodiscard]] std::string all() const {
        std::string everything;
        for (int i = 1; i <= count_; ++i) {
            everything += text(i);
        }
        return everything;
    }

private:
    [[nodiscard]] std::filesystem::path path(int number) const {
        return directory_ / std::to_string(number);
    }
    [[nodiscard]] std::string text(int number) const {
        std::ifstream in{path(number)};
        return {std::istreambuf_iterator<char>{in}, {}};
    }
    std::filesystem::path directory_;
    int count_ = 0;
};

int count_of(const std::string& text, std::string_view what) {
    int count = 0;
    for (auto at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) {
        ++count;
    }
    return count;
}

/// Waits for a whole line with `what` in the latest log; false where the machine ended before.
bool wait_for_report(
    const Machine& machine, const Logs& logs, std::string_view what = "wherry-guest report") {
    while (true) {
        const auto text = logs.latest();
        const auto report = text.find(what);
        if (report != std::string::npos && text.find('\n', report) != std::string::npos) {
            return true;
        }
        if (machine.running_state() == RunningState::ended) {
            return false;
        }
        std::this_thread::sleep_for(std::chrono::milliseconds{2}); // the guest wants the processor
    }
}

std::string account(const Machine& machine, const Logs& logs) {
    const auto end = machine.end();
    return logs.all() + (end ? "\n" + end->text : std::string{});
}

struct Journey {
    HypervisorChoice hypervisor;
    std::uint32_t vcpus;
    formats::Bytes memory;
    int hops;
    std::string command_line;
};

void travel(const Journey& journey) {
    Logs logs;
    auto machine = must(Machine::create(
        {.memory = journey.memory, .vcpus = journey.vcpus}, {journey.hypervisor, logs.next()}));
    must(machine->boot(
        {.kernel = guest_image().string(), .initrd = {}, .command_line = journey.command_line}));
    const auto generation = machine->generation_id();
    REQUIRE(generation);
    must(machine->resume());
    for (int hop = 0; hop < journey.hops; ++hop) {
        REQUIRE_MESSAGE(wait_for_report(*machine, logs), account(*machine, logs));
        must(machine->pause());
        auto destination =
            must(Machine::create(machine->config(), {journey.hypervisor, logs.next()}));
        tests::copy_memory(machine->memory(), destination->memory());
        must(destination->restore(must(machine->save())));
        machine = std::move(destination);
        must(machine->resume());
    }
    REQUIRE_MESSAGE(wait_for_report(*machine, logs), account(*machine, logs));
    must(machine->pause());
    auto said = logs.all();
    said.resize(said.rfind('\n') + 1); // the last line may be cut by the pause
    INFO(said);
    CHECK(machine->generation_id() == generation);
    CHECK(count_of(said, " generation_events=0\n") == count_of(said, "wherry-guest report"));
    CHECK(count_of(said, "wherry-guest report") > journey.hops);
    CHECK(count_of(said, " errors=0 ") == count_of(said, "wherry-guest report"));
    CHECK(count_of(said, " tsc_back=0 ") == count_of(said, "wherry-guest report"));
    CHECK(count_of(said, "wherry-guest error") == 0);
    CHECK(count_of(said, "fatal") == 0);
    CHECK(count_of(said, "wherry-guest ready") == 1);
    for (std::uint32_t cpu = 0; cpu < journey.vcpus; ++cpu) {
        CHECK(count_of(said, fmt::format(" cpu={} ", cpu)) > 0);
    }
}

/// While it runs and sleeps: it hears of each new id once, and finds it where it looks.
void hears_of_generations(HypervisorChoice hypervisor, std::string command_line) {
    Logs logs;
    auto machine = must(Machine::create({.memory = 32_MiB, .vcpus = 1}, {hypervisor, logs.next()}));
    must(machine->boot(
        {.kernel = guest_image().string(), .initrd = {}, .command_line = std::move(command_line)}));
    must(machine->resume());
    const bool has_interrupts = machine->backend().has_interrupt_controller;
    for (int generation = 0; generation < 3; ++generation) {
        if (generation > 0) {
            must(machine->pause());
            must(machine->begin_generation(vmm::GenerationId::make()));
            auto next = must(Machine::create(machine->config(), {hypervisor, logs.next()}));
            tests::copy_memory(machine->memory(), next->memory());
            must(next->restore(must(machine->save())));
            machine = std::move(next);
            must(machine->resume());
        }
        std::uint64_t low = 0;
        const auto id = machine->generation_id().value();
        std::memcpy(&low, id.bytes.data(), sizeof(low));
        for (const auto& what :
             {fmt::format("generation_low={:#x} ", low),
              fmt::format("generation_events={}\n", has_interrupts ? generation : 0)}) {
            REQUIRE_MESSAGE(wait_for_report(*machine, logs, what), account(*machine, logs));
        }
    }
}

constexpr std::array mshv_and_its_simulator{
    "mshv", "mshvsim:6.18:kvm", "mshvsim:7.2:kvm", "mshvsim:7.3:kvm"};

bool can_run(const HypervisorChoice& choice, std::string_view test) {
    const auto image = guest_image();
    INFO(image.string(), " is made by the target guests");
    REQUIRE(std::filesystem::exists(image));
    return tests::has_backend(choice, test);
}

} // namespace

TEST_SUITE("vmm.workload") {
    TEST_CASE("a busy guest on kvm survives twenty moves without an error") {
        if (can_run(HypervisorChoice::kvm, "workload on kvm")) {
            travel({HypervisorChoice::kvm, 1, 64_MiB, 20, "report=50 hot=8M rate=20000"});
        }
    }
    TEST_CASE("a guest of two vCPUs that sleeps in HLT survives twenty moves") {
        if (can_run(HypervisorChoice::kvm, "workload on two vCPUs")) {
            travel(
                {HypervisorChoice::kvm,
                 2,
                 64_MiB,
                 20,
                 "report=50 hot=8M rate=2000 check=10000 cpus=2 idle=hlt"});
        }
    }
    TEST_CASE("a busy guest on mshv survives twenty moves without an error") {
        for (const char* const name : mshv_and_its_simulator) {
            const auto choice = tests::hypervisor(name);
            if (can_run(choice, fmt::format("workload on {}", name))) {
                travel({choice, 1, 64_MiB, 20, "report=50 hot=8M rate=20000"});
            }
        }
    }
    TEST_CASE("a guest of two vCPUs on mshv that sleeps in HLT survives twenty moves") {
        for (const char* const name : mshv_and_its_simulator) {
            const auto choice = tests::hypervisor(name);
            if (can_run(choice, fmt::format("workload of two vCPUs on {}", name))) {
                travel(
                    {choice,
                     2,
                     64_MiB,
                     20,
                     "report=50 hot=8M rate=2000 check=10000 cpus=2 idle=hlt"});
            }
        }
    }
    TEST_CASE("a guest hears of each generation that begins, also after a move") {
        for (const char* const name :
             {"kvm", "mshv", "mshvsim:6.18:kvm", "mshvsim:7.2:kvm", "mshvsim:7.3:kvm"}) {
            const auto choice = tests::hypervisor(name);
            if (can_run(choice, fmt::format("generations on {}", name))) {
                hears_of_generations(choice, "report=50 hot=1M rate=20 check=200 idle=hlt");
            }
        }
    }
    TEST_CASE("a guest on soft finds the id of each generation, and hears nothing") {
        if (can_run(HypervisorChoice::soft, "generations on soft")) {
            hears_of_generations(HypervisorChoice::soft, "report=50 hot=2M rate=1000");
        }
    }
    TEST_CASE("a busy guest on soft survives three moves without an error") {
        if (can_run(HypervisorChoice::soft, "workload on soft")) {
            travel({HypervisorChoice::soft, 1, 32_MiB, 3, "report=50 hot=2M rate=1000"});
        }
    }
}
