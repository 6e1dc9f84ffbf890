// SPDX-License-Identifier: Apache-2.0
#include "dirtylog/dirty_tracker.hpp"

#include "mapped_memory.hpp"
#include "scripted_partition.hpp"
#include "vmm/machine.hpp"

#include <array>
#include <memory>
#include <utility>

#include <doctest/doctest.h>
#include <fmt/format.h>

using namespace wherry::dirtylog;
using namespace wherry::formats;
namespace vmm = wherry::vmm;
using wherry::dirtylog::test::pages;
using wherry::dirtylog::test::ScriptedPartition;

namespace {

/// Real guest memory and a scripted hypervisor; nothing that runs.
class StillMachine final : public vmm::Machine {
public:
    StillMachine() : memory_{vmm::GuestMemory::create(4_MiB).value()} {}

    ScriptedPartition hypervisor;

    [[nodiscard]] const vmm::MachineConfig& config() const noexcept override { return config_; }
    [[nodiscard]] const vmm::BackendCapabilities& backend() const noexcept override {
        return hypervisor.abilities;
    }
    [[nodiscard]] vmm::RunningState running_state() const override {
        return vmm::RunningState::paused;
    }
    [[nodiscard]] std::optional<vmm::MachineEnd> end() const override { return std::nullopt; }
    void on_end(std::function<void(const vmm::MachineEnd&)>) override {}
    vmm::GuestMemory& memory() noexcept override { return memory_; }
    vmm::Partition& partition() noexcept override { return hypervisor; }
    Status boot(const vmm::BootSource&) override { return still(); }
    Status resume() override { return still(); }
    void throttle(unsigned) override {}
    Status pause() override { return {}; }
    Status pause_within(std::chrono::milliseconds /*limit*/, vmm::IfLate /*late*/) override {
        return {};
    }
    Result<vmm::MachineState> save() override { return std::unexpected{still().error()}; }
    Status restore(const vmm::MachineState&) override { return still(); }
    [[nodiscard]] std::optional<vmm::GenerationId> generation_id() const override {
        return std::nullopt;
    }
    Status begin_generation(const vmm::GenerationId&) override { return still(); }

private:
    static std::unexpected<Error> still() {
        return fail(ErrorCode::unsupported, "this machine stands still");
    }
    vmm::GuestMemory memory_;
    vmm::MachineConfig config_;
};

void device_writes(StillMachine& machine, std::uint64_t page) {
    const std::array<std::byte, 4> data{std::byte{1}};
    REQUIRE(machine.memory().write(gpa_of(Gfn{page}), data));
}

} // namespace

TEST_SUITE("dirtylog.dirty_tracker") {

    TEST_CASE("writes of the guest and of the VMM itself are collected together") {
        StillMachine machine;
        const auto tracker = make_tracker(machine).value();
        CHECK(tracker->name() == "scripted dirty log");
        device_writes(machine, 1); // before the start
        REQUIRE(tracker->start());
        machine.hypervisor.written = {10, 11};
        device_writes(machine, 20);
        DirtySet set{machine.memory()};
        REQUIRE(tracker->collect(set));
        DirtySet expected{machine.memory()};
        expected.mark(pages(10, 2));
        expected.mark(pages(20, 1));
        CHECK(set == expected);
        set.clear();
        REQUIRE(tracker->collect(set));
        CHECK(set.is_empty());
    }

    TEST_CASE("after a stop the VMM's writes are not logged, and tracking can start again") {
        StillMachine machine;
        const auto tracker = make_tracker(machine).value();
        REQUIRE(tracker->start());
        device_writes(machine, 1);
        REQUIRE(tracker->stop());
        CHECK_FALSE(machine.hypervisor.is_on);
        device_writes(machine, 2);
        REQUIRE(tracker->start());
        device_writes(machine, 3);
        DirtySet set{machine.memory()};
        REQUIRE(tracker->collect(set));
        CHECK(set.count() == PageCount{1});
        CHECK(set.contains(Gfn{3}));
    }

    TEST_CASE("a tracker that ends takes its observer away") {
        StillMachine machine;
        {
            const auto tracker = make_tracker(machine).value();
            REQUIRE(tracker->start());
        }
        CHECK_FALSE(machine.hypervisor.is_on);
        device_writes(machine, 2); // would reach a dead observer
    }

    TEST_CASE("a failed start leaves nothing on") {
        StillMachine machine;
        machine.hypervisor.can_start = false;
        const auto tracker = make_tracker(machine).value();
        CHECK_FALSE(tracker->start());
        device_writes(machine, 2);
        DirtySet set{machine.memory()};
        CHECK_FALSE(tracker->collect(set));
        CHECK(set.count() == PageCount{1024});
    }

    TEST_CASE("a log that cannot be read makes every page dirty") {
        StillMachine machine;
        const auto tracker = make_tracker(machine).value();
        REQUIRE(tracker->start());
        machine.hypervisor.unreadable_regions = {0};
        DirtySet set{machine.memory()};
        CHECK(tracker->collect(set).error().code() == ErrorCode::io);
        CHECK(set.count() == PageCount{1024});
    }

    TEST_CASE("a hypervisor without a log is tracked through its memory") {
        StillMachine machine;
        machine.hypervisor.abilities.has_dirty_log = false;
        auto tracker = make_tracker(machine);
        if (!tracker) {
            CHECK(tracker.error().text().starts_with("the scripted hypervisor has no dirty log"));
            fmt::print("SKIPPED: dirtylog.dirty_tracker: {}\n", tracker.error().text());
            return;
        }
        CHECK((*tracker)->name() == "userfaultfd");
        REQUIRE((*tracker)->start());
        device_writes(machine, 5);
        *static_cast<volatile std::byte*>(machine.memory().regions()[0].host + 9 * page_size) =
            std::byte{1}; // as the guest
        DirtySet set{machine.memory()};
        REQUIRE((*tracker)->collect(set));
        CHECK(set.count() == PageCount{2});
        CHECK(set.contains(Gfn{5}));
        CHECK(set.contains(Gfn{9}));
    }

} // TEST_SUITE
