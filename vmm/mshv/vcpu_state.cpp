// SPDX-License-Identifier: Apache-2.0
// The part of MshvVcpu that saves and restores.
#include "vmm/mshv/abi/hypercalls.hpp"
#include "vmm/mshv/abi/register_names.hpp"
#include "vmm/mshv/lapic.hpp"
#include "vmm/mshv/msrs.hpp"
#include "vmm/mshv/registers.hpp"
#include "vmm/mshv/synthetic_state.hpp"
#include "vmm/mshv/tsc.hpp"
#include "vmm/mshv/vcpu.hpp"
#include "vmm/mshv/vp_pages.hpp"
#include "vmm/mshv/xsave.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include <fmt/format.h>

namespace wherry::vmm::mshv {

namespace names = abi::registers;
using formats::ErrorCode;
using formats::fail;
using formats::Result;
using formats::Status;

namespace {

constexpr std::array event_names{
    names::pending_interruption,
    names::interrupt_state,
    names::pending_event0,
    names::pending_event1,
    names::internal_activity};

abi::RegisterValue plain(std::uint64_t value) {
    return {.low = value, .high = 0};
}

/// For MSRs whose register belongs to another part of the state: a guest that came from a
/// hypervisor without these parts brings none.
const HyperVState& synthetic_of(const VcpuState& state) {
    static const HyperVState none;
    return state.hyperv ? *state.hyperv : none;
}

/// The hypervisor's own words, which know more (lengths of instructions, reasons to be idle), where
/// they still say what the canonical state says.
EventRegisters refined(EventRegisters events, const VcpuState& state) {
    const auto& synthetic = synthetic_of(state);
    EventRegisters raw = events;
    raw.pending_interruption = synthetic.pending_interruption;
    raw.internal_activity = synthetic.internal_activity;
    if (canonical_events(raw, true) == canonical_events(events, true)) {
        events.pending_interruption = raw.pending_interruption;
    }
    if (canonical_run_state(raw) == canonical_run_state(events)) {
        events.internal_activity = raw.internal_activity;
    }
    return events;
}

/// A vector that was asserted and not yet taken up by the APIC is a request in it.
void request_in_lapic(abi::vp_state::Lapic& lapic, std::uint64_t interrupt_vectors) {
    const std::uint64_t count = std::min<std::uint64_t>(interrupt_vectors & 0xffU, 7);
    for (std::uint64_t i = 1; i <= count; ++i) {
        const auto vector = static_cast<std::uint32_t>((interrupt_vectors >> (8 * i)) & 0xffU);
        lapic.irr[vector / 32] |= 1U << (vector % 32);
    }
}

/// For a guest from which the hypervisor hides (`--cpu portable`): no HyperVState, as on other
/// backends, unless a register says more than the canonical state has room for.
void drop_synthetic(VcpuState& state) {
    auto& rest = *state.hyperv;
    abi::vp_state::Lapic lapic;
    if (state.lapic) {
        std::memcpy(&lapic, rest.lapic.data(), sizeof(lapic));
        request_in_lapic(lapic, std::exchange(rest.interrupt_vectors, 0));
        std::memcpy(rest.lapic.data(), &lapic, sizeof(lapic));
        state.lapic = canonical_lapic(lapic, state.system.cr8, state.system.apic_base);
    }
    const auto events = native_events(state.events, state.run_state);
    const bool says_more = !events || rest.interrupt_vectors != 0 ||
                           events->pending_interruption != rest.pending_interruption ||
                           events->internal_activity != rest.internal_activity ||
                           rest.pending_event1[0] != 0 || lapic.error_status != 0;
    if (!says_more) {
        state.hyperv.reset();
    }
}

} // namespace

Result<EventRegisters> MshvVcpu::read_events(HyperVState& rest) const {
    const auto values = registers_.read(event_names);
    if (!values) {
        return fail(values.error());
    }
    const EventRegisters events{
        .pending_interruption = (*values)[0].low,
        .interrupt_state = (*values)[1].low,
        .pending_event0 = (*values)[2],
        .internal_activity = (*values)[4].low};
    rest.pending_interruption = events.pending_interruption;
    rest.pending_event1 = {(*values)[3].low, (*values)[3].high};
    rest.internal_activity = events.internal_activity;
    return events;
}

Status MshvVcpu::read_lapic_into(VcpuState& state) const {
    if (!shared_.capabilities.has_interrupt_controller) {
        return {};
    }
    const auto lapic = read_lapic(vp_);
    if (!lapic) {
        return fail(lapic.error());
    }
    state.lapic = canonical_lapic(*lapic, state.system.cr8, state.system.apic_base);
    const auto bytes = std::as_bytes(std::span{&*lapic, 1});
    state.hyperv->lapic.assign(bytes.begin(), bytes.end());
    return {};
}

Result<VcpuState> MshvVcpu::save() {
    VcpuState state;
    state.index = index_;
    auto& synthetic = state.hyperv.emplace();
    const auto values = registers_.read(plain_names());
    if (!values) {
        return fail(values.error());
    }
    canonical_plain(*values, state);
    const auto events = read_events(synthetic);
    if (!events) {
        return fail(events.error());
    }
    constexpr std::uint64_t interrupts_enabled = 1U << 9U;
    state.events = canonical_events(*events, (state.registers.rflags & interrupts_enabled) != 0);
    state.run_state = canonical_run_state(*events);
    synthetic.interrupt_vectors = window_.interrupt_vectors();

    const auto compacted = read_vp_state(vp_, abi::vp_state::xsave, shared_.xsave_size);
    if (!compacted) {
        return fail(compacted.error());
    }
    auto standard = standard_from_compacted(*compacted, shared_.xsave_layout);
    if (!standard) {
        return fail(std::move(standard.error()));
    }
    state.xsave = std::move(*standard);
    auto msrs = read_msrs(registers_);
    if (!msrs) {
        return fail(std::move(msrs.error()));
    }
    state.msrs = std::move(*msrs);
    if (auto read = read_synthetic(vp_, registers_, shared_.synthetic_features, index_, synthetic);
        !read) {
        return fail(std::move(read.error()));
    }
    if (auto read = read_lapic_into(state); !read) {
        return fail(std::move(read.error()));
    }
    state.tsc_frequency_khz = shared_.capabilities.tsc_frequency_khz;
    const auto tsc = read_tsc(registers_, shared_.time, state.tsc_frequency_khz);
    if (!tsc) {
        return fail(tsc.error());
    }
    state.tsc = *tsc;
    if (shared_.synthetic_features == 0) {
        drop_synthetic(state);
    }
    return state;
}

Status MshvVcpu::restore_controls(const VcpuState& state) const {
    if (auto written = write_msrs(registers_, state.msrs); !written) {
        return written;
    }
    const auto beyond_xcr0 =
        std::ranges::find_if(state.extended_controls, [](const ExtendedControl& control) {
            return control.index != 0 && control.value != 0;
        });
    if (beyond_xcr0 != state.extended_controls.end()) {
        return fail(
            ErrorCode::incompatible,
            fmt::format("extended control register {}: MSHV has none", beyond_xcr0->index));
    }
    if (auto written = registers_.write(native_plain(state)); !written) {
        return written;
    }
    if (state.xsave.empty()) {
        return {};
    }
    const auto compacted = compacted_from_standard(
        state.xsave, shared_.xsave_layout, shared_.xsave_states, shared_.xsave_size);
    if (!compacted) {
        return fail(compacted.error());
    }
    std::vector<std::byte> area{*compacted};
    area.resize(shared_.xsave_size);
    return write_vp_state(vp_, abi::vp_state::xsave, area);
}

Status MshvVcpu::restore_lapic(const VcpuState& state) const {
    if (!state.lapic) {
        return {};
    }
    if (!shared_.capabilities.has_interrupt_controller) {
        return fail(ErrorCode::incompatible, "a local APIC: this partition has none");
    }
    auto lapic = read_lapic(vp_);
    if (!lapic) {
        return fail(std::move(lapic.error()));
    }
    const auto& raw = synthetic_of(state).lapic;
    if (raw.empty()) {
        *lapic = native_lapic(*state.lapic, *lapic);
    } else if (raw.size() == sizeof(*lapic)) {
        std::memcpy(&*lapic, raw.data(), raw.size());
    } else {
        return fail(
            ErrorCode::invalid_argument,
            fmt::format("a local APIC's state of {} bytes", raw.size()));
    }
    return write_lapic(vp_, *lapic);
}

Status MshvVcpu::restore_synthetic(const VcpuState& state) const {
    const auto& synthetic = synthetic_of(state);
    if (auto written = write_synic(vp_, registers_, shared_.synthetic_features, synthetic);
        !written) {
        return written;
    }
    if (auto written = restore_lapic(state); !written) {
        return written;
    }
    return write_timers(vp_, shared_.synthetic_features, synthetic);
}

Status MshvVcpu::assert_nmi() const {
    const abi::hypercalls::AssertVirtualInterrupt input{
        .control = abi::hypercalls::interrupt_type::nmi, .destination = index_};
    return shared_.partition.hypercall(
        {.name = "asserting an NMI",
         .code = abi::hypercalls::assert_virtual_interrupt,
         .input = &input,
         .input_size = sizeof(input)});
}

/// Debug registers, and last what acts at the next entry.
Status MshvVcpu::restore_events(const VcpuState& state) const {
    const auto native = native_events(state.events, state.run_state);
    if (!native) {
        return fail(native.error());
    }
    const auto events = refined(*native, state);
    std::vector<NamedValue> values = native_debug(state.debug);
    values.push_back({names::pending_event0, events.pending_event0});
    if (state.hyperv) {
        const auto& event1 = state.hyperv->pending_event1;
        values.push_back({names::pending_event1, {.low = event1[0], .high = event1[1]}});
    }
    values.push_back({names::interrupt_state, plain(events.interrupt_state)});
    values.push_back({names::pending_interruption, plain(events.pending_interruption)});
    values.push_back({names::internal_activity, plain(events.internal_activity)});
    if (auto written = registers_.write(values); !written) {
        return written;
    }
    return state.events.nmi.pending ? assert_nmi() : Status{};
}

/// The order is that of what depends on what: the partition's identity before pages that need it,
/// MSRs before control registers, XCR0 before XSAVE, registers of the SynIC before its pages,
/// these before the APIC, the APIC before timers, and what acts on its own last.
Status MshvVcpu::restore(const VcpuState& state) {
    if (state.index != index_) {
        return fail(
            ErrorCode::invalid_argument,
            fmt::format("the state of vCPU {} for vCPU {}", state.index, index_));
    }
    if (index_ == 0) {
        const auto written =
            write_partition_registers(registers_, shared_.synthetic_features, synthetic_of(state));
        if (!written) {
            return written;
        }
    }
    if (auto written = restore_controls(state); !written) {
        return written;
    }
    if (auto written = restore_synthetic(state); !written) {
        return written;
    }
    if (auto written = restore_events(state); !written) {
        return written;
    }
    if (auto written = window_.set_interrupt_vectors(synthetic_of(state).interrupt_vectors);
        !written) {
        return written;
    }
    return write_tsc(
        registers_,
        shared_.time,
        state.tsc,
        state.tsc_frequency_khz,
        shared_.capabilities.tsc_frequency_khz);
}

} // namespace wherry::vmm::mshv
