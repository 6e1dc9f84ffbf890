// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace wherry::migrate {

/// Which VM it is, wherever it is and however it is called there: names belong to a host, and two
/// hosts may have a VM "web" each. An arbiter keeps its record under this. Made at random when a
/// VM is first started (`wherry run`), in every journal record of it, and sent with the plan; so
/// it is the same after each move, and after a restart that boots the VM again.
class VmId {
public:
    /// A random UUID (RFC 9562, version 4), from the kernel.
    static VmId make();
    /// As to_string() writes it: 36 characters, lower case. The nil UUID is none.
    static formats::Result<VmId> parse(std::string_view text);
    [[nodiscard]] std::string to_string() const;
    friend bool operator==(const VmId&, const VmId&) = default;

private:
    explicit VmId(const std::array<std::uint8_t, 16>& bytes) : bytes_{bytes} {}
    std::array<std::uint8_t, 16> bytes_;
};

} // namespace wherry::migrate
