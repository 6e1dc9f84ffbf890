// SPDX-License-Identifier: Apache-2.0
// What a bulk channel may bring, and what it must not.
#include "migrate/page_receiver.hpp"

#include "formats/page_run.hpp"
#include "migrate/file_placement.hpp"
#include "migrate/page_sender.hpp"
#include "transport/memory_stream.hpp"

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <doctest/doctest.h>

using namespace wherry;
using namespace std::chrono_literals;
using formats::Bytes;
using formats::ErrorCode;
using formats::FrameType;
using formats::Gfn;
using formats::PageCount;
using formats::PageRange;
using formats::Side;
using migrate::Control;
using migrate::SessionChannel;
using transport::Task;

namespace {

PageRange range(std::uint64_t first, std::uint64_t count) {
    return *PageRange::make(Gfn{first}, PageCount{count});
}

/// Any number of pages that are zero, as the payload of a batch.
std::vector<std::byte> zero_batch(std::uint32_t round, PageRange pages) {
    formats::PageBatchBuilder builder{round};
    formats::invariant(builder.add_zero(pages) == pages.count(), "it fits");
    const auto head = builder.head();
    return {head.begin(), head.end()};
}

Control marker(std::uint32_t round, bool is_last = false) {
    Control message;
    auto& end = *message.mutable_round_end();
    end.set_round(round);
    end.set_digest(static_cast<std::uint64_t>(migrate::RoundDigest{}.value()));
    end.set_is_last(is_last);
    return message;
}

/// A receiver on one end of a stream in memory, and the test on the other.
struct Bed {
    boost::asio::io_context io;
    transport::MemoryPair pair = transport::make_memory_pair(io.get_executor());
    SessionChannel source{std::move(pair.first), Side::source, 10s};
    SessionChannel destination{std::move(pair.second), Side::destination, 10s};
    vmm::GuestMemory from = *vmm::GuestMemory::create(Bytes{std::uint64_t{16} << 20U});
    vmm::GuestMemory to = *vmm::GuestMemory::create(Bytes{std::uint64_t{16} << 20U});
    migrate::PageCounters sent, received;
    migrate::OpenRound open_round{0};
    std::vector<Bytes> placed;
    std::vector<std::uint32_t> ended;
    migrate::FilePlacement file{to};
    migrate::OpenPlacement placement{&file};
    migrate::PageReceiver receiver{
        to,
        placement,
        destination,
        received,
        open_round,
        {.on_placed = [this](Bytes sum) { placed.push_back(sum); },
         .on_round_end =
             [this](std::uint32_t round, bool) {
                 ended.push_back(round);
                 open_round = round + 1;
             }}};
    std::optional<formats::Status> outcome;

    Bed() {
        transport::spawn(io.get_executor(), receiver.run(), [this](const formats::Status& end) {
            outcome = end;
        });
    }
    void run() {
        io.restart();
        io.poll();
    }
    void send(const Control& message) {
        transport::spawn(io.get_executor(), source.send(message), [](const formats::Status&) {});
        run();
    }
    void send(FrameType type, const std::vector<std::byte>& payload) {
        const std::span<const std::byte> part = payload;
        transport::spawn(
            io.get_executor(),
            source.send(type, transport::Gather(&part, 1), formats::digest_of(payload)),
            [](const formats::Status&) {});
        run();
    }
    void refused(std::string_view why, ErrorCode code = ErrorCode::protocol) {
        REQUIRE(outcome);
        REQUIRE_FALSE(*outcome);
        CHECK(outcome->error().code() == code);
        CHECK_MESSAGE(
            outcome->error().text().find(why) != std::string::npos, outcome->error().text());
    }
};

Task<void> send_round(
    migrate::PageSender& sender,
    migrate::RoundPlan round,
    std::optional<migrate::RoundTotals>& totals) {
    auto sent = co_await sender.send(round);
    if (!sent) {
        co_return formats::fail(std::move(sent).error());
    }
    totals = *sent;
    co_return formats::Status{};
}

} // namespace

TEST_SUITE("migrate.page_receiver") {
    TEST_CASE("rounds of a sender arrive, with the word that they are in place") {
        Bed bed;
        migrate::PageSupply supply{bed.from};
        migrate::BandwidthLimit limit{bed.io.get_executor()};
        migrate::PageSender sender{
            bed.from, supply, limit, bed.sent, bed.source, bed.io.get_executor()};
        dirtylog::DirtySet dirty{bed.from};
        dirty.mark(range(0, 1000));
        std::vector<std::byte> page(formats::page_size, std::byte{1});
        for (std::uint64_t i = 0; i < 1000; i += 2) {
            page[7] = static_cast<std::byte>(i);
            REQUIRE(bed.from.write(formats::gpa_of(Gfn{i}), page));
        }
        for (std::uint32_t number = 0; number < 2; ++number) {
            supply.begin_round(dirty, 1);
            std::optional<migrate::RoundTotals> totals;
            migrate::RoundPlan round;
            round.number = number;
            round.is_last = number == 1;
            transport::spawn(
                bed.io.get_executor(),
                send_round(sender, round, totals),
                [](const formats::Status&) {});
            bed.run();
            REQUIRE(totals);
            CHECK(totals->raw_pages == PageCount{500});
            CHECK(totals->untold == PageCount{500}); // never anything but zero there
            REQUIRE_FALSE(bed.placed.empty());
            sender.placed(bed.placed.back());
        }
        CHECK(bed.placed.back() == bed.sent.sums().wire);
        CHECK(bed.received.sums().raw == PageCount{1000});
        CHECK(bed.ended == std::vector<std::uint32_t>{0, 1});
        REQUIRE(bed.outcome);
        CHECK(*bed.outcome);
        std::vector<std::byte> there(formats::page_size);
        for (std::uint64_t i = 0; i < 1000; ++i) {
            REQUIRE(bed.to.read(formats::gpa_of(Gfn{i}), there));
            CHECK(there[7] == (i % 2 == 0 ? static_cast<std::byte>(i) : std::byte{0}));
        }
    }

    TEST_CASE("a sender stops at a full window, and goes on with the destination's word") {
        Bed bed;
        migrate::PageSupply supply{bed.from};
        migrate::BandwidthLimit limit{bed.io.get_executor()};
        migrate::PageSender sender{
            bed.from, supply, limit, bed.sent, bed.source, bed.io.get_executor()};
        dirtylog::DirtySet dirty{bed.from};
        dirty.mark(range(0, 3000)); // three rounds are more than a window, two are not
        std::vector<std::byte> all(16U << 20U, std::byte{1});
        REQUIRE(bed.from.write(formats::Gpa{0}, all));
        std::optional<migrate::RoundTotals> totals;
        for (std::uint32_t number = 0; number < 3; ++number) {
            totals.reset();
            supply.begin_round(dirty, 1);
            migrate::RoundPlan round;
            round.number = number;
            transport::spawn(
                bed.io.get_executor(),
                send_round(sender, round, totals),
                [](const formats::Status&) {});
            bed.run();
        }
        CHECK_FALSE(totals); // in the third
        CHECK(bed.sent.sums().wire <= migrate::window_limit);
        sender.placed(bed.placed.back());
        bed.run();
        CHECK(totals);
    }

    TEST_CASE("S06: pages that are no RAM, of another round, or early") {
        {
            Bed bed;
            bed.send(FrameType::page_batch, zero_batch(0, range(1U << 20U, 1)));
            bed.refused("not RAM of this VM");
        }
        {
            Bed bed;
            bed.send(FrameType::page_batch, zero_batch(1, range(1, 1)));
            bed.refused("of round 1 came in round 0");
        }
        {
            Bed bed;
            bed.send(marker(0));
            CHECK(bed.ended == std::vector<std::uint32_t>{0});
            bed.open_round = 0; // another channel is still in it
            bed.send(FrameType::page_batch, zero_batch(1, range(1, 1)));
            bed.refused("before all of the round before was here");
        }
        {
            Bed bed;
            bed.send(marker(0));
            bed.open_round = 0;
            bed.send(marker(1));
            bed.refused("before all of the round before was here");
        }
    }

    TEST_CASE("S06: a marker that does not fit what came, and what is no page") {
        {
            Bed bed;
            bed.send(FrameType::page_batch, zero_batch(0, range(1, 1)));
            bed.send(marker(0));
            bed.refused("arrived as 1 batches", ErrorCode::corrupted);
        }
        {
            Bed bed;
            bed.send(FrameType::machine_state, {});
            bed.refused("the state of the VM came on a bulk channel");
        }
        {
            Bed bed;
            Control commit;
            commit.mutable_commit()->set_epoch(8);
            bed.send(commit);
            bed.refused("sent commit on a bulk channel");
        }
    }
}
