// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/wire.hpp"

#include <utility>

#include <fmt/format.h>

namespace wherry::sim {

using namespace std::chrono_literals;

namespace {

std::string words_for(const Parcel& parcel) {
    switch (parcel.kind) {
    case Parcel::Kind::data:
        return "memory and state";
    case Parcel::Kind::page:
        return fmt::format("page {}", parcel.page);
    case Parcel::Kind::message:
        break;
    }
    return fmt::format("{}({})", name_of(parcel.message), static_cast<std::uint64_t>(parcel.epoch));
}

} // namespace

void Wire::start() {
    is_up_ = true;
    connection_ = 1;
    knows_ = {1, 1};
    end(Where::destination).connected();
    end(Where::source).connected();
}

void Wire::send(Where from, Parcel parcel) {
    const auto side = static_cast<std::size_t>(from);
    if (knows_[side] == 0) {
        world_.note(name_of(from), words_for(parcel) + " has no connection");
        return;
    }
    const unsigned number = ++sent_[side];
    if (!is_up_ || knows_[side] != connection_) {
        return; // into a connection that is dead already
    }
    // What the guest consists of keeps its order; a word may take any channel.
    const std::size_t channel =
        parcel.kind == Parcel::Kind::message ? world_.random.below(channels) : channels - 1;
    Duration& free_at = free_at_[side][channel];
    const Duration way = world_.random.one_in(8) ? world_.random.between(50ms, 900ms)
                                                 : world_.random.between(1ms, 40ms);
    free_at = std::max(free_at, world_.clock.now() + way);
    auto flight = std::make_shared<Flight>();
    flights_.push_back(flight);
    fly(other(from), parcel, free_at - world_.clock.now(), flight);
    if (const Fault* fault = world_.due(FaultKind::duplicate, from, number);
        fault != nullptr && parcel.kind == Parcel::Kind::message) {
        world_.count("duplicates");
        world_.disturb(fault->lasts, [this, to = other(from), parcel = std::move(parcel)] {
            world_.note("wire", words_for(parcel) + " once more");
            end(to).arrived(parcel);
        });
    }
}

void Wire::fly(
    Where to, const Parcel& parcel, Duration way, const std::shared_ptr<Flight>& flight) {
    world_.clock.after(way, [this, to, parcel, flight] {
        std::erase(flights_, flight);
        // A session takes memory and state from channels of its own migration, by id and ticket.
        const bool is_of_dead_channel = flight->is_late && parcel.kind == Parcel::Kind::data;
        if (flight->is_lost || is_of_dead_channel) {
            world_.note("wire", words_for(parcel) + " was lost");
            return;
        }
        if (flight->is_late) {
            flight->is_late = false;
            world_.count("late messages");
            world_.disturb(world_.random.between(10ms, 4s), [this, to, parcel] {
                world_.note("wire", words_for(parcel) + " comes late");
                end(to).arrived(parcel);
            });
            return;
        }
        end(to).arrived(parcel);
    });
}

void Wire::lose_what_flies() {
    for (const auto& flight : flights_) {
        flight->is_lost = !world_.random.one_in(3);
        flight->is_late = !flight->is_lost;
    }
    flights_.clear();
}

void Wire::notice(Where where, const std::string& reason) {
    const auto side = static_cast<std::size_t>(where);
    const std::uint64_t connection = knows_[side];
    if (connection == 0) {
        return;
    }
    const Duration delay = world_.random.one_in(4) ? world_.random.between(100ms, 3s)
                                                   : world_.random.between(0ms, 20ms);
    world_.disturb(delay, [this, where, side, connection, reason] {
        if (knows_[side] == connection) {
            knows_[side] = 0;
            end(where).disconnected(reason);
        }
    });
}

void Wire::cut(const Fault& fault) {
    world_.count("cuts");
    is_passable_ = false;
    if (fault.lasts != Duration{}) {
        world_.disturb(fault.lasts, [this] { is_passable_ = true; });
    }
    if (!std::exchange(is_up_, false)) {
        return;
    }
    lose_what_flies();
    notice(Where::source, "the connection was cut");
    notice(Where::destination, "the connection was cut");
}

void Wire::close_for_good() {
    is_passable_ = false;
    if (std::exchange(is_up_, false)) {
        lose_what_flies();
        notice(Where::source, "the connection was cut");
        notice(Where::destination, "the connection was cut");
    }
}

void Wire::stall(const Fault& fault) {
    world_.count("stalls");
    const Where where = fault.where;
    Duration& free_at = free_at_[static_cast<std::size_t>(where)][fault.flag ? 0 : channels - 1];
    free_at = std::max(free_at, world_.clock.now() + fault.lasts);
    world_.disturb(fault.lasts, [] {});
}

void Wire::died(Where where) {
    knows_[static_cast<std::size_t>(where)] = 0;
    if (std::exchange(is_up_, false)) {
        lose_what_flies();
        notice(other(where), "the peer is gone");
    }
}

void Wire::connect() {
    const std::uint64_t before = connection_;
    const std::uint64_t life = end(Where::source).life();
    world_.clock.after(world_.random.between(1ms, 60ms), [this, before, life] {
        if (connection_ != before || end(Where::source).life() != life) {
            return; // made by another call, or that source died meanwhile
        }
        if (!is_passable_ || !end(Where::destination).answers()) {
            knows_[0] = 0;
            end(Where::source).disconnected("nobody answers");
            return;
        }
        const bool destination_thinks_it_is_up = knows_[1] != 0;
        is_up_ = true;
        connection_ = before + 1;
        free_at_ = {};
        knows_ = {connection_, connection_};
        world_.moved();
        world_.count("connections made again");
        if (destination_thinks_it_is_up) {
            end(Where::destination).disconnected("the source connects anew");
        }
        end(Where::destination).connected();
        end(Where::source).connected();
    });
}

} // namespace wherry::sim
