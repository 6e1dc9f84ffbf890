// SPDX-License-Identifier: Apache-2.0
#include "tools/cli/stream_relay.hpp"

#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace wherry::tools {

using formats::fail;
using formats::Result;
using formats::Status;

namespace {

constexpr std::size_t piece_size = std::size_t{1} << 20U;

Status write_all(int into, std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
        const auto written = ::write(into, bytes.data(), bytes.size());
        if (written < 0 && errno != EINTR) {
            return fail(formats::system_error(errno, "standard output"));
        }
        bytes = bytes.subspan(static_cast<std::size_t>(written < 0 ? 0 : written));
    }
    return {};
}

} // namespace

struct StreamRelay::State {
    std::filesystem::path directory;
    std::filesystem::path path;
    vmm::UniqueFd fifo;
    int into = -1;
    std::thread thread;
    Status outcome; ///< the thread's until it has been joined

    void work() {
        std::vector<std::byte> piece(piece_size);
        for (;;) {
            const auto got = ::read(fifo.get(), piece.data(), piece.size());
            if (got < 0 && errno == EINTR) {
                continue;
            }
            if (got < 0) {
                outcome = fail(formats::system_error(errno, path.string()));
            } else if (got > 0) {
                outcome = write_all(into, std::span{piece}.first(static_cast<std::size_t>(got)));
            }
            if (got <= 0 || !outcome) {
                fifo.reset(); // the writer, if there is one still, gets EPIPE
                return;
            }
        }
    }
    void end() {
        if (thread.joinable()) {
            thread.join();
        }
    }
    ~State() {
        fifo.reset();
        end();
        std::error_code ignored; // a FIFO that nobody reads harms nobody
        std::filesystem::remove_all(directory, ignored);
    }
};

Result<StreamRelay> StreamRelay::open(int into) {
    auto state = std::make_unique<State>();
    auto directory = (std::filesystem::temp_directory_path() / "wherry-stream-XXXXXX").string();
    if (::mkdtemp(directory.data()) == nullptr) { // for this user alone
        return fail(formats::system_error(errno, directory));
    }
    state->directory = directory;
    state->path = state->directory / "image";
    state->into = into;
    if (::mkfifo(state->path.c_str(), 0600) != 0) {
        return fail(formats::system_error(errno, state->path.string()));
    }
    // A reader must be there before the writer; reading itself waits.
    state->fifo = vmm::UniqueFd{::open(state->path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC)};
    if (!state->fifo.is_open() || ::fcntl(state->fifo.get(), F_SETFL, O_RDONLY) != 0) {
        return fail(formats::system_error(errno, state->path.string()));
    }
    return StreamRelay{std::move(state)};
}

StreamRelay::StreamRelay(std::unique_ptr<State> state) : state_{std::move(state)} {}
StreamRelay::~StreamRelay() = default;

const std::filesystem::path& StreamRelay::path() const noexcept {
    return state_->path;
}

void StreamRelay::start() {
    state_->thread = std::thread{[state = state_.get()] {
        state->work();
    }};
}

Status StreamRelay::finish() {
    state_->end();
    return std::exchange(state_->outcome, Status{});
}

} // namespace wherry::tools
