// SPDX-License-Identifier: Apache-2.0
#include "transport/memory_stream.hpp"

#include "transport/notification.hpp"

#include <algorithm>
#include <array>
#include <vector>

namespace wherry::transport {

using formats::ErrorCode;
using formats::fail;
using formats::Status;

struct MemoryStream::Pipe {
    Pipe(const Executor& executor, const MemoryPipeOptions& with)
        : options{with},
          changed{executor} {}

    [[nodiscard]] std::size_t deliverable() const {
        std::uint64_t ready = under_way();
        if (options.stall_after) {
            ready = std::min(ready, std::max(*options.stall_after, delivered) - delivered);
        }
        return static_cast<std::size_t>(ready);
    }
    [[nodiscard]] std::size_t under_way() const { return bytes.size() - taken; }
    [[nodiscard]] bool is_cut() const { return options.cut_after && written >= *options.cut_after; }
    void take(std::span<std::byte> into) {
        std::copy_n(bytes.begin() + static_cast<std::ptrdiff_t>(taken), into.size(), into.begin());
        taken += into.size();
        delivered += into.size();
        if (taken == bytes.size() || taken > options.capacity) {
            bytes.erase(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(taken));
            taken = 0;
        }
        changed.notify_all();
    }
    void put(std::span<const std::byte> from) {
        const auto at = written;
        bytes.insert(bytes.end(), from.begin(), from.end());
        written += from.size();
        if (options.corrupt_at && *options.corrupt_at >= at && *options.corrupt_at < written) {
            const auto back = static_cast<std::ptrdiff_t>(written - *options.corrupt_at);
            *(bytes.end() - back) ^= std::byte{1};
        }
        changed.notify_all();
    }

    MemoryPipeOptions options;
    Notification changed;
    std::vector<std::byte> bytes; ///< those from `taken` on are under way
    std::size_t taken = 0;
    std::uint64_t written = 0;
    std::uint64_t delivered = 0;
    bool is_ended = false;  ///< the writer said that nothing follows
    bool is_broken = false; ///< the connection is gone; what is under way may still be read
    bool reader_closed = false;
    bool writer_closed = false;
};

namespace {

std::unexpected<formats::Error> lost(std::string_view peer) {
    return fail(
        ErrorCode::connection_lost,
        "the stream from " + std::string{peer} + " ended in the middle");
}
std::unexpected<formats::Error> closed() {
    return fail(ErrorCode::cancelled, "the stream was closed on this side");
}

} // namespace

MemoryStream::MemoryStream(
    Executor executor, std::string peer, std::shared_ptr<Pipe> in, std::shared_ptr<Pipe> out)
    : executor_{std::move(executor)},
      peer_{std::move(peer)},
      in_{std::move(in)},
      out_{std::move(out)} {}

MemoryStream::~MemoryStream() {
    close();
}

Task<std::size_t> MemoryStream::read_some(std::span<std::byte> into) {
    auto pipe = in_;
    for (;;) {
        auto alive = co_await check_cancelled();
        if (!alive) {
            co_return fail(std::move(alive).error());
        }
        if (pipe->reader_closed) {
            co_return closed();
        }
        const auto ready =
            std::min({pipe->deliverable(), into.size(), pipe->options.largest_piece});
        if (ready > 0) {
            pipe->take(into.first(ready));
            co_return ready;
        }
        const bool is_drained = pipe->under_way() == 0;
        if (is_drained && pipe->is_ended) {
            co_return std::size_t{0};
        }
        if (pipe->is_broken) {
            co_return lost(peer_);
        }
        auto waited = co_await pipe->changed.wait();
        if (!waited) {
            co_return fail(std::move(waited).error());
        }
    }
}

Task<void> MemoryStream::write_all(Gather parts) {
    for (const auto part : parts) {
        auto written = co_await write_part(part);
        if (!written) {
            co_return written;
        }
    }
    co_return Status{};
}

Task<void> MemoryStream::write_part(std::span<const std::byte> bytes) {
    auto pipe = out_;
    while (!bytes.empty()) {
        auto alive = co_await check_cancelled();
        if (!alive) {
            co_return alive;
        }
        if (pipe->writer_closed) {
            co_return closed();
        }
        if (pipe->is_broken || pipe->is_ended) {
            co_return lost(peer_);
        }
        auto room = std::min(
            {pipe->options.capacity - std::min(pipe->options.capacity, pipe->under_way()),
             bytes.size(),
             pipe->options.largest_piece});
        if (pipe->options.cut_after) {
            const auto left = *pipe->options.cut_after - pipe->written;
            room = static_cast<std::size_t>(std::min<std::uint64_t>(room, left));
        }
        if (room > 0) {
            pipe->put(bytes.first(room));
            bytes = bytes.subspan(room);
            if (pipe->is_cut()) {
                cut();
            }
            continue;
        }
        auto waited = co_await pipe->changed.wait();
        if (!waited) {
            co_return waited;
        }
    }
    co_return Status{};
}

Task<void> MemoryStream::shut_down() {
    out_->is_ended = true;
    out_->changed.notify_all();
    std::array<std::byte, 4096> dropped{};
    std::optional<formats::Result<std::size_t>> got;
    do {
        got = co_await within(std::chrono::seconds{5}, read_some(dropped));
    } while (*got && **got > 0);
    close();
    if (!*got) {
        co_return fail(std::move(*got).error().during("waiting for the end of the stream"));
    }
    co_return Status{};
}

void MemoryStream::close() {
    in_->reader_closed = true;
    out_->writer_closed = true;
    cut();
}

void MemoryStream::cut() {
    for (auto* pipe : {in_.get(), out_.get()}) {
        pipe->is_broken = true;
        pipe->changed.notify_all();
    }
}

void MemoryStream::release() {
    out_->options.stall_after.reset();
    out_->changed.notify_all();
}

formats::Status MemoryStream::rebind(Executor executor) {
    if (executor == executor_) {
        return {};
    }
    return formats::fail(
        formats::ErrorCode::invalid_argument, "a stream in memory stays on its thread");
}

std::string MemoryStream::peer() const {
    return peer_;
}
Executor MemoryStream::executor() const {
    return executor_;
}
std::uint64_t MemoryStream::written() const noexcept {
    return out_->written;
}

MemoryPair make_memory_pair(
    const Executor& executor,
    const MemoryPipeOptions& first_to_second,
    const MemoryPipeOptions& second_to_first) {
    auto forth = std::make_shared<MemoryStream::Pipe>(executor, first_to_second);
    auto back = std::make_shared<MemoryStream::Pipe>(executor, second_to_first);
    MemoryPair pair;
    pair.first = std::make_unique<MemoryStream>(executor, "memory:second", back, forth);
    pair.second = std::make_unique<MemoryStream>(executor, "memory:first", forth, back);
    if (forth->is_cut() || back->is_cut()) {
        pair.first->cut();
    }
    return pair;
}

} // namespace wherry::transport
