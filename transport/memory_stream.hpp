// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "transport/byte_stream.hpp"

#include <cstdint>
#include <limits>
#include <memory>
#include <optional>

namespace wherry::transport {

/// One direction of an in-process connection, and what goes wrong on it. Offsets count bytes
/// written to this direction since it was made, from 0.
struct MemoryPipeOptions {
    /// Bytes under way; a writer waits when it is full.
    std::size_t capacity = std::size_t{1} << 20U;
    /// No read returns more than this, and no write hands over more at once.
    std::size_t largest_piece = std::numeric_limits<std::size_t>::max();
    /// The connection breaks, both ways, when this many bytes have passed: the bytes before are
    /// delivered, then either side sees Error{connection_lost}.
    std::optional<std::uint64_t> cut_after{};
    /// Nothing beyond this many bytes is delivered until MemoryStream::release() of the writer.
    std::optional<std::uint64_t> stall_after{};
    /// The byte at this offset arrives with its lowest bit flipped.
    std::optional<std::uint64_t> corrupt_at{};
};

struct MemoryPair;

/// A ByteStream within one process and thread, for tests: ordered, bounded, and faulty as asked.
class MemoryStream final : public ByteStream {
    struct Pipe;

public:
    /// For make_memory_pair().
    MemoryStream(
        Executor executor, std::string peer, std::shared_ptr<Pipe> in, std::shared_ptr<Pipe> out);
    Task<std::size_t> read_some(std::span<std::byte> into) override;
    using ByteStream::write_all;
    Task<void> write_all(Gather parts) override;
    Task<void> shut_down() override;
    void close() override;
    /// invalid_argument for another executor than its own: both ends live on one thread.
    [[nodiscard]] formats::Status rebind(Executor executor) override;
    [[nodiscard]] std::string peer() const override;
    [[nodiscard]] Executor executor() const override;
    ~MemoryStream() override;

    /// Ends the stall of what this side writes.
    void release();
    /// Breaks the connection now, both ways, as a lost network does.
    void cut();
    /// Bytes this side has written so far.
    [[nodiscard]] std::uint64_t written() const noexcept;

private:
    friend MemoryPair
    make_memory_pair(const Executor&, const MemoryPipeOptions&, const MemoryPipeOptions&);
    Task<void> write_part(std::span<const std::byte> bytes);

    Executor executor_;
    std::string peer_;
    /// Each pipe is shared by the two streams of a pair.
    std::shared_ptr<Pipe> in_;
    std::shared_ptr<Pipe> out_;
};

struct MemoryPair {
    std::unique_ptr<MemoryStream> first;
    std::unique_ptr<MemoryStream> second;
};

MemoryPair make_memory_pair(
    const Executor& executor,
    const MemoryPipeOptions& first_to_second = {},
    const MemoryPipeOptions& second_to_first = {});

} // namespace wherry::transport
