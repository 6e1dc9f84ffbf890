// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/mshv/abi/ioctls.hpp"
#include "vmm/mshv/abi/messages.hpp"
#include "vmm/mshv/abi/register_page.hpp"
#include "vmm/mshvsim/hypervisor.hpp"
#include "vmm/mshvsim/run_gate.hpp"
#include "vmm/mshvsim/vp_registers.hpp"

#include <memory>
#include <mutex>

namespace wherry::vmm::mshvsim {

/// A virtual processor: registers, its two pages, and RUN_VP. vp_run.cpp: running; vp_state.cpp:
/// GET_VP_STATE and SET_VP_STATE.
class Vp {
public:
    static formats::Result<std::unique_ptr<Vp>> open(Hypervisor& hypervisor, std::uint32_t index);
    Vp(Hypervisor& hypervisor,
       std::uint32_t index,
       std::unique_ptr<EngineVcpu> vcpu,
       UniqueFd pages,
       void* mapped);
    Vp(const Vp&) = delete;
    Vp& operator=(const Vp&) = delete;
    ~Vp();

    /// The ioctls of a VP's descriptor but ROOT_HVCALL. 0 or minus errno.
    int ioctl(std::uint64_t request, std::uint64_t argument);

    /// Held by every ioctl on the VP's descriptor.
    std::mutex& driver_lock() noexcept { return driver_lock_; }
    /// For hypercalls, from any thread; `use` gets a VP that stands still.
    template <typename Use>
    auto with_registers(Use use) {
        const RunGate::Visit visit{gate_};
        return use(registers_);
    }
    /// After a hypercall that wrote registers.
    void refresh_page(VpRegisters::Written written) { registers_.refresh(*page_, written); }
    bool inject_external(std::uint8_t vector);
    /// Any thread. Has a VP that runs look at its timers.
    void wake() { const RunGate::Visit visit{gate_}; }
    void cpuid_changed() noexcept { is_cpuid_stale_ = true; }
    /// A memory file: register page, then message page.
    [[nodiscard]] int pages() const noexcept { return pages_.get(); }
    [[nodiscard]] std::uint32_t index() const noexcept { return index_; }

private:
    using Message = mshv::abi::messages::Message;
    int run(std::uint64_t buffer);
    /// Nothing: interrupted.
    std::optional<Message> run_until_message(RunSignals& signals);
    std::optional<Message> enter(RunSignals& signals);
    std::optional<Message> message_of(const Exit& exit);
    std::optional<Message> make_ready();
    void serve_msr(const Exit& exit);
    [[nodiscard]] bool is_offered(std::uint64_t feature) {
        return (hypervisor_.properties.synthetic_features() & feature) != 0;
    }
    std::optional<Exit> lay_pages();
    std::optional<Exit> fault_of_hypervisor();
    bool apply_cpuid();
    std::vector<std::byte> code();

    int move_state(std::uint64_t argument, bool is_set);
    std::uint32_t state_size(std::uint8_t type);
    std::vector<std::byte> get_state(std::uint8_t type);
    std::uint16_t set_state(std::uint8_t type, std::span<const std::byte> data);

    Hypervisor& hypervisor_;
    std::uint32_t index_;
    std::unique_ptr<EngineVcpu> vcpu_;
    UniqueFd pages_;
    mshv::abi::RegisterPage* page_;
    Message* message_;
    std::mutex driver_lock_;
    RunGate gate_;
    VpRegisters registers_;
    bool is_cpuid_stale_ = false;
    bool counts_runtime_;
    std::uint64_t tables_generation_ = ~std::uint64_t{0}, tables_root_ = 0;
};

} // namespace wherry::vmm::mshvsim
