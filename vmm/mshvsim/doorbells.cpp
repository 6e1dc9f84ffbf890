// SPDX-License-Identifier: Apache-2.0
#include "vmm/mshvsim/doorbells.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <utility>

#include <fcntl.h>
#include <sys/eventfd.h>

namespace wherry::vmm::mshvsim {

namespace flags = mshv::abi::ioctls::ioeventfd_flags;

std::string identity_of_eventfd(int fd, int& error) {
    if (::fcntl(fd, F_GETFD) < 0) {
        error = EBADF;
        return {};
    }
    error = EINVAL;
    const UniqueFd file{
        ::open(("/proc/self/fdinfo/" + std::to_string(fd)).c_str(), O_RDONLY | O_CLOEXEC)};
    std::array<char, 512> text{};
    const ssize_t size = ::read(file.get(), text.data(), text.size());
    const std::string_view all{text.data(), static_cast<std::size_t>(std::max<ssize_t>(size, 0))};
    const auto at = all.find("eventfd-id:");
    if (at == std::string_view::npos) {
        return {};
    }
    return std::string{all.substr(at, all.find('\n', at) - at)};
}

int Doorbells::change(const mshv::abi::ioctls::Ioeventfd& wanted) {
    constexpr std::uint32_t known = flags::data_match | flags::port_io | flags::deassign;
    if ((wanted.flags & ~known) != 0 ||
        std::ranges::any_of(wanted.reserved, [](auto byte) { return byte != 0; })) {
        return -EINVAL;
    }
    if ((wanted.flags & flags::port_io) != 0) {
        return -EOPNOTSUPP;
    }
    const bool has_length = wanted.length <= 2 || wanted.length == 4 || wanted.length == 8;
    if (!has_length || wanted.address + wanted.length < wanted.address) {
        return -EINVAL;
    }
    int error = 0;
    Doorbell bell{
        .address = wanted.address,
        .data_match = wanted.data_match,
        .length = wanted.length,
        .is_wildcard = (wanted.flags & flags::data_match) == 0,
        .identity = identity_of_eventfd(wanted.fd, error),
        .event = {}};
    if (bell.identity.empty()) {
        return -error;
    }
    const auto collides = [&bell](const Doorbell& other) {
        return other.address == bell.address && other.length == bell.length &&
               (other.is_wildcard || bell.is_wildcard || other.data_match == bell.data_match);
    };
    const auto is_same = [&bell](const Doorbell& other) {
        return other.address == bell.address && other.length == bell.length &&
               other.is_wildcard == bell.is_wildcard && other.identity == bell.identity &&
               (bell.is_wildcard || other.data_match == bell.data_match);
    };
    const std::scoped_lock held{lock_};
    if ((wanted.flags & flags::deassign) != 0) {
        return std::erase_if(doorbells_, is_same) != 0 ? 0 : -ENOENT;
    }
    if (std::ranges::any_of(doorbells_, collides)) {
        return -EEXIST;
    }
    bell.event = UniqueFd{::fcntl(wanted.fd, F_DUPFD_CLOEXEC, 0)};
    if (!bell.event.is_open()) {
        return -errno;
    }
    doorbells_.push_back(std::move(bell));
    return 0;
}

bool Doorbells::ring(std::uint64_t gpa, std::span<const std::byte> data) {
    std::uint64_t value = 0;
    std::memcpy(&value, data.data(), std::min(data.size(), sizeof(value)));
    const std::scoped_lock held{lock_};
    for (const auto& bell : doorbells_) {
        if (bell.address == gpa && (bell.length == 0 || bell.length == data.size()) &&
            (bell.is_wildcard || bell.data_match == value)) {
            // A full counter stays full: the reader is behind, and will come.
            ::eventfd_write(bell.event.get(), 1);
            return true;
        }
    }
    return false;
}

} // namespace wherry::vmm::mshvsim
