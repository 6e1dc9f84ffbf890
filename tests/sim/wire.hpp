// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "migrate/ownership/event.hpp"
#include "tests/sim/world.hpp"

#include <array>
#include <functional>
#include <memory>
#include <optional>

namespace wherry::sim {

/// What one side sends to the other.
struct Parcel {
    enum class Kind : std::uint8_t { data, message, page };
    Kind kind = Kind::message;
    migrate::MessageKind message{};
    migrate::Epoch epoch{};
    migrate::Attempt attempt; ///< of an offer and of data
    Memory memory;            ///< data: what arrives; `running`: which pages it has
    std::size_t page = 0;
};

/// Several channels between two processes, which live and die together. Each keeps its order, all
/// together do not. What is under way when they die is lost, or comes late all the same.
class Wire {
public:
    struct End {
        std::function<void(const Parcel& parcel)> arrived;
        std::function<void(const std::string& reason)> disconnected;
        std::function<void()> connected;
        std::function<bool()> answers;       ///< whether a process is there to accept a connection
        std::function<std::uint64_t()> life; ///< which process it is; 0: none
    };
    explicit Wire(World& world) : world_{world} {}
    void attach(Where where, End end) { ends_[static_cast<std::size_t>(where)] = std::move(end); }

    void send(Where from, Parcel parcel);
    /// The source's, to the destination.
    void connect();
    /// Everything is connected, before anything begins.
    void start();
    void cut(const Fault& fault);
    void stall(const Fault& fault);
    /// A process died: the other side notices sooner or later.
    void died(Where where);
    void repair() { is_passable_ = true; }
    void close_for_good();
    [[nodiscard]] bool is_up() const noexcept { return is_up_; }

private:
    struct Flight {
        bool is_lost = false;
        bool is_late = false;
    };
    static constexpr std::size_t channels = 3;
    End& end(Where where) { return ends_[static_cast<std::size_t>(where)]; }
    void fly(Where to, const Parcel& parcel, Duration way, const std::shared_ptr<Flight>& flight);
    void lose_what_flies();
    void notice(Where where, const std::string& reason);

    World& world_;
    std::array<End, 2> ends_;
    bool is_up_ = false;
    bool is_passable_ = true;
    std::uint64_t connection_ = 0;
    std::array<std::uint64_t, 2> knows_{}; ///< the connection that each side thinks is up; 0: none
    std::array<std::array<Duration, channels>, 2> free_at_{};
    std::array<unsigned, 2> sent_{};
    std::vector<std::shared_ptr<Flight>> flights_; ///< shared with the calls that land them
};

} // namespace wherry::sim
