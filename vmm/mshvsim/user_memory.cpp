// SPDX-License-Identifier: Apache-2.0
#include "vmm/mshvsim/user_memory.hpp"

#include <bit>

#include <sys/uio.h>
#include <unistd.h>

namespace wherry::vmm::mshvsim {

bool copy_in(void* to, std::uint64_t from, std::size_t size) noexcept {
    const iovec local{to, size};
    const iovec remote{std::bit_cast<void*>(from), size};
    return size == 0 ||
           ::process_vm_readv(::getpid(), &local, 1, &remote, 1, 0) == static_cast<ssize_t>(size);
}

bool copy_out(std::uint64_t to, const void* from, std::size_t size) noexcept {
    const iovec local{const_cast<void*>(from), size};
    const iovec remote{std::bit_cast<void*>(to), size};
    return size == 0 ||
           ::process_vm_writev(::getpid(), &local, 1, &remote, 1, 0) == static_cast<ssize_t>(size);
}

} // namespace wherry::vmm::mshvsim
