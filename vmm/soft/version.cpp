// SPDX-License-Identifier: Apache-2.0
#include "vmm/soft/version.hpp"

#include "vmm/soft/engine.hpp"

#include <string>

namespace wherry::vmm::soft {

using formats::ErrorCode;
using formats::Status;

Status check_version() {
    unsigned major = 0;
    unsigned minor = 0;
    const unsigned packed = uc_version(&major, &minor);
    const unsigned patch = (packed >> 8U) & 0xffU;
    if (major == 2 && minor == 0 && patch == 1) {
        return {};
    }
    return formats::fail(
        ErrorCode::unsupported,
        "libunicorn is " + std::to_string(major) + "." + std::to_string(minor) + "." +
            std::to_string(patch) + "; the soft backend is made for 2.0.1 (Debian 12)");
}

} // namespace wherry::vmm::soft
