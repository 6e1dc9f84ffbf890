// SPDX-License-Identifier: Apache-2.0
#include "vmm/soft/simulator_engine.hpp"

#include "vmm/soft/cpuid.hpp"
#include "vmm/soft/simulator_vcpu.hpp"
#include "vmm/soft/tsc_frequency.hpp"
#include "vmm/soft/version.hpp"

#include <algorithm>
#include <cerrno>
#include <utility>

namespace wherry::vmm::soft {

using formats::ErrorCode;
using formats::fail;
using formats::Result;

namespace {

/// Unicorn finds memory by a walk over all pieces.
constexpr std::uint32_t most_slots = 4096;
constexpr unsigned page_shift = 12;

int errno_of(uc_err outcome) {
    return outcome == UC_ERR_OK ? 0 : outcome == UC_ERR_NOMEM ? ENOMEM : EINVAL;
}

} // namespace

SimulatorEngine::SimulatorEngine(
    std::shared_ptr<SimulatorGuest> guest, mshvsim::EngineCapabilities capabilities)
    : guest_{std::move(guest)},
      capabilities_{std::move(capabilities)} {}

namespace {

/// Found out once a process: it takes several engines.
struct Host {
    HiddenState hidden;
    std::uint64_t tsc_frequency_khz;
    std::vector<CpuidEntry> cpuid;
};

Result<Host> look_at_host() {
    if (auto version = check_version(); !version) {
        return fail(std::move(version.error()));
    }
    auto hidden = HiddenState::discover();
    if (!hidden) {
        return fail(std::move(hidden.error()));
    }
    const std::uint64_t khz = host_tsc_frequency_khz();
    auto cpuid = offered_cpuid(khz);
    if (!cpuid) {
        return fail(std::move(cpuid.error()));
    }
    return Host{*hidden, khz, std::move(*cpuid)};
}

} // namespace

Result<std::unique_ptr<SimulatorEngine>> SimulatorEngine::open() {
    static const auto host = look_at_host();
    if (!host) {
        return fail(host.error());
    }
    auto unicorn = soft::Engine::open(UC_MODE_64);
    if (!unicorn) {
        return fail(std::move(unicorn.error()));
    }
    auto guest = std::make_shared<SimulatorGuest>(std::move(*unicorn), host->hidden);
    return std::unique_ptr<SimulatorEngine>{new SimulatorEngine{
        std::move(guest),
        {.cpuid = host->cpuid,
         .tsc_frequency_khz = host->tsc_frequency_khz,
         .max_slots = most_slots,
         .max_vcpus = 1,
         .has_msr_exits = true,
         .has_lapic = false}}};
}

int SimulatorEngine::set_slot(const mshvsim::EngineSlot& slot) {
    const Turn::Visit visit{guest_->turn};
    Slots::Slot* const known = guest_->slots.numbered(slot.number);
    if (slot.pages == 0) {
        if (known == nullptr) {
            return ENOENT;
        }
        const auto& place = known->place;
        const int error = errno_of(uc_mem_unmap(
            guest_->unicorn.get(), place.first_gfn << page_shift, place.pages << page_shift));
        if (error == 0) {
            guest_->slots.remove(slot.number);
        }
        return error;
    }
    if (known != nullptr) {
        Slots::set_logged(*known, slot.is_logged);
        guest_->slots.count_logged();
        return 0;
    }
    const std::uint32_t rights =
        UC_PROT_READ | UC_PROT_EXEC | (slot.is_writable ? std::uint32_t{UC_PROT_WRITE} : 0U);
    const int error = errno_of(uc_mem_map_ptr(
        guest_->unicorn.get(),
        slot.first_gfn << page_shift,
        slot.pages << page_shift,
        rights,
        reinterpret_cast<void*>(slot.host)));
    if (error == 0) {
        guest_->slots.add(slot);
    }
    return error;
}

bool SimulatorEngine::fetch_log(std::uint32_t slot, std::span<std::uint64_t> bitmap) {
    const Turn::Visit visit{guest_->turn};
    Slots::Slot* const known = guest_->slots.numbered(slot);
    if (known == nullptr || known->written.empty() || known->written.size() > bitmap.size()) {
        return false;
    }
    if (guest_->vcpu != nullptr) {
        guest_->vcpu->mark_tables();
    }
    std::ranges::copy(known->written, bitmap.begin());
    std::ranges::fill(known->written, 0);
    return true;
}

Result<std::unique_ptr<mshvsim::EngineVcpu>>
SimulatorEngine::create_vcpu(std::uint32_t index, mshvsim::MemoryFaults& memory) {
    if (index != 0 || guest_->vcpu != nullptr) {
        return fail(ErrorCode::unsupported, "the soft engine has vCPU 0 only");
    }
    auto vcpu = SimulatorVcpu::create(guest_, memory);
    if (!vcpu) {
        return fail(std::move(vcpu.error()));
    }
    guest_->vcpu = vcpu->get();
    return std::unique_ptr<mshvsim::EngineVcpu>{std::move(*vcpu)};
}

bool SimulatorEngine::assert_interrupt(const mshvsim::Interrupt& /*interrupt*/) {
    return false;
}

} // namespace wherry::vmm::soft
