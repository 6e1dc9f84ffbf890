// SPDX-License-Identifier: Apache-2.0
#include "formats/proto/vcpu.pb.h"
#include "vmm/saved_state.hpp"

#include <algorithm>
#include <array>
#include <concepts>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>

#include <fmt/format.h>

namespace wherry::vmm {

namespace {

using formats::Error;
using formats::ErrorCode;
namespace proto = formats::proto;

/// Keeps the first thing that is wrong with a message; what is read after that does not matter.
class Reader {
public:
    void refuse(std::string_view field, std::string_view fault) {
        if (!error_) {
            error_.emplace(ErrorCode::protocol, fmt::format("{} {}", field, fault));
        }
    }
    void require(bool is_present, std::string_view field) {
        if (!is_present) {
            refuse(field, "is missing");
        }
    }
    template <std::unsigned_integral Number>
    Number narrow(std::uint32_t value, std::string_view field) {
        if (value > std::numeric_limits<Number>::max()) {
            refuse(field, fmt::format("is {}, too large", value));
        }
        return static_cast<Number>(value);
    }
    void limit(std::size_t count, std::size_t most, std::string_view field) {
        if (count > most) {
            refuse(field, fmt::format("has {} entries, more than the limit of {}", count, most));
        }
    }
    [[nodiscard]] bool is_good() const noexcept { return !error_; }
    [[nodiscard]] Error error() && { return *std::move(error_); }

private:
    std::optional<Error> error_;
};

template <typename Plain, typename Message>
struct Field64 {
    std::uint64_t Plain::* value;
    std::uint64_t (Message::*get)() const;
    void (Message::*set)(std::uint64_t);
};

using PR = proto::Registers;
constexpr std::array<Field64<Registers, PR>, 18> general_registers{{
    {&Registers::rax, &PR::rax, &PR::set_rax},
    {&Registers::rbx, &PR::rbx, &PR::set_rbx},
    {&Registers::rcx, &PR::rcx, &PR::set_rcx},
    {&Registers::rdx, &PR::rdx, &PR::set_rdx},
    {&Registers::rsi, &PR::rsi, &PR::set_rsi},
    {&Registers::rdi, &PR::rdi, &PR::set_rdi},
    {&Registers::rsp, &PR::rsp, &PR::set_rsp},
    {&Registers::rbp, &PR::rbp, &PR::set_rbp},
    {&Registers::r8, &PR::r8, &PR::set_r8},
    {&Registers::r9, &PR::r9, &PR::set_r9},
    {&Registers::r10, &PR::r10, &PR::set_r10},
    {&Registers::r11, &PR::r11, &PR::set_r11},
    {&Registers::r12, &PR::r12, &PR::set_r12},
    {&Registers::r13, &PR::r13, &PR::set_r13},
    {&Registers::r14, &PR::r14, &PR::set_r14},
    {&Registers::r15, &PR::r15, &PR::set_r15},
    {&Registers::rip, &PR::rip, &PR::set_rip},
    {&Registers::rflags, &PR::rflags, &PR::set_rflags},
}};

using PS = proto::SystemRegisters;
constexpr std::array<Field64<SystemRegisters, PS>, 7> control_registers{{
    {&SystemRegisters::cr0, &PS::cr0, &PS::set_cr0},
    {&SystemRegisters::cr2, &PS::cr2, &PS::set_cr2},
    {&SystemRegisters::cr3, &PS::cr3, &PS::set_cr3},
    {&SystemRegisters::cr4, &PS::cr4, &PS::set_cr4},
    {&SystemRegisters::cr8, &PS::cr8, &PS::set_cr8},
    {&SystemRegisters::efer, &PS::efer, &PS::set_efer},
    {&SystemRegisters::apic_base, &PS::apic_base, &PS::set_apic_base},
}};

template <typename Plain, typename Message>
struct Part {
    std::string_view name;
    Plain SystemRegisters::* value;
    bool (PS::*has)() const;
    const Message& (PS::*get)() const;
    Message* (PS::*mutate)();
};

using SegmentPart = Part<Segment, proto::Segment>;
constexpr std::array<SegmentPart, 8> segments{{
    {"system.cs", &SystemRegisters::cs, &PS::has_cs, &PS::cs, &PS::mutable_cs},
    {"system.ds", &SystemRegisters::ds, &PS::has_ds, &PS::ds, &PS::mutable_ds},
    {"system.es", &SystemRegisters::es, &PS::has_es, &PS::es, &PS::mutable_es},
    {"system.fs", &SystemRegisters::fs, &PS::has_fs, &PS::fs, &PS::mutable_fs},
    {"system.gs", &SystemRegisters::gs, &PS::has_gs, &PS::gs, &PS::mutable_gs},
    {"system.ss", &SystemRegisters::ss, &PS::has_ss, &PS::ss, &PS::mutable_ss},
    {"system.tr", &SystemRegisters::tr, &PS::has_tr, &PS::tr, &PS::mutable_tr},
    {"system.ldt", &SystemRegisters::ldt, &PS::has_ldt, &PS::ldt, &PS::mutable_ldt},
}};

using TablePart = Part<DescriptorTable, proto::DescriptorTable>;
constexpr std::array<TablePart, 2> descriptor_tables{{
    {"system.gdt", &SystemRegisters::gdt, &PS::has_gdt, &PS::gdt, &PS::mutable_gdt},
    {"system.idt", &SystemRegisters::idt, &PS::has_idt, &PS::idt, &PS::mutable_idt},
}};

void write_system(const SystemRegisters& system, PS& into) {
    for (const SegmentPart& part : segments) {
        const Segment& segment = system.*part.value;
        proto::Segment& message = *(into.*part.mutate)();
        message.set_base(segment.base);
        message.set_limit(segment.limit);
        message.set_selector(segment.selector);
        message.set_attributes(segment.attributes);
    }
    for (const TablePart& part : descriptor_tables) {
        (into.*part.mutate)()->set_base((system.*part.value).base);
        (into.*part.mutate)()->set_limit((system.*part.value).limit);
    }
    for (const auto& field : control_registers) {
        (into.*field.set)(system.*field.value);
    }
}

SystemRegisters read_system(const PS& message, Reader& reader) {
    SystemRegisters system;
    for (const SegmentPart& part : segments) {
        reader.require((message.*part.has)(), part.name);
        const proto::Segment& segment = (message.*part.get)();
        system.*part.value = Segment{
            .base = segment.base(),
            .limit = segment.limit(),
            .selector = reader.narrow<std::uint16_t>(segment.selector(), part.name),
            .attributes = segment.attributes()};
    }
    for (const TablePart& part : descriptor_tables) {
        reader.require((message.*part.has)(), part.name);
        const proto::DescriptorTable& table = (message.*part.get)();
        system.*part.value = DescriptorTable{
            .base = table.base(), .limit = reader.narrow<std::uint16_t>(table.limit(), part.name)};
    }
    for (const auto& field : control_registers) {
        system.*field.value = (message.*field.get)();
    }
    return system;
}

void write_events(const PendingEvents& events, proto::PendingEvents& into) {
    into.set_exception_vector(events.exception.vector);
    into.set_exception_injected(events.exception.injected);
    into.set_exception_pending(events.exception.pending);
    into.set_exception_has_error_code(events.exception.has_error_code);
    into.set_exception_has_payload(events.exception.has_payload);
    into.set_exception_error_code(events.exception.error_code);
    into.set_exception_payload(events.exception.payload);
    into.set_interrupt_injected(events.interrupt.injected);
    into.set_interrupt_soft(events.interrupt.soft);
    into.set_interrupt_vector(events.interrupt.vector);
    into.set_interrupt_shadow(events.interrupt.shadow);
    into.set_nmi_injected(events.nmi.injected);
    into.set_nmi_pending(events.nmi.pending);
    into.set_nmi_masked(events.nmi.masked);
    into.set_sipi_vector(events.sipi_vector);
    into.set_smm(events.smm);
    into.set_triple_fault(events.triple_fault);
}

PendingEvents read_events(const proto::PendingEvents& message, Reader& reader) {
    PendingEvents events;
    events.exception = {
        .vector =
            reader.narrow<std::uint8_t>(message.exception_vector(), "events.exception_vector"),
        .injected = message.exception_injected(),
        .pending = message.exception_pending(),
        .has_error_code = message.exception_has_error_code(),
        .has_payload = message.exception_has_payload(),
        .error_code = message.exception_error_code(),
        .payload = message.exception_payload()};
    events.interrupt = {
        .injected = message.interrupt_injected(),
        .soft = message.interrupt_soft(),
        .vector =
            reader.narrow<std::uint8_t>(message.interrupt_vector(), "events.interrupt_vector"),
        .shadow =
            reader.narrow<std::uint8_t>(message.interrupt_shadow(), "events.interrupt_shadow")};
    events.nmi = {
        .injected = message.nmi_injected(),
        .pending = message.nmi_pending(),
        .masked = message.nmi_masked()};
    events.sipi_vector = message.sipi_vector();
    events.smm = message.smm();
    events.triple_fault = message.triple_fault();
    return events;
}

DebugRegisters read_debug(const proto::DebugRegisters& message, Reader& reader) {
    DebugRegisters debug{.dr6 = message.dr6(), .dr7 = message.dr7()};
    if (message.db_size() != static_cast<int>(debug.db.size())) {
        reader.refuse("debug.db", fmt::format("has {} registers, not 4", message.db_size()));
        return debug;
    }
    std::ranges::copy(message.db(), debug.db.begin());
    return debug;
}

template <typename Plain, typename Messages>
std::vector<Plain>
read_indexed(const Messages& messages, std::size_t most, std::string_view field, Reader& reader) {
    std::vector<Plain> registers;
    reader.limit(static_cast<std::size_t>(messages.size()), most, field);
    if (reader.is_good()) {
        registers.reserve(static_cast<std::size_t>(messages.size()));
        for (const auto& message : messages) {
            registers.push_back({.index = message.index(), .value = message.value()});
        }
    }
    return registers;
}

template <typename Plain, typename Messages>
void write_indexed(const std::vector<Plain>& registers, Messages& into) {
    into.Reserve(static_cast<int>(registers.size()));
    for (const Plain& one : registers) {
        auto& message = *into.Add();
        message.set_index(one.index);
        message.set_value(one.value);
    }
}

void read_blobs(const proto::VcpuState& message, VcpuState& state, Reader& reader) {
    constexpr std::size_t legacy_area_and_header = 576;
    const auto xsave = std::as_bytes(std::span{message.xsave()});
    if (!xsave.empty() &&
        (xsave.size() < legacy_area_and_header || xsave.size() > saved_xsave_limit.value())) {
        reader.refuse("xsave", fmt::format("has {} bytes, not 576 to 64 KiB", xsave.size()));
        return;
    }
    state.xsave.assign(xsave.begin(), xsave.end());
    if (!message.has_lapic()) {
        return;
    }
    auto& lapic = state.lapic.emplace();
    const auto bytes = std::as_bytes(std::span{message.lapic()});
    if (bytes.size() != lapic.size()) {
        reader.refuse("lapic", fmt::format("has {} bytes, not {}", bytes.size(), lapic.size()));
        return;
    }
    std::ranges::copy(bytes, lapic.begin());
}

using PH = proto::HyperVState;
constexpr std::array<Field64<HyperVState, PH>, 10> hyperv_registers{{
    {&HyperVState::scontrol, &PH::scontrol, &PH::set_scontrol},
    {&HyperVState::siefp, &PH::siefp, &PH::set_siefp},
    {&HyperVState::simp, &PH::simp, &PH::set_simp},
    {&HyperVState::vp_assist_page, &PH::vp_assist_page, &PH::set_vp_assist_page},
    {&HyperVState::guest_os_id, &PH::guest_os_id, &PH::set_guest_os_id},
    {&HyperVState::hypercall, &PH::hypercall, &PH::set_hypercall},
    {&HyperVState::reference_tsc, &PH::reference_tsc, &PH::set_reference_tsc},
    {&HyperVState::pending_interruption, &PH::pending_interruption, &PH::set_pending_interruption},
    {&HyperVState::internal_activity, &PH::internal_activity, &PH::set_internal_activity},
    {&HyperVState::interrupt_vectors, &PH::interrupt_vectors, &PH::set_interrupt_vectors},
}};

struct HyperVBytes {
    std::string_view name;
    std::vector<std::byte> HyperVState::* value;
    const std::string& (PH::*get)() const;
    std::string* (PH::*mutate)();
    std::size_t size; ///< or empty
};
constexpr std::array<HyperVBytes, 4> hyperv_bytes{{
    {"hyperv.lapic", &HyperVState::lapic, &PH::lapic, &PH::mutable_lapic, 176},
    {"hyperv.message_page",
     &HyperVState::message_page,
     &PH::message_page,
     &PH::mutable_message_page,
     4096},
    {"hyperv.event_page", &HyperVState::event_page, &PH::event_page, &PH::mutable_event_page, 4096},
    {"hyperv.timers", &HyperVState::timers, &PH::timers, &PH::mutable_timers, 200},
}};

void write_hyperv(const HyperVState& state, PH& into) {
    for (const auto& field : hyperv_registers) {
        (into.*field.set)(state.*field.value);
    }
    for (const auto& part : hyperv_bytes) {
        const auto& bytes = state.*part.value;
        (into.*part.mutate)()->assign(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    }
    into.mutable_sint()->Add(state.sint.begin(), state.sint.end());
    into.set_pending_event1_low(state.pending_event1[0]);
    into.set_pending_event1_high(state.pending_event1[1]);
}

HyperVState read_hyperv(const PH& message, Reader& reader) {
    HyperVState state;
    for (const auto& field : hyperv_registers) {
        state.*field.value = (message.*field.get)();
    }
    for (const auto& part : hyperv_bytes) {
        const auto bytes = std::as_bytes(std::span{(message.*part.get)()});
        if (!bytes.empty() && bytes.size() != part.size) {
            reader.refuse(part.name, fmt::format("has {} bytes, not {}", bytes.size(), part.size));
            return state;
        }
        (state.*part.value).assign(bytes.begin(), bytes.end());
    }
    if (message.sint_size() != static_cast<int>(state.sint.size())) {
        reader.refuse("hyperv.sint", fmt::format("has {} registers, not 16", message.sint_size()));
        return state;
    }
    std::ranges::copy(message.sint(), state.sint.begin());
    state.pending_event1 = {message.pending_event1_low(), message.pending_event1_high()};
    return state;
}

RunState read_run_state(std::uint32_t number, Reader& reader) {
    if (number > static_cast<std::uint32_t>(RunState::sipi_received)) {
        reader.refuse("run_state", fmt::format("has the unknown value {}", number));
        return RunState::runnable;
    }
    return static_cast<RunState>(number);
}

} // namespace

void to_proto(const VcpuState& state, proto::VcpuState& into) {
    into.Clear();
    into.set_index(state.index);
    for (const auto& field : general_registers) {
        (into.mutable_registers()->*field.set)(state.registers.*field.value);
    }
    write_system(state.system, *into.mutable_system());
    for (const std::uint64_t value : state.debug.db) {
        into.mutable_debug()->add_db(value);
    }
    into.mutable_debug()->set_dr6(state.debug.dr6);
    into.mutable_debug()->set_dr7(state.debug.dr7);
    write_indexed(state.extended_controls, *into.mutable_extended_controls());
    into.set_xsave(state.xsave.data(), state.xsave.size());
    write_indexed(state.msrs, *into.mutable_msrs());
    if (state.lapic) {
        into.set_lapic(state.lapic->data(), state.lapic->size());
    }
    write_events(state.events, *into.mutable_events());
    into.set_run_state(static_cast<std::uint32_t>(state.run_state));
    into.set_tsc(state.tsc);
    into.set_tsc_frequency_khz(state.tsc_frequency_khz);
    if (state.hyperv) {
        write_hyperv(*state.hyperv, *into.mutable_hyperv());
    }
}

formats::Result<VcpuState> from_proto(const proto::VcpuState& message) {
    Reader reader;
    reader.require(message.has_registers(), "registers");
    reader.require(message.has_system(), "system");
    reader.require(message.has_debug(), "debug");
    if (message.index() >= saved_vcpus_limit) {
        reader.refuse("index", fmt::format("is {}, too large", message.index()));
    }
    VcpuState state;
    state.index = message.index();
    for (const auto& field : general_registers) {
        state.registers.*field.value = (message.registers().*field.get)();
    }
    state.system = read_system(message.system(), reader);
    state.debug = read_debug(message.debug(), reader);
    state.extended_controls = read_indexed<ExtendedControl>(
        message.extended_controls(), saved_extended_controls_limit, "extended_controls", reader);
    state.msrs = read_indexed<Msr>(message.msrs(), saved_msrs_limit, "msrs", reader);
    read_blobs(message, state, reader);
    state.events = read_events(message.events(), reader);
    state.run_state = read_run_state(message.run_state(), reader);
    state.tsc = message.tsc();
    state.tsc_frequency_khz = message.tsc_frequency_khz();
    if (message.has_hyperv()) {
        state.hyperv = read_hyperv(message.hyperv(), reader);
    }
    if (!reader.is_good()) {
        return formats::fail(
            std::move(reader).error().during(fmt::format("state of vcpu {}", message.index())));
    }
    return state;
}

} // namespace wherry::vmm
