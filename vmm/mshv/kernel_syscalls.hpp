// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/mshv/syscalls.hpp"

#include <memory>

namespace wherry::vmm::mshv {

/// The kernel's, on /dev/mshv.
std::unique_ptr<Syscalls> kernel_syscalls();

} // namespace wherry::vmm::mshv
