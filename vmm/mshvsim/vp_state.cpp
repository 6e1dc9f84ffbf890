// SPDX-License-Identifier: Apache-2.0
#include "vmm/mshv/abi/vp_state.hpp"

#include "vmm/mshv/abi/status.hpp"
#include "vmm/mshvsim/user_memory.hpp"
#include "vmm/mshvsim/vp.hpp"
#include "vmm/mshvsim/xsave_form.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace wherry::vmm::mshvsim {

namespace state = mshv::abi::vp_state;
namespace status = mshv::abi::status;
using mshv::abi::page_size;

namespace {

/// Which word of the xAPIC page (16-byte steps, SDM vol. 3, 10.4.1) is which of hv's structure.
struct Field {
    std::size_t apic;
    std::uint32_t state::Lapic::* field;
};
constexpr Field fields[] = {
    {0x20, &state::Lapic::id},
    {0x30, &state::Lapic::version},
    {0xd0, &state::Lapic::ldr},
    {0xe0, &state::Lapic::dfr},
    {0xf0, &state::Lapic::spurious},
    {0x280, &state::Lapic::esr},
    {0x310, &state::Lapic::icr_high},
    {0x300, &state::Lapic::icr_low},
    {0x320, &state::Lapic::lvt_timer},
    {0x330, &state::Lapic::lvt_thermal},
    {0x340, &state::Lapic::lvt_perfmon},
    {0x350, &state::Lapic::lvt_lint0},
    {0x360, &state::Lapic::lvt_lint1},
    {0x370, &state::Lapic::lvt_error},
    {0x2f0, &state::Lapic::lvt_cmci},
    {0x380, &state::Lapic::initial_count},
    {0x390, &state::Lapic::current_count},
    {0x3e0, &state::Lapic::divide_configuration},
    {0xc0, &state::Lapic::remote_read},
};
struct Bitmap {
    std::size_t apic;
    std::array<std::uint32_t, 8> state::Lapic::* field;
};
constexpr Bitmap bitmaps[] = {
    {0x100, &state::Lapic::isr},
    {0x180, &state::Lapic::tmr},
    {0x200, &state::Lapic::irr},
};

state::Lapic lapic_from(const EngineVcpu::LapicPage& page) {
    state::Lapic lapic;
    const auto take = [&page](std::uint32_t& to, std::size_t at) {
        std::memcpy(&to, page.data() + at, sizeof(to));
    };
    for (const auto& field : fields) {
        take(lapic.*field.field, field.apic);
    }
    for (const auto& bitmap : bitmaps) {
        for (std::size_t i = 0; i < 8; ++i) {
            take((lapic.*bitmap.field)[i], bitmap.apic + 16 * i);
        }
    }
    return lapic;
}

/// What is not in hv's structure (TPR) stays as it is in `page`.
void put_lapic(EngineVcpu::LapicPage& page, const state::Lapic& lapic) {
    const auto put = [&page](std::uint32_t from, std::size_t at) {
        std::memcpy(page.data() + at, &from, sizeof(from));
    };
    for (const auto& field : fields) {
        if (field.apic != 0xc0) { // not a register of KVM's
            put(lapic.*field.field, field.apic);
        }
    }
    for (const auto& bitmap : bitmaps) {
        for (std::size_t i = 0; i < 8; ++i) {
            put((lapic.*bitmap.field)[i], bitmap.apic + 16 * i);
        }
    }
}

template <typename Value>
std::vector<std::byte> bytes_of(const Value& value, std::size_t size) {
    std::vector<std::byte> bytes(size);
    std::memcpy(bytes.data(), &value, sizeof(value));
    return bytes;
}

} // namespace

std::uint32_t Vp::state_size(std::uint8_t type) {
    if (type == state::xsave) {
        const auto& engine = hypervisor_.engine->capabilities();
        return compacted_size(engine.cpuid, xsave_states(engine, hypervisor_.offered));
    }
    return type == state::synthetic_timers ? sizeof(state::SyntheticTimers) : page_size;
}

std::vector<std::byte> Vp::get_state(std::uint8_t type) {
    const auto& engine = hypervisor_.engine->capabilities();
    switch (type) {
    case state::lapic: {
        const auto page = vcpu_->lapic();
        return page ? bytes_of(lapic_from(*page), page_size) : std::vector<std::byte>{};
    }
    case state::xsave:
        return compacted(
            vcpu_->xsave(),
            engine.cpuid,
            xsave_states(engine, hypervisor_.offered),
            state_size(type));
    case state::simp:
        return bytes_of(registers_.synic().messages().contents(), page_size);
    case state::siefp:
        return bytes_of(registers_.synic().event_flags().contents(), page_size);
    default:
        return bytes_of(registers_.timers().state(), sizeof(state::SyntheticTimers));
    }
}

std::uint16_t Vp::set_state(std::uint8_t type, std::span<const std::byte> data) {
    const auto& engine = hypervisor_.engine->capabilities();
    switch (type) {
    case state::lapic: {
        auto page = vcpu_->lapic();
        state::Lapic lapic;
        std::memcpy(&lapic, data.data(), sizeof(lapic));
        if (!page) {
            return status::invalid_partition_state;
        }
        put_lapic(*page, lapic);
        // TPR is CR8's: as the VMM has last written it, in the engine or not yet.
        const auto task_priority = static_cast<std::byte>(registers_.shadow().system().cr8 << 4U);
        (*page)[0x80] = task_priority;
        return vcpu_->set_lapic(*page) ? status::success : status::invalid_parameter;
    }
    case state::xsave: {
        const auto area =
            standard_form(data, engine.cpuid, xsave_states(engine, hypervisor_.offered));
        return area && vcpu_->set_xsave(*area) ? status::success : status::invalid_parameter;
    }
    case state::simp:
        registers_.synic().messages().set_contents(data);
        return status::success;
    case state::siefp:
        registers_.synic().event_flags().set_contents(data);
        return status::success;
    default: {
        state::SyntheticTimers timers;
        std::memcpy(&timers, data.data(), sizeof(timers));
        registers_.timers().set_state(timers);
        return status::success;
    }
    }
}

int Vp::move_state(std::uint64_t argument, bool is_set) {
    mshv::abi::ioctls::VpState wanted;
    if (!copy_in(wanted, argument)) {
        return -EFAULT;
    }
    if (wanted.type >= state::types ||
        std::ranges::any_of(wanted.reserved, [](auto byte) { return byte != 0; }) ||
        wanted.buffer_size == 0 || wanted.buffer_size % page_size != 0 ||
        wanted.buffer % page_size != 0) {
        return -EINVAL;
    }
    const std::uint32_t given = wanted.buffer_size;
    wanted.buffer_size = state_size(wanted.type);
    // Told before it is compared: that is how clients ask for the size.
    if (!copy_out(argument, wanted)) {
        return -EFAULT;
    }
    if (wanted.buffer_size > given) {
        return -EINVAL;
    }
    const RunGate::Visit visit{gate_};
    if (is_set) {
        std::vector<std::byte> data(wanted.buffer_size);
        if (!copy_in(data.data(), wanted.buffer, data.size())) {
            return -EFAULT;
        }
        return -status::to_errno(set_state(wanted.type, data));
    }
    const auto data = get_state(wanted.type);
    if (data.empty()) {
        return -EIO;
    }
    return copy_out(wanted.buffer, data.data(), data.size()) ? 0 : -EFAULT;
}

} // namespace wherry::vmm::mshvsim
