// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/devices/power.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <utility>

namespace wherry::vmm {

/// One port by which a test guest ends its machine: a byte written is the exit code.
class ExitPort final : public StatelessDevice {
public:
    static constexpr std::uint16_t port = 0x501;

    explicit ExitPort(EndHandler on_end) : on_end_{std::move(on_end)} {}
    [[nodiscard]] std::string_view id() const noexcept override { return "exit"; }
    void read(std::uint64_t offset, std::span<std::byte> data) override;
    void write(std::uint64_t offset, std::span<const std::byte> data) override;

private:
    EndHandler on_end_;
};

} // namespace wherry::vmm
