// SPDX-License-Identifier: Apache-2.0
#include "soft_fixture.hpp"

#include <algorithm>
#include <random>
#include <thread>

#include <doctest/doctest.h>

#include <signal.h>
#include <time.h>
#include <unistd.h>

using namespace wherry::vmm;
using namespace wherry::vmm::soft_test;
using wherry::formats::ErrorCode;

namespace {

Vcpu* kicked_by_timer = nullptr;

/// Kicks the vCPU out of a signal handler on the thread that runs it, a random moment after each
/// request: between any two host instructions, and without waiting for another thread's turn.
class TimerKick {
public:
    explicit TimerKick(Vcpu& vcpu) {
        kicked_by_timer = &vcpu;
        struct sigaction action{};
        action.sa_handler = [](int /*number*/) {
            kicked_by_timer->kick();
        };
        REQUIRE(::sigaction(SIGUSR2, &action, &former_) == 0);
        struct sigevent event{};
        event.sigev_notify = SIGEV_THREAD_ID;
        event.sigev_signo = SIGUSR2;
        event._sigev_un._tid = ::gettid();
        REQUIRE(::timer_create(CLOCK_MONOTONIC, &event, &timer_) == 0);
    }
    TimerKick(const TimerKick&) = delete;
    TimerKick& operator=(const TimerKick&) = delete;
    ~TimerKick() {
        ::timer_delete(timer_);
        ::sigaction(SIGUSR2, &former_, nullptr);
    }
    void kick_soon() {
        std::uniform_int_distribution<long> delay_ns{1'000, 100'000};
        itimerspec once{};
        once.it_value.tv_nsec = delay_ns(random_);
        REQUIRE(::timer_settime(timer_, 0, &once, nullptr) == 0);
    }

private:
    std::minstd_rand random_{12345};
    timer_t timer_{};
    struct sigaction former_{};
};

} // namespace

TEST_SUITE("vmm.soft_run") {
    TEST_CASE("ten thousand kicks at random moments lose and double no instruction") {
        auto guest = boot_guest("soft_run kicks", counter);
        if (!guest) {
            return;
        }
        Devices answers;
        TimerKick kicker{*guest->vcpu};
        std::uint64_t last = 0;
        int with_progress = 0;
        for (int stop = 0; stop < 10'000; ++stop) {
            kicker.kick_soon();
            const auto reason = guest->vcpu->run(answers);
            REQUIRE_MESSAGE(reason.has_value(), (reason ? "" : reason.error().text()));
            REQUIRE(*reason == ExitReason::kicked);
            REQUIRE(answers.errors == 0);
            const auto now = guest->vcpu->save();
            REQUIRE(now.has_value());
            REQUIRE(now->registers.rip >= 0x1000);
            REQUIRE(now->registers.rip < 0x2000 + counter.body.size());
            with_progress += now->registers.rbx == last ? 0 : 1;
            last = now->registers.rbx;
            // Out at the count's turn or not yet.
            REQUIRE(answers.sequence + 1 >= static_cast<std::uint32_t>(last));
        }
        CHECK(with_progress > 1'000); // else the kicks came before the guest ran
    }

    TEST_CASE("a save carried into a fresh partition goes on exactly, a hundred times over") {
        auto guest = boot_guest("soft_run hops", counter);
        if (!guest) {
            return;
        }
        Devices answers;
        for (int hop = 0; hop < 100; ++hop) {
            std::jthread kicker{[&vcpu = *guest->vcpu] {
                vcpu.kick();
            }};
            REQUIRE(guest->vcpu->run(answers) == ExitReason::kicked);
            kicker.join();
            auto saved = guest->vcpu->save();
            REQUIRE(saved.has_value());
            auto next = make_guest("soft_run hops");
            copy_memory(*guest, *next);
            REQUIRE(next->vcpu->restore(*saved).has_value());
            auto again = next->vcpu->save();
            REQUIRE(again.has_value());
            CHECK(again->tsc >= saved->tsc);
            again->tsc = saved->tsc;
            CHECK(*again == *saved);
            guest = std::move(next);
            REQUIRE(answers.errors == 0);
        }
        // All kicks so far may have come before the guest's first turn.
        TimerKick kicker{*guest->vcpu};
        while (answers.sequence == 0) {
            kicker.kick_soon();
            REQUIRE(guest->vcpu->run(answers) == ExitReason::kicked);
            REQUIRE(answers.errors == 0);
        }
    }

    TEST_CASE("a kick before run ends it at once and only once") {
        auto guest = boot_guest("soft_run early kick", halt);
        if (!guest) {
            return;
        }
        Devices answers;
        guest->vcpu->kick();
        CHECK(guest->vcpu->run(answers) == ExitReason::kicked);
        CHECK(guest->vcpu->save()->registers.rip == 0x1000);
        CHECK(guest->vcpu->run(answers) == ExitReason::halted);
    }

    TEST_CASE("HLT is told from a kick however close the two are") {
        auto guest = boot_guest("soft_run near halt", near_halt);
        if (!guest) {
            return;
        }
        Devices answers;
        TimerKick kicker{*guest->vcpu};
        for (int stop = 0; stop < 3'000; ++stop) {
            kicker.kick_soon();
            REQUIRE(guest->vcpu->run(answers) == ExitReason::kicked);
            REQUIRE(guest->vcpu->save()->run_state == RunState::runnable);
        }
        const auto registers = guest->vcpu->save()->registers;
        CHECK(registers.rbx - registers.r8 <= 1);
    }

    TEST_CASE("a halted guest stays halted, through save and restore too") {
        auto guest = boot_guest("soft_run halt", halt);
        if (!guest) {
            return;
        }
        Devices answers;
        CHECK(guest->vcpu->run(answers) == ExitReason::halted);
        CHECK(guest->vcpu->run(answers) == ExitReason::halted);
        const auto saved = guest->vcpu->save();
        REQUIRE(saved.has_value());
        CHECK(saved->run_state == RunState::halted);
        CHECK(saved->registers.rip == 0x2006);
        CHECK(saved->registers.rbx == 0x1234);
        auto next = make_guest("soft_run halt");
        REQUIRE(next->vcpu->restore(*saved).has_value());
        CHECK(next->vcpu->run(answers) == ExitReason::halted);
        CHECK(answers.errors == 0);
    }

    TEST_CASE("memory-mapped devices and string output reach the handler with size and place") {
        auto guest = boot_guest("soft_run devices", devices);
        if (!guest) {
            return;
        }
        Devices answers;
        REQUIRE(guest->vcpu->run(answers) == ExitReason::halted);
        REQUIRE(answers.results.size() == 1);
        CHECK(answers.results[0] == 0x01U + 0x0302U + 0x07060504U + 0x0b0a0908U);
        CHECK(answers.text == "abcd");
        REQUIRE(answers.stores.size() >= 2);
        CHECK(answers.stores.front() == std::pair<std::uint64_t, std::uint64_t>{0xfec00010, 0x5a});
        CHECK(
            std::ranges::count(
                answers.stores, std::pair<std::uint64_t, std::uint64_t>{0xfec00018, 0x12345678}) ==
            1);
    }

    TEST_CASE("a guest that maps memory elsewhere is ended with the address") {
        auto guest = boot_guest("soft_run remapper", remapper);
        if (!guest) {
            return;
        }
        Devices answers;
        const auto reason = guest->vcpu->run(answers);
        REQUIRE(!reason.has_value());
        CHECK(reason.error().code() == ErrorCode::guest);
        CHECK(reason.error().text().find("0x400000 to 0x800000") != std::string::npos);
    }

    TEST_CASE("an exception is an error with its vector and place") {
        auto guest = boot_guest("soft_run divider", divider);
        if (!guest) {
            return;
        }
        Devices answers;
        const auto reason = guest->vcpu->run(answers);
        REQUIRE(!reason.has_value());
        CHECK(reason.error().code() == ErrorCode::guest);
        CHECK(reason.error().text().find("exception 0 at RIP 0x2004") != std::string::npos);
    }
}
