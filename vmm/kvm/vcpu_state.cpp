// SPDX-License-Identifier: Apache-2.0
#include "vmm/kvm/abi.hpp"
#include "vmm/kvm/msrs.hpp"
#include "vmm/kvm/registers.hpp"
#include "vmm/kvm/system.hpp"
#include "vmm/kvm/tsc.hpp"
#include "vmm/kvm/vcpu.hpp"
#include "vmm/kvm/xsave.hpp"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include <fmt/format.h>

namespace wherry::vmm::kvm {

using formats::ErrorCode;
using formats::fail;
using formats::Result;
using formats::Status;

namespace {

using LapicRegisters = std::array<std::byte, 1024>;
static_assert(sizeof(kvm_lapic_state) == sizeof(LapicRegisters));

template <typename Native>
Result<Native> get(int vcpu, unsigned long request, std::string_view name) {
    Native value{};
    if (const auto got = call(vcpu, request, &value, name); !got) {
        return fail(got.error());
    }
    return value;
}

template <typename Native>
Status set(int vcpu, unsigned long request, Native value, std::string_view name) {
    const auto done = call(vcpu, request, &value, name);
    return done ? Status{} : fail(done.error());
}

Result<std::vector<ExtendedControl>> read_extended_controls(int vcpu) {
    const auto got = get<kvm_xcrs>(vcpu, KVM_GET_XCRS, "KVM_GET_XCRS");
    if (!got) {
        return fail(got.error());
    }
    std::vector<ExtendedControl> controls;
    for (std::uint32_t i = 0; i < std::min<std::uint32_t>(got->nr_xcrs, KVM_MAX_XCRS); ++i) {
        controls.push_back({.index = got->xcrs[i].xcr, .value = got->xcrs[i].value});
    }
    return controls;
}

Status write_extended_controls(int vcpu, std::span<const ExtendedControl> controls) {
    kvm_xcrs wanted{};
    if (controls.size() > KVM_MAX_XCRS) {
        return fail(
            ErrorCode::incompatible,
            fmt::format("{} extended control registers are too many", controls.size()));
    }
    for (const auto& control : controls) {
        auto& entry = wanted.xcrs[wanted.nr_xcrs++];
        entry.xcr = control.index;
        entry.value = control.value;
    }
    return wanted.nr_xcrs == 0 ? Status{} : set(vcpu, KVM_SET_XCRS, wanted, "KVM_SET_XCRS");
}

/// Everything but events, run state, MSRs and TSC. Does not change the vCPU.
Status read_plain_state(int vcpu, std::size_t xsave_size, VcpuState& state) {
    const auto registers = get<kvm_regs>(vcpu, KVM_GET_REGS, "KVM_GET_REGS");
    if (!registers) {
        return fail(registers.error());
    }
    const auto system = get<kvm_sregs>(vcpu, KVM_GET_SREGS, "KVM_GET_SREGS");
    if (!system) {
        return fail(system.error());
    }
    const auto debug = get<kvm_debugregs>(vcpu, KVM_GET_DEBUGREGS, "KVM_GET_DEBUGREGS");
    if (!debug) {
        return fail(debug.error());
    }
    auto controls = read_extended_controls(vcpu);
    if (!controls) {
        return fail(std::move(controls.error()));
    }
    auto xsave = read_xsave(vcpu, xsave_size);
    if (!xsave) {
        return fail(std::move(xsave.error()));
    }
    const auto lapic = get<LapicRegisters>(vcpu, KVM_GET_LAPIC, "KVM_GET_LAPIC");
    if (!lapic) {
        return fail(lapic.error());
    }
    state.registers = canonical(*registers);
    state.system = canonical(*system);
    state.debug = canonical(*debug);
    state.extended_controls = std::move(*controls);
    state.xsave = std::move(*xsave);
    state.lapic = *lapic;
    return {};
}

Result<RunState> read_run_state(int vcpu) {
    const auto got = get<kvm_mp_state>(vcpu, KVM_GET_MP_STATE, "KVM_GET_MP_STATE");
    if (!got) {
        return fail(got.error());
    }
    switch (got->mp_state) {
    case KVM_MP_STATE_RUNNABLE:
        return RunState::runnable;
    case KVM_MP_STATE_UNINITIALIZED:
        return RunState::uninitialized;
    case KVM_MP_STATE_INIT_RECEIVED:
        return RunState::init_received;
    case KVM_MP_STATE_HALTED:
        return RunState::halted;
    case KVM_MP_STATE_SIPI_RECEIVED:
        return RunState::sipi_received;
    default:
        return fail(
            ErrorCode::unsupported,
            fmt::format("KVM reports multiprocessor state {}", got->mp_state));
    }
}

} // namespace

Result<PendingEvents> KvmVcpu::save_events() const {
    const auto got = get<kvm_vcpu_events>(fd_.get(), KVM_GET_VCPU_EVENTS, "KVM_GET_VCPU_EVENTS");
    if (!got) {
        return fail(got.error());
    }
    return canonical(*got);
}

Result<VcpuState> KvmVcpu::save() {
    VcpuState state;
    state.index = index_;
    // First: the kernel may act on a pending INIT or SIPI here, which changes the rest.
    const auto run_state = read_run_state(fd_.get());
    if (!run_state) {
        return fail(run_state.error());
    }
    state.run_state = *run_state;
    const auto events = save_events();
    if (!events) {
        return fail(events.error());
    }
    state.events = *events;
    if (auto read = read_plain_state(fd_.get(), shared_.xsave_size, state); !read) {
        return fail(std::move(read.error()));
    }
    auto reading = read_msrs(fd_.get(), shared_.msr_indices);
    if (!reading) {
        return fail(std::move(reading.error()));
    }
    std::erase_if(reading->msrs, [](const Msr& msr) { return msr.index == msr_tsc; });
    state.msrs = std::move(reading->msrs);
    unreadable_msrs_ = std::move(reading->unreadable);
    const auto tsc = read_tsc(fd_.get(), shared_.clock, shared_.capabilities);
    if (!tsc) {
        return fail(tsc.error());
    }
    state.tsc = tsc->value;
    state.tsc_frequency_khz = tsc->khz;
    return state;
}

Status KvmVcpu::restore_events(const PendingEvents& events) const {
    if (events.smm) {
        return fail(ErrorCode::incompatible, "the vCPU is in system management mode");
    }
    const bool wants_payload = events.exception.has_payload || events.exception.pending;
    if (wants_payload && !shared_.has_exception_payload) {
        return fail(ErrorCode::incompatible, "a pending exception: this host's KVM cannot set it");
    }
    if (events.triple_fault && !shared_.has_triple_fault_event) {
        return fail(ErrorCode::incompatible, "a triple fault: this host's KVM cannot set it");
    }
    std::uint32_t flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SIPI_VECTOR |
                          KVM_VCPUEVENT_VALID_SHADOW;
    flags |= shared_.has_exception_payload ? KVM_VCPUEVENT_VALID_PAYLOAD : 0U;
    flags |= shared_.has_triple_fault_event ? KVM_VCPUEVENT_VALID_TRIPLE_FAULT : 0U;
    return set(fd_.get(), KVM_SET_VCPU_EVENTS, native(events, flags), "KVM_SET_VCPU_EVENTS");
}

/// MSRs but the deadline timer, which needs TSC and LAPIC to be in place, and would act at once.
Status KvmVcpu::restore_msrs(const VcpuState& state) const {
    std::vector<Msr> msrs = state.msrs;
    std::erase_if(
        msrs, [](const Msr& msr) { return msr.index == msr_tsc || msr.index == msr_tsc_deadline; });
    return write_msrs(fd_.get(), msrs);
}

Status KvmVcpu::restore_controls(const VcpuState& state) const {
    const int vcpu = fd_.get();
    if (auto done = set(vcpu, KVM_SET_SREGS, native(state.system), "KVM_SET_SREGS"); !done) {
        return done;
    }
    if (auto done = restore_msrs(state); !done) {
        return done;
    }
    if (auto done = write_extended_controls(vcpu, state.extended_controls); !done) {
        return done;
    }
    if (!state.xsave.empty()) {
        if (auto done = write_xsave(vcpu, state.xsave, shared_.xsave_size); !done) {
            return done;
        }
    }
    if (auto done = set(vcpu, KVM_SET_DEBUGREGS, native(state.debug), "KVM_SET_DEBUGREGS"); !done) {
        return done;
    }
    return set(vcpu, KVM_SET_REGS, native(state.registers), "KVM_SET_REGS");
}

Status KvmVcpu::restore(const VcpuState& state) {
    if (state.index != index_) {
        return fail(
            ErrorCode::invalid_argument,
            fmt::format("the state of vCPU {} for vCPU {}", state.index, index_));
    }
    if (auto bearable = refuse_beyond(state, "KVM"); !bearable) {
        return bearable;
    }
    const int vcpu = fd_.get();
    const TscReading tsc{.value = state.tsc, .khz = state.tsc_frequency_khz};
    if (auto done = write_tsc(vcpu, tsc, shared_.clock, shared_.capabilities); !done) {
        return done;
    }
    if (auto done = restore_controls(state); !done) {
        return done;
    }
    if (state.lapic) {
        if (auto done = set(vcpu, KVM_SET_LAPIC, *state.lapic, "KVM_SET_LAPIC"); !done) {
            return done;
        }
    }
    const kvm_mp_state run_state{.mp_state = static_cast<std::uint32_t>(state.run_state)};
    if (auto done = set(vcpu, KVM_SET_MP_STATE, run_state, "KVM_SET_MP_STATE"); !done) {
        return done;
    }
    if (auto done = restore_events(state.events); !done) {
        return done;
    }
    const auto deadline = std::ranges::find(state.msrs, msr_tsc_deadline, &Msr::index);
    return deadline == state.msrs.end() ? Status{} : write_msrs(vcpu, std::span{&*deadline, 1});
}

} // namespace wherry::vmm::kvm
