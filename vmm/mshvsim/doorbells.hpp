// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/mshv/abi/ioctls.hpp"
#include "vmm/unique_fd.hpp"

#include <cstddef>
#include <mutex>
#include <span>
#include <string>
#include <vector>

namespace wherry::vmm::mshvsim {

/// What tells one eventfd from another, whatever its number; empty: not an eventfd. `error` is
/// EBADF or EINVAL then.
std::string identity_of_eventfd(int fd, int& error);

/// IOEVENTFD: guest writes that signal an eventfd instead of ending RUN_VP. Thread-safe.
class Doorbells {
public:
    /// 0 or minus errno.
    int change(const mshv::abi::ioctls::Ioeventfd& wanted);
    bool ring(std::uint64_t gpa, std::span<const std::byte> data);

private:
    struct Doorbell {
        std::uint64_t address = 0, data_match = 0;
        std::uint32_t length = 0;
        bool is_wildcard = true;
        std::string identity;
        UniqueFd event;
    };
    std::mutex lock_;
    std::vector<Doorbell> doorbells_;
};

} // namespace wherry::vmm::mshvsim
