// SPDX-License-Identifier: Apache-2.0
#include "vmm/mshvsim/interrupts.hpp"

#include "vmm/mshv/abi/status.hpp"
#include "vmm/mshvsim/doorbells.hpp"
#include "vmm/mshvsim/user_memory.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/uio.h>

namespace wherry::vmm::mshvsim {

namespace ioctls = mshv::abi::ioctls;
namespace status = mshv::abi::status;

namespace {

/// Sheet 1.8.
Interrupt decode_route(const ioctls::IrqTableEntry& entry) {
    return {
        .type = (entry.data >> 8U) & 7U,
        .destination = (entry.address_low >> 12U) & 0xffU,
        .vector = static_cast<std::uint8_t>(entry.data & 0xffU),
        .is_level = (entry.data >> 15U & 1U) != 0,
        .is_logical = (entry.address_low >> 2U & 1U) != 0};
}

/// Takes the count, if it is still there; never waits.
bool drain(int event) {
    std::uint64_t count = 0;
    const iovec to{&count, sizeof(count)};
    return ::preadv2(event, &to, 1, -1, RWF_NOWAIT) == sizeof(count);
}

bool is_readable(int fd) {
    pollfd one{.fd = fd, .events = POLLIN, .revents = 0};
    return ::poll(&one, 1, 0) == 1 && (one.revents & POLLIN) != 0;
}

constexpr std::uint64_t stop_key = 0;

} // namespace

Interrupts::~Interrupts() {
    if (thread_.joinable()) {
        ::eventfd_write(stop_.get(), 1);
        thread_.join();
    }
}

int Interrupts::set_routing(std::uint64_t table) {
    ioctls::IrqTableHeader header;
    if (!copy_in(header, table)) {
        return -EFAULT;
    }
    if (header.count > ioctls::max_gsis || header.reserved != 0) {
        return -EINVAL;
    }
    std::vector<ioctls::IrqTableEntry> entries(header.count);
    if (!copy_in(
            entries.data(), table + sizeof(header), entries.size() * sizeof(entries.front()))) {
        return -EFAULT;
    }
    std::map<std::uint32_t, Interrupt> routes;
    for (const auto& entry : entries) {
        if (entry.gsi >= ioctls::max_gsis || entry.address_high != 0 ||
            !routes.emplace(entry.gsi, decode_route(entry)).second) {
            return -EINVAL;
        }
    }
    const std::scoped_lock held{lock_};
    routes_ = std::move(routes);
    return 0;
}

int Interrupts::change(const ioctls::Irqfd& wanted) {
    if ((wanted.flags & ~(ioctls::irqfd_flags::deassign | ioctls::irqfd_flags::resample)) != 0) {
        return -EINVAL;
    }
    int error = 0;
    auto identity = identity_of_eventfd(wanted.fd, error);
    if (identity.empty()) {
        return -error;
    }
    if ((wanted.flags & ioctls::irqfd_flags::deassign) != 0) {
        const std::scoped_lock held{lock_};
        for (auto& irqfd : irqfds_) {
            if (irqfd.gsi == wanted.gsi && irqfd.identity == identity) {
                ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, irqfd.event.get(), nullptr);
            }
        }
        irqfds_.remove_if([&](const Irqfd& irqfd) {
            return irqfd.gsi == wanted.gsi && irqfd.identity == identity;
        });
        return 0;
    }
    return bind(wanted, std::move(identity));
}

int Interrupts::bind(const ioctls::Irqfd& wanted, std::string identity) {
    Irqfd irqfd{
        .key = 0, .gsi = wanted.gsi, .identity = std::move(identity), .event = {}, .resample = {}};
    const std::scoped_lock held{lock_};
    if ((wanted.flags & ioctls::irqfd_flags::resample) != 0) {
        int error = 0;
        if (identity_of_eventfd(wanted.resample_fd, error).empty()) {
            return -error;
        }
        const auto route = routes_.find(wanted.gsi);
        if (route == routes_.end() || !route->second.is_level) {
            return -EINVAL;
        }
        irqfd.resample = UniqueFd{::fcntl(wanted.resample_fd, F_DUPFD_CLOEXEC, 0)};
    }
    if (std::ranges::any_of(
            irqfds_, [&](const Irqfd& other) { return other.identity == irqfd.identity; })) {
        return -EBUSY;
    }
    if (assert_ == nullptr) {
        return -status::to_errno(status::processor_feature_not_supported);
    }
    if (const int error = start_thread(); error != 0) {
        return -error;
    }
    irqfd.event = UniqueFd{::fcntl(wanted.fd, F_DUPFD_CLOEXEC, 0)};
    irqfd.key = next_key_++;
    irqfd.was_pending = is_readable(irqfd.event.get());
    epoll_event interest{};
    interest.events = EPOLLIN | EPOLLET;
    interest.data.u64 = irqfd.key;
    if (!irqfd.event.is_open() ||
        ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, irqfd.event.get(), &interest) != 0) {
        return -errno;
    }
    if (irqfd.was_pending) {
        assert_gsi(irqfd.gsi);
    }
    irqfds_.push_back(std::move(irqfd));
    return 0;
}

/// With lock_. 0 or errno.
int Interrupts::start_thread() {
    if (thread_.joinable()) {
        return 0;
    }
    epoll_ = UniqueFd{::epoll_create1(EPOLL_CLOEXEC)};
    stop_ = UniqueFd{::eventfd(0, EFD_CLOEXEC)};
    epoll_event interest{};
    interest.events = EPOLLIN;
    interest.data.u64 = stop_key;
    if (!epoll_.is_open() || !stop_.is_open() ||
        ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, stop_.get(), &interest) != 0) {
        return errno;
    }
    // The thread takes no signal of the client's.
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    thread_ = std::thread{[this] {
        serve();
    }};
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return 0;
}

void Interrupts::serve() {
    std::array<epoll_event, 16> events{};
    for (;;) {
        const int count =
            ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), -1);
        for (int i = 0; i < count; ++i) {
            const std::uint64_t key = events[static_cast<std::size_t>(i)].data.u64;
            if (key == stop_key) {
                return;
            }
            signal(key);
        }
    }
}

void Interrupts::signal(std::uint64_t key) {
    const std::scoped_lock held{lock_};
    const auto irqfd = std::ranges::find(irqfds_, key, &Irqfd::key);
    if (irqfd == irqfds_.end()) {
        return;
    }
    if (std::exchange(irqfd->was_pending, false)) {
        return; // asserted when it was bound
    }
    if (drain(irqfd->event.get())) {
        assert_gsi(irqfd->gsi);
    }
}

void Interrupts::assert_gsi(std::uint32_t gsi) {
    const auto route = routes_.find(gsi);
    if (route != routes_.end()) {
        assert_(route->second);
    }
}

bool Interrupts::end_of_interrupt(std::uint32_t vector) {
    const std::scoped_lock held{lock_};
    bool is_consumed = false;
    for (const auto& irqfd : irqfds_) {
        // Linux compares the vector with the number of the GSI (sheet 1.6).
        if (irqfd.resample.is_open() && irqfd.gsi == vector) {
            ::eventfd_write(irqfd.resample.get(), 1);
            is_consumed = true;
        }
    }
    return is_consumed;
}

} // namespace wherry::vmm::mshvsim
