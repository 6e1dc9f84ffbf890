// SPDX-License-Identifier: Apache-2.0
// F06: what the two sides of a hand-over find out when a process has started again.
#include "migrate/inquiry.hpp"
#include "migrate/restarted_source.hpp"
#include "tests/support/memory_keeper.hpp"
#include "transport/memory_stream.hpp"

#include <chrono>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <doctest/doctest.h>

using namespace wherry;
using namespace std::chrono_literals;
using formats::ErrorCode;
using migrate::DestinationOwner;
using migrate::Epoch;
using migrate::OwnershipRecord;
using migrate::RecordKind;
using migrate::SourceOwnerState;

namespace {

OwnershipRecord record(RecordKind kind, std::uint64_t epoch = 8, bool pages_missing = false) {
    return {
        .kind = kind,
        .epoch = Epoch{epoch},
        .pages_missing = pages_missing,
        .arbiter = "local",
        .migration_id = "m-1"};
}

class Listener final : public migrate::Observer {
public:
    void progressed(const migrate::ProgressSnapshot& now) override {
        last = now;
        if (on_progress) {
            on_progress();
        }
    }
    void planned(const std::vector<std::string>&) override {}
    migrate::ProgressSnapshot last;
    std::function<void()> on_progress;
};

/// A source that has started again, and a destination that is there or not.
struct Aftermath {
    explicit Aftermath(const OwnershipRecord& last) {
        options.last = last;
        options.vm_id = "3f2504e0-4f89-41d3-9a0c-0305e82c3301";
        options.keeper = &source_keeper;
        options.desk = &desk;
        options.boot = [this]() -> formats::Status {
            ++boots;
            if (boot_fails) {
                return formats::fail(ErrorCode::io, "the kernel is not there");
            }
            return {};
        };
    }
    ~Aftermath() {
        reception.close();
        io.restart();
        io.poll();
    }
    Aftermath(const Aftermath&) = delete;
    Aftermath& operator=(const Aftermath&) = delete;

    /// The destination is there, and this is what it knows.
    void answer_as(std::function<std::unique_ptr<DestinationOwner>()> make) {
        migrate::InquiryDeskOptions with;
        with.keeper = &destination_keeper;
        with.find_owner =
            [this, make = std::move(make)](
                const migrate::Inquiry& inquiry,
                const std::string&) -> formats::Result<std::unique_ptr<DestinationOwner>> {
            asked.push_back(inquiry);
            return make();
        };
        answer(std::move(with));
    }
    void refuse() {
        migrate::InquiryDeskOptions with;
        with.keeper = &destination_keeper;
        with.find_owner =
            [](const migrate::Inquiry&,
               const std::string&) -> formats::Result<std::unique_ptr<DestinationOwner>> {
            return formats::fail(ErrorCode::refused, "b has another VM");
        };
        answer(std::move(with));
    }
    void answer(migrate::InquiryDeskOptions with) {
        is_there = true;
        transport::spawn(
            io.get_executor(),
            migrate::answer_inquiries(reception, std::move(with)),
            [](const formats::Status&) {});
    }

    transport::Task<std::unique_ptr<transport::ByteStream>> connect() {
        ++calls;
        if (!is_there) {
            co_return formats::fail(ErrorCode::unreachable, "b does not answer");
        }
        auto pair = transport::make_memory_pair(io.get_executor());
        reception.greet(std::move(pair.second));
        co_return std::move(pair.first);
    }

    migrate::RestartedSourceOutcome settle() {
        std::optional<migrate::RestartedSourceOutcome> outcome;
        transport::spawn(
            io.get_executor(),
            migrate::settle_restarted_source(
                options,
                [this](migrate::ChannelRole role, std::uint32_t) {
                    CHECK(role == migrate::ChannelRole::inquiry);
                    return connect();
                },
                gate,
                observer),
            [&](formats::Result<migrate::RestartedSourceOutcome> result) {
                outcome.emplace(*std::move(result));
            });
        io.restart();
        while (!outcome && io.run_one() > 0) {
        }
        REQUIRE(outcome);
        return *outcome;
    }

    boost::asio::io_context io;
    migrate::Reception reception{io.get_executor(), {}};
    migrate::CancelGate gate{io.get_executor()};
    migrate::OperatorDesk desk{io.get_executor()};
    tests::MemoryKeeper source_keeper, destination_keeper;
    migrate::RestartedSourceOptions options;
    Listener observer;
    std::vector<migrate::Inquiry> asked;
    bool is_there = false;
    bool boot_fails = false;
    int calls = 0;
    int boots = 0;
};

} // namespace

TEST_SUITE("migrate.aftermath") {
    TEST_CASE("F06: a committed source that started again hears that the VM runs there") {
        Aftermath it{record(RecordKind::committed)};
        it.answer_as([] { return DestinationOwner::holding(record(RecordKind::running), {}); });
        const auto outcome = it.settle();
        CHECK(outcome.state == SourceOwnerState::handed_off);
        CHECK(it.boots == 0);
        CHECK(it.source_keeper.kinds() == std::vector{RecordKind::handed_off});
        CHECK(it.destination_keeper.records().empty());
        REQUIRE(it.asked.size() == 1);
        CHECK(it.asked.front().channel.epoch == Epoch{7});
        CHECK(it.asked.front().channel.migration_id == "m-1");
        CHECK(it.asked.front().vm_id == it.options.vm_id);
        CHECK(it.asked.front().memory_is_lost);
    }

    TEST_CASE("F06: both started again, and the copy was never run: it is booted at the source") {
        for (const RecordKind source : {RecordKind::offered, RecordKind::committed}) {
            CAPTURE(name_of(source));
            Aftermath it{record(source)};
            it.answer_as(
                [] { return DestinationOwner::restarted(record(RecordKind::accepted), {}); });
            const auto outcome = it.settle();
            CHECK(outcome.state == SourceOwnerState::reclaimed);
            CHECK(outcome.epoch == Epoch{9});
            CHECK(it.boots == 1);
            CHECK(it.source_keeper.kinds() == std::vector{RecordKind::reclaimed});
            CHECK(it.destination_keeper.kinds() == std::vector{RecordKind::abandoned});
        }
    }

    TEST_CASE("F06: a destination that never heard of the VM refuses for good, before it says so") {
        Aftermath it{record(RecordKind::committed)};
        it.answer_as([] { return DestinationOwner::restarted(std::nullopt, {}); });
        CHECK(it.settle().state == SourceOwnerState::reclaimed);
        CHECK(it.boots == 1);
        CHECK(it.destination_keeper.kinds() == std::vector{RecordKind::abandoned});
        CHECK(it.destination_keeper.records().front().epoch == Epoch{8});
    }

    TEST_CASE("F06: the guest died over there with its process: it is that side's to boot") {
        Aftermath it{record(RecordKind::committed)};
        it.answer_as([] { return DestinationOwner::restarted(record(RecordKind::running), {}); });
        CHECK(it.settle().state == SourceOwnerState::handed_off);
        CHECK(it.boots == 0);
    }

    TEST_CASE("F06: post-copy that arrived whole needs nothing of a source that started again") {
        Aftermath it{record(RecordKind::committed, 8, true)};
        it.answer_as(
            [] { return DestinationOwner::holding(record(RecordKind::done, 8, true), {}); });
        CHECK(it.settle().state == SourceOwnerState::handed_off);
        CHECK(it.boots == 0);
    }

    TEST_CASE("F06: a VM that was booted again answers as one that died, and writes nothing") {
        for (const RecordKind last : {RecordKind::running, RecordKind::done}) {
            const bool pages_missing = last == RecordKind::done;
            CAPTURE(name_of(last));
            Aftermath it{record(RecordKind::committed, 8, pages_missing)};
            it.answer_as([last, pages_missing] {
                return DestinationOwner::booted_again(record(last, 8, pages_missing), {});
            });
            CHECK(it.settle().state == SourceOwnerState::handed_off);
            CHECK(it.boots == 0);
            CHECK(it.destination_keeper.records().empty());
        }
    }

    TEST_CASE("F06: an offer for post-copy is taken back at once: the copy is not whole") {
        Aftermath it{record(RecordKind::offered, 8, true)};
        it.answer_as([] { return DestinationOwner::restarted(std::nullopt, {}); });
        CHECK(it.settle().state == SourceOwnerState::reclaimed);
        CHECK(it.boots == 1);
    }

    TEST_CASE("F06: it asks until it is answered") {
        Aftermath it{record(RecordKind::committed)};
        it.observer.on_progress = [&] {
            if (it.calls == 3 && !it.is_there) {
                CHECK(it.observer.last.ownership_state == "in-doubt");
                CHECK(it.observer.last.ownership.find("b does not answer") != std::string::npos);
                it.answer_as(
                    [] { return DestinationOwner::holding(record(RecordKind::running), {}); });
            }
        };
        CHECK(it.settle().state == SourceOwnerState::handed_off);
        CHECK(it.calls >= 3);
    }

    TEST_CASE("F06: one that cannot answer says why, and the source goes on asking") {
        Aftermath it{record(RecordKind::committed)};
        it.refuse();
        it.observer.on_progress = [&] {
            if (it.observer.last.ownership.find("b has another VM") != std::string::npos) {
                it.gate.request_cancel();
            }
        };
        const auto outcome = it.settle();
        CHECK(outcome.state == SourceOwnerState::in_doubt);
        CHECK(it.boots == 0);
        CHECK(it.source_keeper.records().empty());
    }

    TEST_CASE("F06: a person decides while nobody answers") {
        for (const migrate::Keep keep : {migrate::Keep::source, migrate::Keep::destination}) {
            Aftermath it{record(RecordKind::committed)};
            bool has_said = false;
            it.observer.on_progress = [&] {
                if (it.calls == 1 && !std::exchange(has_said, true)) {
                    transport::spawn(
                        it.io.get_executor(),
                        it.desk.say([keep](migrate::Owner& owner) { return owner.resolve(keep); }),
                        [&it](const formats::Status& granted) {
                            CHECK(granted);
                            it.gate.request_cancel(); // it would tell the destination for ever
                        });
                }
            };
            const auto outcome = it.settle();
            const bool stays = keep == migrate::Keep::source;
            CHECK(
                outcome.state ==
                (stays ? SourceOwnerState::reclaimed : SourceOwnerState::handed_off));
            CHECK(it.boots == (stays ? 1 : 0));
        }
    }

    TEST_CASE("F06: a VM that does not boot is lost, by name, and the next start tries again") {
        Aftermath it{record(RecordKind::committed)};
        it.boot_fails = true;
        it.answer_as([] { return DestinationOwner::restarted(record(RecordKind::accepted), {}); });
        const auto outcome = it.settle();
        CHECK(outcome.state == SourceOwnerState::lost);
        CHECK(it.boots == 1);
        CHECK(outcome.sentence.find("the kernel is not there") != std::string::npos);
        CHECK(it.source_keeper.kinds() == std::vector{RecordKind::reclaimed});
    }

    TEST_CASE("F06: a disk that fails delays what it must, and nothing is booted before") {
        Aftermath it{record(RecordKind::committed)};
        it.source_keeper.failures_left = 2;
        it.answer_as([] { return DestinationOwner::restarted(record(RecordKind::accepted), {}); });
        it.options.boot = [&]() -> formats::Status {
            CHECK(it.source_keeper.kinds() == std::vector{RecordKind::reclaimed});
            ++it.boots;
            return {};
        };
        CHECK(it.settle().state == SourceOwnerState::reclaimed);
        CHECK(it.boots == 1);
    }

    TEST_CASE("an inquiry that does not say about what is refused, and the next one answered") {
        Aftermath it{record(RecordKind::committed)};
        it.answer_as([] { return DestinationOwner::holding(record(RecordKind::running), {}); });
        auto pair = transport::make_memory_pair(it.io.get_executor());
        it.reception.greet(std::move(pair.second));
        migrate::Inquiry nothing;
        nothing.channel.migration_id = "m-0";
        nothing.attempt.arbiter = "";
        std::unique_ptr<migrate::SessionChannel> open;
        transport::spawn(
            it.io.get_executor(),
            migrate::open_inquiry(std::move(pair.first), nothing, 10s),
            [&](formats::Result<std::unique_ptr<migrate::SessionChannel>> channel) {
                REQUIRE(channel);
                open = *std::move(channel);
            });
        CHECK(it.settle().state == SourceOwnerState::handed_off);
        CHECK(it.asked.size() == 1);
    }
}
