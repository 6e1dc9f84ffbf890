// SPDX-License-Identifier: Apache-2.0
#include "vmm/devices/exit_port.hpp"

#include <algorithm>

#include <fmt/format.h>

namespace wherry::vmm {

void ExitPort::read(std::uint64_t /*offset*/, std::span<std::byte> data) {
    std::ranges::fill(data, std::byte{0});
}

void ExitPort::write(std::uint64_t /*offset*/, std::span<const std::byte> data) {
    if (data.empty()) {
        return;
    }
    const int code = std::to_integer<int>(data.front());
    on_end_(
        {.cause = MachineEnd::Cause::exit_port,
         .exit_code = code,
         .text = fmt::format("the guest exited with code {}", code)});
}

} // namespace wherry::vmm
