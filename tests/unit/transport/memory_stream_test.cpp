// SPDX-License-Identifier: Apache-2.0
#include "transport/memory_stream.hpp"

#include "tests/unit/transport/support.hpp"

#include <doctest/doctest.h>

namespace wherry::transport::test {
namespace {

Task<std::vector<std::byte>> read_to_end(ByteStream& stream) {
    std::vector<std::byte> all;
    std::array<std::byte, 100> piece{};
    for (;;) {
        auto got = co_await stream.read_some(piece);
        if (!got) {
            co_return formats::fail(std::move(got).error());
        }
        if (*got == 0) {
            co_return all;
        }
        all.insert(all.end(), piece.begin(), piece.begin() + static_cast<std::ptrdiff_t>(*got));
    }
}
Task<void> write_and_end(ByteStream& stream, std::span<const std::byte> bytes) {
    auto written = co_await stream.write_all(bytes);
    if (!written) {
        co_return written;
    }
    co_return co_await stream.shut_down();
}
Task<std::size_t> read_piece(ByteStream& stream, std::span<std::byte> into) {
    co_return co_await stream.read_some(into);
}

TEST_SUITE("transport.memory_stream") {

    TEST_CASE("bytes arrive in order through a pipe much smaller than they are") {
        asio::io_context io;
        auto pair = make_memory_pair(io.get_executor(), {.capacity = 7, .largest_piece = 3});
        const auto bytes = pattern(1000);
        Running<void> writing{io, write_and_end(*pair.first, bytes)};
        const auto all = run(io, read_to_end(*pair.second));
        REQUIRE(all);
        CHECK(*all == bytes);
        CHECK(pair.first->written() == 1000);
        CHECK(run(io, pair.second->shut_down()));
        run_ready(io);
        REQUIRE(writing.is_done());
        CHECK(writing.outcome());
    }

    TEST_CASE("a cut delivers what went before, and both sides see it as a loss") {
        asio::io_context io;
        auto pair = make_memory_pair(io.get_executor(), {.cut_after = 10});
        const auto bytes = pattern(20);
        Running<void> writing{io, pair.first->write_all(bytes)};
        std::array<std::byte, 10> got{};
        CHECK(run(io, pair.second->read_exactly(got)));
        CHECK(std::ranges::equal(got, std::span{bytes}.first(10)));
        std::array<std::byte, 1> more{};
        const auto end = run(io, read_piece(*pair.second, more));
        REQUIRE(!end);
        CHECK(end.error().code() == ErrorCode::connection_lost);
        REQUIRE(writing.is_done());
        REQUIRE(!writing.outcome());
        CHECK(writing.outcome().error().code() == ErrorCode::connection_lost);
    }

    TEST_CASE("a stall holds bytes back until it is released") {
        asio::io_context io;
        auto pair = make_memory_pair(io.get_executor(), {.stall_after = 4});
        const auto bytes = pattern(8);
        CHECK(run(io, pair.first->write_all(bytes)));
        std::array<std::byte, 8> got{};
        Running<void> reading{io, pair.second->read_exactly(got)};
        run_ready(io);
        REQUIRE(!reading.is_done());
        CHECK(got[3] == bytes[3]);
        CHECK(got[4] == std::byte{0});
        pair.first->release();
        run_ready(io);
        REQUIRE(reading.is_done());
        CHECK(std::ranges::equal(got, bytes));
    }

    TEST_CASE("exactly the chosen byte is corrupted") {
        asio::io_context io;
        auto pair = make_memory_pair(io.get_executor(), {.largest_piece = 2, .corrupt_at = 5});
        const auto bytes = pattern(8);
        CHECK(run(io, pair.first->write_all(bytes)));
        std::array<std::byte, 8> got{};
        CHECK(run(io, pair.second->read_exactly(got)));
        for (std::size_t i = 0; i < got.size(); ++i) {
            CAPTURE(i);
            CHECK((got[i] != bytes[i]) == (i == 5));
        }
    }

    TEST_CASE("closing without a farewell is a loss for the peer and a cancellation here") {
        asio::io_context io;
        auto pair = make_memory_pair(io.get_executor());
        std::array<std::byte, 1> byte{};
        Running<std::size_t> here{io, read_piece(*pair.first, byte)};
        run_ready(io);
        pair.first->close();
        const auto there = run(io, read_piece(*pair.second, byte));
        REQUIRE(!there);
        CHECK(there.error().code() == ErrorCode::connection_lost);
        REQUIRE(here.is_done());
        REQUIRE(!here.outcome());
        CHECK(here.outcome().error().code() == ErrorCode::cancelled);
    }

    TEST_CASE("a writer that waits for room can be cancelled") {
        asio::io_context io;
        auto pair = make_memory_pair(io.get_executor(), {.capacity = 4});
        const auto bytes = pattern(8);
        Running<void> writing{io, pair.first->write_all(bytes)};
        run_ready(io);
        REQUIRE(!writing.is_done());
        writing.cancel();
        run_ready(io);
        REQUIRE(writing.is_done());
        REQUIRE(!writing.outcome());
        CHECK(writing.outcome().error().code() == ErrorCode::cancelled);
    }

} // TEST_SUITE
} // namespace
} // namespace wherry::transport::test
