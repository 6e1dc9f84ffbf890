// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/boot/boot.hpp"

namespace wherry::vmm::boot {

/// Loads an ELF kernel and starts it by PVH (Xen public headers, arch-x86/hvm/start_info.h,
/// version 1: memory map included).
formats::Result<InitialVcpu>
load_pvh(GuestMemory& memory, const BootImages& images, const PlatformOptions& options);

} // namespace wherry::vmm::boot
