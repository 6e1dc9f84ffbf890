// SPDX-License-Identifier: Apache-2.0
#include "migrate/image/stream_sink.hpp"

#include <cerrno>
#include <utility>

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

namespace wherry::migrate {

using formats::Bytes;
using formats::ErrorCode;
using formats::fail;
using formats::Result;
using formats::Status;

namespace {

constexpr int look_again_ms = 100;
/// Fewer switches between writer and reader than with the usual 64 KiB.
constexpr int pipe_size = 1 << 20;

} // namespace

Result<std::unique_ptr<StreamSink>>
StreamSink::open(const std::filesystem::path& path, IsCancelled is_cancelled) {
    vmm::UniqueFd file{::open(path.c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW)};
    if (!file.is_open()) {
        return fail(
            errno == ENXIO
                ? formats::Error{ErrorCode::wrong_state, path.string() + ": nobody reads it"}
                : formats::system_error(errno, path.string()));
    }
    struct stat about{};
    if (::fstat(file.get(), &about) != 0 || !S_ISFIFO(about.st_mode)) {
        return fail(ErrorCode::invalid_argument, path.string() + ": it is no FIFO");
    }
    (void)::fcntl(file.get(), F_SETPIPE_SZ, pipe_size); // a smaller one only is slower
    return std::unique_ptr<StreamSink>{new StreamSink{std::move(file), std::move(is_cancelled)}};
}

StreamSink::StreamSink(vmm::UniqueFd file, IsCancelled is_cancelled)
    : file_{std::move(file)},
      is_cancelled_{std::move(is_cancelled)} {}

Status StreamSink::append(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
        const auto written = ::write(file_.get(), bytes.data(), bytes.size());
        if (written >= 0) {
            bytes = bytes.subspan(static_cast<std::size_t>(written));
            written_ += Bytes{static_cast<std::uint64_t>(written)};
        } else if (errno == EAGAIN) {
            if (auto ready = wait_for_reader(); !ready) {
                return ready;
            }
        } else if (errno == EPIPE) {
            return fail(ErrorCode::io, "who read the stream is gone");
        } else if (errno != EINTR) {
            return fail(formats::system_error(errno, name()));
        }
    }
    return {};
}

Status StreamSink::wait_for_reader() {
    pollfd wanted{.fd = file_.get(), .events = POLLOUT, .revents = 0};
    while (!is_interrupted_ && !is_cancelled_()) {
        const int ready = ::poll(&wanted, 1, look_again_ms);
        if (ready > 0) {
            return {};
        }
        if (ready < 0 && errno != EINTR) {
            return fail(formats::system_error(errno, name()));
        }
    }
    return fail(ErrorCode::cancelled, "nobody waits for the stream any more");
}

Status StreamSink::publish() {
    file_.reset();
    return {};
}

} // namespace wherry::migrate
