// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/mshvsim/memory_map.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace wherry::vmm::mshvsim {

/// A page of the hypervisor's that a register (bit 0: enabled, 63:12: page number) puts into the
/// guest's address space. The real one lies over the guest's memory; here the guest's own page gets
/// the contents. Until that page can be reached, or while the page is not enabled, they are held.
class OverlayPage {
public:
    using Contents = std::array<std::byte, 4096>;
    explicit OverlayPage(MemoryMap& memory) : memory_{memory} {}

    /// Before, or if not: never laid; contents are held as they are written.
    void offer(bool is_offered) noexcept { is_offered_ = is_offered; }
    [[nodiscard]] std::uint64_t control() const noexcept { return control_; }
    [[nodiscard]] bool is_enabled() const noexcept { return (control_ & 1U) != 0; }
    /// Enabling begins with `fresh`; a page that moves takes its contents along.
    void set_control(std::uint64_t value, const Contents& fresh);

    Contents contents();
    void set_contents(std::span<const std::byte> contents);
    void read(std::size_t at, std::span<std::byte> to);
    void write(std::size_t at, std::span<const std::byte> from);

    /// Lays held contents into the guest's page. Its address: that is mapped, but not there yet.
    std::optional<std::uint64_t> settle();

private:
    [[nodiscard]] std::uint64_t gpa() const noexcept { return control_ & ~std::uint64_t{4095}; }

    MemoryMap& memory_;
    bool is_offered_ = false;
    std::uint64_t control_ = 0;
    bool is_held_ = true;
    Contents held_{};
};

} // namespace wherry::vmm::mshvsim
