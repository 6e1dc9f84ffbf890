// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"
#include "vmm/mshv/abi/vp_state.hpp"
#include "vmm/mshv/descriptor.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace wherry::vmm::mshv {

/// One of a VP's state components (GET_VP_STATE), `size` bytes of it.
formats::Result<std::vector<std::byte>>
read_vp_state(const Descriptor& vp, std::uint8_t type, std::size_t size);
/// Zeroes fill what `state` leaves of the last page.
formats::Status
write_vp_state(const Descriptor& vp, std::uint8_t type, std::span<const std::byte> state);

formats::Result<abi::vp_state::Lapic> read_lapic(const Descriptor& vp);
formats::Status write_lapic(const Descriptor& vp, const abi::vp_state::Lapic& lapic);

} // namespace wherry::vmm::mshv
