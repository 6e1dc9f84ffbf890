// SPDX-License-Identifier: Apache-2.0
#include "soft_fixture.hpp"

#include <array>
#include <cstring>
#include <functional>
#include <string>

#include <doctest/doctest.h>

using namespace wherry::vmm;
using namespace wherry::vmm::soft_test;
using wherry::formats::ErrorCode;

namespace {

std::string text_of(const wherry::formats::Status& status) {
    return status ? std::string{"accepted"} : status.error().text();
}

/// Runs until the guest has asked `questions` times, and stops it there.
void run_to_question(SoftGuest& guest, Devices& answers, int questions) {
    int asked = 0;
    answers.on_question = [&] {
        if (++asked == questions) {
            guest.vcpu->kick();
        }
    };
    REQUIRE(guest.vcpu->run(answers) == ExitReason::kicked);
    answers.on_question = nullptr;
}

} // namespace

TEST_SUITE("vmm.soft_state") {
    TEST_CASE("x87, SSE, flags, MSRs and wide registers survive into a fresh partition") {
        auto guest = boot_guest("soft_state carry", state);
        if (!guest) {
            return;
        }
        for (std::uint64_t i = 0; i < 32; ++i) {
            guest->set_word(0x21000 + 8 * i, 0x0101010101010101U * (i + 1));
        }
        Devices answers;
        run_to_question(*guest, answers, 3);
        auto saved = guest->vcpu->save();
        REQUIRE(saved.has_value());
        CHECK(saved->registers.r9 == 0xfedcba9876543210U);
        CHECK(saved->system.fs.base == 0x1122334455667788U);
        CHECK((saved->system.efer & 0x500U) == 0x500U);
        auto next = make_guest("soft_state carry");
        copy_memory(*guest, *next);
        REQUIRE(next->vcpu->restore(*saved).has_value());
        answers.may_go_on = true;
        run_to_question(*next, answers, 2); // in the last wait, with all flags set
        saved = next->vcpu->save();
        REQUIRE(saved.has_value());
        auto last = make_guest("soft_state carry");
        copy_memory(*next, *last);
        REQUIRE(last->vcpu->restore(*saved).has_value());
        REQUIRE(last->vcpu->run(answers) == ExitReason::halted);

        CHECK((last->word(0x20000) & 0xcd5U) == 0xcd5U);
        const std::array<std::uint64_t, 5> patterns{0, 1, 7, 8, 15};
        for (std::uint64_t i = 0; i < patterns.size(); ++i) {
            CHECK(last->word(0x20010 + 16 * i) == 0x0101010101010101U * (2 * patterns[i] + 1));
            CHECK(last->word(0x20018 + 16 * i) == 0x0101010101010101U * (2 * patterns[i] + 2));
        }
        CHECK(last->word(0x20060) == 0xb17217f7d1cf79acU); // ln 2
        CHECK(last->word(0x20070) == 0x8000000000000000U); // 1
        CHECK(last->word(0x20080) == 0xc90fdaa22168c235U); // pi
        CHECK((last->word(0x20090) & 0xffffffffU) == 0x7f80U);
        CHECK(last->word(0x20098) == 0xfedcba9876543210U);
        CHECK(last->word(0x200a0) == 0x1122334455667788U);
        CHECK(last->word(0x200a8) == 0x1122334455667788U);
    }

    TEST_CASE("the guest's TSC goes on from the saved value, whatever the host's is") {
        auto guest = boot_guest("soft_state tsc", wherry::vmm::soft_test::clock);
        if (!guest) {
            return;
        }
        Devices answers;
        run_to_question(*guest, answers, 1);
        auto saved = guest->vcpu->save();
        REQUIRE(saved.has_value());
        CHECK(guest->word(0x20000) == 0x6f53797272656857U); // "WherrySo"
        CHECK((guest->word(0x20008) & 0xffffffffU) == 0x7466U);
        const std::uint64_t seen = guest->word(0x20010);
        CHECK(saved->tsc >= seen);
        // As from a host that has been up for very long.
        constexpr std::uint64_t far_ahead = std::uint64_t{1} << 60U;
        saved->tsc = far_ahead;
        auto next = make_guest("soft_state tsc");
        copy_memory(*guest, *next);
        REQUIRE(next->vcpu->restore(*saved).has_value());
        run_to_question(*next, answers, 1);
        CHECK(next->word(0x20010) > far_ahead);
        CHECK(next->word(0x20010) < far_ahead + (std::uint64_t{1} << 40U));
        CHECK(next->vcpu->save()->tsc > next->word(0x20010));
    }

    TEST_CASE(
        "restored after the clock, the TSC is ahead by the real time that passed since the save") {
        auto guest = make_guest("soft_state elapsed");
        if (!guest) {
            return;
        }
        auto clock = guest->partition->save_clock();
        const auto saved = guest->vcpu->save();
        REQUIRE(clock.has_value());
        REQUIRE(saved.has_value());
        CHECK(guest->vcpu->save()->tsc == saved->tsc); // of the clock's moment, not of now
        clock->host_real_time -= std::chrono::seconds{100};
        auto next = make_guest("soft_state elapsed");
        REQUIRE(next->partition->restore_clock(*clock).has_value());
        REQUIRE(next->vcpu->restore(*saved).has_value());
        const std::uint64_t ticks = 100 * 1000 * saved->tsc_frequency_khz;
        CHECK(next->vcpu->save()->tsc >= saved->tsc + ticks);
        CHECK(next->vcpu->save()->tsc < saved->tsc + 2 * ticks);
    }

    TEST_CASE("what an engine cannot hold is refused by name") {
        auto guest = make_guest("soft_state refusals");
        if (!guest) {
            return;
        }
        const auto saved = guest->vcpu->save();
        REQUIRE(saved.has_value());
        CHECK(text_of(guest->vcpu->restore(*saved)) == "accepted");
        const auto refusal = [&](const std::function<void(VcpuState&)>& change) {
            VcpuState changed = *saved;
            change(changed);
            return text_of(guest->vcpu->restore(changed));
        };
        const auto names = [](const std::string& text, const char* word) {
            return text.find(word) != std::string::npos;
        };
        CHECK(names(refusal([](auto& s) { s.lapic.emplace(); }), "local APIC"));
        CHECK(names(
            refusal([](auto& s) { s.events.exception.pending = true; }), "pending exception"));
        CHECK(names(refusal([](auto& s) { s.events.nmi.pending = true; }), "NMI"));
        CHECK(names(
            refusal([](auto& s) { s.events.interrupt.injected = true; }), "injected interrupt"));
        CHECK(names(refusal([](auto& s) { s.run_state = RunState::init_received; }), "SIPI"));
        CHECK(names(
            refusal([](auto& s) { s.msrs.push_back({.index = 0x4b564d00, .value = 1}); }),
            "MSR 0x4b564d00"));
        CHECK(names(refusal([](auto& s) { s.xsave.at(512) |= std::byte{4}; }), "component 2"));
        CHECK(names(refusal([](auto& s) { s.debug.dr7 |= 1; }), "DR7"));
        CHECK(names(refusal([](auto& s) { s.system.cr0 = 0x10; }), "real mode"));
        CHECK(names(refusal([](auto& s) { s.system.efer |= 0x800; }), "NXE"));
        CHECK(names(refusal([](auto& s) { s.system.ss.attributes |= 0x60; }), "ring 0"));
        CHECK(names(refusal([](auto& s) { s.tsc_frequency_khz = 1'000; }), "1000 kHz"));
        CHECK(names(refusal([](auto& s) { s.system.cr8 = 3; }), "CR8"));
    }

    TEST_CASE("an instruction of every set that CPUID offers can be executed") {
        auto guest = boot_guest("soft_state features", features);
        if (!guest) {
            return;
        }
        Devices answers;
        const auto reason = guest->vcpu->run(answers);
        REQUIRE_MESSAGE(reason.has_value(), (reason ? "" : reason.error().text()));
        CHECK(*reason == ExitReason::halted);
        CHECK(answers.results == std::vector<std::uint32_t>{1});
    }

    TEST_CASE("CPUID: a subset is taken, a missing feature is refused with its leaf") {
        auto guest = make_guest("soft_state cpuid");
        if (!guest) {
            return;
        }
        auto wanted = guest->partition->capabilities().cpuid;
        CHECK(text_of(guest->vcpu->set_cpuid(wanted)) == "accepted");
        for (CpuidEntry& entry : wanted) {
            if (entry.leaf == 1) {
                entry.ecx |= 1U << 28U; // AVX
            }
        }
        CHECK(text_of(guest->vcpu->set_cpuid(wanted)).find("leaf 0x1.0") != std::string::npos);
    }

    TEST_CASE("more than one vCPU is refused in a sentence that names kvm") {
        if (!make_guest("soft_state vcpus")) {
            return;
        }
        const auto text = refusal_of({.vcpus = 2});
        REQUIRE(text.has_value());
        CHECK(text->find("kvm") != std::string::npos);
    }

    TEST_CASE("interrupts are refused, and the clock never goes back") {
        auto guest = make_guest("soft_state partition");
        if (!guest) {
            return;
        }
        const auto refused = guest->partition->signal({.address = 0xfee00000, .data = 0x20});
        REQUIRE(!refused.has_value());
        CHECK(refused.error().code() == ErrorCode::unsupported);
        auto clock = guest->partition->save_clock();
        REQUIRE(clock.has_value());
        clock->host_real_time += std::chrono::hours{1}; // a host whose clock is behind
        REQUIRE(guest->partition->restore_clock(*clock).has_value());
        CHECK(guest->partition->save_clock()->reference_time >= clock->reference_time);
    }
}
