// SPDX-License-Identifier: Apache-2.0
#include "migrate/reception.hpp"

#include "transport/memory_stream.hpp"

#include <array>
#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <doctest/doctest.h>

using namespace wherry;
using namespace std::chrono_literals;
using formats::ErrorCode;
using formats::Side;
using migrate::ChannelName;
using migrate::ChannelRole;
using migrate::OpenedChannel;
using migrate::SessionChannel;
using transport::Task;

namespace {

template <typename T>
struct Pending {
    std::optional<formats::Result<T>> outcome;
};

/// A source that opens one channel and then listens.
struct Caller {
    std::unique_ptr<SessionChannel> channel;
    std::optional<formats::Status> opened;
    std::optional<formats::Error> told; ///< afterwards
};

Task<void> call(Caller& caller, ChannelName name) {
    auto opened = co_await caller.channel->open_as_source(name);
    caller.opened = opened;
    if (opened) {
        auto next = co_await caller.channel->receive();
        if (next) {
            auto message = co_await caller.channel->take_control(*next);
            if (!message) {
                caller.told = std::move(message).error();
            }
        }
    }
    co_return opened;
}

struct Hall {
    explicit Hall(migrate::ReceptionOptions options = {}) {
        options.on_refusal = [this](const formats::Error& error) {
            refusals.push_back(error.text());
        };
        options.busy_patience = 20ms;
        reception.emplace(io.get_executor(), std::move(options));
    }
    ~Hall() {
        reception->close();
        run();
    }
    Hall(const Hall&) = delete;
    Hall& operator=(const Hall&) = delete;

    void run() {
        io.restart();
        io.poll();
    }
    /// Also what waits for time to pass.
    template <typename Done>
    void run_until(Done&& done) {
        io.restart();
        while (!done() && io.run_one() > 0) {
        }
    }
    std::unique_ptr<Caller> comes(const ChannelName& name) {
        auto pair = transport::make_memory_pair(io.get_executor());
        auto caller = std::make_unique<Caller>();
        caller->channel =
            std::make_unique<SessionChannel>(std::move(pair.first), Side::source, 10s);
        reception->greet(std::move(pair.second));
        transport::spawn(io.get_executor(), call(*caller, name), [](const formats::Status&) {});
        return caller;
    }
    std::unique_ptr<migrate::Intake> next_migration() {
        std::optional<formats::Result<std::unique_ptr<migrate::Intake>>> next;
        transport::spawn(io.get_executor(), reception->next_migration(), [&](auto result) {
            next.emplace(std::move(result));
        });
        run_until([&] { return next.has_value(); });
        REQUIRE(next);
        REQUIRE(*next);
        return **std::move(next);
    }
    formats::Result<OpenedChannel> next_inquiry() {
        std::optional<formats::Result<OpenedChannel>> next;
        transport::spawn(io.get_executor(), reception->next_inquiry(), [&](auto result) {
            next.emplace(std::move(result));
        });
        run_until([&] { return next.has_value(); });
        REQUIRE(next);
        return *std::move(next);
    }
    formats::Result<OpenedChannel> next_probe() {
        std::optional<formats::Result<OpenedChannel>> next;
        transport::spawn(io.get_executor(), reception->next_probe(), [&](auto result) {
            next.emplace(std::move(result));
        });
        run_until([&] { return next.has_value(); });
        REQUIRE(next);
        return *std::move(next);
    }
    formats::Result<OpenedChannel> next_channel(migrate::Intake& intake, ChannelRole role) {
        std::optional<formats::Result<OpenedChannel>> next;
        transport::spawn(io.get_executor(), intake.next_channel(role, 30ms), [&](auto result) {
            next.emplace(std::move(result));
        });
        run_until([&] { return next.has_value(); });
        REQUIRE(next);
        return *std::move(next);
    }

    boost::asio::io_context io;
    std::vector<std::string> refusals;
    std::optional<migrate::Reception> reception;
};

ChannelName name_of(
    std::string id,
    ChannelRole role = ChannelRole::control,
    std::optional<migrate::Ticket> ticket = {},
    std::uint32_t index = 0) {
    ChannelName name;
    name.migration_id = std::move(id);
    name.epoch = migrate::Epoch{3};
    name.role = role;
    name.index = index;
    name.ticket = ticket;
    return name;
}

} // namespace

TEST_SUITE("migrate.reception") {
    TEST_CASE("a new migration is announced, and its channels find it by their ticket") {
        Hall hall;
        const auto control = hall.comes(name_of("m-1"));
        const auto intake = hall.next_migration();
        CHECK(intake->name().migration_id == "m-1");
        CHECK(intake->name().epoch == migrate::Epoch{3});
        CHECK(*control->opened);
        const auto second = hall.comes(name_of("m-1", ChannelRole::bulk, intake->ticket(), 1));
        const auto urgent = hall.comes(name_of("m-1", ChannelRole::urgent, intake->ticket()));
        const auto first = hall.comes(name_of("m-1", ChannelRole::bulk, intake->ticket(), 0));
        CHECK(hall.next_channel(*intake, ChannelRole::urgent)->name.role == ChannelRole::urgent);
        CHECK(hall.next_channel(*intake, ChannelRole::bulk)->name.index == 1);
        CHECK(hall.next_channel(*intake, ChannelRole::bulk)->name.index == 0);
        CHECK(hall.refusals.empty());
        const auto none = hall.next_channel(*intake, ChannelRole::bulk);
        CHECK(none.error().code() == ErrorCode::timed_out);
        CHECK(none.error().text().find("has not opened its bulk channel") != std::string::npos);
    }

    TEST_CASE("a source that has lost its connection asks while the migration goes on") {
        Hall hall;
        const auto lost = hall.comes(name_of("m-1"));
        const auto intake = hall.next_migration();
        for (int i = 0; i < 3; ++i) {
            const auto again = hall.comes(name_of("m-1", ChannelRole::inquiry, intake->ticket()));
            CHECK(hall.next_channel(*intake, ChannelRole::inquiry));
            CHECK(*again->opened);
        }
        // One that has started again has no ticket; a wrong one is worse than none.
        const auto restarted = hall.comes(name_of("m-1", ChannelRole::inquiry));
        CHECK(hall.next_channel(*intake, ChannelRole::inquiry));
        CHECK(*restarted->opened);
        const auto guessed =
            hall.comes(name_of("m-1", ChannelRole::inquiry, *migrate::Ticket::issue()));
        hall.run();
        CHECK_FALSE(*guessed->opened);
        // A control channel begins a migration, and nothing else.
        const auto control = hall.comes(name_of("m-1", ChannelRole::control, intake->ticket()));
        hall.run();
        CHECK_FALSE(*control->opened);
    }

    TEST_CASE("who asks about no migration that is under way is heard as well, to a number") {
        Hall hall;
        const auto control = hall.comes(name_of("m-1"));
        const auto intake = hall.next_migration();
        std::vector<std::unique_ptr<Caller>> callers;
        for (int i = 0; i < 9; ++i) {
            callers.push_back(hall.comes(name_of("m-0", ChannelRole::inquiry)));
            hall.run();
        }
        for (int i = 0; i < 8; ++i) {
            CHECK(*callers.at(static_cast<std::size_t>(i))->opened);
            const auto inquiry = hall.next_inquiry();
            REQUIRE(inquiry);
            CHECK(inquiry->name.migration_id == "m-0");
        }
        CHECK_FALSE(*callers.back()->opened);
        REQUIRE(hall.refusals.size() == 1);
        CHECK(hall.refusals.front().find("too many ask") != std::string::npos);
    }

    TEST_CASE("where no migration is let in any more, questions are") {
        Hall hall;
        hall.reception->turn_away("b has had its VM");
        const auto late = hall.comes(name_of("m-2"));
        hall.run();
        REQUIRE(late->opened);
        CHECK_FALSE(*late->opened);
        CHECK(late->opened->error().text().find("b has had its VM") != std::string::npos);
        const auto asks = hall.comes(name_of("m-1", ChannelRole::inquiry));
        CHECK(hall.next_inquiry());
        CHECK(*asks->opened);
    }

    TEST_CASE("who wants to know what would become of a migration comes one at a time, and last") {
        Hall hall;
        const auto first = hall.comes(name_of("p-1", ChannelRole::probe));
        hall.run();
        CHECK(*first->opened);
        const auto second = hall.comes(name_of("p-2", ChannelRole::probe));
        hall.run();
        CHECK_FALSE(*second->opened);
        CHECK(second->opened->error().code() == ErrorCode::refused);
        auto probe = hall.next_probe();
        REQUIRE(probe);
        CHECK(probe->name.migration_id == "p-1");
        const auto third = hall.comes(name_of("p-3", ChannelRole::probe));
        hall.run();
        CHECK_FALSE(*third->opened); // the first is still here
        {
            const auto control = hall.comes(name_of("m-1"));
            const auto intake = hall.next_migration(); // which waits for no probe
            CHECK(*control->opened);
            const auto fourth = hall.comes(name_of("p-4", ChannelRole::probe));
            hall.run();
            CHECK_FALSE(*fourth->opened);
            CHECK(
                fourth->opened->error().text().find("a VM is arriving here") != std::string::npos);
        }
        std::optional<formats::Result<OpenedChannel>> next;
        transport::spawn(hall.io.get_executor(), hall.reception->next_probe(), [&](auto result) {
            next.emplace(std::move(result));
        });
        hall.run(); // who asks for the next is done with the first
        const auto fifth = hall.comes(name_of("p-5", ChannelRole::probe));
        hall.run();
        CHECK(*fifth->opened);
        REQUIRE(next);
        CHECK((*next)->name.migration_id == "p-5");
    }

    TEST_CASE("S03 S04: no ticket, a guessed one, another VM's, one of before: all refused alike") {
        Hall hall;
        std::optional<migrate::Ticket> old;
        {
            const auto control = hall.comes(name_of("m-0"));
            old = hall.next_migration()->ticket(); // and it ends at once
        }
        const auto control = hall.comes(name_of("m-1"));
        const auto intake = hall.next_migration();
        auto other_epoch = name_of("m-1", ChannelRole::bulk, intake->ticket());
        other_epoch.epoch = migrate::Epoch{4};
        const ChannelName wrong[]{
            name_of("m-1", ChannelRole::bulk),
            name_of("m-1", ChannelRole::urgent),
            name_of("m-1", ChannelRole::bulk, *migrate::Ticket::issue()),
            name_of("m-1", ChannelRole::control, *migrate::Ticket::issue()),
            name_of("m-1", ChannelRole::bulk, old),
            name_of("m-0", ChannelRole::bulk, old),
            name_of("m-2", ChannelRole::bulk, intake->ticket()),
            other_epoch};
        for (const auto& name : wrong) {
            const auto caller = hall.comes(name);
            hall.run_until([&] { return caller->opened.has_value(); });
            REQUIRE_FALSE(*caller->opened);
            CHECK(caller->opened->error().code() == ErrorCode::refused);
            CHECK(
                caller->opened->error().text().find("did not show the ticket") !=
                std::string::npos);
        }
        CHECK(hall.refusals.size() == std::size(wrong));
        CHECK(!hall.next_channel(*intake, ChannelRole::bulk));
        CHECK(!hall.next_channel(*intake, ChannelRole::control));
    }

    TEST_CASE("one migration at a time: a second is told so, and may come when the first is over") {
        Hall hall;
        const auto first = hall.comes(name_of("m-1"));
        auto intake = hall.next_migration();
        const auto second = hall.comes(name_of("m-2"));
        hall.run_until([&] { return second->opened.has_value(); });
        REQUIRE_FALSE(*second->opened);
        CHECK(second->opened->error().code() == ErrorCode::refused);
        CHECK(second->opened->error().text().find("m-1") != std::string::npos);
        const auto third = hall.comes(name_of("m-3"));
        hall.run();
        CHECK_FALSE(third->opened); // it waits a moment for its turn
        intake.reset();
        CHECK(hall.next_migration()->name().migration_id == "m-3");
    }

    TEST_CASE("S06: peers that say nothing, garbage or something hostile hold up nobody") {
        migrate::ReceptionOptions options;
        options.greeting_limit = 8;
        options.hello_deadline = 50ms;
        Hall hall{options};
        std::vector<transport::MemoryPair> silent;
        for (int i = 0; i < 3; ++i) {
            silent.push_back(transport::make_memory_pair(hall.io.get_executor()));
            hall.reception->greet(std::move(silent.back().second));
        }
        const auto good = hall.comes(name_of("m-1"));
        const auto intake = hall.next_migration();
        CHECK(hall.refusals.empty()); // nobody had to wait for the silent ones
        hall.run_until([&] { return hall.refusals.size() == 3; });
        CHECK(hall.refusals[0].find("did not say in time") != std::string::npos);
        const ChannelName hostile[]{
            name_of("m-1", ChannelRole{9}, intake->ticket()),
            name_of("m-1", ChannelRole::bulk, intake->ticket(), migrate::channels_limit),
            name_of("m-1", ChannelRole::urgent, intake->ticket(), 1),
            name_of(std::string(100, 'm'))};
        for (const auto& name : hostile) {
            const auto caller = hall.comes(name);
            hall.run_until([&] { return caller->opened.has_value(); });
            REQUIRE_FALSE(*caller->opened);
            CHECK(caller->opened->error().code() == ErrorCode::protocol);
        }
    }

    TEST_CASE("S06: more peers than are greeted at once are shown out") {
        migrate::ReceptionOptions options;
        options.greeting_limit = 2;
        Hall hall{options};
        std::vector<transport::MemoryPair> pairs;
        for (int i = 0; i < 3; ++i) {
            pairs.push_back(transport::make_memory_pair(hall.io.get_executor()));
            hall.reception->greet(std::move(pairs.back().second));
        }
        std::array<std::byte, 16> preamble{};
        int broken = 0;
        for (auto& pair : pairs) {
            std::optional<formats::Status> got;
            transport::spawn(
                hall.io.get_executor(),
                transport::within(5ms, pair.first->read_exactly(preamble)),
                [&](const formats::Status& status) { got = status; });
            hall.run_until([&] { return got.has_value(); });
            broken += *got ? 0 : 1;
        }
        CHECK(broken == 1);
    }

    TEST_CASE("a closed reception lets nobody in") {
        Hall hall;
        hall.reception->close();
        const auto late = hall.comes(name_of("m-1"));
        hall.run();
        REQUIRE(late->opened);
        CHECK_FALSE(*late->opened);
    }
}
