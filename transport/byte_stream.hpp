// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "transport/task.hpp"

#include <cstddef>
#include <span>
#include <string>

namespace wherry::transport {

/// Several buffers that go out as one, in order.
using Gather = std::span<const std::span<const std::byte>>;

/// An ordered, reliable stream of bytes to one peer. Belongs to the thread of its executor. At
/// most one read and one write may be under way at a time; the two may overlap (full duplex).
/// Buffers must stay alive until the call has finished. After an error in one direction that
/// direction only fails; only a call that was cancelled before it moved a byte may be repeated.
class ByteStream {
public:
    ByteStream() = default;
    ByteStream(const ByteStream&) = delete;
    ByteStream& operator=(const ByteStream&) = delete;
    virtual ~ByteStream() = default;

    /// Waits for at least one byte and takes what is there, up to into.size() (at least 1).
    /// 0 only at an authenticated end: the peer said that nothing follows. An end without that is
    /// Error{connection_lost}.
    virtual Task<std::size_t> read_some(std::span<std::byte> into) = 0;
    /// Fills `into`. Any end before that is Error{connection_lost}.
    virtual Task<void> read_exactly(std::span<std::byte> into);
    /// Done when all bytes are in the kernel's hands; says nothing about their arrival.
    virtual Task<void> write_all(Gather parts) = 0;
    Task<void> write_all(std::span<const std::byte> bytes);

    /// Says that nothing more follows and waits, for a bounded time, for the peer to say the same;
    /// bytes that still arrive are dropped. No read or write may be under way.
    virtual Task<void> shut_down() = 0;
    /// Ends both directions at once, without a farewell: the peer sees a stream that broke. What
    /// waits in this stream ends with Error{cancelled}. Idempotent.
    virtual void close() = 0;

    /// Moves the stream to another executor's thread. No read or write may be under way, and from
    /// then on the stream belongs to that thread. After an error the stream is closed.
    [[nodiscard]] virtual formats::Status rebind(Executor executor) = 0;

    /// Who is at the other end: address, and the certificate's subject if there is one.
    [[nodiscard]] virtual std::string peer() const = 0;
    [[nodiscard]] virtual Executor executor() const = 0;
};

} // namespace wherry::transport
