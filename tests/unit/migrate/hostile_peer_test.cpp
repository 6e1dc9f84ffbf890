// SPDX-License-Identifier: Apache-2.0
// Peers that do not keep to the protocol: either side names the cause in one sentence.
#include "formats/little_endian.hpp"
#include "formats/proto/control.pb.h"
#include "formats/wire_frame.hpp"
#include "harness.hpp"
#include "migrate/plan.hpp"

#include <array>
#include <string>
#include <vector>

#include <doctest/doctest.h>

using namespace wherry;
using namespace wherry::tests;
using formats::ErrorCode;
using formats::FrameType;
using formats::proto::Control;
using migrate::DestinationState;
using migrate::SourceState;
using transport::Task;

namespace {

using ByteVector = std::vector<std::byte>;

ByteVector bytes_of(std::string_view text) {
    const auto bytes = std::as_bytes(std::span{text});
    return {bytes.begin(), bytes.end()};
}

ByteVector preamble(formats::ProtocolRange range = formats::supported_protocol) {
    const auto bytes = formats::encode_preamble(range);
    return {bytes.begin(), bytes.end()};
}

ByteVector frame(FrameType type, std::uint64_t sequence, const ByteVector& payload) {
    const auto head = formats::encode(formats::frame_for(type, sequence, payload));
    ByteVector bytes{head.begin(), head.end()};
    bytes.insert(bytes.end(), payload.begin(), payload.end());
    return bytes;
}

ByteVector control(std::uint64_t sequence, const Control& message) {
    return frame(FrameType::control, sequence, bytes_of(message.SerializeAsString()));
}

Control hello(formats::Side side, migrate::ChannelRole role = migrate::ChannelRole::control) {
    Control message;
    message.mutable_hello()->set_migration_id("m-1");
    message.mutable_hello()->set_role(static_cast<std::uint32_t>(role));
    message.mutable_hello()->set_epoch(7);
    message.mutable_hello()->set_side(static_cast<std::uint32_t>(side));
    message.mutable_hello()->set_silence_ms(10'000);
    return message;
}

/// What a destination says to a plan, with one bulk channel.
Control plan_answer() {
    Control message;
    message.mutable_plan_answer()->set_ticket(std::string(migrate::Ticket::size, 't'));
    message.mutable_plan_answer()->set_bulk_channels(1);
    return message;
}

/// A plan that a test destination takes.
Control plan() {
    RunWitness witness;
    TestMachine machine{{}, witness};
    Control message;
    migrate::to_proto(migrate::plan_for(machine), *message.mutable_plan());
    return message;
}

ByteVector operator+(ByteVector left, const ByteVector& right) {
    left.insert(left.end(), right.begin(), right.end());
    return left;
}

enum class Ending : std::uint8_t { waits, ends, breaks };

/// Says its piece whatever it hears, and keeps what it heard.
Task<void>
recite(transport::ByteStream& stream, ByteVector script, Ending ending, ByteVector& heard) {
    auto written = co_await stream.write_all(script);
    if (written && ending == Ending::ends) {
        co_return co_await stream.shut_down();
    }
    if (ending == Ending::breaks) {
        stream.close();
        co_return formats::Status{};
    }
    std::array<std::byte, 4096> buffer{};
    while (true) {
        auto got = co_await stream.read_some(buffer);
        if (!got || *got == 0) {
            break;
        }
        heard.insert(
            heard.end(), buffer.begin(), buffer.begin() + static_cast<std::ptrdiff_t>(*got));
    }
    co_return co_await stream.shut_down();
}

Task<std::unique_ptr<transport::ByteStream>>
hand_out(std::unique_ptr<transport::ByteStream>& stream) {
    co_return std::move(stream);
}

struct Meeting {
    boost::asio::io_context io;
    RunWitness witness;
    transport::MemoryPair pair = transport::make_memory_pair(io.get_executor());
    transport::MemoryPair bulk = transport::make_memory_pair(io.get_executor());
    std::unique_ptr<transport::ByteStream> near, near_bulk; ///< the source's ends
    ByteVector heard, heard_in_bulk;
    Attempt attempt{io}; ///< last: it goes first, and lets what waits for the rest end

    void peer_says(ByteVector script, Ending ending) {
        transport::spawn(
            io.get_executor(),
            recite(*pair.second, std::move(script), ending, heard),
            [](const formats::Status&) {});
    }
    /// What a destination makes of it.
    formats::Error destination_meets(ByteVector script, Ending ending = Ending::waits) {
        peer_says(std::move(script), ending);
        attempt.start_destination(witness);
        attempt.reception().greet(std::move(pair.first));
        attempt.run_until_done();
        CHECK(attempt.received->state == DestinationState::abandoned);
        CHECK(witness.running() == 0);
        REQUIRE(attempt.received->error);
        return *attempt.received->error;
    }
    /// What a source makes of it, whose guest runs on.
    formats::Error source_meets(ByteVector script, Ending ending = Ending::waits) {
        peer_says(std::move(script), ending);
        const auto machine = running_machine(witness);
        // Its one bulk channel goes to somebody who listens to all and says nothing.
        transport::spawn(
            io.get_executor(),
            recite(
                *bulk.second,
                preamble() +
                    control(0, hello(formats::Side::destination, migrate::ChannelRole::bulk)),
                Ending::waits,
                heard_in_bulk),
            [](const formats::Status&) {});
        near = std::move(pair.first);
        near_bulk = std::move(bulk.first);
        attempt.source.policy.streams = 1;
        attempt.start_source(*machine, [this](migrate::ChannelRole role, std::uint32_t) {
            return hand_out(role == migrate::ChannelRole::control ? near : near_bulk);
        });
        attempt.run_until_done();
        CHECK(attempt.sent->state == SourceState::reclaimed);
        CHECK(machine->running_state() == vmm::RunningState::running);
        CHECK_FALSE(machine->is_tracked());
        REQUIRE(attempt.sent->error);
        return *attempt.sent->error;
    }
    /// Whether the peer was told of this in an Error message.
    bool was_told(std::string_view text) const {
        const auto wanted = bytes_of(text);
        return !std::ranges::search(heard, wanted).empty();
    }
};

void check_both(const ByteVector& script, Ending ending, ErrorCode code, std::string_view text) {
    Meeting at_destination;
    const auto there = at_destination.destination_meets(script, ending);
    CHECK(there.code() == code);
    CHECK_MESSAGE(there.text().find(text) != std::string::npos, there.text());
    Meeting at_source;
    const auto here = at_source.source_meets(script, ending);
    CHECK(here.code() == code);
    CHECK_MESSAGE(here.text().find(text) != std::string::npos, here.text());
}

} // namespace

TEST_SUITE("migrate.hostile_peer") {
    TEST_CASE("garbage is no wherry channel") {
        check_both(
            bytes_of("GET / HTTP/1.1\r\nHost: example\r\n\r\n"),
            Ending::waits,
            ErrorCode::protocol,
            "wherry");
    }

    TEST_CASE("a peer of versions we do not know is told which ones there are") {
        check_both(preamble({900, 901}), Ending::waits, ErrorCode::version_mismatch, "900");
    }

    TEST_CASE("a stream that ends or breaks before it begins") {
        check_both({}, Ending::ends, ErrorCode::connection_lost, "the connection to the");
        check_both({}, Ending::breaks, ErrorCode::connection_lost, "the connection to the");
    }

    TEST_CASE("a truncated stream") {
        auto script = preamble() + control(0, hello(formats::Side::source));
        script.resize(script.size() - 3);
        Meeting test;
        CHECK(test.destination_meets(script, Ending::ends).code() == ErrorCode::connection_lost);
    }

    TEST_CASE("a length above the limit is refused before anything is allocated") {
        auto head = formats::encode(formats::frame_for(FrameType::control, 0, {}));
        formats::store_little(head, 16, std::uint32_t{0xf0000000});
        const auto check = formats::digest_of(std::span{head}.first(32));
        formats::store_little(head, 32, static_cast<std::uint64_t>(check));
        Meeting test;
        const auto error =
            test.destination_meets(preamble() + ByteVector{head.begin(), head.end()});
        CHECK(error.code() == ErrorCode::protocol);
        CHECK_MESSAGE(error.text().find("4026531840") != std::string::npos, error.text());
        CHECK(test.was_told("4026531840"));
    }

    TEST_CASE("a frame out of sequence") {
        Meeting test;
        const auto error =
            test.destination_meets(preamble() + control(5, hello(formats::Side::source)));
        CHECK(error.code() == ErrorCode::protocol);
        CHECK_MESSAGE(error.text().find('5') != std::string::npos, error.text());
    }

    TEST_CASE("a message this version does not know") {
        // Field 99, varint 1: fine Protobuf, no message of ours.
        const ByteVector unknown{std::byte{0x98}, std::byte{0x06}, std::byte{0x01}};
        Meeting test;
        const auto error = test.destination_meets(
            preamble() + control(0, hello(formats::Side::source)) +
            frame(FrameType::control, 1, unknown));
        CHECK(error.code() == ErrorCode::protocol);
        CHECK(error.text().find("does not know") != std::string::npos);
        CHECK(test.was_told("does not know"));
    }

    TEST_CASE("a message at the wrong time is named, and what was due") {
        Control commit;
        commit.mutable_commit()->set_epoch(8);
        Meeting test;
        const auto error = test.destination_meets(
            preamble() + control(0, hello(formats::Side::source)) + control(1, commit));
        CHECK(error.code() == ErrorCode::protocol);
        CHECK(error.text().find("sent commit where plan was due") != std::string::npos);
        CHECK(test.was_told("sent commit where plan was due"));
    }

    TEST_CASE("a commit instead of pages starts no guest") {
        Control commit;
        commit.mutable_commit()->set_epoch(8);
        Meeting test;
        const auto error = test.destination_meets(
            preamble() + control(0, hello(formats::Side::source)) + control(1, plan()) +
            control(2, commit));
        CHECK(error.code() == ErrorCode::protocol);
        CHECK(error.text().find("sent commit while pages were due") != std::string::npos);
    }

    TEST_CASE("S06: state before there is a plan, and pages on the control channel") {
        Meeting early;
        const auto error = early.destination_meets(
            preamble() + control(0, hello(formats::Side::source)) +
            frame(FrameType::machine_state, 1, bytes_of("state")));
        CHECK(error.code() == ErrorCode::protocol);
        CHECK(error.text().find("when it was not due") != std::string::npos);

        Meeting lost;
        const auto refused = lost.destination_meets(
            preamble() + control(0, hello(formats::Side::source)) + control(1, plan()) +
            frame(FrameType::page_batch, 2, bytes_of("pages")));
        CHECK(refused.code() == ErrorCode::protocol);
        CHECK(refused.text().find("on the control channel") != std::string::npos);
    }

    TEST_CASE("a plan answer without a ticket, or with more channels than were wished for") {
        for (const bool has_ticket : {false, true}) {
            Control answer = plan_answer();
            if (has_ticket) {
                answer.mutable_plan_answer()->set_bulk_channels(2);
            } else {
                answer.mutable_plan_answer()->clear_ticket();
            }
            Meeting test;
            const auto error = test.source_meets(
                preamble() + control(0, hello(formats::Side::destination)) + control(1, answer));
            CHECK(error.code() == ErrorCode::protocol);
            CHECK(error.text().find("answered the plan") != std::string::npos);
        }
    }

    TEST_CASE("a destination that claims more than was sent") {
        Control placed;
        placed.mutable_placed()->set_bytes(std::uint64_t{1} << 40U);
        Control beyond = placed;
        beyond.mutable_placed()->set_index(1);
        for (const Control& claim : {placed, beyond}) {
            Meeting test;
            const auto error = test.source_meets(
                preamble() + control(0, hello(formats::Side::destination)) +
                control(1, plan_answer()) + control(2, claim));
            CHECK(error.code() == ErrorCode::protocol);
        }
    }

    TEST_CASE("two sources, or two destinations, do not migrate to each other") {
        Meeting test;
        const auto error =
            test.destination_meets(preamble() + control(0, hello(formats::Side::destination)));
        CHECK(error.code() == ErrorCode::protocol);
        CHECK(error.text().find("is a destination too") != std::string::npos);
        Meeting other;
        CHECK(
            other.source_meets(preamble() + control(0, hello(formats::Side::source)))
                .text()
                .find("is a source too") != std::string::npos);
    }

    TEST_CASE("a destination that answers for another migration") {
        auto wrong = hello(formats::Side::destination);
        wrong.mutable_hello()->set_epoch(3);
        Meeting test;
        const auto error = test.source_meets(preamble() + control(0, wrong));
        CHECK(error.code() == ErrorCode::protocol);
        CHECK(error.text().find("another migration") != std::string::npos);
    }

    TEST_CASE("a destination that speaks out of its turn never gets the guest") {
        Control running;
        running.mutable_running()->set_epoch(8);
        Meeting test;
        const auto error = test.source_meets(
            preamble() + control(0, hello(formats::Side::destination)) + control(1, running));
        CHECK(error.code() == ErrorCode::protocol);
        CHECK(error.text().find("sent running where plan_answer was due") != std::string::npos);
    }

    TEST_CASE("a destination that says everything at once, accept included, gets nothing") {
        const Control answer = plan_answer();
        Control stored;
        stored.mutable_round_stored()->set_round(0);
        Control loaded;
        loaded.mutable_loaded();
        Control accept;
        accept.mutable_accept()->set_epoch(9); // not the epoch offered
        Meeting test;
        test.attempt.source.policy.downtime = 10s;
        const auto error = test.source_meets(
            preamble() + control(0, hello(formats::Side::destination)) + control(1, answer) +
            control(2, stored) + control(3, loaded) + control(4, accept));
        CHECK(error.code() == ErrorCode::timed_out); // its acceptance was none
    }

    TEST_CASE("an accept that comes with the peer's end behind it commits nothing") {
        // A source that was held up finds both at once; there is no doubt yet, and none is made.
        const Control answer = plan_answer();
        Control stored;
        stored.mutable_round_stored()->set_round(0);
        Control loaded;
        loaded.mutable_loaded();
        Control accept;
        accept.mutable_accept()->set_epoch(8);
        Control regret;
        regret.mutable_error()->set_code(static_cast<std::uint32_t>(ErrorCode::timed_out));
        regret.mutable_error()->set_text("no commit came");
        for (const Ending ending : {Ending::waits, Ending::ends}) {
            Meeting test;
            test.attempt.source.policy.downtime = 10s;
            const auto said = preamble() + control(0, hello(formats::Side::destination)) +
                              control(1, answer) + control(2, stored) + control(3, loaded) +
                              control(4, accept);
            (void)test.source_meets(
                ending == Ending::waits ? said + control(5, regret) : said, ending);
            // It may have noticed the end before it offered anything.
            const auto epoch = test.attempt.sent->epoch;
            CHECK((epoch == migrate::Epoch{9} || epoch == migrate::Epoch{7}));
        }
    }

    TEST_CASE("a peer that says nothing is named as silent") {
        Meeting source;
        source.attempt.source.policy.silence = 100ms;
        auto error = source.source_meets({});
        CHECK(error.code() == ErrorCode::timed_out);
        CHECK(error.text().find("was silent for 0.1 s") != std::string::npos);
        Meeting destination;
        destination.attempt.destination.policy.silence = 100ms;
        error = destination.destination_meets(preamble());
        CHECK(error.code() == ErrorCode::timed_out);
        CHECK(error.text().find("the source (") != std::string::npos);
    }

    TEST_CASE("a destination that only keeps alive is not waited for for ever") {
        ByteVector script = preamble() + control(0, hello(formats::Side::destination));
        Control alive;
        alive.mutable_keep_alive();
        for (std::uint64_t i = 1; i < 200; ++i) {
            script = script + control(i, alive);
        }
        Meeting test;
        test.attempt.source.policy.plan_deadline = 100ms;
        const auto error = test.source_meets(script);
        CHECK(error.code() == ErrorCode::timed_out);
        CHECK(error.text().find("did not answer with plan_answer") != std::string::npos);
    }

    TEST_CASE("a peer that floods with answers is cut off") {
        ByteVector script = preamble() + control(0, hello(formats::Side::destination));
        Control answer;
        answer.mutable_round_stored()->set_round(0);
        for (std::uint64_t i = 1; i < 100; ++i) {
            script = script + control(i, answer);
        }
        Meeting test;
        CHECK(test.source_meets(script).code() == ErrorCode::protocol);
    }

    TEST_CASE("what a peer says of itself cannot write to a terminal") {
        Control error;
        error.mutable_error()->set_code(static_cast<std::uint32_t>(ErrorCode::io));
        error.mutable_error()->set_text("\x1b[2Jgone\nforged line");
        Meeting test;
        const auto seen = test.source_meets(
            preamble() + control(0, hello(formats::Side::destination)) + control(1, error));
        CHECK(seen.text() == "the destination failed: ?[2Jgone?forged line");
    }
}
