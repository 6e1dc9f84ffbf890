// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"
#include "vmm/mshv/abi/register_page.hpp"
#include "vmm/mshv/descriptor.hpp"
#include "vmm/mshv/vp_registers.hpp"
#include "vmm/x86/cpu_state.hpp"

#include <cstdint>
#include <utility>

namespace wherry::vmm::mshv {

/// The registers that serving an exit looks at and changes: in the register page, without a
/// hypercall, where the VP has one, else by hypercall. Used between RUN_VPs, by one thread.
///
/// What is written to the page is taken by the next RUN_VP; until then the hypervisor need not
/// tell it when asked. So flush() before anything else reads or writes registers.
class RegisterWindow {
public:
    /// `page` may be empty.
    RegisterWindow(MappedPage page, VpRegisters registers) noexcept
        : page_{std::move(page)},
          registers_{registers} {}

    /// General registers, segments, CR0, CR3, CR4, EFER as of the exit.
    formats::Status load(x86::CpuState& into) const;
    /// All general registers, RIP and RFLAGS.
    formats::Status store(const Registers& registers);
    formats::Status store_rip(std::uint64_t rip);
    formats::Status store_rax_and_rip(std::uint64_t rax, std::uint64_t rip);
    /// Hands to the hypervisor what it has not taken from the page yet.
    formats::Status flush();

    /// Interrupts that were asserted and not scanned yet; 0 without a page.
    [[nodiscard]] std::uint64_t interrupt_vectors() const noexcept;
    /// `unsupported` for other than 0 without a page.
    formats::Status set_interrupt_vectors(std::uint64_t vectors);

private:
    [[nodiscard]] abi::RegisterPage* page() const noexcept;
    [[nodiscard]] bool is_usable() const noexcept;

    MappedPage page_;
    VpRegisters registers_;
};

} // namespace wherry::vmm::mshv
