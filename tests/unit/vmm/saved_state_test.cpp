// SPDX-License-Identifier: Apache-2.0
#include "vmm/saved_state.hpp"

#include "formats/proto/machine.pb.h"
#include "formats/proto/vcpu.pb.h"
#include "formats/wire_frame.hpp"

#include <algorithm>
#include <concepts>
#include <functional>
#include <random>
#include <string>
#include <string_view>

#include <doctest/doctest.h>

using namespace wherry::vmm;
using wherry::formats::ErrorCode;
using wherry::formats::Result;
namespace formats = wherry::formats;
namespace proto = wherry::formats::proto;

namespace {

/// Fills states with values of a seed; every field differs from its default with near certainty.
class RandomState {
public:
    explicit RandomState(std::uint64_t seed) : random_{seed} {}

    VcpuState vcpu(std::uint32_t index) {
        VcpuState state;
        state.index = index;
        registers(state.registers);
        system(state.system);
        for (std::uint64_t& value : state.debug.db) {
            fill(value);
        }
        fill(state.debug.dr6);
        fill(state.debug.dr7);
        state.extended_controls.resize(random_() % 3);
        state.msrs.resize(random_() % 200);
        for (ExtendedControl& control : state.extended_controls) {
            control = {.index = number<std::uint32_t>(), .value = random_()};
        }
        for (Msr& msr : state.msrs) {
            msr = {.index = number<std::uint32_t>(), .value = random_()};
        }
        state.xsave = bytes(random_() % 4 == 0 ? 0 : 576 + random_() % 3000);
        if (random_() % 4 != 0) {
            std::ranges::copy(bytes(1024), state.lapic.emplace().begin());
        }
        events(state.events);
        state.run_state = static_cast<RunState>(random_() % 5);
        fill(state.tsc);
        fill(state.tsc_frequency_khz);
        if (random_() % 2 == 0) {
            hyperv(state.hyperv.emplace());
        }
        return state;
    }

    MachineState machine() {
        MachineState state;
        const std::uint64_t vcpus = 1 + random_() % 4;
        for (std::uint32_t i = 0; i < vcpus; ++i) {
            state.vcpus.push_back(vcpu(i));
        }
        for (std::uint64_t i = random_() % 5; i > 0; --i) {
            state.devices.push_back(
                {.id = "device" + std::to_string(i),
                 .version = number<std::uint32_t>(),
                 .bytes = bytes(random_() % 2000)});
        }
        state.clock.reference_time = std::chrono::nanoseconds{number<std::int64_t>()};
        state.clock.host_real_time = std::chrono::nanoseconds{number<std::int64_t>()};
        if (random_() % 2 == 0) {
            std::ranges::copy(bytes(16), state.generation_id.emplace().bytes.begin());
        }
        return state;
    }

    std::uint64_t operator()() { return random_(); }

private:
    template <std::integral Number>
    Number number() {
        return static_cast<Number>(random_());
    }
    template <std::integral Number>
    void fill(Number& value) {
        value = number<Number>();
    }
    std::vector<std::byte> bytes(std::size_t size) {
        std::vector<std::byte> bytes(size);
        std::ranges::generate(bytes, [this] { return static_cast<std::byte>(random_()); });
        return bytes;
    }
    void registers(Registers& r) {
        for (std::uint64_t* value :
             {&r.rax,
              &r.rbx,
              &r.rcx,
              &r.rdx,
              &r.rsi,
              &r.rdi,
              &r.rsp,
              &r.rbp,
              &r.r8,
              &r.r9,
              &r.r10,
              &r.r11,
              &r.r12,
              &r.r13,
              &r.r14,
              &r.r15,
              &r.rip,
              &r.rflags}) {
            fill(*value);
        }
    }
    void system(SystemRegisters& s) {
        for (Segment* segment : {&s.cs, &s.ds, &s.es, &s.fs, &s.gs, &s.ss, &s.tr, &s.ldt}) {
            *segment = {
                .base = random_(),
                .limit = number<std::uint32_t>(),
                .selector = number<std::uint16_t>(),
                .attributes = number<std::uint32_t>()};
        }
        for (DescriptorTable* table : {&s.gdt, &s.idt}) {
            *table = {.base = random_(), .limit = number<std::uint16_t>()};
        }
        for (std::uint64_t* value :
             {&s.cr0, &s.cr2, &s.cr3, &s.cr4, &s.cr8, &s.efer, &s.apic_base}) {
            fill(*value);
        }
    }
    void events(PendingEvents& e) {
        for (bool* flag :
             {&e.exception.injected,
              &e.exception.pending,
              &e.exception.has_error_code,
              &e.exception.has_payload,
              &e.interrupt.injected,
              &e.interrupt.soft,
              &e.nmi.injected,
              &e.nmi.pending,
              &e.nmi.masked,
              &e.smm,
              &e.triple_fault}) {
            *flag = random_() % 2 == 0;
        }
        fill(e.exception.vector);
        fill(e.exception.error_code);
        fill(e.exception.payload);
        fill(e.interrupt.vector);
        fill(e.interrupt.shadow);
        fill(e.sipi_vector);
    }

    void hyperv(HyperVState& h) {
        h.lapic = bytes(random_() % 4 == 0 ? 0 : 176);
        std::ranges::generate(h.sint, random_);
        h.message_page = bytes(random_() % 2 == 0 ? 0 : 4096);
        h.event_page = bytes(random_() % 2 == 0 ? 0 : 4096);
        h.timers = bytes(random_() % 2 == 0 ? 0 : 200);
        for (std::uint64_t* value :
             {&h.scontrol,
              &h.siefp,
              &h.simp,
              &h.vp_assist_page,
              &h.guest_os_id,
              &h.hypercall,
              &h.reference_tsc,
              &h.pending_interruption,
              &h.internal_activity,
              &h.pending_event1[0],
              &h.pending_event1[1],
              &h.interrupt_vectors}) {
            fill(*value);
        }
    }

    std::mt19937_64 random_;
};

bool same(const MachineState& a, const MachineState& b) {
    return a.vcpus == b.vcpus && a.devices == b.devices &&
           a.clock.reference_time == b.clock.reference_time &&
           a.clock.host_real_time == b.clock.host_real_time && a.generation_id == b.generation_id;
}

proto::MachineState good_message(std::uint64_t seed) {
    proto::MachineState message;
    to_proto(RandomState{seed}.machine(), message);
    return message;
}

std::vector<std::byte> bytes_of(const proto::MachineState& message) {
    const std::string text = message.SerializeAsString();
    const auto bytes = std::as_bytes(std::span{text});
    return {bytes.begin(), bytes.end()};
}

/// The text of the refusal, which both ways of decoding must agree on.
std::string refusal(const proto::MachineState& message) {
    const auto whole = from_proto(message);
    const auto piecewise = decode_machine_state(bytes_of(message));
    REQUIRE_FALSE(whole);
    REQUIRE_FALSE(piecewise);
    CHECK(whole.error().code() == ErrorCode::protocol);
    CHECK(piecewise.error().code() == ErrorCode::protocol);
    return whole.error().text();
}

std::string refusal_after(const std::function<void(proto::VcpuState&)>& change) {
    proto::MachineState message = good_message(100);
    change(*message.mutable_vcpus(0));
    const std::string text = refusal(message);
    constexpr std::string_view where = "machine state: state of vcpu 0: ";
    CHECK(text.starts_with(where));
    return text.substr(std::min(where.size(), text.size()));
}

} // namespace

TEST_SUITE("vmm.saved_state") {

    TEST_CASE("any state survives and encodes to the same bytes again") {
        for (std::uint64_t seed = 0; seed < 100; ++seed) {
            const MachineState state = RandomState{seed}.machine();
            const auto encoded = encode(state);
            REQUIRE(encoded);
            const auto decoded = decode_machine_state(*encoded);
            REQUIRE_MESSAGE(decoded.has_value(), decoded.error().text());
            CHECK(same(*decoded, state));
            CHECK(encode(*decoded) == *encoded);

            proto::MachineState message;
            to_proto(state, message);
            CHECK(same(from_proto(message).value(), state));
        }
    }

    TEST_CASE("a configuration survives") {
        MachineConfig config{.memory = formats::operator""_MiB(514), .vcpus = 3, .cpuid = {}};
        config.cpuid.push_back(
            {.leaf = 7,
             .subleaf = 1,
             .subleaf_is_significant = true,
             .eax = 2,
             .ebx = 3,
             .ecx = 4,
             .edx = 5});
        config.cpuid.push_back({.leaf = 0x80000000});
        proto::MachineConfig message;
        to_proto(config, message);
        const auto back = from_proto(message);
        REQUIRE(back);
        CHECK(back->memory == config.memory);
        CHECK(back->vcpus == config.vcpus);
        CHECK(back->cpuid == config.cpuid);
    }

    TEST_CASE("an impossible configuration is refused naming the field") {
        const auto refused = [](std::uint64_t memory, std::uint32_t vcpus, std::size_t cpuid) {
            proto::MachineConfig message;
            message.set_memory_bytes(memory);
            message.set_vcpus(vcpus);
            for (std::size_t i = 0; i < cpuid; ++i) {
                message.add_cpuid();
            }
            const auto config = from_proto(message);
            return config ? std::string{} : config.error().text();
        };
        CHECK(refused(2U << 20U, 1, 1024).empty());
        CHECK(refused(0, 1, 0).contains("memory_bytes"));
        CHECK(refused((2U << 20U) + 4096, 1, 0).contains("memory_bytes"));
        CHECK(refused(std::uint64_t{1} << 63U, 1, 0).contains("memory_bytes"));
        CHECK(refused(2U << 20U, 0, 0).contains("vcpus"));
        CHECK(refused(2U << 20U, 4097, 0).contains("vcpus"));
        CHECK(refused(2U << 20U, 1, 1025).contains("cpuid"));
    }

    TEST_CASE("a vcpu with a part missing is refused naming the part") {
        using V = proto::VcpuState;
        CHECK(refusal_after([](V& v) { v.clear_registers(); }) == "registers is missing");
        CHECK(refusal_after([](V& v) { v.clear_system(); }) == "system is missing");
        CHECK(refusal_after([](V& v) { v.clear_debug(); }).starts_with("debug"));
        CHECK(
            refusal_after([](V& v) { v.mutable_system()->clear_tr(); }) == "system.tr is missing");
        CHECK(refusal_after([](V& v) {
                  v.mutable_system()->clear_idt();
              }) == "system.idt is missing");
        CHECK(refusal_after([](V& v) {
                  v.mutable_debug()->add_db(1);
              }).starts_with("debug.db has 5"));
    }

    TEST_CASE("a vcpu with a field beyond its limit is refused naming the field") {
        using V = proto::VcpuState;
        const auto too_many = [](auto* list, std::size_t count) {
            while (static_cast<std::size_t>(list->size()) <= count) {
                list->Add();
            }
        };
        CHECK(refusal_after([&](V& v) {
                  too_many(v.mutable_msrs(), saved_msrs_limit);
              }).starts_with("msrs has 4097"));
        CHECK(refusal_after([&](V& v) {
                  too_many(v.mutable_extended_controls(), saved_extended_controls_limit);
              }).starts_with("extended_controls has 17"));
        CHECK(
            refusal_after([](V& v) { v.set_xsave(std::string(65537, 'x')); }).starts_with("xsave"));
        CHECK(refusal_after([](V& v) { v.set_xsave(std::string(575, 'x')); }).starts_with("xsave"));
        CHECK(
            refusal_after([](V& v) { v.set_lapic(std::string(1023, 'x')); }).starts_with("lapic"));
        CHECK(refusal_after([](V& v) { v.set_lapic(""); }).starts_with("lapic"));
        CHECK(refusal_after([](V& v) { v.set_run_state(5); }).starts_with("run_state"));
        CHECK(refusal_after([](V& v) {
                  v.mutable_system()->mutable_fs()->set_selector(0x10000);
              }).starts_with("system.fs"));
        CHECK(refusal_after([](V& v) {
                  v.mutable_system()->mutable_gdt()->set_limit(0x10000);
              }).starts_with("system.gdt"));
        CHECK(refusal_after([](V& v) {
                  v.mutable_events()->set_interrupt_vector(256);
              }).starts_with("events.interrupt_vector"));
        for (const auto& [size, name] : {std::pair{175, "hyperv.lapic"}, {177, "hyperv.lapic"}}) {
            CHECK(refusal_after([size](V& v) {
                      v.clear_hyperv();
                      v.mutable_hyperv()->set_lapic(
                          std::string(static_cast<std::size_t>(size), 'x'));
                  }).starts_with(name));
        }
        CHECK(refusal_after([](V& v) {
                  v.clear_hyperv();
                  v.mutable_hyperv()->set_timers("x");
              }).starts_with("hyperv.timers"));
        CHECK(refusal_after([](V& v) {
                  v.clear_hyperv();
                  v.mutable_hyperv()->set_event_page(std::string(4095, 'x'));
              }).starts_with("hyperv.event_page"));
        CHECK(refusal_after([](V& v) {
                  v.clear_hyperv();
                  v.mutable_hyperv()->add_sint(1);
              }).starts_with("hyperv.sint has 1"));
    }

    TEST_CASE("vcpus out of order, devices of one name and a missing clock are refused") {
        proto::MachineState message = good_message(1);
        message.mutable_vcpus(0)->set_index(1);
        CHECK(refusal(message).contains("vcpus has number 1 where 0 is due"));

        message = good_message(1);
        message.clear_clock();
        CHECK(refusal(message).contains("clock is missing"));

        message = good_message(1);
        message.add_devices()->set_id("serial0");
        CHECK(from_proto(message));
        message.add_devices()->set_id("serial0");
        CHECK(refusal(message).contains("serial0"));

        for (const std::string id : {"", "a b", "a\nb", "\xc3\xa4"}) {
            message = good_message(1);
            message.add_devices()->set_id(id);
            CHECK(refusal(message).contains("id of a device"));
        }
        message = good_message(1);
        message.add_devices()->set_id(std::string(65, 'x'));
        CHECK(refusal(message).contains("id of a device"));
    }

    TEST_CASE("a device's state may have 16 MiB and no byte more") {
        proto::DeviceState message;
        message.set_id("disk0");
        message.set_state(std::string(16U << 20U, 'x'));
        CHECK(from_proto(message));
        message.mutable_state()->push_back('x');
        CHECK_FALSE(from_proto(message));
        proto::MachineState machine = good_message(1);
        *machine.add_devices() = message;
        CHECK(refusal(machine).contains("disk0"));
    }

    TEST_CASE("more vcpus than the limit are refused") {
        proto::MachineState message = good_message(1);
        message.clear_vcpus();
        VcpuState vcpu;
        for (std::uint32_t i = 0; i <= saved_vcpus_limit; ++i) {
            vcpu.index = i;
            to_proto(vcpu, *message.add_vcpus());
        }
        const std::string text = refusal(message);
        CHECK(text.contains("4096"));
    }

    TEST_CASE("a field of a newer version is left out and everything else is taken") {
        const MachineState state = RandomState{3}.machine();
        std::vector<std::byte> bytes = encode(state).value();
        for (const unsigned byte : {0xf8U, 0x07U, 0x05U, 0xfaU, 0x07U, 0x02U, 0x01U, 0x02U}) {
            bytes.push_back(static_cast<std::byte>(byte)); // field 127: a number, then two bytes
        }
        const auto decoded = decode_machine_state(bytes);
        REQUIRE_MESSAGE(decoded.has_value(), decoded.error().text());
        CHECK(same(*decoded, state));
    }

    TEST_CASE("a state cut short anywhere is refused") {
        MachineState state = RandomState{4}.machine();
        state.generation_id.reset();
        const std::vector<std::byte> older = encode(state).value();
        state.generation_id.emplace();
        const std::vector<std::byte> bytes = encode(state).value();
        for (std::size_t size = 0; size < bytes.size(); ++size) {
            const auto decoded = decode_machine_state(std::span{bytes}.first(size));
            if (size == older.size()) { // that is all that it ever said
                REQUIRE(decoded);
                CHECK_FALSE(decoded->generation_id);
            } else {
                REQUIRE_FALSE(decoded); // the clock comes last but for the generation id
            }
        }
    }

    TEST_CASE("a generation id has 16 bytes; a guest without one has none") {
        proto::MachineState message = good_message(1);
        message.clear_generation_id();
        CHECK_FALSE(from_proto(message).value().generation_id);
        for (const std::size_t size : {0U, 15U, 17U, 2000U}) {
            message.set_generation_id(std::string(size, 'x'));
            CHECK(refusal(message).contains("generation_id has "));
        }
        message.set_generation_id("0123456789abcdef");
        CHECK(
            from_proto(message).value().generation_id.value().to_string() ==
            "30313233343536373839616263646566");
    }

    TEST_CASE("damaged states give a state or an error that names a place") {
        RandomState random{5};
        const std::vector<std::byte> good = encode(random.machine()).value();
        for (int turn = 0; turn < 3000; ++turn) {
            std::vector<std::byte> bytes = good;
            for (std::uint64_t changes = 1 + random() % 5; changes > 0; --changes) {
                bytes[random() % bytes.size()] = static_cast<std::byte>(random());
            }
            if (const auto decoded = decode_machine_state(bytes)) {
                CHECK(encode(*decoded));
            } else {
                CHECK(decoded.error().text().starts_with("machine state: "));
            }
        }
    }

} // TEST_SUITE
