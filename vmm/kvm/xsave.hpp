// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"

#include <cstddef>
#include <span>
#include <vector>

namespace wherry::vmm::kvm {

/// XSAVE area of a vCPU, standard form. `size`: what KVM says an area takes on this host.
formats::Result<std::vector<std::byte>> read_xsave(int vcpu, std::size_t size);

/// An area of another length is taken where what lies beyond is all zero.
formats::Status write_xsave(int vcpu, std::span<const std::byte> area, std::size_t size);

} // namespace wherry::vmm::kvm
