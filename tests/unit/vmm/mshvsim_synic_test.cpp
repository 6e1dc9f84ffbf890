// SPDX-License-Identifier: Apache-2.0
// What the simulator has of Hyper-V's own MSRs, its interrupt controller and its timers. Guests are
// real-mode code that polls: they need no interrupts to be taken.
#include "mshvsim_client.hpp"
#include "vmm/mshv/abi/synthetic_features.hpp"

#include <array>
#include <bit>
#include <cstring>
#include <string>

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <sys/mman.h>

using namespace mshvsim_test;
namespace features = abi::synthetic_features;
namespace hypercalls = abi::hypercalls;
namespace ioctls = abi::ioctls;
namespace messages = abi::messages;
namespace registers = abi::registers;
namespace status = abi::status;
namespace timer_config = abi::vp_state::synthetic_timer_config;

namespace {

constexpr std::uint16_t entry = 0x1000, on_fault = 0x1800, result_port = 0x80, fault_port = 0xee;
constexpr std::uint64_t simp = 0x6000, siefp = 0x7000;
constexpr std::size_t slot = 0x100;
constexpr std::uint32_t sint = 2;
constexpr std::uint8_t vector = 0x41;
constexpr std::uint64_t all = features::hypervisor_present | features::hv1 | features::vp_runtime |
                              features::reference_counter | features::synic |
                              features::synthetic_timers | features::hypercall |
                              features::vp_index | features::reference_tsc | features::frequency |
                              features::direct_synthetic_timers;

/// 16-bit code with 32-bit operands.
class Code {
public:
    Code& add(std::initializer_list<int> bytes) {
        for (const int byte : bytes) {
            bytes_.push_back(static_cast<std::byte>(byte));
        }
        return *this;
    }
    Code& word(std::uint32_t value) {
        for (unsigned i = 0; i < 4; ++i) {
            bytes_.push_back(static_cast<std::byte>(value >> (8 * i)));
        }
        return *this;
    }
    Code& write(std::uint32_t msr, std::uint64_t value) {
        add({0x66, 0xb9}).word(msr);
        add({0x66, 0xb8}).word(static_cast<std::uint32_t>(value));
        add({0x66, 0xba}).word(static_cast<std::uint32_t>(value >> 32U));
        return add({0x0f, 0x30});
    }
    /// EDX:EAX of the MSR through the result port.
    Code& read(std::uint32_t msr) {
        add({0x66, 0xb9}).word(msr);
        add({0x0f, 0x32, 0x66, 0xe7, result_port, 0x66, 0x89, 0xd0});
        return report();
    }
    Code& report() { return add({0x66, 0xe7, result_port}); }
    /// Spins until the SINT's slot has a message, takes it out and says EOM.
    Code& take_message() {
        add({0x66, 0x83, 0x3e, 0x00, 0x62, 0x00, 0x74, 0xf8});
        add({0x66, 0xa1, 0x00, 0x62});
        report();
        add({0x66, 0xc7, 0x06, 0x00, 0x62, 0x00, 0x00, 0x00, 0x00});
        return write(0x40000084, 0);
    }
    [[nodiscard]] const std::vector<std::byte>& bytes() const { return bytes_; }

private:
    std::vector<std::byte> bytes_;
};

struct Guest {
    std::unique_ptr<Client> client;
    HostMemory memory{16};
    explicit Guest(std::string_view test, std::uint64_t offered = all)
        : client{Client::open(test, Personality::v7_2, std::nullopt, offered)} {
        if (client == nullptr) {
            return;
        }
        const auto given = client->property(abi::properties::synthetic_processor_features);
        if (given != offered) {
            fmt::print("SKIPPED: {}: this engine offers {:#x} of {:#x}\n", test, given, offered);
            client = nullptr;
            return;
        }
        REQUIRE(client->map(memory, 0) == 0);
        // #GP of real mode: reports through another port.
        memory.put(4 * 13, {on_fault & 0xff, on_fault >> 8, 0, 0});
        memory.put(on_fault, {0xe6, fault_port});
    }

    void start(const Code& code) {
        std::ranges::copy(code.bytes(), memory.at(entry));
        client->start_at(entry);
        const abi::SegmentValue flat{.limit = 0xffff, .attributes = 0x93};
        REQUIRE(
            client
                ->set(
                    {{registers::ds, abi::value_of(flat)},
                     {registers::ss, abi::value_of(flat)},
                     {registers::rsp, {0x3000, 0}}})
                .status == 0);
    }
    /// EAX of the next report; the port tells whether it was one.
    std::uint32_t next(std::uint16_t port = result_port) {
        messages::Message message;
        REQUIRE(client->run(message) == 0);
        REQUIRE(message.type == messages::io_port);
        const auto io = messages::payload_as<messages::IoPortIntercept>(message);
        CHECK(io.port == port);
        client->set(registers::rip, io.header.rip + io.header.instruction_length());
        return static_cast<std::uint32_t>(io.rax);
    }
    std::uint64_t next_pair() {
        const std::uint64_t low = next();
        return low | std::uint64_t{next()} << 32U;
    }
    messages::Message message_in(std::uint32_t of_sint) {
        messages::Message message;
        std::memcpy(&message, memory.at(simp + slot * of_sint), sizeof(message));
        return message;
    }
    void enable_synic(std::uint64_t of_sint) {
        const auto answer = client->set(
            {{registers::sint0 + sint, {of_sint, 0}},
             {registers::simp, {simp | 1U, 0}},
             {registers::siefp, {siefp | 1U, 0}},
             {registers::scontrol, {1, 0}}});
        REQUIRE(answer.status == 0);
    }
    std::uint16_t post(std::uint32_t type) {
        messages::Message message{.type = type, .payload_size = 8};
        message.payload[0] = std::byte{0x5a};
        hypercalls::PostMessageDirect input{.sint = sint};
        std::memcpy(input.message.data(), &message, sizeof(message));
        return client->hypercall(client->vp, hypercalls::post_message_direct, 0, bytes(input))
            .status;
    }
    hypercalls::SignalEventResult signal(std::uint16_t flag, std::uint16_t expected) {
        const hypercalls::SignalEventDirect input{.sint = sint, .flag = flag};
        hypercalls::SignalEventResult result;
        const auto answer = client->hypercall(
            client->vp, hypercalls::signal_event_direct, 0, bytes(input), room(result));
        CHECK(answer.status == expected);
        return result;
    }

    template <typename State>
    State state(std::uint8_t type, const State* wanted = nullptr) {
        static_assert(sizeof(State) <= abi::page_size);
        const HostMemory page{1};
        ioctls::VpState argument{.type = type, .buffer_size = abi::page_size};
        argument.buffer = std::bit_cast<std::uint64_t>(page.at());
        if (wanted != nullptr) {
            std::memcpy(page.at(), wanted, sizeof(State));
        }
        const auto request = wanted != nullptr ? ioctls::set_vp_state : ioctls::get_vp_state;
        REQUIRE(client->calls().ioctl(client->vp, request, &argument) == 0);
        State state;
        std::memcpy(&state, page.at(), sizeof(State));
        return state;
    }
    void enable_lapic() {
        auto lapic = state<abi::vp_state::Lapic>(abi::vp_state::lapic);
        lapic.spurious |= 0x100;
        state(abi::vp_state::lapic, &lapic);
    }
    bool is_requested(std::uint8_t number) {
        const auto lapic = state<abi::vp_state::Lapic>(abi::vp_state::lapic);
        return (lapic.irr[number / 32] >> number % 32 & 1U) != 0;
    }
};

constexpr std::uint64_t masked = 1U << 16U, polling = 1U << 18U;

} // namespace

TEST_SUITE("mshvsim.synic") {
    TEST_CASE("a guest reads and writes the MSRs that its creator offers it") {
        Guest guest{"mshvsim.synic MSRs"};
        if (guest.client == nullptr) {
            return;
        }
        guest.start(Code{}
                        .write(0x40000000, 0x8100'0000'1234'5678)
                        .write(0x40000001, 0x5001)
                        .write(0x40000021, 0x8001)
                        .read(0x40000000)
                        .read(0x40000001)
                        .read(0x40000002)
                        .read(0x40000020)
                        .read(0x40000020)
                        .read(0x40000022)
                        .read(0x40000081)
                        .read(0x40000092)
                        .read(0x40000010)
                        .write(0x40000000, 0)
                        .read(0x40000001));
        std::memset(guest.memory.at(0x8000), 0xff, abi::page_size);
        CHECK(guest.next_pair() == 0x8100'0000'1234'5678);
        CHECK(guest.client->get(registers::guest_os_id).low == 0x8100'0000'1234'5678);
        CHECK(guest.memory.at(0x5000)[0] == std::byte{0xb8});
        CHECK(guest.memory.at(0x5000)[1] == std::byte{status::invalid_hypercall_code});
        CHECK(guest.memory.at(0x8000)[0] == std::byte{0}); // sequence: "do not use this page"
        CHECK(guest.next_pair() == 0x5001);
        CHECK(guest.next_pair() == 0);
        const auto before = guest.next_pair();
        CHECK(guest.next_pair() > before);
        CHECK(guest.next_pair() == guest.client->get(registers::tsc_frequency).low);
        CHECK(guest.next_pair() == 1);
        CHECK(guest.next_pair() == masked);
        CHECK(guest.next_pair() > 0);
        CHECK(guest.next_pair() == 0x5000); // no identity, no hypercalls
    }

    TEST_CASE("what is not offered is a fault to the guest, and absent from CPUID") {
        struct Known {
            std::uint64_t feature;
            std::uint32_t msr;
            unsigned privilege;
        };
        for (const auto& [feature, msr, privilege] :
             {Known{features::vp_runtime, 0x40000010, 0},
              Known{features::reference_counter, 0x40000020, 1},
              Known{features::synic, 0x40000080, 2},
              Known{features::synthetic_timers, 0x400000b0, 3},
              Known{features::hypercall, 0x40000001, 5},
              Known{features::vp_index, 0x40000002, 6},
              Known{features::reference_tsc, 0x40000021, 9},
              Known{features::frequency, 0x40000022, 11}}) {
            for (const bool is_offered : {true, false}) {
                Guest guest{"mshvsim.synic offers", is_offered ? all : all & ~feature};
                if (guest.client == nullptr) {
                    return;
                }
                const hypercalls::GetVpCpuidValues asked{.leaf = 0x40000003};
                std::array<std::uint32_t, 4> cpuid{};
                const auto answer = guest.client->hypercall(
                    guest.client->vp,
                    hypercalls::get_vp_cpuid_values,
                    1,
                    bytes(asked),
                    room(cpuid));
                REQUIRE(answer.status == 0);
                CHECK((cpuid[0] >> privilege & 1U) == (is_offered ? 1 : 0));
                guest.start(Code{}.read(msr));
                INFO("MSR ", msr);
                guest.next(is_offered ? result_port : fault_port);
            }
        }
    }

    TEST_CASE("values that no guest may write are a fault") {
        for (const auto& code :
             {Code{}.write(0x40000092, 0x0f),             // vector below 16
              Code{}.write(0x40000081, 1),                // SVERSION
              Code{}.write(0x40000002, 0),                // VP_INDEX
              Code{}.write(0x400000b0, 0x1001 | 0xf0)}) { // direct mode, vector 15
            Guest guest{"mshvsim.synic refusals"};
            if (guest.client == nullptr) {
                return;
            }
            auto whole = code;
            guest.start(whole.report());
            guest.next(fault_port);
        }
    }

    TEST_CASE("a message goes into its slot and interrupts; a second one waits for the first") {
        Guest guest{"mshvsim.synic messages"};
        if (guest.client == nullptr) {
            return;
        }
        guest.enable_lapic();
        CHECK(guest.post(0x1234) == status::invalid_vp_state);
        guest.enable_synic(masked | vector);
        guest.start(Code{}.take_message().take_message());
        CHECK(guest.post(0x1234) == status::success);
        CHECK_FALSE(guest.is_requested(vector));
        CHECK(guest.post(0x1235) == status::insufficient_buffers);
        CHECK(guest.next() == 0x1234);
        CHECK(guest.message_in(sint).flags == 1);
        CHECK(guest.message_in(sint).payload[0] == std::byte{0x5a});
        CHECK(guest.post(0) == status::invalid_parameter);
        guest.client->set(registers::sint0 + sint, vector);
        guest.client->set(registers::simp, 0x9001); // moves, with the slot in use
        CHECK(guest.post(0x1236) == status::insufficient_buffers);
        guest.client->set(registers::simp, simp | 1U);
        // The guest clears the slot and reports the next.
        guest.memory.put(simp + slot * sint, {0, 0, 0, 0});
        CHECK(guest.post(0x1237) == status::success);
        CHECK(guest.is_requested(vector));
    }

    TEST_CASE("an event flag is signalled once until the guest clears it") {
        Guest guest{"mshvsim.synic events"};
        if (guest.client == nullptr) {
            return;
        }
        guest.enable_lapic();
        guest.signal(9, status::invalid_vp_state);
        guest.enable_synic(polling | vector);
        guest.start(Code{}.report());
        CHECK(guest.signal(9, status::success).newly_signaled == 1);
        CHECK(guest.signal(9, status::success).newly_signaled == 0);
        guest.signal(2048, status::invalid_parameter);
        guest.next(); // the page is laid when a guest runs that could see it
        CHECK(guest.memory.at(siefp + slot * sint)[1] == std::byte{2});
        CHECK_FALSE(guest.is_requested(vector));
        guest.client->set(registers::sint0 + sint, vector);
        guest.memory.put(siefp + slot * sint, {0, 0});
        CHECK(guest.signal(9, status::success).newly_signaled == 1);
        CHECK(guest.memory.at(siefp + slot * sint)[1] == std::byte{2});
        CHECK(guest.is_requested(vector));
    }

    TEST_CASE("a one-shot timer expires once, and not while time is frozen") {
        Guest guest{"mshvsim.synic one-shot"};
        if (guest.client == nullptr) {
            return;
        }
        guest.enable_synic(polling);
        guest.client->set_property(abi::properties::time_freeze, 1);
        const auto due = guest.client->get(registers::time_reference_count).low + 1000;
        guest.start(Code{}
                        .write(0x400000b0, timer_config::auto_enable | sint << 16U)
                        .write(0x400000b1, due)
                        .report()
                        .take_message()
                        .read(0x400000b0));
        guest.next();
        CHECK(guest.message_in(sint).type == messages::none);
        const auto armed = guest.state<abi::vp_state::SyntheticTimers>(4).timers[0];
        CHECK(armed.config == (timer_config::auto_enable | timer_config::enable | sint << 16U));
        CHECK(armed.count == due);
        guest.client->set_property(abi::properties::time_freeze, 0);
        CHECK(guest.next() == messages::timer_expired);
        const auto message = guest.message_in(sint);
        std::array<std::uint64_t, 3> payload{}; // timer; expiration; delivery
        std::memcpy(payload.data(), message.payload.data(), sizeof(payload));
        CHECK(message.payload_size == sizeof(payload));
        CHECK(payload[0] == 0);
        CHECK(payload[1] == due);
        CHECK(payload[2] >= due);
        CHECK(guest.next_pair() == (timer_config::auto_enable | sint << 16U));
    }

    TEST_CASE("a periodic timer goes on, and waits where the last message is still there") {
        Guest guest{"mshvsim.synic periodic"};
        if (guest.client == nullptr) {
            return;
        }
        constexpr std::uint64_t period = 20000;
        guest.enable_synic(polling);
        guest.start(
            Code{}
                .write(0x400000b3, period)
                .write(0x400000b2, timer_config::enable | timer_config::periodic | sint << 16U)
                .take_message()
                .take_message()
                .take_message());
        std::uint64_t last = 0;
        for (int turn = 0; turn < 3; ++turn) {
            CHECK(guest.next() == messages::timer_expired);
            std::array<std::uint64_t, 2> payload{};
            std::memcpy(payload.data(), guest.message_in(sint).payload.data(), sizeof(payload));
            CHECK(payload[0] == 1);
            CHECK((turn == 0 || (payload[1] > last && (payload[1] - last) % period == 0)));
            last = payload[1];
        }
        // A message nobody takes: the next one is kept in the state, and its slot says so.
        auto timers = guest.state<abi::vp_state::SyntheticTimers>(abi::vp_state::synthetic_timers);
        timers.timers[1].adjustment = 1;
        guest.state(abi::vp_state::synthetic_timers, &timers);
        REQUIRE(guest.message_in(sint).type == messages::timer_expired);
        guest.start(Code{}.report());
        guest.next();
        timers = guest.state<abi::vp_state::SyntheticTimers>(abi::vp_state::synthetic_timers);
        CHECK(timers.timers[1].flags == 1);
        CHECK(timers.timers[1].undelivered_expiration_time == 1);
        CHECK((guest.message_in(sint).flags & 1U) == 1);
    }

    TEST_CASE("a direct timer interrupts without a message") {
        Guest guest{"mshvsim.synic direct"};
        if (guest.client == nullptr) {
            return;
        }
        guest.enable_lapic();
        guest.start(
            Code{}
                .write(0x400000b6, timer_config::auto_enable | timer_config::direct | vector << 4U)
                .write(0x400000b7, 1)
                .report());
        CHECK_FALSE(guest.is_requested(vector));
        guest.next();
        CHECK(guest.is_requested(vector));
    }

    TEST_CASE("a timer wakes a VP that sleeps in HLT") {
        Guest guest{"mshvsim.synic sleep"};
        if (guest.client == nullptr) {
            return;
        }
        guest.enable_lapic();
        guest.memory.put(4 * vector, {on_fault & 0xff, on_fault >> 8, 0, 0});
        constexpr std::uint64_t soon = 200'000; // 20 ms: it is asleep by then
        const auto due = guest.client->get(registers::time_reference_count).low + soon;
        guest.start(
            Code{}
                .write(0x400000b0, timer_config::auto_enable | timer_config::direct | vector << 4U)
                .write(0x400000b1, due)
                .add({0xfb, 0xf4, 0xf4}));
        guest.next(fault_port); // the handler of the vector
        CHECK(guest.client->get(registers::time_reference_count).low >= due);
        CHECK(guest.state<abi::vp_state::SyntheticTimers>(4).timers[0].config % 2 == 0);
    }

    TEST_CASE(
        "a message page that is not there yet is the VMM's to bring, and then has its contents") {
        Guest guest{"mshvsim.synic missing page"};
        if (guest.client == nullptr) {
            return;
        }
        constexpr std::uint64_t far = 0x200000;
        const HostMemory late{1};
        REQUIRE(::mprotect(late.at(), late.size(), PROT_NONE) == 0);
        REQUIRE(guest.client->map(late, far / abi::page_size) == 0);
        guest.enable_synic(polling);
        guest.client->set(registers::simp, far | 1U);
        CHECK(guest.post(0x1234) == status::success);
        guest.start(Code{}.report());
        for (int turn = 0; turn < 2; ++turn) { // as often as it runs without the page
            messages::Message message;
            REQUIRE(guest.client->run(message) == 0);
            REQUIRE(message.type == messages::gpa_intercept);
            CHECK(messages::payload_as<messages::MemoryIntercept>(message).gpa == far);
        }
        REQUIRE(::mprotect(late.at(), late.size(), PROT_READ | PROT_WRITE) == 0);
        guest.next();
        messages::Message laid;
        std::memcpy(&laid, late.at(slot * sint), sizeof(laid));
        CHECK(laid.type == 0x1234);
    }
}
