// SPDX-License-Identifier: Apache-2.0
#include "vmm/devices/serial_output.hpp"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <string>
#include <utility>

#include <fmt/format.h>

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

namespace wherry::vmm {

using formats::ErrorCode;
using formats::fail;
using formats::Result;
using formats::Status;

namespace {

constexpr std::size_t congested_from = 4096;
/// At most what a pipe that polls as writable takes without blocking (PIPE_BUF).
constexpr std::size_t chunk = 4096;
constexpr int look_up_ms = 100; // how soon the carrier notices that it should stop

bool is_regular_file(int fd) {
    struct stat facts{};
    return ::fstat(fd, &facts) == 0 && S_ISREG(facts.st_mode);
}

bool is_writable(int fd, int timeout_ms) {
    pollfd wanted{.fd = fd, .events = POLLOUT, .revents = 0};
    return ::poll(&wanted, 1, timeout_ms) > 0;
}

/// A reader that went away is an error of write(), not the end of the process.
void block_broken_pipe_signal() {
    sigset_t broken_pipe;
    sigemptyset(&broken_pipe);
    sigaddset(&broken_pipe, SIGPIPE);
    ::pthread_sigmask(SIG_BLOCK, &broken_pipe, nullptr);
}

} // namespace

Result<std::unique_ptr<SerialOutput>> SerialOutput::open(std::string_view target) {
    constexpr std::string_view file_prefix = "file:";
    if (target == "none") {
        return std::make_unique<SerialOutput>(UniqueFd{});
    }
    if (target == "stdout") {
        UniqueFd copy{::fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3)};
        if (!copy.is_open()) {
            return fail(formats::system_error(errno, "serial output to stdout"));
        }
        return std::make_unique<SerialOutput>(std::move(copy));
    }
    if (!target.starts_with(file_prefix) || target.size() == file_prefix.size()) {
        return fail(
            ErrorCode::invalid_argument,
            fmt::format("serial output '{}' is not stdout, none or file:PATH", target));
    }
    const std::string path{target.substr(file_prefix.size())};
    constexpr int flags = O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC;
    UniqueFd file{::open(path.c_str(), flags, 0644)};
    if (!file.is_open()) {
        return fail(formats::system_error(errno, fmt::format("serial output to {}", path)));
    }
    auto output = std::make_unique<SerialOutput>(std::move(file));
    output->is_to_be_emptied_ = !output->can_block_;
    return output;
}

SerialOutput::SerialOutput(UniqueFd fd)
    : fd_{std::move(fd)},
      can_block_{fd_.is_open() && !is_regular_file(fd_.get())} {
    if (can_block_) {
        carrier_ = std::jthread{[this](const std::stop_token& stop) {
            bring_out(stop);
        }};
    }
}

SerialOutput::~SerialOutput() = default;

void SerialOutput::empty_file() {
    if (std::exchange(is_to_be_emptied_, false) && ::ftruncate(fd_.get(), 0) != 0) {
        failure_ = fail(formats::system_error(errno, "emptying the file of serial output"));
    }
}

void SerialOutput::write_some() {
    if (!waiting_.empty()) {
        empty_file();
    }
    std::size_t done = 0;
    while (done < waiting_.size() && failure_) {
        if (can_block_ && !is_writable(fd_.get(), 0)) {
            break;
        }
        const auto part = std::span{waiting_}.subspan(done);
        const auto size = can_block_ ? std::min(part.size(), chunk) : part.size();
        const auto wrote = ::write(fd_.get(), part.data(), size);
        if (wrote >= 0) {
            done += static_cast<std::size_t>(wrote);
        } else if (errno == EAGAIN || (errno == EINTR && can_block_)) {
            break; // EINTR: perhaps the vCPU is wanted elsewhere
        } else if (errno != EINTR) {
            failure_ = fail(formats::system_error(errno, "writing serial output"));
        }
    }
    if (!failure_) {
        done = waiting_.size();
    }
    waiting_.erase(
        waiting_.begin(), std::next(waiting_.begin(), static_cast<std::ptrdiff_t>(done)));
}

void SerialOutput::put(std::byte byte) {
    const std::scoped_lock held{mutex_};
    if (!fd_.is_open() || !failure_) {
        return;
    }
    waiting_.push_back(byte);
    if (is_held_) {
        return;
    }
    // Behind others there is no use in trying: the carrier is at it.
    if (waiting_.size() == 1 || !can_block_) {
        write_some();
    }
    if (!waiting_.empty()) {
        changed_.notify_all();
    }
}

void SerialOutput::bring_out(const std::stop_token& stop) {
    block_broken_pipe_signal();
    std::unique_lock held{mutex_};
    while (changed_.wait(held, stop, [this] { return !waiting_.empty() && !is_held_; })) {
        held.unlock();
        const bool may_write = is_writable(fd_.get(), look_up_ms);
        held.lock();
        if (stop.stop_requested()) {
            return;
        }
        if (!may_write || is_held_) {
            continue;
        }
        const bool was_congested = waiting_.size() >= congested_from;
        write_some();
        if (was_congested && waiting_.size() < congested_from && relief_) {
            const auto callback = relief_;
            held.unlock();
            callback();
            held.lock();
        }
    }
}

bool SerialOutput::is_congested() const {
    const std::scoped_lock held{mutex_};
    return waiting_.size() >= congested_from;
}

void SerialOutput::on_relief(std::function<void()> callback) {
    const std::scoped_lock held{mutex_};
    relief_ = std::move(callback);
}

void SerialOutput::hold() {
    const std::scoped_lock held{mutex_};
    if (fd_.is_open()) {
        write_some();
    }
    is_held_ = true;
}

void SerialOutput::release() {
    const std::scoped_lock held{mutex_};
    is_held_ = false;
    if (fd_.is_open()) {
        empty_file();
        write_some();
    }
    changed_.notify_all();
}

std::vector<std::byte> SerialOutput::waiting() const {
    const std::scoped_lock held{mutex_};
    return waiting_;
}

void SerialOutput::restore_waiting(std::span<const std::byte> bytes) {
    const std::scoped_lock held{mutex_};
    if (fd_.is_open()) {
        waiting_.insert(waiting_.begin(), bytes.begin(), bytes.end());
    }
}

Status SerialOutput::failure() const {
    const std::scoped_lock held{mutex_};
    return failure_;
}

} // namespace wherry::vmm
