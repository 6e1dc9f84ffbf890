// SPDX-License-Identifier: Apache-2.0
#include "vmm/soft/vcpu.hpp"

#include "vmm/guest_clock.hpp"
#include "vmm/soft/cpuid.hpp"
#include "vmm/soft/identity_check.hpp"
#include "vmm/soft/mode_setup.hpp"
#include "vmm/soft/registers.hpp"

#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include <fmt/format.h>

namespace wherry::vmm::soft {

using formats::Error;
using formats::ErrorCode;
using formats::Gpa;
using formats::Result;
using formats::Status;

namespace {

/// A guest may address devices up to here. Above it (kernels in the upper half, for one) an access
/// is an error that says so: see check_identity_mapping.
constexpr std::uint64_t physical_end = std::uint64_t{1} << 40U;
constexpr std::uint64_t cr4_tables_of_five_levels = 1U << 12U;

std::array<std::byte, 8> bytes_of_value(std::uint64_t value) {
    std::array<std::byte, 8> bytes{};
    for (unsigned i = 0; i < bytes.size(); ++i) {
        bytes[i] = static_cast<std::byte>(value >> (8 * i));
    }
    return bytes;
}

std::uint64_t value_of_bytes(const std::array<std::byte, 8>& bytes) {
    std::uint64_t value = 0;
    for (unsigned i = 0; i < bytes.size(); ++i) {
        value |= std::uint64_t{std::to_integer<std::uint8_t>(bytes[i])} << (8 * i);
    }
    return value;
}

} // namespace

/// What Unicorn calls back. All on the thread that is in run().
struct SoftVcpu::Hooks {
    static SoftVcpu& of(void* user) { return *static_cast<SoftVcpu*>(user); }

    static void
    block(uc_engine* /*engine*/, std::uint64_t /*at*/, std::uint32_t /*size*/, void* user) {
        if (of(user).kick_.load(std::memory_order_relaxed)) {
            of(user).stop(Stop::kick);
        }
    }

    static void exception(uc_engine* /*engine*/, std::uint32_t vector, void* user) {
        of(user).vector_ = vector;
        of(user).stop(Stop::exception);
    }

    static int cpuid(uc_engine* /*engine*/, void* user) {
        SoftVcpu& vcpu = of(user);
        const auto leaf = vcpu.engine_->read<std::uint32_t>(UC_X86_REG_EAX);
        const auto subleaf = vcpu.engine_->read<std::uint32_t>(UC_X86_REG_ECX);
        const CpuidEntry entry = look_up(vcpu.cpuid_, leaf, subleaf);
        vcpu.engine_->write(UC_X86_REG_RAX, std::uint64_t{entry.eax});
        vcpu.engine_->write(UC_X86_REG_RBX, std::uint64_t{entry.ebx});
        vcpu.engine_->write(UC_X86_REG_RCX, std::uint64_t{entry.ecx});
        vcpu.engine_->write(UC_X86_REG_RDX, std::uint64_t{entry.edx});
        return 1; // do not execute it
    }

    static std::uint32_t port_in(uc_engine* /*engine*/, std::uint32_t port, int size, void* user) {
        std::array<std::byte, 8> bytes{};
        const auto count = static_cast<std::size_t>(size);
        of(user).note_exit();
        of(user).handler_->port_read(
            static_cast<std::uint16_t>(port), std::span{bytes}.first(count));
        return static_cast<std::uint32_t>(value_of_bytes(bytes));
    }

    static void
    port_out(uc_engine* /*engine*/, std::uint32_t port, int size, std::uint32_t value, void* user) {
        const auto bytes = bytes_of_value(value);
        of(user).note_exit();
        of(user).handler_->port_write(
            static_cast<std::uint16_t>(port),
            std::span{bytes}.first(static_cast<std::size_t>(size)));
    }

    static std::uint64_t
    device_read(uc_engine* /*engine*/, std::uint64_t offset, unsigned size, void* user) {
        const Window& window = *static_cast<const Window*>(user);
        std::array<std::byte, 8> bytes{};
        window.vcpu->note_exit();
        window.vcpu->handler_->memory_read(
            Gpa{window.first + offset}, std::span{bytes}.first(size));
        return value_of_bytes(bytes);
    }

    static void device_write(
        uc_engine* /*engine*/,
        std::uint64_t offset,
        unsigned size,
        std::uint64_t value,
        void* user) {
        const Window& window = *static_cast<const Window*>(user);
        const auto bytes = bytes_of_value(value);
        window.vcpu->note_exit();
        window.vcpu->handler_->memory_write(
            Gpa{window.first + offset}, std::span{bytes}.first(size));
    }
};

SoftVcpu::SoftVcpu(VcpuContext context) : context_{context}, cpuid_{context.capabilities.cpuid} {}

Result<std::unique_ptr<SoftVcpu>> SoftVcpu::create(VcpuContext context) {
    std::unique_ptr<SoftVcpu> vcpu{new SoftVcpu{context}};
    VcpuState state = reset_state();
    state.tsc = 0;
    if (auto status = vcpu->restore(state); !status) {
        return std::unexpected{std::move(status).error()};
    }
    return vcpu;
}

Status SoftVcpu::map(const Engine& engine) {
    windows_.clear();
    std::uint64_t reached = 0;
    const auto add_window = [&](std::uint64_t end) -> Status {
        if (reached >= end) {
            return {};
        }
        auto& window = windows_.emplace_back(new Window{.vcpu = this, .first = reached});
        return checked(
            uc_mmio_map(
                engine.get(),
                reached,
                end - reached,
                &Hooks::device_read,
                window.get(),
                &Hooks::device_write,
                window.get()),
            "uc_mmio_map");
    };
    for (const MemoryRegion& region : context_.memory.regions()) {
        const std::uint64_t first = formats::gpa_of(region.pages.first()).value();
        const std::uint64_t size = formats::bytes_of(region.pages.count()).value();
        auto status = in_turn(
            [&] { return add_window(first); },
            [&] {
                return checked(
                    uc_mem_map_ptr(engine.get(), first, size, UC_PROT_ALL, region.host),
                    "uc_mem_map_ptr of guest RAM");
            });
        if (!status) {
            return status;
        }
        reached = first + size;
    }
    return add_window(physical_end);
}

Status SoftVcpu::add_hooks(const Engine& engine) {
    // Unicorn takes every callback as void* and calls it by the type that goes with the hook.
    const auto add = [&](int type, auto* callback, auto... instruction) -> Status {
        uc_hook hook = 0;
        return checked(
            uc_hook_add(
                engine.get(),
                &hook,
                type,
                reinterpret_cast<void*>(callback),
                this,
                1,
                0,
                instruction...),
            "uc_hook_add");
    };
    return in_turn(
        [&] { return add(UC_HOOK_BLOCK, &Hooks::block); },
        [&] { return add(UC_HOOK_INTR, &Hooks::exception); },
        [&] { return add(UC_HOOK_INSN, &Hooks::cpuid, UC_X86_INS_CPUID); },
        [&] { return add(UC_HOOK_INSN, &Hooks::port_in, UC_X86_INS_IN); },
        [&] { return add(UC_HOOK_INSN, &Hooks::port_out, UC_X86_INS_OUT); });
}

Result<Engine> SoftVcpu::equipped_engine() {
    auto engine = Engine::open(UC_MODE_64);
    if (!engine) {
        return engine;
    }
    auto status = in_turn([&] { return map(*engine); }, [&] { return add_hooks(*engine); });
    if (!status) {
        return std::unexpected{std::move(status).error()};
    }
    return engine;
}

void SoftVcpu::stop(Stop why) noexcept {
    stop_ = why;
    uc_emu_stop(engine_->get());
}

void SoftVcpu::note_exit() {
    const auto cr3 = engine_->read<std::uint64_t>(UC_X86_REG_CR3);
    if (cr3 == checked_cr3_) {
        return;
    }
    rule_ = check_mapping();
    if (!rule_) {
        stop(Stop::broken_rule);
    }
}

Status SoftVcpu::check_mapping() {
    const auto cr0 = engine_->read<std::uint64_t>(UC_X86_REG_CR0);
    const auto cr4 = engine_->read<std::uint64_t>(UC_X86_REG_CR4);
    const auto cr3 = engine_->read<std::uint64_t>(UC_X86_REG_CR3);
    const auto efer = engine_->read_msr(0xc0000080);
    if ((cr0 & cr0_paging) == 0) {
        return {};
    }
    if ((efer & efer_long_mode_active) == 0 || (cr4 & cr4_tables_of_five_levels) != 0) {
        return formats::fail(
            ErrorCode::guest,
            "the guest uses 32-bit or 5-level paging; the soft backend runs guests without paging "
            "and with 4-level paging (kvm runs all)");
    }
    auto status = check_identity_mapping(context_.memory, cr3);
    if (status) {
        checked_cr3_ = cr3;
    }
    return status;
}

Result<ExitReason> SoftVcpu::run(ExitHandler& handler) {
    if (kick_.exchange(false, std::memory_order_acq_rel)) {
        return ExitReason::kicked;
    }
    if (run_state_ == RunState::halted) {
        return ExitReason::halted; // for good: nothing interrupts a soft guest
    }
    context_.clock = {};
    handler_ = &handler;
    stop_ = Stop::none;
    checked_cr3_ = ~std::uint64_t{0};
    const auto rip = engine_->read<std::uint64_t>(UC_X86_REG_RIP);
    const uc_err outcome = uc_emu_start(engine_->get(), rip, 0, 0, 0);
    handler_ = nullptr;
    return reason_of(outcome);
}

Result<ExitReason> SoftVcpu::reason_of(uc_err outcome) {
    const auto rip = engine_->read<std::uint64_t>(UC_X86_REG_RIP);
    if (stop_ == Stop::broken_rule) {
        return std::unexpected{std::move(rule_).error()};
    }
    if (stop_ == Stop::exception) {
        return std::unexpected{exception_error()};
    }
    if (outcome != UC_ERR_OK) {
        return formats::fail(
            ErrorCode::guest,
            fmt::format("the guest failed at RIP {:#x}: {}", rip, uc_strerror(outcome)));
    }
    if (auto mapping = check_mapping(); !mapping) {
        return std::unexpected{std::move(mapping).error()};
    }
    if (stop_ == Stop::kick) {
        kick_.store(false, std::memory_order_release);
        return ExitReason::kicked;
    }
    run_state_ = RunState::halted;
    return ExitReason::halted;
}

Error SoftVcpu::exception_error() const {
    return Error{
        ErrorCode::guest,
        fmt::format(
            "the guest raised exception {} at RIP {:#x} (CR2 {:#x}); Unicorn delivers none to a "
            "guest",
            vector_,
            engine_->read<std::uint64_t>(UC_X86_REG_RIP),
            engine_->read<std::uint64_t>(UC_X86_REG_CR2))};
}

Result<VcpuState> SoftVcpu::save() {
    auto state = read_state(*engine_, context_.hidden);
    if (!state) {
        return state;
    }
    state->run_state = run_state_;
    state->system.apic_base = apic_base_;
    state->tsc_frequency_khz = context_.capabilities.tsc_frequency_khz;
    state->tsc = context_.clock.read_at_tsc.value_or(read_host_tsc()) + tsc_offset_;
    return state;
}

std::uint64_t SoftVcpu::tsc_offset_for(const VcpuState& state) const {
    const auto& written = context_.clock.written;
    if (!written) {
        return state.tsc - read_host_tsc();
    }
    const auto khz = context_.capabilities.tsc_frequency_khz;
    return state.tsc + ticks_in(written->elapsed, khz) - written->host_tsc;
}

Status SoftVcpu::restore(const VcpuState& state) {
    const std::uint64_t khz = context_.capabilities.tsc_frequency_khz;
    const std::uint64_t wanted = state.tsc_frequency_khz;
    if (wanted != 0 && !same_frequency(wanted, khz)) {
        return formats::fail(
            ErrorCode::incompatible,
            fmt::format(
                "the guest's TSC runs at {} kHz, this host's at {} kHz; the soft backend cannot "
                "scale it",
                wanted,
                khz));
    }
    if (auto bearable = refuse_beyond(state, "the soft backend"); !bearable) {
        return bearable;
    }
    if (auto possible = check_restorable(state); !possible) {
        return possible;
    }
    auto image = image_in_mode(state.system);
    auto engine = equipped_engine();
    if (!image || !engine) {
        return std::unexpected{!image ? std::move(image).error() : std::move(engine).error()};
    }
    const auto& hidden = context_.hidden;
    hidden.set_segment(*image, SegmentName::es, state.system.es);
    hidden.set_segment(*image, SegmentName::cs, state.system.cs);
    hidden.set_segment(*image, SegmentName::ss, state.system.ss);
    hidden.set_segment(*image, SegmentName::ds, state.system.ds);
    hidden.set_segment(*image, SegmentName::fs, state.system.fs);
    hidden.set_segment(*image, SegmentName::gs, state.system.gs);
    const std::uint64_t offset = tsc_offset_for(state);
    hidden.set_tsc_offset(*image, offset);
    if (auto put = engine->put(*image); !put) {
        return put;
    }
    write_registers(*engine, state);
    engine_ = std::move(*engine);
    tsc_offset_ = offset;
    apic_base_ = state.system.apic_base;
    run_state_ = state.run_state;
    return {};
}

Status SoftVcpu::set_cpuid(std::span<const CpuidEntry> cpuid) {
    auto possible = check_cpuid(cpuid, context_.capabilities.cpuid);
    if (possible) {
        cpuid_.assign(cpuid.begin(), cpuid.end());
    }
    return possible;
}

} // namespace wherry::vmm::soft
