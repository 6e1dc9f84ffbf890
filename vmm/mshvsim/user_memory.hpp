// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

namespace wherry::vmm::mshvsim {

/// Copies from and to addresses that the client named, as a kernel does: false where a byte cannot
/// be had, instead of a signal. A page that userfaultfd holds back is waited for.
bool copy_in(void* to, std::uint64_t from, std::size_t size) noexcept;
bool copy_out(std::uint64_t to, const void* from, std::size_t size) noexcept;

template <typename Value>
bool copy_in(Value& to, std::uint64_t from) noexcept {
    return copy_in(&to, from, sizeof(Value));
}
template <typename Value>
bool copy_out(std::uint64_t to, const Value& from) noexcept {
    return copy_out(to, &from, sizeof(Value));
}

} // namespace wherry::vmm::mshvsim
